//! It sent the fatal signal itself: `abort()`, `raise()`, `kill(getpid(), ..)`, V8's heap out of memory.

use super::killed_by_process::sent_by_call;
use super::{Case, Cause, Finding, mechanism};
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
        // A process may give itself any code (`do_rt_sigqueueinfo`), even that of a fault.
        let forged = blow.in_call(&[Call::RtSigqueueinfo, Call::RtTgsigqueueinfo]) == Some(true);
        if !blow.own || !(forged || sent_by_call(&blow)) {
            return None;
        }
        let mechanism = mechanism(blow.run);
        let finding = Finding { kernel: false, ..Finding::kernel(Kind::KilledBySelf) }.mechanism(mechanism);
        let abort = blow.is(Signo::ABRT, code::SI_TKILL, false);
        Some(if abort { finding.detail("abort") } else { finding })
    }
}
