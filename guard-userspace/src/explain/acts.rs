//! Signals that one system call sent to many: a group kill is one act, not twenty.

use std::collections::VecDeque;

use crate::model::event::Syscall;
use crate::model::signal::{Signo, code};

use super::history::SignalRun;
use super::process::{Mark, ProcId};

/// One act of sending.
#[derive(Clone, Debug)]
pub struct Act {
    sender_tid: u32,
    signo: Signo,
    code: i32,
    /// The call, where it is known.
    syscall: Option<Syscall>,
    last_ns: u64,
    /// Targets, in order; the first few dozen of them.
    pub targets: Vec<ProcId>,
    pub count: u64,
    /// Its first signal.
    pub first: Mark,
}

impl Act {
    const TARGETS: usize = 64;
    /// The kernel walks a group in one go, with the list of tasks locked; a virtual machine may still stand still in the
    /// middle of it. A sender that loops over `kill` without a pause does one thing, too.
    const GAP_NS: u64 = 20_000_000;
    /// However long the machine stops.
    const GAP_OF_ONE_CALL_NS: u64 = 200_000_000;

    /// One call sends to each process once (kernel/signal.c, `__kill_pgrp_info`; kernel/cgroup/cgroup.c,
    /// `__cgroup_kill`): one that it has not sent to yet belongs to the same call, also after a while. Where the call
    /// is not seen, signals that no loop over `kill` makes are as good: those of the kernel's own, and SI_USER to a
    /// thread, which is cgroup.kill's.
    fn takes(&self, target: ProcId, run: &SignalRun) -> bool {
        let same = self.sender_tid == run.current_tid
            && self.signo == run.signo
            && self.code == run.code
            && self.syscall == run.syscall;
        let by_kernel = run.code == code::SI_KERNEL || (run.code == code::SI_USER && !run.group);
        let one_call = (run.syscall.is_some() || by_kernel)
            && self.count <= Self::TARGETS as u64
            && !self.targets.contains(&target);
        let gap_ns = if one_call { Self::GAP_OF_ONE_CALL_NS } else { Self::GAP_NS };
        same && run.last.t_ns.saturating_sub(self.last_ns) < gap_ns
    }
}

/// The last few acts.
#[derive(Debug, Default)]
pub struct Acts {
    recent: VecDeque<Act>,
}

impl Acts {
    const KEPT: usize = 128;

    pub fn note(&mut self, target: ProcId, run: &SignalRun) {
        // Others send meanwhile: whoever is hit first may be gone, and its child told so, before the last is hit.
        let latest = self.recent.iter_mut().rev().find(|act| act.sender_tid == run.current_tid);
        if let Some(act) = latest
            && act.takes(target, run)
        {
            act.last_ns = run.last.t_ns;
            if !act.targets.contains(&target) {
                act.count += 1;
                if act.targets.len() < Act::TARGETS {
                    act.targets.push(target);
                }
            }
            return;
        }
        if self.recent.len() == Self::KEPT {
            self.recent.pop_front();
        }
        self.recent.push_back(Act {
            sender_tid: run.current_tid,
            signo: run.signo,
            code: run.code,
            syscall: run.syscall,
            last_ns: run.last.t_ns,
            targets: vec![target],
            count: 1,
            first: run.last,
        });
    }

    /// The act a signal was part of.
    #[must_use]
    pub fn of(&self, run: &SignalRun) -> Option<&Act> {
        self.recent.iter().rev().find(|act| {
            act.sender_tid == run.current_tid
                && act.signo == run.signo
                && act.first.t_ns <= run.last.t_ns
                && run.last.t_ns <= act.last_ns
        })
    }
}
