mod loops;

use super::*;
use crate::explain::Explainer;
use crate::explain::scenario::Scenario;
use crate::model::event::{Call, Current, Fact, ProcessFacts, SignalResult};
use crate::model::report::{Relation, Report, Trend};
use crate::model::select::Selectors;
use crate::model::signal::{Signo, code};
use crate::model::want::Want;

const VITE: &[&str] = &["/usr/bin/node", "/app/node_modules/.bin/vite"];

fn comm(name: &str) -> Selectors {
    Selectors { comms: vec![name.to_owned()], ..Selectors::default() }
}

fn machine() -> Scenario {
    let mut scenario = Scenario::new();
    scenario.seed(40, 1, "bash", &["/bin/bash", "/app/keepalive.sh"]).seeded();
    scenario
}

fn only(report: &Report, kind: PatternKind) -> &Pattern {
    let found: Vec<_> = report.patterns.iter().filter(|pattern| pattern.kind == kind).collect();
    assert_eq!(found.len(), 1, "{:#?}", report.patterns);
    found[0]
}

fn kinds(report: &Report) -> Vec<PatternKind> {
    report.patterns.iter().map(|pattern| pattern.kind).collect()
}

/// Starts Vite and has pkill end it, again and again: pids count up from 100.
fn keepalive(scenario: &mut Scenario, rounds: u32, pause_ms: impl Fn(u32) -> u64) {
    for round in 0..rounds {
        let (vite, pkill) = (100 + 2 * round, 101 + 2 * round);
        scenario.spawn(40, vite, VITE).wait(pause_ms(round));
        scenario.spawn(40, pkill, &["/usr/bin/pkill", "vite"]).kill(pkill, vite, Signo::KILL);
        scenario.dies(vite, Signo::KILL).exits(pkill, 1).wait(100);
    }
}

#[test]
fn a_loop_is_named_with_its_count_interval_trend_and_actor() {
    let mut scenario = machine();
    keepalive(&mut scenario, 54, |_| 9_900);
    let report = scenario.watch_for(comm("vite"));
    let pattern = only(&report, PatternKind::RestartLoop);
    assert_eq!((pattern.name.as_str(), pattern.count), ("vite", 54));
    assert_eq!((pattern.median_interval_ms, pattern.trend), (Some(10_007), Some(Trend::Steady)));
    assert_eq!(pattern.by.as_deref(), Some("pkill < keepalive.sh"));
    assert_eq!(
        pattern.text,
        "vite died 54 times in 8 min 50 s, every 10 s or so, each time by pkill < keepalive.sh"
    );
    assert_eq!(report.patterns.len(), 1, "{:#?}", report.patterns);
}

#[test]
fn a_loop_that_turns_faster_says_so() {
    let mut scenario = machine();
    keepalive(&mut scenario, 10, |round| 20_000 / u64::from(round + 1));
    let report = scenario.watch_for(comm("vite"));
    let pattern = only(&report, PatternKind::RestartLoop);
    assert_eq!(pattern.trend, Some(Trend::Faster));
    assert!(pattern.text.contains("faster and faster"), "{}", pattern.text);
}

#[test]
fn a_loop_is_told_once_and_at_its_third_round() {
    let mut scenario = machine();
    keepalive(&mut scenario, 9, |_| 1_000);
    scenario.wait(100).push(None, Fact::End);
    let mut explainer = Explainer::new(scenario.header.clone(), comm("vite"));
    let (mut deaths, mut told) = (0, Vec::new());
    for event in &scenario.events {
        explainer.apply(event);
        deaths += explainer.take_deaths().len();
        told.extend(explainer.take_patterns().into_iter().map(|pattern| (deaths, pattern.count)));
    }
    assert_eq!(told, [(3, 3)]);
    assert_eq!(explainer.report().patterns[0].count, 9);
}

#[test]
fn a_pause_ends_a_loop_and_the_report_keeps_it() {
    let mut scenario = machine();
    keepalive(&mut scenario, 4, |_| 1_000);
    scenario.wait(3_600_000).spawn(40, 300, VITE).kill(40, 300, Signo::KILL).dies(300, Signo::KILL);
    let report = scenario.watch_for(comm("vite"));
    assert_eq!(only(&report, PatternKind::RestartLoop).count, 4);
}

