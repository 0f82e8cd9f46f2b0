//! The verdict suite without privileges: recordings of the kill zoo from real kernels, replayed and held against what
//! really happened.
//!
//! `tests/zoo/recordings/KERNEL/` holds for each case its recording, its truth (learned from `waitpid` when it was
//! played), and in `answers.txt` the sentences, which a person has read. `cargo xtask zoo-fixtures` makes them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use killtrace::model::report::Kind;
use killtrace::recording;
use killtrace_tests::zoo::{Truth, answer, check, kinds};
use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    for kernel in sorted(&Path::new(env!("CARGO_MANIFEST_DIR")).join("zoo/recordings")) {
        let title = kernel.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let cases = cases(&kernel);
        for case in &cases {
            let (path, name) = (kernel.join(format!("{case}.jsonl")), case.clone());
            trials.push(Trial::test(format!("{title}/{case}"), move || replay(&path, &name)));
        }
        let (name, path, all) = (title.clone(), kernel.clone(), cases.clone());
        trials.push(Trial::test(format!("{title}/kinds"), move || every_kind(&name, &path, &all)));
        trials.push(Trial::test(format!("{title}/answers"), move || answers(&kernel, &cases)));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn sorted(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    paths
}

fn cases(kernel: &Path) -> BTreeSet<String> {
    let names = sorted(kernel).into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "jsonl"));
    names.filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned())).collect()
}

fn replay(path: &Path, case: &str) -> Result<(), Failed> {
    let report = recording::replay(path)?;
    let truth = fs::read_to_string(path.with_file_name(format!("{case}.truth.json")))?;
    let truth: Truth = serde_json::from_str(&truth)?;
    let wrong = check(&truth, &report);
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

/// What a machine that is shared with others cannot be made to do.
const NOT_RECORDED: &[(&str, Kind)] = &[("6.18-amd64", Kind::Sysrq)];

/// Each kind of death, and so each rule, has a recording from this kernel. Unknown is what no rule claims.
fn every_kind(kernel: &str, dir: &Path, cases: &BTreeSet<String>) -> Result<(), Failed> {
    let mut missing = kinds();
    missing.remove(&Kind::Unknown);
    for case in cases {
        let report = recording::replay(&dir.join(format!("{case}.jsonl")))?;
        report.deaths.iter().for_each(|death| {
            missing.remove(&death.cause.kind);
        });
    }
    missing.retain(|kind| !NOT_RECORDED.contains(&(kernel, *kind)));
    if missing.is_empty() { Ok(()) } else { Err(format!("no recording of {missing:?}").into()) }
}

/// The sentences are those that were read. A new one is read before it is checked in.
fn answers(kernel: &Path, cases: &BTreeSet<String>) -> Result<(), Failed> {
    let path = kernel.join("answers.txt");
    let expected = fs::read_to_string(&path)?;
    let mut found = String::new();
    for case in cases {
        found += &answer(case, &recording::replay(&kernel.join(format!("{case}.jsonl")))?);
    }
    let differs = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
    if found == expected {
        return Ok(());
    }
    Err(format!("{} differs, first here:\n{differs:#?}\nwhole:\n{found}", path.display()).into())
}
