//! Recordings from real kernels, replayed into the reports that people have judged right.
//!
//! `tests/replay/<case>/` holds `events.jsonl`, the recording; `expected.json` and `expected.txt`, its report; and
//! `truth.md`: how it was made, on which kernel, and what really happened, known independently of killtrace.
//! A changed report is judged by a person against `truth.md`; nothing here rewrites it.

use std::fs;
use std::path::{Path, PathBuf};

use killtrace::recording;
use killtrace::report::{Options, REPORTS, Style};

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/replay");
    let entries = fs::read_dir(root).expect("tests/replay exists");
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    cases.retain(|path| path.is_dir());
    cases.sort();
    cases
}

/// The report of a recording, in one format.
fn render(case: &Path, format: &str) -> String {
    let report = recording::replay(&case.join("events.jsonl")).expect("a recording");
    let writer = REPORTS.iter().find(|writer| writer.name() == format).expect("a format");
    let mut out = Vec::new();
    writer.write(&report, &Options { style: Style::PLAIN }, &mut out).expect("memory does not fail");
    String::from_utf8(out).expect("reports are UTF-8")
}

#[track_caller]
fn check(case: &Path, format: &str, expected: &str) {
    let path = case.join(expected);
    let expected = fs::read_to_string(&path).unwrap_or_default();
    let found = render(case, format);
    let differs = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
    assert!(found == expected, "{} differs, first here:\n{differs:#?}\nwhole:\n{found}", path.display());
}

#[test]
fn every_recording_replays_into_its_expected_report() {
    let cases = cases();
    assert!(cases.len() >= 8, "only {} cases in tests/replay", cases.len());
    for case in cases {
        assert!(case.join("truth.md").is_file(), "{} has no truth.md", case.display());
        check(&case, "json", "expected.json");
        check(&case, "text", "expected.txt");
    }
}

#[test]
fn every_expected_report_fits_the_schema() {
    let schema =
        serde_json::from_str(&killtrace::report::json::schema().expect("a schema")).expect("it is JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    for case in cases() {
        let report = fs::read_to_string(case.join("expected.json")).expect("a report");
        let report = serde_json::from_str(&report).expect("a report is JSON");
        let errors: Vec<String> = validator
            .iter_errors(&report)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", case.display());
    }
}
