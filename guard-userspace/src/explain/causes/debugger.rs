//! ptrace (kernel/ptrace.c): PTRACE_KILL sends SIGKILL, SI_USER, to the thread; a tracer that dies with
//! PTRACE_O_EXITKILL sends it with SI_KERNEL (`exit_ptrace`).

use super::{Case, Cause, Finding};
use crate::model::event::Call;
use crate::model::report::{Kind, Mechanism};
use crate::model::signal::{Signo, code};

pub(super) struct Debugger;

impl Cause for Debugger {
    fn kind(&self) -> Kind {
        Kind::Debugger
    }

    fn examine(&self, case: &Case<'_>) -> Option<Finding> {
        let blow = case.blow()?;
        if blow.own || blow.run.signo != Signo::KILL || blow.run.group {
            return None;
        }
        let killer = blow.current.map(|process| process.id);
        if blow.run.code == code::SI_USER && blow.in_call(&[Call::Ptrace]) == Some(true) {
            return Some(Finding::process(Kind::Debugger, Mechanism::Ptrace, killer));
        }
        (blow.run.code == code::SI_KERNEL && blow.run.current_exiting).then(|| {
            let finding = Finding::kernel(Kind::Debugger).mechanism(Mechanism::Ptrace);
            finding.detail("exit_kill").because_of(killer)
        })
    }
}
