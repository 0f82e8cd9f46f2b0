//! `PR_SET_PDEATHSIG` (kernel/exit.c, `forget_original_parent`): the signal the process asked for when the
//! thread that forked it ends. SI_USER, from the dying parent, in no system call that sends signals.

use super::killed_by_process::sent_by_call;
use super::{Case, Cause, Finding};
use crate::model::report::Kind;
use crate::model::signal::code;

pub(super) struct ParentDeathSignal;

impl Cause for ParentDeathSignal {
    fn kind(&self) -> Kind {
        Kind::ParentDeathSignal
    }

    fn examine(&self, case: &Case<'_>) -> Option<Finding> {
        let blow = case.blow()?;
        let from_dying = blow.run.current_exiting && blow.run.code == code::SI_USER && blow.run.group;
        if blow.own || !from_dying || sent_by_call(&blow) {
            return None;
        }
        let parent = blow.current?;
        let finding = Finding::kernel(Kind::ParentDeathSignal);
        Some(if parent.alive() {
            // Only the thread that forked it ended; its process lives on.
            Finding { killer: Some(parent.id), ..finding.detail("parent_thread_exit") }
        } else {
            finding.because_of(Some(parent.id))
        })
    }
}
