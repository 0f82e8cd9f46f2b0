//! The kernel's OOM killer (mm/oom_kill.c, `__oom_kill_process`): SIGKILL from the kernel to the process, then
//! `mark_oom_victim`, by the same task. That task was asking for memory and is not to blame.
//!
//! The mark alone proves nothing: it is also set, without a SIGKILL, on a task that is dying anyway
//! (`task_will_free_mem`). And a process that shares the victim's memory gets the SIGKILL without a mark.

use super::{Case, Cause, Finding};
use crate::explain::history::{OomMark, SignalRun};
use crate::model::report::Kind;
use crate::model::signal::{Signo, code};

pub(super) struct OomKill;

/// Between the SIGKILL and its mark, and between one mm sharer and the next.
const TOGETHER_NS: u64 = 50_000_000;

impl Cause for OomKill {
    fn kind(&self) -> Kind {
        Kind::OomKill
    }

    fn examine(&self, case: &Case<'_>) -> Option<Finding> {
        let blow = case.blow()?;
        if !blow.is(Signo::KILL, code::SI_KERNEL, true) || case.chosen_by_sysrq() {
            return None;
        }
        let own = case.victim.history.oom.filter(|mark| belongs(mark, blow.run));
        let finding = |mark| Finding { oom: Some(mark), ..Finding::kernel(Kind::OomKill) };
        if let Some(mark) = own {
            return Some(finding(mark));
        }
        if let Some(mark) = shared_memory_mark(case, blow.run) {
            return Some(finding(mark).detail("shared_memory"));
        }
        // Whether it shared memory with the one that was chosen is not known if it was born before the watch.
        let unborn = case.victim.born.is_none() && !blow.run.current_exiting && !blow.own;
        let mark = marked_beside(case, blow.run).filter(|_| unborn)?;
        Some(finding(mark).detail("shared_memory").likely())
    }

    fn ruled_out(&self, case: &Case<'_>) -> Option<String> {
        let alike = case.death_signal() == Some(Signo::KILL) || case.exit_code() == Some(137);
        // SysRq f has the OOM killer choose.
        if !alike || case.chosen_by_sysrq() {
            return None;
        }
        Some(match case.victim.history.oom {
            None => "the kernel's OOM killer did not choose it".to_owned(),
            Some(_) => "the OOM killer marked it only when it was already dying".to_owned(),
        })
    }
}

/// The mark that the same task set on any process just then.
pub(super) fn marked_beside(case: &Case<'_>, run: &SignalRun) -> Option<OomMark> {
    let marks = case.table.iter().filter_map(|process| process.history.oom);
    // The first: the table has no order.
    marks.filter(|mark| belongs(mark, run)).min_by_key(|mark| mark.at.id)
}

fn belongs(mark: &OomMark, run: &SignalRun) -> bool {
    mark.current_tid == run.current_tid && mark.at.t_ns.abs_diff(run.last.t_ns) < TOGETHER_NS
}

/// The mark of a process whose memory the victim shared: its parent or child by CLONE_VM or vfork.
fn shared_memory_mark(case: &Case<'_>, run: &SignalRun) -> Option<OomMark> {
    let victim = case.victim;
    let parent = victim.parent.filter(|_| victim.shares_memory).and_then(|id| case.table.get(id));
    let children = victim.children.iter().filter_map(|&id| case.table.get(id));
    parent
        .into_iter()
        .chain(children.filter(|child| child.shares_memory))
        .filter_map(|relative| relative.history.oom)
        .find(|mark| belongs(mark, run))
}
