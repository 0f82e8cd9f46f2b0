//! What is a round of a loop, and what is not.

use super::*;

#[test]
fn memory_that_runs_out_soon_and_regularly_is_told_once() {
    let mut scenario = machine();
    for pid in 100..105 {
        scenario.spawn(40, pid, &["/usr/bin/node", "server.js"]).wait(60_000);
        let node = scenario.current(pid);
        scenario.kernel(node, pid, Signo::KILL, Call::None).oom_mark(pid, pid).dies(pid, Signo::KILL);
    }
    let report = scenario.watch_for(comm("node"));
    assert_eq!(kinds(&report), [PatternKind::Periodic]);
    let text = &report.patterns[0].text;
    assert!(text.starts_with("server.js dies every 1 min or so and comes back: 5 times since"), "{text}");
}

#[test]
fn a_loop_that_nobody_makes_says_what_it_dies_of() {
    let mut scenario = machine();
    for pid in 100..104 {
        scenario.spawn(40, pid, VITE).wait(5_000).exits(pid, 3);
    }
    let report = scenario.watch_for(comm("vite"));
    let pattern = only(&report, PatternKind::RestartLoop);
    assert_eq!(pattern.by, None);
    assert!(pattern.text.ends_with("every 5 s or so, each time exiting with code 3"), "{}", pattern.text);
    assert_eq!(report.patterns.len(), 1, "{:#?}", report.patterns);
}

#[test]
fn two_services_that_run_one_program_are_two_loops() {
    let mut scenario = machine();
    for pid in 100..107 {
        let unit = ["a", "b"][usize::from(pid % 2 == 1)];
        scenario.spawn(1, pid, VITE).cgroup(pid, &format!("/system.slice/{unit}.service"));
        scenario.wait(500).exits(pid, 1);
    }
    let report = scenario.watch_for(comm("vite"));
    let loops: Vec<_> = report.patterns.iter().map(|pattern| (pattern.kind, pattern.count)).collect();
    assert_eq!(loops, [(PatternKind::RestartLoop, 4), (PatternKind::RestartLoop, 3)]);
    assert!(report.patterns[1].text.starts_with("vite in b.service died 3 times"), "{:#?}", report.patterns);
}

#[test]
fn pages_that_are_closed_while_others_are_open_are_no_loop() {
    let mut scenario = machine();
    scenario.spawn(40, 90, &["/opt/browser"]);
    let page = |scenario: &mut Scenario, pid: u32| {
        scenario.spawn(90, pid, &["/opt/page", &format!("--client={pid}")]);
    };
    page(&mut scenario, 100);
    for pid in 101..110 {
        page(&mut scenario, pid);
        scenario.wait(2_000).kill(90, pid - 1, Signo::TERM).dies(pid - 1, Signo::TERM);
    }
    let report = scenario.watch_for(comm("browser"));
    assert_eq!((report.deaths.len(), kinds(&report)), (9, vec![]), "{:#?}", report.patterns);
}

#[test]
fn workers_that_take_the_place_of_others_are_a_loop_beside_those_that_live() {
    let mut scenario = machine();
    scenario.spawn(40, 90, &["/opt/master"]).spawn(90, 99, &["/opt/worker", "--queue"]);
    for pid in 100..104 {
        scenario.spawn(90, pid, &["/opt/worker", "--queue"]).wait(2_000).dies(pid, Signo::SEGV);
    }
    let report = scenario.watch_for(comm("worker"));
    assert_eq!(only(&report, PatternKind::RestartLoop).count, 4);
}
