//! The table at the end.

use std::time::Duration;

use anyhow::{Result, bail};

use super::matrix::Run;
use super::results::{Results, Verdict};

/// One run in the table.
pub(super) struct Row {
    name: String,
    passed: usize,
    failed: usize,
    skipped: usize,
    took: Duration,
    remark: String,
}

impl Row {
    pub(super) fn new(run: &Run, results: &Results, trouble: Option<String>, took: Duration) -> Self {
        let failed = results.cases.len() - results.count(Verdict::Passed);
        Self {
            name: run.name(),
            passed: results.count(Verdict::Passed),
            // A guest in trouble has failed even where each of its cases passed.
            failed: failed.max(usize::from(trouble.is_some())),
            skipped: results.skipped.len(),
            took,
            remark: trouble.unwrap_or_else(|| results.up.clone().unwrap_or_default()),
        }
    }

    /// A run that killtrace is not ready for.
    pub(super) fn not_run(run: &Run) -> Self {
        Self {
            name: run.name(),
            passed: 0,
            failed: 0,
            skipped: 1,
            took: Duration::ZERO,
            remark: run.backend.missing.unwrap_or_default().to_owned(),
        }
    }
}

/// Prints the table.
///
/// # Errors
/// When anything failed.
pub(super) fn close(rows: &[Row]) -> Result<()> {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    println!("\n{:width$}  passed  failed  skipped  seconds", "");
    for Row { name, passed, failed, skipped, took, remark } in rows {
        println!("{name:width$}  {passed:6}  {failed:6}  {skipped:7}  {:7}  {remark}", took.as_secs());
    }
    let sum = |count: fn(&Row) -> usize| rows.iter().map(count).sum::<usize>();
    let failed = sum(|row| row.failed);
    // Alone on its line, for whoever counts.
    println!("\n{} passed, {failed} failed, {} skipped", sum(|row| row.passed), sum(|row| row.skipped));
    if failed > 0 {
        bail!("{failed} cases failed");
    }
    Ok(())
}
