//! Where every process of the machine is watched: of the thousands that end, only those that are worth a word are
//! looked at, and /proc is read for them alone.

use crate::model::event::SignalResult;
use crate::model::select::Everybody;
use crate::model::signal::Signo;
use crate::model::want::Want;

use super::Explainer;
use super::process::{ProcId, Process};

impl Explainer {
    /// Its death may be told.
    pub(super) fn is_watched(&self, process: &Process) -> bool {
        process.tree.is_some() || self.selectors.everybody.is_some()
    }

    /// A process that belongs to no watched tree got a signal. If it may die of it, what only /proc knows of both
    /// sides is read while they are there.
    pub(super) fn signalled_outside(
        &mut self,
        id: ProcId,
        sender: Option<ProcId>,
        signo: Signo,
        result: SignalResult,
    ) {
        if !signo.is_fatal_by_default() || !result.queued() {
            return;
        }
        for id in sender.into_iter().filter(|&sender| sender != id).chain([id]) {
            let Some(process) = self.table.get(id) else { continue };
            if process.alive() && !process.read && !self.table.is_kernel_thread(id) {
                self.wants.push(Want::Process(process.tgid));
            }
            self.ask_for_user(id);
        }
        if let Some(victim) = self.table.get(id).filter(|victim| victim.alive()) {
            self.wants.push(Want::ProcessMemory(victim.tgid));
        }
    }

    /// A process that belongs to no watched tree has died.
    pub(super) fn died_outside(&mut self, id: ProcId) {
        let Some(process) = self.table.get(id).filter(|process| self.is_watched(process)) else { return };
        let Some(ending) = process.ending.filter(|ending| !ending.assumed) else { return };
        match self.is_worth_a_word(process) {
            Some(false) => {}
            Some(true) => {
                self.wait_for_the_rest(id, ending.at.t_ns, true);
                self.ask_about(id);
            }
            None => {
                self.wait_for_the_rest(id, ending.at.t_ns, false);
                self.unjudged += 1;
            }
        }
    }

    /// Looks again at deaths whose status was not known: where the exit event does not carry it, taskstats does,
    /// and comes a little later.
    pub(super) fn judge_the_unjudged(&mut self) {
        if self.unjudged == 0 {
            return;
        }
        let mut worth = Vec::new();
        let mut unjudged = 0;
        let mut pending = std::mem::take(&mut self.pending);
        pending.retain_mut(|pending| {
            let Some(process) = self.table.get(pending.id) else { return false };
            if pending.judged {
                return true;
            }
            match self.is_worth_a_word(process) {
                Some(true) => {
                    pending.judged = true;
                    worth.push(pending.id);
                }
                Some(false) => return false,
                None => unjudged += 1,
            }
            true
        });
        self.pending = pending;
        self.unjudged = unjudged;
        for id in worth {
            self.ask_about(id);
        }
    }

    fn ask_about(&mut self, id: ProcId) {
        self.ask_for_user(id);
        self.ask_about_surroundings(id);
    }

    /// Whether an end is worth a word; `None` while its status is not known.
    fn is_worth_a_word(&self, process: &Process) -> Option<bool> {
        let history = &process.history;
        let asked = |run: &super::history::SignalRun| run.signo.is_fatal_by_default() && run.result.queued();
        if history.oom.is_some() || history.runs.iter().any(asked) {
            return Some(true);
        }
        let status = process.ending?.status?;
        let failed = status.code().is_some_and(|code| code != 0);
        Some(
            status.signal().is_some()
                || failed && self.selectors.everybody == Some(Everybody::KilledOrFailed),
        )
    }
}
