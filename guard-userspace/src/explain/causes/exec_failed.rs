//! Killed inside `execve` past the point of no return (fs/exec.c, `bprm_execve` -> `force_fatal_sig`): SIGSEGV with
//! SI_KERNEL to itself, and no sched_process_exec after it.

use super::{Case, Cause, Finding};
use crate::model::event::Call;
use crate::model::report::Kind;
use crate::model::signal::{Signo, code};

pub(super) struct ExecFailed;

impl Cause for ExecFailed {
    fn kind(&self) -> Kind {
        Kind::ExecFailed
    }

    fn examine(&self, case: &Case<'_>) -> Option<Finding> {
        let blow = case.blow()?;
        let bits = blow.own && blow.is(Signo::SEGV, code::SI_KERNEL, false);
        (bits && blow.in_call(&[Call::Execve, Call::Execveat]) == Some(true))
            .then(|| Finding::kernel(Kind::ExecFailed))
    }
}
