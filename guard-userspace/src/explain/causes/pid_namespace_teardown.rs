//! Its PID namespace's init died (kernel/pid_namespace.c, `zap_pid_ns_processes`), or reboot(2) was called in
//! it ([`Case::is_reboot`]).

use super::oom_kill::OomKill;
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
        if OomKill.examine(case).is_some() {
            return None;
        }
        let finding = Finding::kernel(Kind::PidNamespaceTeardown).because_of(Some(init.id));
        // Nothing else makes these bits; who was init is not known of one that could not be read in time.
        Some(if init.ns_tgid == Some(1) { finding } else { finding.likely() })
    }
}
