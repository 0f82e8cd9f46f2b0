//! Runners of continuous integration at work: what they send to a job that was cancelled or ran out of time.
//!
//! GitHub's and Azure's send SIGINT to what a step runs, SIGTERM 7.5 s later, and SIGKILL after 2.5 s more (actions/runner,
//! ProcessInvoker.cs, `CancelAndKillProcessTree`); what a job leaves behind gets SIGKILL alone (JobExtension.cs,
//! "Terminate orphan process"). GitLab's, Buildkite's and Jenkins' begin with SIGTERM. Who sent the signals is known; why
//! is not in them, so that is likely and never more.

use std::collections::BTreeSet;

use crate::model::report::{Kind, Role};
use crate::model::signal::Signo;
use crate::model::units::elapsed;

use super::actors;
use super::case::{Case, asks_to_stop};
use super::process::{Mark, ProcId, Process};
use super::table::Table;

/// A runner ended a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancel {
    /// What it had sent before, to the same process or to one that had started it: each signal once, in time order.
    pub before: Vec<Sent>,
    /// It did not ask, then or before.
    pub unasked: bool,
    at_ns: u64,
}

/// A signal, and who got it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    pub signo: Signo,
    pub to: ProcId,
    pub at: Mark,
}

impl Cancel {
    /// `None` unless `killer` is a runner.
    #[must_use]
    pub fn of(table: &Table, case: &Case<'_>, killer: &Process, kind: Kind) -> Option<Self> {
        let run = case.decisive?.run;
        let runner = actors::program_role(killer) == Some(Role::CiRunner);
        if kind != Kind::KilledByProcess || !runner || run.current != Some(killer.id) {
            return None;
        }
        let below = table.ancestors(case.victim.id).take_while(|process| process.id != killer.id);
        let mut before: Vec<Sent> = std::iter::once(case.victim)
            .chain(below)
            .flat_map(|process| process.history.runs.iter().map(move |run| (process.id, run)))
            .filter(|(_, sent)| sent.current == Some(killer.id) && asks_to_stop(sent.signo))
            .filter(|(_, sent)| sent.signo != run.signo && sent.first.t_ns < run.first.t_ns)
            .map(|(to, sent)| Sent { signo: sent.signo, to, at: sent.first })
            .collect();
        before.sort_by_key(|sent| (sent.at.t_ns, sent.at.id));
        let mut known = BTreeSet::new();
        before.retain(|sent| known.insert(sent.signo));
        let unasked = before.is_empty() && !asks_to_stop(run.signo);
        Some(Self { before, unasked, at_ns: run.first.t_ns })
    }

    /// `, most likely because its job was cancelled or timed out (SIGINT had come 7.5 s before)`
    #[must_use]
    pub fn doing(&self) -> String {
        let over =
            if self.unasked { "was over, cancelled or timed out" } else { "was cancelled or timed out" };
        let before =
            |sent: &Sent| format!("{} {}", sent.signo, elapsed(self.at_ns.saturating_sub(sent.at.t_ns)));
        let before: Vec<String> = self.before.iter().map(before).collect();
        let before =
            if before.is_empty() { String::new() } else { format!(" ({} before)", before.join(" and ")) };
        format!(", most likely because its job {over}{before}")
    }
}
