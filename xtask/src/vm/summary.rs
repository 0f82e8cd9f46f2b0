//! The table at the end.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, bail};

use super::plan::Boot;
use super::results::{Results, Verdict};

/// One guest in the table.
pub(super) struct Row {
    name: String,
    played: Vec<String>,
    passed: usize,
    failed: usize,
    /// How often one was played again, because it had failed.
    again: usize,
    skipped: usize,
    /// What its kernel has not got.
    absent: Vec<String>,
    pub(super) took: Duration,
    remark: String,
}

impl Row {
    pub(super) fn new(boot: &Boot, results: Results, trouble: Option<String>, took: Duration) -> Self {
        let passed = results.count(Verdict::Passed);
        let failed = results.cases.len() - passed;
        let name = |absent: String| absent.split(':').next().unwrap_or_default().to_owned();
        Self {
            name: boot.name(),
            played: results.cases.into_iter().map(|(case, _)| case).collect(),
            passed,
            // A guest in trouble has failed even where each of its cases passed.
            failed: failed.max(usize::from(trouble.is_some())),
            again: results.again.len(),
            skipped: results.skipped.len(),
            absent: results.absent.into_iter().map(name).collect(),
            took,
            remark: trouble.unwrap_or_else(|| {
                [results.answers, results.up].into_iter().flatten().collect::<Vec<_>>().join("; up after ")
            }),
        }
    }

    pub(super) fn not_booted(boot: &Boot) -> Self {
        Self {
            name: boot.name(),
            played: Vec::new(),
            passed: 0,
            failed: 0,
            again: 0,
            skipped: 0,
            absent: Vec::new(),
            took: Duration::ZERO,
            remark: "not booted: no time".to_owned(),
        }
    }
}

/// Prints the table. `is_matrix`: what no guest can play should be played by another.
///
/// # Errors
/// When anything failed, or, with `CI=true`, was skipped.
pub(super) fn close(rows: &[Row], is_matrix: bool) -> Result<()> {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    println!("\n{:width$}  passed  failed       again  skipped  not there  seconds", "");
    for row in rows {
        let Row { name, passed, failed, again, skipped, absent, took, remark, .. } = row;
        println!(
            "{name:width$}  {passed:6}  {failed:6}  {again:10}  {skipped:7}  {:9}  {:7}  {remark}",
            absent.len(),
            took.as_secs()
        );
    }
    let sum = |count: fn(&Row) -> usize| rows.iter().map(count).sum::<usize>();
    let (failed, skipped) = (sum(|row| row.failed), sum(|row| row.skipped));
    let nowhere = if is_matrix { nowhere(rows) } else { Vec::new() };
    if !nowhere.is_empty() {
        println!("\nnot there in any guest: {}", nowhere.join(", "));
    }
    // Alone on its line, for whoever counts.
    let failed = failed + nowhere.len();
    println!("\n{} passed, {failed} failed, {skipped} skipped", sum(|row| row.passed));
    if failed > 0 {
        bail!("{failed} cases failed");
    }
    if skipped > 0 && std::env::var("CI").is_ok_and(|ci| ci == "true") {
        bail!("{skipped} cases were skipped, and CI=true lets none be");
    }
    Ok(())
}

/// Cases that some guest had to leave out, and no other played.
fn nowhere(rows: &[Row]) -> Vec<&str> {
    fn names(rows: &[Row], of: fn(&Row) -> &Vec<String>) -> BTreeSet<&str> {
        rows.iter().flat_map(of).map(String::as_str).collect()
    }
    names(rows, |row| &row.absent).difference(&names(rows, |row| &row.played)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(played: &[&str], absent: &[&str]) -> Row {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let (played, absent) = (owned(played), owned(absent));
        let (name, remark) = (String::new(), String::new());
        Row { name, played, passed: 0, failed: 0, again: 0, skipped: 0, absent, took: Duration::ZERO, remark }
    }

    #[test]
    fn what_one_kernel_has_not_got_another_has_to_have() {
        let rows = [row(&["kill"], &["fpe", "memcg"]), row(&["kill", "fpe"], &[])];
        assert_eq!(nowhere(&rows), ["memcg"]);
        assert!(close(&rows, true).is_err());
        assert!(close(&rows, false).is_ok());
    }
}
