//! A forbidden system call (kernel/seccomp.c, `__seccomp_filter`: SIGSYS with SYS_SECCOMP to itself).

use super::{Case, Cause, Finding};
use crate::model::report::Kind;
use crate::model::signal::Signo;

pub(super) struct Seccomp;

/// `SYS_SECCOMP`
const SYS_SECCOMP: i32 = 1;

impl Cause for Seccomp {
    fn kind(&self) -> Kind {
        Kind::Seccomp
    }

    fn examine(&self, case: &Case<'_>) -> Option<Finding> {
        let blow = case.blow()?;
        (blow.own && blow.is(Signo::SYS, SYS_SECCOMP, false)).then(|| Finding::kernel(Kind::Seccomp))
    }
}