#[test]
fn many_that_fall_together_are_no_loop_and_their_killer_is_named() {
    let mut scenario = machine();
    scenario.seed(60, 1, "vitest", &["/usr/bin/vitest"]);
    for pid in 100..105 {
        scenario.spawn(40, pid, &["/opt/session"]).session(pid, pid, "");
    }
    scenario.session(60, 60, "");
    for pid in 100..105 {
        scenario.kill(60, pid, Signo::KILL).dies(pid, Signo::KILL);
    }
    let report = scenario.watch_for(comm("session"));
    assert_eq!(kinds(&report), [PatternKind::Collateral]);
    let pattern = &report.patterns[0];
    assert_eq!((pattern.name.as_str(), pattern.count, pattern.victims.len()), ("vitest", 5, 5));
    let relation = Relation { same_tree: Some(false), same_user: Some(true), same_session: Some(false) };
    assert_eq!(pattern.relation, Some(relation));
    assert_eq!(
        pattern.text,
        "vitest (pid 60) ended 5 processes within 8 ms: session (pid 100), session (pid 101), session (pid 102) and 2 \
         more, none of them of its own tree, of the same user, in another session"
    );
}

#[test]
fn a_manager_that_kills_each_child_it_starts_loops_and_hits_no_others() {
    let mut scenario = machine();
    for pid in 100..110 {
        scenario.spawn(40, pid, VITE).wait(500).kill(40, pid, Signo::KILL).dies(pid, Signo::KILL);
    }
    assert_eq!(kinds(&scenario.watch_for(comm("vite"))), [PatternKind::RestartLoop]);
}

#[test]
fn one_death_that_took_many_along_is_named() {
    let mut scenario = machine();
    scenario.spawn(40, 100, &["/opt/server"]);
    for pid in 101..106 {
        scenario.spawn(100, pid, &["/opt/session"]);
    }
    scenario.kill(40, 100, Signo::KILL).dies(100, Signo::KILL);
    let server = scenario.exiting(100);
    for pid in 101..106 {
        scenario.signal(
            server,
            pid,
            Signo::TERM,
            code::SI_USER,
            true,
            SignalResult::Delivered,
            Some((Call::None, 0)),
        );
        scenario.dies(pid, Signo::TERM);
    }
    let report = scenario.watch_for(comm("server"));
    assert_eq!(kinds(&report), [PatternKind::Collateral]);
    let pattern = &report.patterns[0];
    assert_eq!((pattern.name.as_str(), pattern.count), ("server", 5));
    assert!(
        pattern.text.starts_with("the end of server (pid 100) took 5 processes along:"),
        "{}",
        pattern.text
    );
}

#[test]
fn a_memory_limit_that_is_hit_every_half_hour_is_a_period() {
    let mut scenario = machine();
    for (pid, minutes) in [(100, 30), (101, 31), (102, 29), (103, 30)] {
        scenario.spawn(40, pid, &["/usr/bin/node", "server.js"]).wait(minutes * 60_000);
        let node = scenario.current(pid);
        scenario.kernel(node, pid, Signo::KILL, Call::None).oom_mark(pid, pid).dies(pid, Signo::KILL);
    }
    let report = scenario.watch_for(comm("node"));
    assert_eq!(kinds(&report), [PatternKind::Periodic]);
    let pattern = &report.patterns[0];
    assert_eq!((pattern.count, pattern.median_interval_ms), (4, Some(1_800_005)));
    assert!(
        pattern.text.starts_with("server.js dies every 30 min or so and comes back: 4 times since")
            && pattern.text.ends_with("each time killed by the kernel's OOM killer"),
        "{}",
        pattern.text
    );
}

#[test]
fn deaths_of_two_causes_or_at_odd_times_are_no_period() {
    let mut odd = machine();
    for (pid, minutes) in [(100, 30), (101, 3), (102, 90), (103, 11), (104, 45)] {
        odd.spawn(40, pid, VITE).wait(minutes * 60_000).exits(pid, 1);
    }
    let mut mixed = machine();
    for pid in 100..106 {
        mixed.spawn(40, pid, VITE).wait(1_800_000).exits(pid, (pid % 3).cast_signed() + 1);
    }
    for mut scenario in [odd, mixed] {
        assert_eq!(kinds(&scenario.watch_for(comm("vite"))), []);
    }
}

