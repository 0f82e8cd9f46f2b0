//! `cargo xtask bench`: what killtrace costs on this machine, against the bars of the project.

mod measure;
mod session;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::shell::{as_root, cargo, is_root, output, run as run_to_end};

/// One row of the table.
struct Row {
    what: &'static str,
    value: String,
    bar: String,
    met: bool,
}

impl Row {
    /// A figure that must not exceed its bar.
    fn at_most(what: &'static str, value: f64, bar: f64, unit: &str) -> Self {
        Self { what, value: format!("{value:.1} {unit}"), bar: format!("<= {bar} {unit}"), met: value <= bar }
    }

    /// A figure that must reach its bar.
    fn at_least(what: &'static str, value: f64, bar: f64, unit: &str) -> Self {
        Self {
            what,
            value: format!("{value:.0} {unit}"),
            bar: format!(">= {bar:.0} {unit}"),
            met: value >= bar,
        }
    }

    /// A figure for information.
    fn shown(what: &'static str, value: f64, unit: &str) -> Self {
        Self { what, value: format!("{value:.1} {unit}"), bar: String::new(), met: true }
    }
}

/// The programs of a release build.
pub(crate) struct Programs {
    killtrace: PathBuf,
    victim: PathBuf,
    striker: PathBuf,
    /// For `killtrace watch --backend`.
    backend: String,
}

/// Measures everything and prints a table.
///
/// # Errors
/// When something cannot be measured, or misses its bar.
pub(crate) fn run(backend: &str, built: bool) -> Result<()> {
    let programs = build(backend)?;
    if !is_root()? && !built {
        // Built as the user, measured as root, so that no file in target/ is root's.
        let xtask = std::env::current_exe().context("cannot find this program")?;
        return run_to_end(as_root(xtask)?.args(["bench", "--built", "--backend", backend]));
    }
    let mut rows = Vec::new();
    println!("Measuring the start...");
    rows.extend(measure::start(&programs)?);
    println!("Measuring the verdict...");
    rows.extend(measure::verdict(&programs)?);
    println!("Measuring under load...");
    rows.extend(measure::load(&programs)?);
    println!("Measuring while idle...");
    rows.extend(measure::idle(&programs)?);
    print(&rows);
    if rows.iter().any(|row| !row.met) {
        bail!("a bar is missed");
    }
    Ok(())
}

fn print(rows: &[Row]) {
    let width = rows.iter().map(|row| row.what.len()).max().unwrap_or(0);
    println!();
    for Row { what, value, bar, met } in rows {
        let missed = if *met { "" } else { "  MISSED" };
        println!("{what:width$}  {value:>16}  {bar}{missed}");
    }
}

fn build(backend: &str) -> Result<Programs> {
    let mut command = cargo();
    command.args(["build", "--release", "--message-format=json-render-diagnostics"]);
    command.args(["--package", "guard-userspace", "--package", "killtrace-tests", "--bins"]);
    let messages = output(&mut command)?;
    let find = |wanted: &str| {
        messages.lines().find_map(|line| {
            let message: Value = serde_json::from_str(line).ok()?;
            let is_wanted = message["target"]["name"] == wanted;
            message["executable"].as_str().filter(|_| is_wanted).map(PathBuf::from)
        })
    };
    let killtrace = find("killtrace").context("cargo built no killtrace")?;
    let victim = find("victim").context("cargo built no victim")?;
    let striker = find("striker").context("cargo built no striker")?;
    Ok(Programs { killtrace, victim, striker, backend: backend.to_owned() })
}

impl Programs {
    fn victim(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.victim);
        command.args(args);
        command
    }

    fn striker(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.striker);
        command.args(args);
        command
    }
}
