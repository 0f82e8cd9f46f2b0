//! Its PID namespace's init died (kernel/pid_namespace.c, `zap_pid_ns_processes`), or reboot(2) was called in
//! it (`reboot_pid_ns`).

use super::{Case, Cause, Finding};
use crate::model::event::Call;
use crate::model::report::{Kind, Mechanism};
use crate::model::signal::{Signo, code};

pub(super) struct PidNamespaceTeardown;

impl Cause for PidNamespaceTeardown {
    fn kind(&self) -> Kind {
        Kind::PidNamespaceTeardown
    }

    fn examine(&self, case: &Case<'_>) -> Option<Finding> {
        // reboot_pid_ns kills init with 9 and then overwrites its status with HUP (restart) or INT (halt).
        if let Some(run) = reboot(case) {
            let finding = Finding::process(Kind::PidNamespaceTeardown, Mechanism::Reboot, run);
            return Some(finding.detail("namespace_reboot"));
        }
        let blow = case.blow()?;
        let init = blow.current.filter(|_| !blow.own)?;
        if !blow.is(Signo::KILL, code::SI_KERNEL, true) || !blow.run.current_exiting {
            return None;
        }
        // With the OOM killer, `current` may be a dying task as well.
        if case.victim.history.oom.is_some() {
            return None;
        }
        let finding = Finding::kernel(Kind::PidNamespaceTeardown).because_of(Some(init.id));
        let is_init = init.ns_tgid == Some(1);
        let below = case.table.is_ancestor(init.id, case.victim.id) || case.victim.ns_tgid.is_some();
        (is_init || below).then_some(if is_init { finding } else { finding.likely() })
    }
}

fn reboot(case: &Case<'_>) -> Option<Option<crate::explain::process::ProcId>> {
    let signo = case.death_signal()?;
    if !matches!(signo, Signo::HUP | Signo::INT) {
        return None;
    }
    let run = case.victim.history.runs.iter().rev().find(|run| {
        run.is(Signo::KILL, code::SI_KERNEL, false)
            && run.syscall.is_some_and(|syscall| syscall.call == Call::Reboot)
    })?;
    Some(run.current)
}