#[test]
fn children_that_outlive_their_tree_are_named_with_what_they_hold() {
    let mut scenario = machine();
    scenario.spawn(40, 100, VITE).spawn(100, 110, &["/usr/bin/tsserver"]).spawn(
        100,
        111,
        &["/usr/bin/esbuild"],
    );
    let tsserver = scenario.current(110);
    scenario.push(Some(tsserver), Fact::Listen { port: 5173, listening: true });
    scenario.kill(40, 100, Signo::KILL).dies(100, Signo::KILL);
    // This one notices, a little later.
    scenario.wait(200).exits(111, 0).wait(2_000);
    scenario.facts(ProcessFacts { tgid: 110, ppid: Some(1), ..ProcessFacts::default() });
    let report = scenario.watch_for(comm("vite"));
    assert_eq!(kinds(&report), [PatternKind::Orphans]);
    let pattern = &report.patterns[0];
    assert_eq!((pattern.name.as_str(), pattern.count), ("vite", 1));
    assert_eq!(pattern.survivors.len(), 1);
    let survivor = &pattern.survivors[0];
    assert_eq!(
        (survivor.pid, survivor.reparented_to, survivor.listening.as_slice()),
        (110, Some(1), &[5173][..])
    );
    assert_eq!(
        pattern.text,
        "1 process outlived vite, which had started it; alive now: tsserver (pid 110) under systemd (pid 1) listens \
         on port 5173"
    );
}

#[test]
fn what_holds_a_port_is_remembered_among_many_orphans_and_looked_at_again() {
    let mut scenario = machine();
    for round in 0..100 {
        let (vite, tail) = (100 + 10 * round, 101 + 10 * round);
        scenario.spawn(40, vite, VITE).spawn(vite, tail, &["/usr/bin/tail"]).wait(100);
        scenario.kill(40, vite, Signo::KILL).dies(vite, Signo::KILL).wait(1_500);
        if round == 3 {
            // The first of them took its time.
            let listening = Some(vec![5173]);
            scenario.facts(ProcessFacts { tgid: 101, ppid: Some(1), listening, ..ProcessFacts::default() });
        }
    }
    let mut explainer = Explainer::new(scenario.header.clone(), comm("vite"));
    let mut wants = Vec::new();
    for event in &scenario.events {
        explainer.apply(event);
        wants.extend(explainer.take_wants());
    }
    let again = |want: &&Want| matches!(want, Want::Survivors(pids) if pids.contains(&111) && pids.len() > 1);
    assert!(wants.iter().filter(again).count() > 3, "{wants:?}");
    let report = scenario.watch_for(comm("vite"));
    let left = only(&report, PatternKind::Orphans);
    assert_eq!((left.count, left.survivors.len()), (100, 64), "{}", left.text);
    assert_eq!((left.survivors[0].pid, left.survivors[0].listening.as_slice()), (101, &[5173][..]));
    assert!(
        left.text.contains("tail (pid 101) under systemd (pid 1) listens on port 5173,"),
        "{}",
        left.text
    );
    let advice = "keepalive.sh signalled vite alone.";
    assert!(left.advice.iter().any(|said| said.starts_with(advice)), "{:?}", left.advice);
}

#[test]
fn who_kills_the_group_of_what_it_started_hits_no_others() {
    let mut scenario = machine();
    scenario.spawn(40, 100, VITE);
    for pid in 101..105 {
        scenario.spawn(100, pid, &["/usr/bin/esbuild"]);
    }
    let group = Some((Call::Kill, u64::from((-100i32).cast_unsigned())));
    for pid in 100..105 {
        let (bash, delivered) = (scenario.current(40), SignalResult::Delivered);
        scenario.signal(bash, pid, Signo::KILL, code::SI_USER, true, delivered, group);
    }
    // Whose memory takes its time.
    scenario.dies(100, Signo::KILL).wait(500);
    for pid in 101..105 {
        scenario.dies(pid, Signo::KILL);
    }
    let report = scenario.watch_for(comm("vite"));
    assert_eq!((report.deaths.len(), kinds(&report)), (5, vec![]));
    let lived_on = report.deaths.iter().any(|death| !death.aftermath.survivors.is_empty());
    assert!(!lived_on, "a SIGKILL waited for each");
}

#[test]
fn a_daemon_that_its_starter_leaves_is_no_orphan() {
    let mut scenario = machine();
    scenario.spawn(40, 100, VITE).spawn(100, 110, &["/bin/starter"]).spawn(110, 111, &["/bin/daemon"]);
    scenario.exits(110, 0).wait(5_000);
    assert_eq!(kinds(&scenario.watch_for(comm("vite"))), []);
}

/// Children of Chrome's zygote, `born` a second, of which one in `ends` ends.
fn renderers(seconds: u32, born: u32, ends: u32) -> Report {
    let mut scenario = machine();
    scenario.spawn(40, 100, &["/opt/chrome"]).spawn(100, 101, &["/opt/zygote"]);
    for pid in 200..200 + seconds * born {
        scenario.fork(101, pid).wait(u64::from(1_000 / born));
        if pid % ends == 0 {
            scenario.exits(pid, 0);
        }
    }
    scenario.watch_for(comm("chrome"))
}

