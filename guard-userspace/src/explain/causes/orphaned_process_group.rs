//! SIGHUP and SIGCONT to a stopped group that nobody can continue any more (kernel/exit.c,
//! `kill_orphaned_pgrp`), sent by the parent that died.

use super::{Case, Cause, Finding, hangup};
use crate::model::report::{Kind, Mechanism};

pub(super) struct OrphanedProcessGroup;

impl Cause for OrphanedProcessGroup {
    fn kind(&self) -> Kind {
        Kind::OrphanedProcessGroup
    }

    fn examine(&self, case: &Case<'_>) -> Option<Finding> {
        let hangup = hangup::from_dying(case).filter(|hangup| hangup.kind == self.kind())?;
        let finding = Finding::kernel(self.kind()).mechanism(Mechanism::None).because_of(Some(hangup.by));
        Some(if hangup.certain { finding } else { finding.likely() })
    }
}
