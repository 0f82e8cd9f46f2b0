//! Magic SysRq e and i (drivers/tty/sysrq.c, `send_sig_all`): SIGTERM or SIGKILL from the kernel to everybody but
//! pid 1, by the writer of /proc/sysrq-trigger, or from the interrupt of a keyboard. And f, which has the OOM killer
//! take one ([`Case::chosen_by_sysrq`]).

use super::oom_kill::marked_beside;
use super::{Case, Cause, Finding};
use crate::model::event::Call;
use crate::model::report::{Kind, Mechanism};
use crate::model::signal::{Signo, code};

pub(super) struct Sysrq;

impl Cause for Sysrq {
    fn kind(&self) -> Kind {
        Kind::Sysrq
    }

    fn examine(&self, case: &Case<'_>) -> Option<Finding> {
        let blow = case.blow()?;
        let signal = matches!(blow.run.signo, Signo::TERM | Signo::KILL);
        if !signal || blow.run.code != code::SI_KERNEL || !blow.run.group || blow.run.current_exiting {
            return None;
        }
        let finding = Finding::kernel(Kind::Sysrq).mechanism(Mechanism::Sysrq);
        if case.chosen_by_sysrq() {
            let oom = case.victim.history.oom;
            return Some(Finding { oom, ..finding.detail("out_of_memory") });
        }
        let wrote = blow.in_call(&[Call::Write, Call::Writev]) == Some(true);
        // The kernel sends SIGTERM with SI_KERNEL to a process from nowhere else; SIGKILL it sends for many
        // reasons, and only the writer of the trigger names this one.
        let oom = || marked_beside(case, blow.run).is_some();
        match (blow.run.signo, wrote) {
            (Signo::TERM, true) => Some(Finding { killer: blow.other(), ..finding }),
            // A process reaches its CPU limit, or asks for the last memory, in a write as well.
            (_, true) if !blow.own && !oom() => Some(Finding { killer: blow.other(), ..finding }),
            (Signo::TERM, false) => Some(finding.likely()),
            _ => None,
        }
    }
}