#[test]
fn births_that_outrun_deaths_are_a_storm() {
    let report = renderers(30, 4, 4);
    assert_eq!(kinds(&report), [PatternKind::SpawnStorm]);
    let pattern = &report.patterns[0];
    assert_eq!((pattern.name.as_str(), pattern.by.as_deref()), ("chrome", Some("zygote (pid 101)")));
    let rates = pattern.rates.expect("rates");
    assert!((110..=120).contains(&rates.births), "{rates:?}");
    assert!((230..=250).contains(&rates.births_per_minute), "{rates:?}");
    assert!((55..=65).contains(&rates.deaths_per_minute), "{rates:?}");
    assert!(
        pattern.text.starts_with("chrome (pid 100) starts processes faster than they end: ")
            && pattern.text.contains("mostly by zygote (pid 101)"),
        "{}",
        pattern.text
    );
    assert_eq!(kinds(&renderers(30, 4, 2)), [PatternKind::SpawnStorm], "two more each second");
}

/// Chrome's zygote forks, and the fork becomes a renderer without an exec: it says so in the title that it gives itself.
#[test]
fn a_fork_with_threads_is_read_and_called_what_it_calls_itself() {
    let mut scenario = machine();
    scenario.spawn(40, 100, &["/opt/chrome"]).spawn(100, 101, &["/opt/chrome", "--type=zygote"]);
    scenario.fork(101, 200).fork(101, 300);
    let thread = Current { tid: 201, ..scenario.current(200) };
    scenario.push(Some(thread), Fact::Rename { tid: 201, comm: "Compositor".into() });
    let mut explainer = Explainer::new(scenario.header.clone(), comm("chrome"));
    for event in &scenario.events {
        explainer.apply(event);
    }
    let wants = explainer.take_wants();
    assert!(wants.contains(&Want::Process(200)) && !wants.contains(&Want::Process(300)), "{wants:?}");
    let title = vec!["/opt/chrome --type=renderer --lang=en".to_owned()];
    scenario.facts(ProcessFacts { tgid: 200, cmdline: Some(title), ..ProcessFacts::default() });
    scenario.kill(100, 200, Signo::TERM).dies(200, Signo::TERM);
    let report = scenario.watch_for(comm("chrome"));
    assert_eq!(report.deaths.len(), 1);
    assert_eq!(
        report.deaths[0].summary,
        "chrome renderer (pid 200) was killed by SIGTERM from chrome (pid 100)."
    );
}

#[test]
fn what_ends_as_fast_as_it_begins_or_grows_slowly_is_no_storm() {
    assert_eq!(kinds(&renderers(30, 4, 1)), [], "each ends");
    let mut builds = machine();
    builds.spawn(40, 100, VITE);
    for build in 0..5 {
        let jobs = 200 + 100 * build..240 + 100 * build;
        for pid in jobs.clone() {
            builds.fork(100, pid).wait(50);
        }
        for pid in jobs {
            builds.exits(pid, 0);
        }
    }
    assert_eq!(kinds(&builds.watch_for(comm("vite"))), [], "many at a time, and all of them end");
    let mut pool = machine();
    pool.spawn(40, 100, VITE);
    for pid in 200..264 {
        pool.fork(100, pid);
    }
    assert_eq!(kinds(&pool.watch_for(comm("vite"))), [], "a pool of workers");
    let mut slow = machine();
    slow.spawn(40, 100, VITE);
    for pid in 200..264 {
        slow.fork(100, pid).wait(30_000);
    }
    assert_eq!(kinds(&slow.watch_for(comm("vite"))), [], "two a minute");
}

#[test]
fn patterns_outlive_the_deaths_they_are_made_of() {
    let mut scenario = machine();
    scenario.seed(60, 1, "manager", &["/opt/manager"]);
    let rounds = 5_501;
    for pid in 100..100 + rounds {
        scenario.spawn(60, pid, &["/opt/vite"]).kill(60, pid, Signo::KILL).dies(pid, Signo::KILL);
    }
    let report = scenario.watch_for(comm("vite"));
    assert!(report.deaths_omitted > 0 && (report.deaths.len() as u64) < u64::from(rounds));
    assert_eq!(only(&report, PatternKind::RestartLoop).count, u64::from(rounds));
}
