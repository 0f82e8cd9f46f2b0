//! It sent the fatal signal itself: `abort()`, `raise()`, `kill(getpid(), ..)`, V8's heap out of memory.

use super::killed_by_process::sent_by_call;
use super::{Case, Cause, Finding, mechanism};
use crate::explain::blow::Blow;
use crate::explain::heap::{HEAP_LIMIT, Heap};
use crate::model::event::Call;
use crate::model::report::Kind;
use crate::model::signal::{Signo, code};

pub(super) struct KilledBySelf;

impl Cause for KilledBySelf {
    fn kind(&self) -> Kind {
        Kind::KilledBySelf
    }

    fn examine(&self, case: &Case<'_>) -> Option<Finding> {
        let blow = case.blow()?;
        if !blow.own || !(is_forged(&blow) || sent_by_call(&blow)) {
            return None;
        }
        let mechanism = mechanism(blow.run);
        let finding = Finding { kernel: false, ..Finding::kernel(Kind::KilledBySelf) }.mechanism(mechanism);
        let abort = blow.is(Signo::ABRT, code::SI_TKILL, false);
        let heap = || Heap::of(case.victim).is_some_and(|heap| heap.looks_full());
        Some(match abort {
            true if heap() => finding.detail(HEAP_LIMIT),
            true => finding.detail("abort"),
            false => finding,
        })
    }
}

/// A process may give a signal to itself any code (`do_rt_sigqueueinfo`), even that of a fault. The kernel raises faults
/// for a thread, never for a process.
pub(super) fn is_forged(blow: &Blow<'_>) -> bool {
    let run = blow.run;
    let impossible =
        run.group && run.code > code::SI_USER && run.code != code::SI_KERNEL && run.signo.is_fault();
    blow.own && (impossible || blow.in_call(&[Call::RtSigqueueinfo, Call::RtTgsigqueueinfo]) == Some(true))
}
