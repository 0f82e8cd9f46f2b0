//! A test run aborts: one worker fills its heap, then the server that all tests share does, and takes them along.

use std::process::Stdio;

use killtrace::model::report::{Confidence, Death, Kind, PatternKind};
use killtrace_tests::{Outcome, Sandbox, Watch, live, tsx_app};

const SESSIONS: usize = 5;

/// The pids on lines that begin with a word and end with this.
fn pids(said: &str, word: &str, end: &str) -> Vec<u32> {
    let lines = said.lines().filter(|line| line.starts_with(word) && line.ends_with(end));
    lines.map(|line| line.split(' ').nth(1).and_then(|pid| pid.parse().ok()).expect("a pid")).collect()
}

fn heap_was_full(outcome: &Outcome, pid: u32) -> &Death {
    let death = outcome.death_inside(pid);
    assert_eq!(
        (death.cause.kind, death.cause.confidence, death.cause.detail.as_deref()),
        (Kind::KilledBySelf, Confidence::Certain, Some("heap_limit")),
        "{}",
        death.summary
    );
    assert_eq!((death.exit.signal.as_deref(), death.exit.shell_status), (Some("SIGABRT"), Some(134)));
    assert_eq!(death.killer, None, "{}", death.summary);
    for words in ["called abort(), as V8 does when its heap is full", "the limit of its heap was 64 MiB"] {
        assert!(death.summary.contains(words), "{}", death.summary);
    }
    assert!(death.advice[0].contains("a larger --max-old-space-size (now 64)"), "{:?}", death.advice);
    death
}

#[test]
fn live_stories_a_shared_server_out_of_heap_takes_the_sessions_along() {
    let Some(_turn) = live() else { return };
    let Some(app) = tsx_app() else { return };
    let sandbox = Sandbox::new();
    let watch = Watch::start(&["--cmdline", "run-tests.mjs"]);
    let mut pool = sandbox.command(&app, "node");
    pool.arg("run-tests.mjs").arg(SESSIONS.to_string()).stdin(Stdio::null());
    let output = pool.output().expect("cannot run nsenter");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    // What the pool saw, in the words of its own log.
    let aborted = r#"{"code":null,"signal":"SIGABRT"}"#;
    let (report, server) = (pids(&said, "report", aborted), pids(&said, "server", aborted));
    let sessions = pids(&said, "session", r#"{"code":1,"signal":null}"#);
    assert_eq!((report.len(), server.len(), sessions.len()), (1, 1, SESSIONS), "{said}");
    drop(sandbox);
    let outcome = watch.stop();

    // Which worker, and which test file.
    let worker = heap_was_full(&outcome, report[0]);
    assert_eq!(worker.victim.name, "worker");
    assert!(worker.summary.ends_with("It had been started for tests/report.test.mjs."), "{}", worker.summary);

    // Who else died of the server's end, as far as that can be known: its sessions found their sockets closed.
    let server = heap_was_full(&outcome, server[0]);
    let after = &server.aftermath.also_died;
    for pid in &sessions {
        let session = outcome.death_inside(*pid);
        assert_eq!((session.cause.kind, session.exit.code), (Kind::Exited, Some(1)), "{}", session.summary);
        let words = format!("after shared-server (pid {}) had died of SIGABRT", server.victim.pid);
        assert!(session.summary.contains(&words), "{}", session.summary);
        assert!(session.summary.contains("likely") && session.summary.contains("tests/session-"));
        let grouped = after.iter().find(|also| also.pid == session.victim.pid);
        assert_eq!(grouped.map(|also| also.confidence), Some(Confidence::Likely), "{after:?}");
    }
    let patterns = &outcome.report.patterns;
    let taken = patterns.iter().find(|pattern| pattern.kind == PatternKind::Collateral);
    let taken = taken.unwrap_or_else(|| panic!("no collateral among {patterns:#?}"));
    assert_eq!(taken.name, "shared-server", "{}", taken.text);
    // The pool itself gives up, too.
    assert!(
        (SESSIONS..=SESSIONS + 1).contains(&usize::try_from(taken.count).expect("few")),
        "{}",
        taken.text
    );
    assert!(taken.text.contains("very likely took"), "{}", taken.text);
    assert_eq!(patterns.len(), 1, "{patterns:#?}");
}
