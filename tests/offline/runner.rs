//! `.cargo/run-as-root-if-needed`, with a made-up killtrace, `id` and `sudo`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

const RUNNER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../.cargo/run-as-root-if-needed");

/// A script that another thread's child still holds open for writing cannot be run.
static TURN: Mutex<()> = Mutex::new(());

/// What the runner does for a user id with these arguments: what was printed, and the exit code.
fn run(uid: &str, sudo: bool, program: &str, args: &str) -> (String, Option<i32>) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().expect("cannot make a temporary directory");
    script(dir.path(), program, "echo ran \"$@\"");
    script(dir.path(), "id", &format!("echo {uid}"));
    if sudo {
        script(dir.path(), "sudo", "shift; shift; echo sudo \"$@\"");
    }
    // What the runner itself needs, and no sudo among it.
    for tool in ["sh", "basename"] {
        let path = format!("/usr/bin/{tool}");
        std::os::unix::fs::symlink(&path, dir.path().join(tool)).expect("cannot link");
    }
    let mut command = Command::new(RUNNER);
    command.arg(dir.path().join(program)).args(args.split(' ')).env("PATH", dir.path());
    let output = command.output().expect("the runner runs");
    let all = [output.stdout, output.stderr].concat();
    (String::from_utf8(all).expect("text").trim_end().to_owned(), output.status.code())
}

fn script(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("cannot write a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("cannot make it executable");
}

#[test]
fn a_user_watches_the_kernel_through_sudo() {
    for args in ["watch --comm vite", "run -- npm test --help", "demo", "-v watch --pid 1", "record"] {
        assert_eq!(run("1000", true, "killtrace", args), (format!("sudo {args}"), Some(0)));
    }
}

#[test]
fn what_only_reads_and_explains_runs_as_the_user() {
    for args in ["doctor", "report recording.jsonl", "why vite", "watch --help", "--version", "run -h"] {
        assert_eq!(run("1000", true, "killtrace", args), (format!("ran {args}"), Some(0)));
    }
}

#[test]
fn root_and_other_programs_need_no_sudo() {
    assert_eq!(run("0", true, "killtrace", "watch"), ("ran watch".into(), Some(0)));
    assert_eq!(run("1000", true, "xtask", "watch"), ("ran watch".into(), Some(0)));
}

#[test]
fn without_sudo_it_says_so() {
    let (said, code) = run("1000", false, "killtrace", "watch --comm vite");
    assert!(said.contains("there is no sudo") && said.contains("watch --comm vite"), "{said}");
    assert_eq!(code, Some(77));
}
