//! What an event costs, against how much there is already.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};

use super::session::Session;
use super::sleepers::Sleepers;
use super::stats::middle;
use super::work::Work;
use super::{Programs, agent, as_f64, table};

/// Live processes, unwatched and watched.
const PROCESSES: [usize; 5] = [10, 100, 1_000, 10_000, 100_000];
/// Signals to a watched process per step of the last curve.
const PER_STEP: u32 = 200_000;
const STEPS: usize = 8;
/// A curve is flat when its far end is no more than this above its near end.
const FLAT: f64 = 1.5;
/// Until all that happened is read.
const READ: Duration = Duration::from_millis(300);
const ROUNDS: usize = 3;
const LOADS: [Work; 2] = [Work::Load("ignored-signal"), Work::Load("fork-exit")];

/// Measures and prints the curves; returns what is not flat.
///
/// # Errors
/// When something cannot be measured.
pub(super) fn curves(programs: &Programs) -> Result<Vec<String>> {
    let mut missed = Vec::new();
    for (title, selector) in [("live processes", "no-such-program"), ("watched processes", "load")] {
        let points = PROCESSES.iter().map(|&count| with_processes(programs, count, selector));
        let points = points.collect::<Result<Vec<Point>>>()?;
        missed.extend(print(title, &points));
    }
    missed.extend(print("signals to one watched process before", &window(programs)?));
    Ok(missed)
}

/// What an event costs at one place of a curve.
struct Point {
    count: usize,
    /// Nanoseconds that killtrace itself works per event.
    agent_ns: f64,
    /// What a load costs beside no tracer, as a ratio, by load.
    ratios: Vec<f64>,
}

fn with_processes(programs: &Programs, count: usize, selector: &str) -> Result<Point> {
    let sleepers = Sleepers::start(programs, count)?;
    let mut ratios: Vec<Vec<f64>> = LOADS.iter().map(|_| Vec::new()).collect();
    let mut agent_ns = Vec::new();
    let alone = || LOADS.iter().map(|work| work.measure(programs, &[])).collect::<Result<Vec<f64>>>();
    let mut before = alone()?;
    for _ in 0..ROUNDS {
        let session = Session::start(programs, &programs.backend, &["--comm", selector])?;
        sleep(READ);
        let busy = session.cpu_ns()?;
        let with = alone()?;
        sleep(READ);
        let busy = session.cpu_ns()? - busy;
        let report = session.stop()?;
        let events = report["collector"]["events"].as_f64().context("no events in the report")?;
        agent_ns.push(as_f64(busy) / events);
        let after = alone()?;
        for (place, ratios) in ratios.iter_mut().enumerate() {
            ratios.push(with[place] / f64::midpoint(before[place], after[place]));
        }
        before = after;
    }
    Ok(Point {
        count: sleepers.count,
        agent_ns: middle(&agent_ns),
        ratios: ratios.iter().map(|ratios| middle(ratios)).collect(),
    })
}

/// Signals to one process, and what each of them costs when so many have been before.
fn window(programs: &Programs) -> Result<Vec<Point>> {
    let mut victim = agent::ready(&mut programs.victim(&["handle-usr1"]))?;
    let pid = victim.id().to_string();
    let session = Session::start(programs, &programs.backend, &["--pid", &pid])?;
    let mut points = Vec::new();
    let mut before = 0;
    for _ in 0..STEPS {
        let busy = session.cpu_ns()?;
        let sent = agent::flood(programs, &pid, PER_STEP, 1)?;
        sleep(READ);
        let busy = session.cpu_ns()? - busy;
        // Each is generated and delivered, but for those that find one pending.
        points.push(Point { count: before, agent_ns: as_f64(busy) / sent, ratios: Vec::new() });
        before += usize::try_from(PER_STEP).unwrap_or(usize::MAX);
    }
    victim.kill().context("cannot end the victim")?;
    victim.wait().context("cannot wait for the victim")?;
    session.stop()?;
    Ok(points)
}

fn print(title: &str, points: &[Point]) -> Vec<String> {
    println!("\n## Cost per event against the number of {title}\n");
    let mut head = vec![title.to_owned(), "killtrace itself, per event".to_owned()];
    head.extend(LOADS.iter().map(|work| format!("{} (ratio)", work.name())));
    let mut lines = vec![head];
    for Point { count, agent_ns, ratios } in points {
        let mut line = vec![count.to_string(), format!("{agent_ns:.0} ns")];
        line.extend(ratios.iter().map(|ratio| format!("{ratio:.3}")));
        lines.push(line);
    }
    table::print(&lines);
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return Vec::new() };
    let rise = last.agent_ns / first.agent_ns;
    let flat = rise <= FLAT;
    println!(
        "\nFrom the first line to the last: {rise:.2} times (bar {FLAT}){}",
        if flat { "" } else { " MISSED" }
    );
    if flat {
        Vec::new()
    } else {
        vec![format!("cost per event against {title}: {rise:.2} times, bar {FLAT}")]
    }
}
