//! Tests that tidy up kill sessions that they do not own.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};

use killtrace::model::report::{Confidence, Kind, Mechanism, PatternKind, Relation, Role};
use killtrace_tests::{Sandbox, Watch, ancestry, eventually, live, tsx_app};

const SESSIONS: usize = 11;

#[test]
fn live_stories_tests_kill_sessions_that_they_do_not_own() {
    let Some(_turn) = live() else { return };
    let Some(app) = tsx_app() else { return };
    let sandbox = Sandbox::new();
    let registry = sandbox.dir().join("sessions");
    fs::create_dir(&registry).expect("there is room");
    let watch = Watch::start(&["--comm", "session.sh"]);
    let start = || {
        let mut session = sandbox.command(&app, "setsid");
        session.arg("./session.sh").arg(&registry);
        session.stdin(Stdio::piped()).spawn().expect("cannot run nsenter")
    };
    let mut sessions: Vec<Child> = (0..SESSIONS).map(|_| start()).collect();
    let registered = || fs::read_dir(&registry).expect("it was made").count();
    eventually(20, "all sessions", || (registered() == SESSIONS).then_some(()));
    let mut tests = sandbox.command(&app, "npm");
    let tests = tests.args(["test", "--"]).arg(&registry).stdout(Stdio::null()).status().expect("npm runs");
    assert!(tests.success(), "the tests pass: {tests}");
    for session in &mut sessions {
        let status = session.wait().expect("a child can be waited for");
        assert_eq!(status.code().or(status.signal().map(|signo| 128 + signo)), Some(137));
    }
    drop(sandbox);
    let outcome = watch.stop();

    let deaths = &outcome.report.deaths;
    assert_eq!(deaths.len(), SESSIONS, "{:#?}", outcome.summaries());
    for death in deaths {
        assert_eq!(
            (death.cause.kind, death.cause.confidence, death.cause.mechanism),
            (Kind::KilledByProcess, Confidence::Certain, Some(Mechanism::Kill)),
            "{}",
            death.summary
        );
        let killer = death.killer.as_ref().expect("a process killed it");
        assert_eq!((killer.name.as_str(), killer.role), ("sessions.test", Role::TestRunner));
        assert!(ancestry(killer).iter().any(|step| step.contains("npm test")), "{:?}", ancestry(killer));
        assert!(death.summary.contains("sessions.test (pid "), "{}", death.summary);
    }
    let [pattern] = &outcome.report.patterns[..] else { panic!("{:#?}", outcome.report.patterns) };
    assert_eq!((pattern.kind, pattern.count), (PatternKind::Collateral, SESSIONS as u64), "{}", pattern.text);
    assert_eq!((pattern.name.as_str(), pattern.victims.len()), ("sessions.test", SESSIONS));
    let relation = Relation { same_tree: Some(false), same_user: Some(true), same_session: Some(false) };
    assert_eq!(pattern.relation, Some(relation), "{}", pattern.text);
    assert_eq!(pattern.by.as_deref(), Some("sessions.test"), "{}", pattern.text);
    assert!(pattern.text.contains("none of them of its own tree"), "{}", pattern.text);
    assert!(pattern.advice[0].contains("kill only these"), "{:?}", pattern.advice);
}
