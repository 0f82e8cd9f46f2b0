//! killtrace itself: how soon it watches and answers, and what it takes for that.

mod under_load;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::session::Session;
use super::sleepers::Sleepers;
use super::stats::middle;
use super::table::{self, Row};
use super::{Programs, as_f64};

pub(super) use under_load::flood;

const RUNS: usize = 11;
const IDLE: Duration = Duration::from_secs(2);
const IDLE_TRIES: usize = 10;
/// It wakes for the first, drains a moment later what followed, and looks once more.
const WAKEUPS_PER_EVENT: u64 = 3;
const NOTHING: [&str; 2] = ["--comm", "no-such-program"];
const MIB: f64 = 1_048_576.0;
const SEEDED: usize = 100_000;

/// Measures some figures.
type Part = fn(&Programs) -> Result<Vec<Row>>;

/// Measures and prints every figure, part by part; returns what misses its bar or cannot be measured.
pub(super) fn figures(programs: &Programs) -> Vec<String> {
    let parts: [(&str, Part); 7] = [
        ("the start", start),
        ("the verdict", verdict),
        ("idleness", idle),
        ("a flood of signals", under_load::signals),
        ("a flood of deaths", under_load::deaths),
        ("a machine full of processes", seed),
        ("replay", under_load::replay),
    ];
    let mut missed = Vec::new();
    for (what, measure) in parts {
        // One that cannot be had must not cost the others.
        match measure(programs) {
            Ok(rows) => missed.extend(table::print_rows(&format!("killtrace itself: {what}"), &rows)),
            Err(error) => missed.push(format!("{what} cannot be measured: {error:#}")),
        }
    }
    missed
}

/// From the start of the process to `watching:`.
fn start(programs: &Programs) -> Result<Vec<Row>> {
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let session = Session::start(programs, &programs.backend, &NOTHING)?;
        times.push(milliseconds(session.armed_after));
        session.stop()?;
    }
    let size = fs::metadata(&programs.killtrace).context("killtrace is gone")?.len();
    Ok(vec![
        Row::at_most("the program, static", as_f64(size) / MIB, 6.0, "MiB"),
        Row::at_most("armed after start, median", middle(&times), 50.0, "ms"),
        Row::shown("armed after start, slowest", slowest(&times), "ms"),
    ])
}

/// From the kill to the paragraph on standard output.
fn verdict(programs: &Programs) -> Result<Vec<Row>> {
    let mut session = Session::start(programs, &programs.backend, &["--comm", "victim"])?;
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let mut victim = ready(&mut programs.victim(&["wait"]))?;
        let (pid, signo) = (victim.id(), libc::SIGKILL.to_string());
        crate::shell::run(&mut programs.striker(&["kill", &pid.to_string(), &signo]))?;
        victim.wait().context("cannot wait for the victim")?;
        let died = Instant::now();
        session.until_printed(pid)?;
        times.push(milliseconds(died.elapsed()));
    }
    session.stop()?;
    Ok(vec![
        Row::at_most("verdict after death, median", middle(&times), 30.0, "ms"),
        Row::shown("verdict after death, slowest", slowest(&times), "ms"),
    ])
}

/// What it does when nothing happens: the quietest of a few moments, for nobody's machine is wholly idle.
fn idle(programs: &Programs) -> Result<Vec<Row>> {
    let recording = tempfile::NamedTempFile::new().context("cannot make a temporary file")?.into_temp_path();
    let path = recording.to_str().context("temporary paths are text")?;
    let session = Session::start(programs, &programs.backend, &[&NOTHING[..], &["--events", path]].concat())?;
    let mut quietest: Option<Quiet> = None;
    for _ in 0..IDLE_TRIES {
        let before = Quiet::now(&session, &recording)?;
        sleep(IDLE);
        let seen = Quiet::now(&session, &recording)?.since(&before);
        // The tail of what came just before a window may fall into it; a timer of killtrace's own would show in all.
        if quietest
            .as_ref()
            .is_none_or(|quietest| (seen.events, seen.sleeps) < (quietest.events, quietest.sleeps))
        {
            quietest = Some(seen);
        }
        if quietest.as_ref().is_some_and(|quietest| quietest.events + quietest.sleeps == 0) {
            break;
        }
    }
    let Quiet { events, sleeps, busy_ns } = quietest.context("nothing was measured")?;
    session.stop()?;
    // Without a recording, as it is left on.
    let session = Session::start(programs, &programs.backend, &NOTHING)?;
    sleep(IDLE);
    let (resident, private) = session.memory_mib()?;
    session.stop()?;
    let seconds = IDLE.as_secs_f64();
    Ok(vec![
        Row::at_most("resident memory, idle", resident, 8.0, "MiB"),
        Row::at_most("private memory, idle", private, 4.0, "MiB"),
        Row::shown("events of others while idle", as_f64(events) / seconds, "/s"),
        Row::at_most(
            "wakeups while idle",
            as_f64(sleeps) / seconds,
            as_f64(events * WAKEUPS_PER_EVENT) / seconds,
            "/s",
        ),
        Row::at_most("processor time while idle", as_f64(busy_ns) / seconds / 1e7, 0.1, "% of one"),
    ])
}

/// Counters that stand still on an idle machine.
struct Quiet {
    events: u64,
    sleeps: u64,
    busy_ns: u64,
}

impl Quiet {
    fn now(session: &Session, recording: &Path) -> Result<Self> {
        let recorded = fs::read(recording).context("cannot read the recording")?;
        let events = recorded.split(|&byte| byte == b'\n').count();
        let events = u64::try_from(events).context("too many events")?;
        Ok(Self { events, sleeps: session.sleeps()?, busy_ns: session.cpu_ns()? })
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            events: self.events - before.events,
            sleeps: self.sleeps - before.sleeps,
            busy_ns: self.busy_ns - before.busy_ns,
        }
    }
}

/// How long it takes to read a machine full of processes, and what that takes.
fn seed(programs: &Programs) -> Result<Vec<Row>> {
    let sleepers = Sleepers::start(programs, SEEDED)?;
    let session = Session::start(programs, &programs.backend, &NOTHING)?;
    let (armed, peak) = (session.armed_after, session.peak_mib()?);
    let (resident, _) = session.memory_mib()?;
    session.stop()?;
    let what = |what: &str| format!("{} live processes: {what}", sleepers.count);
    Ok(vec![
        Row::at_most(what("armed after start"), armed.as_secs_f64(), 2.0, "s"),
        Row::at_most(what("resident memory, peak"), peak, 60.0, "MiB"),
        Row::shown(what("resident memory, after"), resident, "MiB"),
    ])
}

/// Starts a victim and waits until it says `ready`.
///
/// # Errors
/// When it cannot be started.
pub(super) fn ready(command: &mut Command) -> Result<Child> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start a victim")?;
    let mut line = String::new();
    let stdout = child.stdout.as_mut().context("its output is a pipe")?;
    BufReader::new(stdout.by_ref()).read_line(&mut line).context("the victim says nothing")?;
    Ok(child)
}

fn slowest(figures: &[f64]) -> f64 {
    figures.iter().copied().fold(0.0, f64::max)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
