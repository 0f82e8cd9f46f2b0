//! Exits that followed another death, and those that only look like it.

use super::*;
use crate::model::report::{PatternKind, Report};

/// A pool of tests at 100, with a server at 110 and sessions from 120 on.
fn pool(sessions: u32) -> Scenario {
    let mut scenario = Scenario::new();
    scenario.seed(40, 1, "bash", &["/bin/bash"]).seeded();
    scenario.spawn(40, 100, &["/usr/bin/node", "/app/pool.mjs"]);
    scenario.spawn(100, 110, &["/usr/bin/node", "/app/server.mjs"]);
    for pid in 120..120 + sessions {
        scenario.spawn(100, pid, &["/usr/bin/node", "/app/session.mjs"]);
    }
    scenario
}

fn abort(scenario: &mut Scenario, pid: u32) {
    let own = scenario.current(pid);
    let call = Some((Call::Tgkill, u64::from(pid)));
    scenario.signal(own, pid, Signo::ABRT, code::SI_TKILL, false, SignalResult::Delivered, call);
    scenario.take(pid, Signo::ABRT, code::SI_TKILL).dies(pid, Signo::ABRT);
}

fn of(report: &Report, pid: u32) -> &Death {
    report.deaths.iter().find(|death| death.victim.pid == pid).unwrap()
}

#[test]
fn a_wrapper_passes_on_what_its_child_died_of() {
    let mut scenario = pool(0);
    scenario.spawn(110, 111, &["/bin/sh", "-c", "vite"]).spawn(111, 112, &["/usr/bin/vite"]);
    let outsider = scenario.current(40);
    scenario.kernel(outsider, 112, Signo::KILL, Call::Write);
    scenario.oom_mark(40, 112);
    scenario.dies(112, Signo::KILL).wait(7).exits(111, 137).wait(200).exits(110, 137).exits(100, 1);
    let report = scenario.watch(100);
    assert_eq!(
        of(&report, 111).summary,
        "sh (pid 111) exited with code 137, which stands for SIGKILL (128 + 9). Most likely it passed on an end below it, \
         8 ms before: vite (pid 112) was killed by the kernel's OOM killer."
    );
    let server = of(&report, 110);
    assert!(
        server.summary.contains("before: vite (pid 112) was killed by"),
        "the end of it all: {}",
        server.summary
    );
    assert_cause(server, Kind::Exited, Mechanism::None, Confidence::Certain);
    assert_eq!((&server.killer, &server.root_cause), (&None, &None));
    let steps: Vec<_> = server.chain.iter().map(|step| step.text.as_str()).collect();
    assert_eq!(steps, ["vite (112) was killed by SIGKILL", "server.mjs (110) exited with code 137"]);
    let pool = &of(&report, 100).summary;
    assert!(
        pool.contains("with code 1, 210 ms after vite (pid 112) had died of SIGKILL"),
        "not its status: {pool}"
    );
    let after: Vec<_> =
        of(&report, 112).aftermath.also_died.iter().map(|also| (also.pid, also.confidence)).collect();
    assert_eq!(after, [111, 110, 100].map(|pid| (pid, Confidence::Likely)));
    assert_eq!(report.patterns, [], "two wrappers are no pattern");
}

#[test]
fn sessions_that_lost_their_server_likely_followed_it() {
    let mut scenario = pool(4);
    abort(&mut scenario, 110);
    for pid in 120..123 {
        scenario.wait(5).exits(pid, 1);
    }
    scenario.exits(123, 0);
    let report = scenario.watch(100);
    assert_eq!(
        of(&report, 120).summary,
        "session (pid 120) exited by itself with code 1, 6 ms after server.mjs (pid 110) had died of SIGABRT. That is the \
         likely reason."
    );
    assert_eq!(of(&report, 123).summary, "session (pid 123) exited by itself with code 0.");
    let [pattern] = &report.patterns[..] else { panic!("{:#?}", report.patterns) };
    assert_eq!((pattern.kind, pattern.count), (PatternKind::Collateral, 3));
    assert_eq!(
        pattern.text,
        "the end of server.mjs (pid 110) very likely took 3 processes along: session (pid 120), session (pid 121) and session \
         (pid 122)"
    );
}

#[test]
fn a_number_that_nothing_below_it_died_of_is_not_passed_on() {
    let mut scenario = pool(1);
    scenario.kill(40, 120, Signo::TERM).dies(120, Signo::TERM).wait(5).exits(100, 137);
    assert_eq!(
        scenario.death(100).summary,
        "pool (pid 100) exited by itself with code 137. That looks like SIGKILL in a log, but no SIGKILL ended it, nor, in \
         the 5 s before, anything that it had started: the code is its own, or comes from elsewhere, such as a container \
         or another machine."
    );
}

#[test]
fn who_killed_another_did_not_follow_it() {
    let mut scenario = pool(2);
    scenario.kill(120, 121, Signo::KILL).dies(121, Signo::KILL).wait(5).exits(120, 1);
    assert_eq!(scenario.death(120).summary, "session (pid 120) exited by itself with code 1.");
}

#[test]
fn what_was_long_ago_or_elsewhere_is_not_followed() {
    let mut scenario = pool(1);
    scenario.spawn(40, 300, &["/usr/bin/node", "/app/other.mjs"]);
    abort(&mut scenario, 110);
    scenario.wait(1_500).exits(120, 1);
    assert_eq!(scenario.death(120).summary, "session (pid 120) exited by itself with code 1.");
    let mut scenario = pool(1);
    scenario.spawn(40, 300, &["/usr/bin/node", "/app/other.mjs"]);
    abort(&mut scenario, 300);
    scenario.wait(5).exits(120, 1);
    assert_eq!(scenario.death(120).summary, "session (pid 120) exited by itself with code 1.");
}
