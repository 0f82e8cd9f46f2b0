//! The table of kinds in README.md, line by line: the command that it gives for a kind produces that kind.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use killtrace::model::report::{Kind, Report};
use killtrace_tests::zoo::{kinds, listed, zoo_path};
use killtrace_tests::{killtrace_path, live};

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");

/// A line of the table: a kind, and what to run after `killtrace run --`.
struct Row {
    kind: Kind,
    command: String,
}

fn rows() -> Vec<Row> {
    let readme = fs::read_to_string(README).expect("the README is there");
    let table = readme.split("<!-- kinds -->").nth(1).expect("the table stands between two marks");
    let lines = table.lines().filter(|line| line.starts_with("| `") && !line.contains("`cause.kind`"));
    let row = |line: &str| {
        let line = line.replace("\\|", "\0");
        let cells: Vec<&str> = line.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let [_, kind, _, command, _] = cells[..] else { panic!("not three cells: {line}") };
        let kind = serde_json::from_value(kind.into()).unwrap_or_else(|_| panic!("no such kind: {kind}"));
        Row { kind, command: command.replace('\0', "|") }
    };
    lines.map(row).collect()
}

#[test]
fn live_every_kind_of_the_readme_comes_of_its_command() {
    let Some(_turn) = live() else { return };
    let impossible: BTreeSet<String> =
        listed().into_iter().filter(|case| case.impossible.is_some()).map(|case| case.name).collect();
    for Row { kind, command } in rows() {
        let case = command.strip_prefix("zoo run ");
        // What would take this machine along is for the test machines.
        if command.is_empty() || case.is_some_and(|case| impossible.contains(case)) {
            continue;
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        let report = dir.path().join("report.json");
        let mut run = Command::new("sh");
        run.args(["-c", &format!("exec \"$0\" run -o \"$1\" -- {command}")]);
        run.arg(killtrace_path()).arg(&report);
        let zoo = zoo_path();
        let path = std::env::var("PATH").unwrap_or_default();
        run.env("PATH", format!("{}:{path}", zoo.parent().expect("it is in a directory").display()));
        let output = run.stdin(Stdio::null()).current_dir(dir.path()).output().expect("sh runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        let report =
            fs::read_to_string(&report).unwrap_or_else(|error| panic!("{command}: {error}\n{stderr}"));
        let report: Report = serde_json::from_str(&report).expect("a report");
        let kinds: Vec<Kind> = report.deaths.iter().map(|death| death.cause.kind).collect();
        assert!(kinds.contains(&kind), "{command}: {kinds:?}, and no {kind:?}\n{stderr}");
    }
}

#[test]
fn every_kind_has_its_line() {
    let rows: Vec<Kind> = rows().iter().map(|row| row.kind).collect();
    let unique: BTreeSet<Kind> = rows.iter().copied().collect();
    assert_eq!(unique.len(), rows.len(), "a kind has two lines: {rows:?}");
    assert_eq!(unique, kinds(), "the README and the schema");
}
