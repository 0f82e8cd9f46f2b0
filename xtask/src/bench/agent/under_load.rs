//! Figures of an agent that has to work.

use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Programs, Row, Session, as_f64, ready};

const SIGNALS_PER_SECOND: u32 = 200_000;
const SIGNALS_SECONDS: u32 = 5;
const DEATHS_PER_SECOND: u32 = 10_000;
const DEATHS_SECONDS: u32 = 10;
/// Longest that the last deaths may be told after they happened.
const CAUGHT_UP: Duration = Duration::from_secs(1);
/// Generous, for whoever does not keep up.
const PATIENCE: Duration = Duration::from_secs(60);
const RECORDED_SECONDS: u32 = 2;
const REPLAYS: usize = 3;

/// Signals at a watched process that handles each of them.
pub(super) fn signals(programs: &Programs) -> Result<Vec<Row>> {
    let mut victim = ready(&mut programs.victim(&["handle-usr1"]))?;
    let pid = victim.id().to_string();
    let session = Session::start(programs, &programs.backend, &["--pid", &pid])?;
    let before = session.cpu_ns()?;
    let sent = flood(programs, &pid, SIGNALS_PER_SECOND, SIGNALS_SECONDS)?;
    let busy = session.cpu_ns()? - before;
    victim.kill().context("cannot end the victim")?;
    victim.wait().context("cannot wait for the victim")?;
    // What is still in the ring buffer is read before the death is told.
    sleep(Duration::from_millis(500));
    let peak = session.peak_mib()?;
    let report = session.stop()?;
    let seconds = f64::from(SIGNALS_SECONDS);
    let rate = f64::from(SIGNALS_PER_SECOND);
    Ok(vec![
        Row::at_least("signals sent to a watched process", sent / seconds, 0.98 * rate, "/s"),
        Row::at_least("events that killtrace read", count(&report, "events")?, sent, "events"),
        Row::at_most("events lost of these", count(&report, "lost_events")?, 0.0, "events"),
        Row::at_most("resident memory then, peak", peak, 24.0, "MiB"),
        Row::shown("processor time of killtrace then", as_f64(busy) / seconds / 1e7, "% of one"),
    ])
}

/// Sends signals to a process that handles them; returns how many.
///
/// # Errors
/// When the striker fails.
pub(in super::super) fn flood(programs: &Programs, pid: &str, per_second: u32, seconds: u32) -> Result<f64> {
    let (signo, rate, seconds) = (libc::SIGUSR1.to_string(), per_second.to_string(), seconds.to_string());
    said_number(&mut programs.striker(&["flood", pid, &signo, &rate, &seconds]))
}

/// The second word of what a program says.
fn said_number(command: &mut Command) -> Result<f64> {
    let output = command.stderr(Stdio::inherit()).output().context("cannot run a load")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let number = said.split_whitespace().nth(1).and_then(|number| number.parse().ok());
    number.with_context(|| format!("a load said {said:?}"))
}

fn count(report: &Value, name: &str) -> Result<f64> {
    report["collector"][name].as_f64().with_context(|| format!("no {name} in the report"))
}

/// Deaths of watched processes, each of which is told.
pub(super) fn deaths(programs: &Programs) -> Result<Vec<Row>> {
    let mut session = Session::start(programs, &programs.backend, &["--comm", "load"])?;
    session.count_deaths("load")?;
    let (before, begun) = (session.cpu_ns()?, Instant::now());
    let (rate, seconds) = (DEATHS_PER_SECOND.to_string(), DEATHS_SECONDS.to_string());
    let killed = said_number(&mut programs.load(&["deaths", &rate, &seconds]))?;
    let ended = Instant::now();
    while as_f64(session.deaths()) < killed && ended.elapsed() < PATIENCE {
        sleep(Duration::from_millis(2));
    }
    let (late, told) = (ended.elapsed(), as_f64(session.deaths()));
    let busy = as_f64(session.cpu_ns()? - before) / begun.elapsed().as_secs_f64();
    let peak = session.peak_mib()?;
    let report = session.stop()?;
    let seconds = f64::from(DEATHS_SECONDS);
    let rate = f64::from(DEATHS_PER_SECOND);
    Ok(vec![
        Row::at_least("deaths of watched processes", killed / seconds, 0.98 * rate, "/s"),
        Row::at_least("deaths told of these", told, killed, "deaths"),
        Row::at_most("the last one told after", late.as_secs_f64(), CAUGHT_UP.as_secs_f64(), "s"),
        Row::at_most("events lost then", count(&report, "lost_events")?, 0.0, "events"),
        Row::at_most("resident memory then, peak", peak, 24.0, "MiB"),
        Row::shown("processor time of killtrace until then", busy / 1e7, "% of one"),
    ])
}

/// How fast a recording of all kinds of events is read again.
pub(super) fn replay(programs: &Programs) -> Result<Vec<Row>> {
    let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
    let path = directory.path().join("events.jsonl");
    let mut victim = ready(&mut programs.victim(&["handle-usr1"]))?;
    let pid = victim.id().to_string();
    let recording = path.to_str().context("temporary paths are text")?;
    let selectors = ["--pid", &pid, "--comm", "load", "--events", recording];
    let session = Session::start(programs, &programs.backend, &selectors)?;
    flood(programs, &pid, SIGNALS_PER_SECOND, RECORDED_SECONDS)?;
    for load in ["ignored-signal", "handled-signal", "fork-exit", "spawn", "fork-kill"] {
        crate::shell::quiet_output(&mut programs.load(&[load]))?;
    }
    said_number(&mut programs.load(&["deaths", "2000", "2"]))?;
    victim.kill().context("cannot end the victim")?;
    victim.wait().context("cannot wait for the victim")?;
    session.stop()?;
    let lines = std::fs::read(&path).context("there is no recording")?;
    let events = lines.iter().filter(|&&byte| byte == b'\n').count();
    let (events, bytes) = (u64::try_from(events)?, u64::try_from(lines.len())?);
    drop(lines);
    let mut fastest = Duration::MAX;
    for _ in 0..REPLAYS {
        let begun = Instant::now();
        let mut report = Command::new(&programs.killtrace);
        report.arg("report").arg(&path).arg("-o").arg(directory.path().join("report.json"));
        crate::shell::run(report.stdout(Stdio::null()))?;
        fastest = fastest.min(begun.elapsed());
    }
    Ok(vec![
        Row::at_least(
            "replay, of a signal flood and more",
            as_f64(events) / fastest.as_secs_f64(),
            1e6,
            "events/s",
        ),
        Row::shown("events in that recording", as_f64(events), "events"),
        Row::shown("its size", as_f64(bytes) / super::MIB, "MiB"),
    ])
}
