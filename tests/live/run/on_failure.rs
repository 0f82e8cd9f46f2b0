//! What is reported when the command fails, and that nothing is when it does not.

use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};

use killtrace_tests::{eventually, live};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Runs it with `--on-failure` in a step of a workflow whose summary has something in it already.
fn step(dir: &Path, script: &str) -> (Output, String) {
    let summary = dir.join("summary");
    fs::write(&summary, "before\n").expect("a temporary file");
    let report = dir.join("report.json");
    let mut command = super::run(&["--on-failure", "-o", report.to_str().expect("UTF-8")], script);
    command.env("GITHUB_ACTIONS", "true").env("GITHUB_STEP_SUMMARY", &summary);
    let output = command.output().expect("killtrace can be run");
    (output, fs::read_to_string(&summary).expect("it is there"))
}

#[test]
fn nothing_is_said_of_what_went_well() {
    let Some(_alone) = live() else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (output, summary) = step(dir.path(), "echo out; echo err >&2; bash -c 'exit 3'; true");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!(summary, "before\n");
    assert!(!dir.path().join("report.json").exists());
}

#[test]
fn a_failure_is_reported_when_it_is_over() {
    let Some(_alone) = live() else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let script = "bash -c 'kill -KILL $$'; status=$?; echo last words >&2; exit $status";
    let (output, summary) = step(dir.path(), script);
    assert_eq!(output.status.code(), Some(137));
    let stderr = String::from_utf8_lossy(&output.stderr);
    let (own, said) = stderr.split_once("last words\n").expect("the command's own come first");
    assert!(!own.contains("SIGKILL from") && !own.contains("::error"), "{own}");
    assert!(said.contains("ended itself: it sent SIGKILL to itself"), "{said}");
    assert!(said.contains("exited with code 137"), "{said}");
    assert!(said.contains("::error title=bash"), "{said}");
    assert!(summary.starts_with("before\n## ") && summary.contains("SIGKILL"), "{summary}");
    assert!(dir.path().join("report.json").exists());
}

#[test]
fn what_was_killed_is_reported_also_when_the_command_went_on() {
    let Some(_alone) = live() else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (output, summary) = step(dir.path(), "bash -c 'kill -SEGV $$'; true");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("it sent SIGSEGV to itself") && !stderr.contains("::error"), "{stderr}");
    assert!(dir.path().join("report.json").exists());
    assert_eq!((output.status.code(), summary.as_str()), (Some(0), "before\n"), "the step did not fail");
}

/// A job that is cancelled gets a few seconds. If nobody obeys, what is known must be written before SIGKILL.
#[test]
fn what_is_known_is_written_before_sigkill() {
    let Some(_alone) = live() else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (report, summary, ready) =
        (dir.path().join("report.json"), dir.path().join("summary"), dir.path().join("ready"));
    fs::write(&summary, "before\n").expect("a temporary file");
    let script = format!("trap '' INT TERM; : > {}; sleep 20 & wait", ready.display());
    let mut command = super::run(&["--on-failure", "-o", report.to_str().expect("UTF-8")], &script);
    command.env("GITHUB_STEP_SUMMARY", &summary).stderr(Stdio::null());
    let mut child = command.spawn().expect("killtrace can be run");
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("pids are small"));
    eventually(20, "the command to be ready", || ready.exists().then_some(()));
    kill(pid, Signal::SIGINT).expect("it lives");
    eventually(5, "the report", || report.exists().then_some(()));
    assert_eq!(fs::read_to_string(&summary).expect("it is there"), "before\n", "it may still obey");
    kill(pid, Signal::SIGTERM).expect("it lives");
    let wrote = || fs::read_to_string(&summary).is_ok_and(|text| text.starts_with("before\n## "));
    eventually(5, "the summary", || wrote().then_some(()));
    for child in killtrace_tests::children(child.id()) {
        kill(Pid::from_raw(i32::try_from(child).expect("pids are small")), Signal::SIGKILL)
            .expect("it lives");
    }
    let status = eventually(10, "the end", || child.try_wait().expect("a child can be waited for"));
    assert_eq!(status.code(), Some(137));
    let text = fs::read_to_string(&summary).expect("it is there");
    assert_eq!(
        text.matches("<sub>killtrace on").count(),
        1,
        "the last word takes the place of the first: {text}"
    );
}
