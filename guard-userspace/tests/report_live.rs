//! `killtrace doctor` and `killtrace demo` on the running kernel. What needs root says so where it is skipped.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says what it skips")]

mod needs;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// A user that owns nothing.
const NOBODY: u32 = 65534;

fn killtrace(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_killtrace")).args(args).stdin(Stdio::null()).output().unwrap()
}

/// The program where anybody may run it.
fn for_anybody() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = directory.path().join("killtrace");
    fs::copy(env!("CARGO_BIN_EXE_killtrace"), &program).unwrap();
    (directory, program)
}

fn as_nobody(args: &[&str]) -> Output {
    let (_directory, program) = for_anybody();
    let mut command = Command::new(program);
    command.args(args).uid(NOBODY).gid(NOBODY).current_dir("/").stdin(Stdio::null());
    command.output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn doctor_agrees_with_itself() {
    let output = killtrace(&["doctor", "--json"]);
    assert_eq!(stderr(&output), "");
    let findings: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(findings["schema"], "killtrace.doctor/1");
    let checks = findings["checks"].as_array().unwrap();
    let hindered = checks.iter().any(|check| check["required"] == true && check["state"] != "ok");
    let code = match findings["verdict"].as_str().unwrap() {
        "works" => 0,
        "needs_privileges" => 77,
        _ => 1,
    };
    assert_eq!(output.status.code(), Some(code));
    assert_eq!(hindered, code != 0, "{findings:#}");
    assert_eq!(findings["backend"].is_null(), code != 0);
    let text = killtrace(&["doctor"]);
    assert_eq!(text.status.code(), Some(code));
    for check in checks {
        let name = check["name"].as_str().unwrap();
        assert!(stdout(&text).contains(name), "{name}");
    }
}

#[test]
fn doctor_says_yes_where_watching_works() {
    if !needs::root() {
        return;
    }
    let watch = killtrace(&["watch", "--comm", "nobody-runs-this", "--duration", "100ms"]);
    let doctor = killtrace(&["doctor"]);
    // 3: nothing died, so it was armed.
    assert_eq!(watch.status.code() == Some(3), doctor.status.code() == Some(0), "{}", stdout(&doctor));
}

#[test]
fn without_privileges_doctor_says_which_and_how() {
    if !needs::root() {
        return;
    }
    let output = as_nobody(&["doctor"]);
    assert_eq!(output.status.code(), Some(77), "{}", stdout(&output));
    let text = stdout(&output);
    for word in ["CAP_BPF", "CAP_PERFMON", "tracefs", "sudo", "setcap"] {
        assert!(text.contains(word), "{word} is not in:\n{text}");
    }
    assert!(text.contains("\nno access   CAP_BPF"), "{text}");
}

#[test]
fn without_privileges_the_demo_harms_nobody() {
    if !needs::root() {
        return;
    }
    let output = as_nobody(&["demo"]);
    assert_eq!(output.status.code(), Some(77));
    assert_eq!(stdout(&output), "", "no victim is introduced");
    let error = stderr(&output);
    assert!(error.contains("CAP_PERFMON") && error.contains("\n  help: "), "{error}");
}

#[test]
fn the_demo_finds_its_culprit_in_five_seconds() {
    if !needs::root() {
        return;
    }
    let start = Instant::now();
    let output = killtrace(&["demo"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}{}", stderr(&output));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    // In one sentence, which may be wrapped.
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("was killed by SIGTERM from sh (pid"), "{text}");
    assert!(words.contains("clean-up.sh"), "{text}");
    assert!(words.contains("That is what happened."), "{text}");
}
