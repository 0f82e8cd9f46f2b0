//! The figures.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::session::Session;
use super::{Programs, Row};

const RUNS: usize = 11;
const FLOOD_PER_SECOND: u32 = 200_000;
const FLOOD_SECONDS: u32 = 5;
const IDLE: Duration = Duration::from_secs(2);
const IDLE_TRIES: usize = 10;
/// It wakes for the first, drains a moment later what followed, and looks once more.
const WAKEUPS_PER_EVENT: u64 = 3;

/// From the start of the process to `watching:`.
pub(super) fn start(programs: &Programs) -> Result<Vec<Row>> {
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let session = Session::start(programs, &["--comm", "no-such-program"])?;
        times.push(session.armed_after);
        session.stop()?;
    }
    let (median, slowest) = median_and_max(times);
    Ok(vec![
        Row::at_most("armed after start, median", milliseconds(median), 150.0, "ms"),
        Row::shown("armed after start, slowest", milliseconds(slowest), "ms"),
    ])
}

/// From the kill to the paragraph on standard output.
pub(super) fn verdict(programs: &Programs) -> Result<Vec<Row>> {
    let mut session = Session::start(programs, &["--comm", "victim"])?;
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let mut victim = ready(&mut programs.victim(&["wait"]))?;
        let (pid, signo) = (victim.id(), libc::SIGKILL.to_string());
        let killed = Instant::now();
        crate::shell::run(&mut programs.striker(&["kill", &pid.to_string(), &signo]))?;
        victim.wait().context("cannot wait for the victim")?;
        session.until_printed(pid)?;
        times.push(killed.elapsed());
    }
    session.stop()?;
    let (median, slowest) = median_and_max(times);
    Ok(vec![
        Row::shown("verdict after death, median", milliseconds(median), "ms"),
        Row::at_most("verdict after death, slowest", milliseconds(slowest), 100.0, "ms"),
    ])
}

/// A flood of signals at a watched process that handles each of them.
pub(super) fn load(programs: &Programs) -> Result<Vec<Row>> {
    let mut victim = ready(&mut programs.victim(&["handle-usr1"]))?;
    let pid = victim.id().to_string();
    let session = Session::start(programs, &["--pid", &pid])?;
    let before = session.cpu_ticks()?;
    let (signo, rate, seconds) =
        (libc::SIGUSR1.to_string(), FLOOD_PER_SECOND.to_string(), FLOOD_SECONDS.to_string());
    let flood = programs.striker(&["flood", &pid, &signo, &rate, &seconds]).output();
    let flood = String::from_utf8(flood.context("cannot run the flood")?.stdout).context("it prints text")?;
    let ticks = session.cpu_ticks()? - before;
    victim.kill().context("cannot end the victim")?;
    victim.wait().context("cannot wait for the victim")?;
    // What is still in the ring buffer is read before the death is told.
    sleep(Duration::from_millis(500));
    let peak_kib = session.peak_rss_kib()?;
    let report = session.stop()?;
    let sent = flood.split_whitespace().nth(1).and_then(|number| number.parse::<f64>().ok());
    let sent = sent.with_context(|| format!("the flood said {flood:?}"))?;
    let count =
        |name: &str| report["collector"][name].as_f64().with_context(|| format!("no {name} in the report"));
    let per_second = sent / f64::from(FLOOD_SECONDS);
    let busy = 100.0 * as_f64(ticks) / as_f64(ticks_per_second()?) / f64::from(FLOOD_SECONDS);
    Ok(vec![
        Row::at_least(
            "signals sent to a watched process",
            per_second,
            0.98 * f64::from(FLOOD_PER_SECOND),
            "/s",
        ),
        Row::at_least("events that killtrace read", count("events")?, sent, "events"),
        Row::at_most("events lost of these", count("lost_events")?, 0.0, "events"),
        Row::at_most("peak resident memory then", as_f64(peak_kib) / 1024.0, 20.0, "MiB"),
        Row::shown("processor time of killtrace then", busy, "% of one"),
    ])
}

/// What it does when nothing happens: the quietest of a few moments, for nobody's machine is wholly idle.
pub(super) fn idle(programs: &Programs) -> Result<Vec<Row>> {
    let recording = tempfile::NamedTempFile::new().context("cannot make a temporary file")?.into_temp_path();
    let path = recording.to_str().context("temporary paths are text")?;
    let session = Session::start(programs, &["--comm", "no-such-program", "--events", path])?;
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
    let Quiet { events, sleeps, ticks } = quietest.context("nothing was measured")?;
    let peak = session.peak_rss_kib()?;
    session.stop()?;
    Ok(vec![
        Row::shown("events of others while idle", as_f64(events), "in 2 s"),
        Row::at_most("wakeups while idle", as_f64(sleeps), as_f64(events * WAKEUPS_PER_EVENT), "in 2 s"),
        Row::shown("processor time while idle", as_f64(ticks), "ticks in 2 s"),
        Row::shown("peak resident memory while idle", as_f64(peak) / 1024.0, "MiB"),
    ])
}

/// Counters that stand still on an idle machine.
struct Quiet {
    events: u64,
    sleeps: u64,
    ticks: u64,
}

impl Quiet {
    fn now(session: &Session, recording: &Path) -> Result<Self> {
        let recorded = std::fs::read(recording).context("cannot read the recording")?;
        let events = recorded.split(|&byte| byte == b'\n').count();
        let events = u64::try_from(events).context("too many events")?;
        Ok(Self { events, sleeps: session.sleeps()?, ticks: session.cpu_ticks()? })
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            events: self.events - before.events,
            sleeps: self.sleeps - before.sleeps,
            ticks: self.ticks - before.ticks,
        }
    }
}

/// Starts a victim and waits until it says `ready`.
fn ready(command: &mut Command) -> Result<Child> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start a victim")?;
    let mut line = String::new();
    let stdout = child.stdout.as_mut().context("its output is a pipe")?;
    BufReader::new(stdout.by_ref()).read_line(&mut line).context("the victim says nothing")?;
    Ok(child)
}

fn median_and_max(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    (median, times.last().copied().unwrap_or_default())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn ticks_per_second() -> Result<u64> {
    let text = crate::shell::output(Command::new("getconf").arg("CLK_TCK"))?;
    text.trim().parse().context("getconf prints a number")
}

#[allow(clippy::cast_precision_loss, reason = "figures far below 2^53")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        let times = [30, 10, 20].map(Duration::from_millis).to_vec();
        assert_eq!(median_and_max(times), (Duration::from_millis(20), Duration::from_millis(30)));
    }
}
