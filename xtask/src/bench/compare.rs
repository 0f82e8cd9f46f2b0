//! The same loads under each tracer, and what each makes them cost.

use anyhow::Result;

use super::Programs;
use super::stats::Spread;
use super::table;
use super::tracers::Tracer;
use super::work::Work;

/// A load under a tracer.
struct Cell {
    /// Ratios to no tracer, one per round.
    ratios: Vec<f64>,
    /// Nanoseconds that each operation takes longer.
    added: Vec<f64>,
}

/// A tracer's figures, load by load, or why there are none.
struct Column {
    tracer: Tracer,
    cells: Vec<Cell>,
    missing: Option<String>,
}

/// The loads that send a signal: there the others are compared by what they add.
const PER_SIGNAL: [&str; 2] = ["ignored-signal", "handled-signal"];
/// How many times less killtrace adds to a signal.
const TIMES_LESS: f64 = 20.0;

/// Runs every load under every tracer, `rounds` times, and under none before and after each.
///
/// Returns what misses its bar.
///
/// # Errors
/// When a load fails.
pub(super) fn compare(
    programs: &Programs,
    works: &[Work],
    tracers: &[Tracer],
    rounds: usize,
) -> Result<Vec<String>> {
    let empty = || works.iter().map(|_| Cell { ratios: Vec::new(), added: Vec::new() }).collect();
    let mut columns: Vec<Column> =
        tracers.iter().map(|&tracer| Column { tracer, cells: empty(), missing: tracer.missing() }).collect();
    let mut alone: Vec<Vec<f64>> = works.iter().map(|_| Vec::new()).collect();
    let mut noise: Vec<Vec<f64>> = alone.clone();
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        let mut before = measure(programs, works, &[])?;
        for column in &mut columns {
            if column.missing.is_some() {
                continue;
            }
            let running = match column.tracer.start(programs) {
                Ok(running) => running,
                Err(error) => {
                    column.missing = Some(format!("{error:#}"));
                    continue;
                }
            };
            let with = measure(programs, works, column.tracer.wrapper())?;
            drop(running);
            let after = measure(programs, works, &[])?;
            for (place, cell) in column.cells.iter_mut().enumerate() {
                let none = f64::midpoint(before[place], after[place]);
                cell.ratios.push(with[place] / none);
                cell.added.push(with[place] - none);
                alone[place].push(none);
                noise[place].push(after[place] / before[place]);
            }
            before = after;
        }
    }
    print_ratios(works, &columns, &alone, &noise);
    print_added(works, &columns);
    for column in &columns {
        if let Some(missing) = &column.missing {
            println!("\n{} is not compared: {missing}", column.tracer.name());
        }
    }
    let mut missed = missed(works, &columns);
    missed.extend(not_cheaper(works, &columns));
    Ok(missed)
}

fn measure(programs: &Programs, works: &[Work], wrapper: &[&str]) -> Result<Vec<f64>> {
    works.iter().map(|work| work.measure(programs, wrapper)).collect()
}

/// The bar of a tracer in a load.
fn bar(work: Work, tracer: Tracer) -> Option<f64> {
    let bar = work.bar()?;
    match tracer {
        Tracer::Ebpf => Some(bar),
        Tracer::Perf => Some(1.0 + 2.0 * (bar - 1.0)),
        _ => None,
    }
}

fn print_ratios(works: &[Work], columns: &[Column], alone: &[Vec<f64>], noise: &[Vec<f64>]) {
    println!("\n## Ratio to no tracer: median of the rounds (their middle half)\n");
    let mut head = vec!["load".to_owned(), "no tracer".to_owned(), "noise".to_owned()];
    head.extend(columns.iter().map(|column| column.tracer.name()));
    let mut lines = vec![head];
    for (place, &work) in works.iter().enumerate() {
        let ns = Spread::of(&alone[place]).map_or_else(String::new, |spread| time(spread.median));
        let noise = Spread::of(&noise[place]).map_or_else(String::new, |spread| spread.to_string());
        let mut line = vec![work.name().to_owned(), ns, noise];
        for column in columns {
            let Some(spread) = Spread::of(&column.cells[place].ratios) else {
                line.push("-".to_owned());
                continue;
            };
            let bar = bar(work, column.tracer).map_or_else(String::new, |bar| {
                format!(" ≤ {bar:.2}{}", if spread.median > bar { " MISSED" } else { "" })
            });
            line.push(format!("{spread}{bar}"));
        }
        lines.push(line);
    }
    table::print(&lines);
}

