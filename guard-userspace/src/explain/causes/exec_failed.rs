//! Killed inside `execve` past the point of no return (fs/exec.c, `bprm_execve` -> `force_fatal_sig`): SIGSEGV with
//! SI_KERNEL to itself, and no sched_process_exec after it.

use super::{Case, Cause, Finding};
use crate::explain::blow::Blow;
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
        if !in_exec(case, &blow) {
            return None;
        }
        let finding = Finding::kernel(Kind::ExecFailed);
        Some(if blow.call().is_some() { finding } else { finding.likely() })
    }
}

/// SIGSEGV from inside `execve`. Where the call cannot be seen, its traces can: the name is the new program's already
/// (fs/exec.c, `begin_new_exec`), and the exec is never told of.
pub(super) fn in_exec(case: &Case<'_>, blow: &Blow<'_>) -> bool {
    // On a slow, busy machine. Whoever renames itself and crashes at a general protection fault rarely does both at once.
    const AT_ONCE_NS: u64 = 250_000_000;
    if !blow.own || !blow.is(Signo::SEGV, code::SI_KERNEL, false) {
        return false;
    }
    let renamed = case.victim.renamed.map(|renamed| renamed.t_ns);
    let traces = renamed.is_some_and(|renamed| {
        renamed <= blow.run.first.t_ns
            && blow.run.first.t_ns - renamed < AT_ONCE_NS
            && case.victim.exec.is_none_or(|exec| exec.t_ns < renamed)
    });
    blow.in_call(&[Call::Execve, Call::Execveat]).unwrap_or(traces)
}
