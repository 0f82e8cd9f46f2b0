//! The kill zoo on the running kernel: every case is played under a killtrace that watches, and its report is held
//! against what really happened.
//!
//! `ZOO_BIN` and `KILLTRACE_BIN` name the programs where cargo is not at hand, as in a test machine.
//! `KILLTRACE_ZOO_WATCH=on-time` or `late` plays only those cases, `KILLTRACE_ZOO_PART=2/4` only every
//! fourth, from the second on. `KILLTRACE_ZOO_KEEP=DIR` keeps each case's recording and truth, for replay fixtures.

#![allow(clippy::print_stdout, reason = "a test program talks")]

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use killtrace::model::report::{Confidence, Report};
use killtrace_tests::zoo::{Director, Listed, Truth, check, listed};
use killtrace_tests::{Watch, live};
use libtest_mimic::{Arguments, Failed, Trial};
use nix::sys::signal::{SigHandler, Signal, signal};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They watch the same names on the same machine.
    arguments.test_threads = Some(1);
    let wanted = std::env::var("KILLTRACE_ZOO_WATCH").unwrap_or_default();
    let wanted: &[bool] = match wanted.as_str() {
        "on-time" => &[false],
        "late" => &[true],
        "" => &[false, true],
        other => panic!("KILLTRACE_ZOO_WATCH is on-time or late, not {other}"),
    };
    let (first, of) = part();
    let mut trials = Vec::new();
    for case in listed().into_iter().skip(first - 1).step_by(of) {
        if let Some(reason) = &case.impossible {
            println!("not on this machine: {}: {reason}", case.name);
            continue;
        }
        for &late in wanted.iter().filter(|&&late| case.late || !late) {
            let name = if late { format!("{}_late", case.name) } else { case.name.clone() };
            let case = case.clone();
            let title = name.clone();
            trials.push(Trial::test(name, move || play_with_patience(&title, &case, late)));
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !arguments.list {
        let [certain, likely, unknown] = ANSWERS.each_ref().map(|answers| answers.load(Ordering::Relaxed));
        println!("answers: {certain} certain, {likely} likely, {unknown} unknown");
    }
    conclusion.exit_code()
}

/// What to play: from which case on, and every so manieth.
fn part() -> (usize, usize) {
    let Ok(part) = std::env::var("KILLTRACE_ZOO_PART") else { return (1, 1) };
    let numbers = part.split_once('/').and_then(|(first, of)| Some((first.parse().ok()?, of.parse().ok()?)));
    numbers
        .filter(|(first, of)| (1..=*of).contains(first))
        .unwrap_or_else(|| panic!("KILLTRACE_ZOO_PART is like 2/4, not {part}"))
}

/// How sure killtrace was of the deaths that it was asked about: certain, likely, unknown.
static ANSWERS: [AtomicUsize; 3] = [const { AtomicUsize::new(0) }; 3];

fn count_answers(truth: &Truth, report: &Report) {
    for death in &report.deaths {
        if truth.deaths.iter().any(|expected| expected.pid == death.victim.pid) {
            let place = match death.cause.confidence {
                Confidence::Certain => 0,
                Confidence::Likely => 1,
                Confidence::Unknown => 2,
            };
            ANSWERS[place].fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// An emulated machine may stand still for as long as whoever emulates it has other work, and what killtrace then misses
/// proves nothing: what fails there is played again, twice at most, and said to have been.
fn play_with_patience(title: &str, case: &Listed, late: bool) -> Result<(), Failed> {
    if std::env::var_os("KILLTRACE_VM").is_none() {
        return play(title, case, late);
    }
    for _ in 0..2 {
        match catch_unwind(|| play(title, case, late)) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(failed)) => {
                println!("again: {title}: {}", failed.message().unwrap_or("it was told wrong"));
            }
            // It has said why itself.
            Err(_) => println!("again: {title}: it panicked"),
        }
    }
    play(title, case, late)
}

/// Plays one case, and compares.
fn play(title: &str, case: &Listed, late: bool) -> Result<(), Failed> {
    let Some(_turn) = live() else { return Ok(()) };
    if std::env::var_os("KILLTRACE_VM").is_some() {
        survive_sysrq();
    }
    let selectors: Vec<&str> = case.watch.iter().map(String::as_str).collect();
    let (watch, mut director) = if late {
        let mut director = Director::start(&case.name, true);
        director.until_curtain();
        (Watch::start(&selectors), director)
    } else {
        let watch = Watch::start(&selectors);
        (watch, Director::start(&case.name, false))
    };
    let truth = director.truth();
    let pids: Vec<u32> = truth.deaths.iter().map(|death| death.pid).collect();
    watch.until_dead(&pids);
    if !truth.alive.is_empty() {
        // Longer than a verdict takes, so that a wrong one shows.
        std::thread::sleep(Duration::from_millis(200));
    }
    let outcome = watch.stop();
    if let Some(dir) = std::env::var_os("KILLTRACE_ZOO_KEEP") {
        keep(&PathBuf::from(dir).join(title), &outcome.recording, &truth);
    }
    count_answers(&truth, &outcome.report);
    let wrong = check(&truth, &outcome.report);
    if wrong.is_empty() {
        return Ok(());
    }
    let wrong = wrong.join("\n");
    if std::env::var_os("KILLTRACE_VM").is_some() {
        // A machine that does not live to the end takes the list of failures along.
        println!("{wrong}");
        return Err(Failed::without_message());
    }
    Err(wrong.into())
}

/// SysRq e sends SIGTERM to everybody. What is caught, unlike what is ignored, is not handed down to programs that
/// this one starts.
fn survive_sysrq() {
    extern "C" fn nothing(_: nix::libc::c_int) {}
    // SAFETY: the handler does nothing.
    unsafe { signal(Signal::SIGTERM, SigHandler::Handler(nothing)) }.expect("it can be set");
}

fn keep(dir: &Path, recording: &str, truth: &Truth) {
    fs::create_dir_all(dir).expect("KILLTRACE_ZOO_KEEP is a directory to write to");
    fs::write(dir.join("events.jsonl"), recording).expect("there is room");
    let truth = serde_json::to_string_pretty(truth).expect("the truth is JSON");
    fs::write(dir.join("truth.json"), truth).expect("there is room");
}
