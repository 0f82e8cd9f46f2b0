//! A job that is cancelled the way GitHub's runner does it, with `run` in between.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use killtrace::model::report::{Death, Job, Report, Role};
use killtrace_tests::{killtrace_path, live};

/// A program of that name that runs `step` and then does to it what the runner does (ProcessInvoker.cs of actions/runner),
/// with its times.
fn cancel(dir: &Path, step: &str) -> Report {
    let runner: PathBuf = dir.join("Runner.Worker");
    fs::copy("/usr/bin/bash", &runner).expect("there is a bash");
    let (report, ready) = (dir.join("report.json"), dir.join("ready"));
    let killtrace = killtrace_path().display();
    let (report_path, ready) = (report.display(), ready.display());
    let script = format!(
        "set -m; ready={ready}; export ready
         {killtrace} run --on-failure -o {report_path} -- bash -c '{step}' &
         until [ -e $ready ]; do sleep 0.05; done
         wait_for() {{ for _ in $(seq $1); do kill -0 $! 2>/dev/null || exit 0; sleep 0.1; done; }}
         kill -INT $!; wait_for 75; kill -TERM $!; wait_for 25; kill -KILL $!"
    );
    let mut command = Command::new(&runner);
    command.args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(command.status().expect("the runner runs").success(), "it had to kill killtrace");
    serde_json::from_str(&fs::read_to_string(&report).expect("there is a report")).expect("and it is one")
}

fn root(report: &Report) -> &Death {
    report.deaths.iter().find(|death| death.victim.root).expect("the command died")
}

#[test]
fn a_command_that_obeys_was_cancelled() {
    let Some(_alone) = live() else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let report = cancel(dir.path(), "trap \"exit 130\" INT; : > $ready; while :; do sleep 0.05; done");
    let death = root(&report);
    let killer = death.killer.as_ref().expect("it was asked");
    assert_eq!((killer.name.as_str(), killer.role), ("Runner.Worker", Role::CiRunner), "{}", death.summary);
    assert_eq!((killer.job, death.exit.code), (Some(Job::Cancel), Some(130)));
    assert!(death.summary.contains("most likely because its job was cancelled"), "{}", death.summary);
}

#[test]
fn a_command_that_waits_for_sigterm_has_both_in_its_story() {
    let Some(_alone) = live() else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let report = cancel(dir.path(), "trap \"\" INT; : > $ready; while :; do sleep 0.05; done");
    let death = root(&report);
    assert_eq!(death.exit.signal.as_deref(), Some("SIGTERM"), "{}", death.summary);
    let said = &death.summary;
    assert!(said.contains("SIGTERM from Runner.Worker") && said.contains("timed out (SIGINT "), "{said}");
}
