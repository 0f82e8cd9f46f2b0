//! Its PID namespace's init died (kernel/pid_namespace.c, `zap_pid_ns_processes`), or reboot(2) was called in
//! it ([`Case::is_reboot`]).

use super::{Case, Cause, Finding};
use crate::model::report::{Kind, Mechanism};
use crate::model::signal::{Signo, code};

pub(super) struct PidNamespaceTeardown;

impl Cause for PidNamespaceTeardown {
    fn kind(&self) -> Kind {
        Kind::PidNamespaceTeardown
    }

    fn examine(&self, case: &Case<'_>) -> Option<Finding> {
        let blow = case.blow()?;
        if case.is_reboot(blow.run) {
            let killer = blow.current.map(|process| process.id);
            let finding = Finding::process(Kind::PidNamespaceTeardown, Mechanism::Reboot, killer);
            let finding = finding.detail("namespace_reboot");
            return Some(if blow.call().is_some() { finding } else { finding.likely() });
        }
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
