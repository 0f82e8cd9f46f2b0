//! `killtrace report` as its users see it: what it prints, where, and with which exit code.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The sample of the unit tests, which hold it to the types.
const JSON: &str = include_str!("report/sample.json");
const TEXT: &str = include_str!("../src/report/text/sample.txt");

fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/report/sample.json")
}

fn report() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_killtrace"));
    command.arg("report").env_remove("NO_COLOR").stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
    assert_eq!(stderr(output), "");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The error of a report on a file with this content.
fn error_for(content: impl AsRef<[u8]>) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report.json");
    fs::write(&path, content).unwrap();
    let output = run(report().arg(&path));
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let error = stderr(&output);
    assert!(error.starts_with("error: ") && error.contains("report.json"), "{error}");
    assert!(error.contains("\n  help: "), "{error}");
    error
}

#[test]
fn a_saved_report_reads_like_the_live_one() {
    assert_eq!(stdout(&run(report().arg(sample()))), TEXT);
}

#[test]
fn json_comes_out_as_it_went_in() {
    assert_eq!(stdout(&run(report().arg(sample()).args(["--format", "json"]))), JSON);
}

#[test]
fn a_report_is_read_from_standard_input() {
    let mut command = report();
    command.arg("-").stdin(File::open(sample()).unwrap());
    assert_eq!(stdout(&run(&mut command)), TEXT);
}

#[test]
fn a_file_gets_the_format_its_name_asks_for() {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in [("out.json", JSON), ("out.txt", TEXT), ("out", TEXT)] {
        let path = directory.path().join(name);
        assert_eq!(stdout(&run(report().arg(sample()).arg("-o").arg(&path))), "");
        assert_eq!(fs::read_to_string(&path).unwrap(), content, "{name}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3, "temporary files are left behind");
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let mut child = report().arg(sample()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stderr(&output), "");
}

#[test]
fn a_full_disk_is_an_error() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = run(report().arg(sample()).stdout(full));
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cannot write to standard output"), "{}", stderr(&output));
}

#[test]
fn a_missing_file_is_named() {
    let output = run(report().arg("/nonexistent/report.json"));
    assert_eq!(output.status.code(), Some(1));
    let error = stderr(&output);
    assert!(error.contains("/nonexistent/report.json") && error.contains("No such file"), "{error}");
}

#[test]
fn what_is_no_report_is_refused() {
    for content in ["", "hello", "{}", "[1, 2]", "{\"schema\": \"somebody.else/1\"}"] {
        let error = error_for(content);
        assert!(
            error.contains("is neither a report nor a recording") || error.contains("is empty"),
            "{error}"
        );
    }
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let error = error_for(b"\x7fELF\x02\x01\x01\0\xff\xfe\x1b[2J");
    assert!(!error.contains('\x1b'), "{error:?}");
}

#[test]
fn a_newer_report_asks_for_a_newer_killtrace() {
    let error = error_for(JSON.replace("killtrace.report/1", "killtrace.report/2"));
    assert!(error.contains("newer") && error.contains("killtrace.report/2"), "{error}");
    assert!(error.contains("upgrade"), "{error}");
}

#[test]
fn a_report_cut_off_anywhere_is_refused() {
    for end in (100..JSON.len() - 3).step_by(JSON.len() / 23) {
        let end = (end..).find(|&end| JSON.is_char_boundary(end)).unwrap();
        let error = error_for(&JSON[..end]);
        assert!(error.contains("cut off"), "{end}: {error}");
    }
}

#[test]
fn a_report_with_a_wrong_field_is_refused() {
    let error = error_for(JSON.replace("\"lost_events\": 12", "\"lost_events\": \"many\""));
    assert!(error.contains("damaged"), "{error}");
}

#[test]
fn wrong_usage_is_told_from_failure() {
    let directory = tempfile::tempdir().unwrap();
    let nowhere = directory.path().join("nowhere/out.json");
    let sample = sample().display().to_string();
    let nowhere = nowhere.display().to_string();
    let usages: [&[&str]; 3] = [&[&sample, "--format", "pdf"], &[], &[&sample, "-o", &nowhere]];
    for args in usages {
        let output = run(report().args(args));
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(output.stdout.is_empty());
        assert!(stderr(&output).starts_with("error: "), "{}", stderr(&output));
    }
}

#[test]
fn hostile_names_reach_no_terminal() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report.json");
    let hostile = JSON.replace("vite (pid 4021) died", "\\u001b[2J\\u202evite\\u009b31m (pid 4021)\\ndied");
    File::create(&path).unwrap().write_all(hostile.as_bytes()).unwrap();
    for format in ["text", "json"] {
        let text = stdout(&run(report().arg(&path).args(["--format", format])));
        assert!(text.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'), "{format}");
    }
}
