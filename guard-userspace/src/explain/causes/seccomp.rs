//! A forbidden system call (kernel/seccomp.c): by a filter, SIGSYS with SYS_SECCOMP to itself (`__seccomp_filter`); in
//! strict mode no signal, but an end with the status of SIGKILL (`__secure_computing_strict`).

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
        if strict(case) {
            return Some(Finding::kernel(Kind::Seccomp).detail("strict"));
        }
        let blow = case.blow()?;
        (blow.own && blow.is(Signo::SYS, SYS_SECCOMP, false)).then(|| Finding::kernel(Kind::Seccomp))
    }
}

/// `SECCOMP_MODE_STRICT`, and what it becomes when it strikes: `SECCOMP_MODE_DEAD`, since Linux 5.18.
const STRICT: [u32; 2] = [1, 3];

fn strict(case: &Case<'_>) -> bool {
    case.ended_without_signal() == Some(Signo::KILL)
        && case.ending.exit.seccomp_mode.is_some_and(|mode| STRICT.contains(&mode))
}