fn print_added(works: &[Work], columns: &[Column]) {
    println!("\n## Added to each operation\n");
    let mut lines = vec![vec!["load".to_owned()]];
    lines[0].extend(columns.iter().map(|column| column.tracer.name()));
    for (place, work) in works.iter().enumerate() {
        let added =
            |column: &Column| Spread::of(&column.cells[place].added).map(|spread| time(spread.median));
        let mut line = vec![work.name().to_owned()];
        line.extend(columns.iter().map(|column| added(column).unwrap_or_else(|| "-".to_owned())));
        lines.push(line);
    }
    table::print(&lines);
}

/// What costs more than it may.
fn missed(works: &[Work], columns: &[Column]) -> Vec<String> {
    let mut missed = Vec::new();
    for column in columns {
        for (&work, cell) in works.iter().zip(&column.cells) {
            if let (Some(bar), Some(spread)) = (bar(work, column.tracer), Spread::of(&cell.ratios))
                && spread.median > bar
            {
                missed.push(format!(
                    "{} under {}: {spread}, bar {bar:.2}",
                    work.name(),
                    column.tracer.name()
                ));
            }
        }
    }
    missed
}

/// Where killtrace adds too much to a signal, beside what others add. Says how it is.
fn not_cheaper(works: &[Work], columns: &[Column]) -> Vec<String> {
    let added = |tracer: Tracer, place: usize| {
        let column = columns.iter().find(|column| column.tracer == tracer)?;
        Some(Spread::of(&column.cells[place].added)?.median)
    };
    let mut missed = Vec::new();
    for (place, work) in works.iter().enumerate().filter(|(_, work)| PER_SIGNAL.contains(&work.name())) {
        let Some(ours) = added(Tracer::Ebpf, place) else { continue };
        for other in [Tracer::Bpftrace, Tracer::Sigsnoop] {
            let Some(theirs) = added(other, place) else { continue };
            let text = format!("{}: {} adds {:.1} times as much", work.name(), other.name(), theirs / ours);
            println!("\n{text} (bar: {TIMES_LESS})");
            // What cannot be told from nothing is cheap enough.
            if ours > 0.0 && theirs < TIMES_LESS * ours {
                missed.push(format!("{text}, bar {TIMES_LESS}"));
            }
        }
    }
    missed
}

/// Nanoseconds, as people read them.
fn time(ns: f64) -> String {
    match ns.abs() {
        ..10e3 => format!("{ns:.0} ns"),
        ..10e6 => format!("{:.1} µs", ns / 1e3),
        ..10e9 => format!("{:.1} ms", ns / 1e6),
        _ => format!("{:.1} s", ns / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(tracer: Tracer, ratio: f64, added: f64) -> Column {
        Column { tracer, cells: vec![Cell { ratios: vec![ratio], added: vec![added] }], missing: None }
    }

    #[test]
    fn a_ratio_above_its_bar_is_missed_and_perf_may_add_twice_as_much() {
        let works = [Work::Load("ignored-signal")];
        let missed = |ratio| {
            let columns = [
                column(Tracer::Ebpf, ratio, 1.0),
                column(Tracer::Perf, ratio, 1.0),
                column(Tracer::Strace, 99.0, 1.0),
            ];
            missed(&works, &columns).len()
        };
        assert_eq!([missed(1.25), missed(1.4), missed(1.6)], [0, 1, 2]);
    }

    #[test]
    fn twenty_times_less_is_asked_for() {
        let works = [Work::Load("handled-signal")];
        let missed = |theirs| {
            let columns = [column(Tracer::Ebpf, 1.0, 500.0), column(Tracer::Sigsnoop, 1.0, theirs)];
            not_cheaper(&works, &columns).len()
        };
        assert_eq!([missed(10_000.0), missed(9_000.0)], [0, 1]);
    }
}
