//! SIGHUP and SIGCONT to a stopped group that nobody can continue any more (kernel/exit.c,
//! `kill_orphaned_pgrp`), sent by the parent that died.

use super::tty_hangup::{from_dying, was_hung_up, with_continue};
use super::{Case, Cause, Finding};
use crate::model::report::{Kind, Mechanism};

pub(super) struct OrphanedProcessGroup;

impl Cause for OrphanedProcessGroup {
    fn kind(&self) -> Kind {
        Kind::OrphanedProcessGroup
    }

    fn examine(&self, case: &Case<'_>) -> Option<Finding> {
        let blow = case.blow()?;
        let parent = blow.current?;
        if !from_dying(&blow) || case.victim.leads_session() || was_hung_up(parent) {
            return None;
        }
        with_continue(case.victim, blow.run).then(|| {
            let finding = Finding::kernel(Kind::OrphanedProcessGroup).mechanism(Mechanism::None);
            // That the group was stopped is inferred from the pair of signals, not seen.
            finding.because_of(Some(parent.id)).likely()
        })
    }
}
