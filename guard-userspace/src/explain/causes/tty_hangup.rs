//! SIGHUP because its terminal went away.
//!
//! Closing a pty's master, vhangup(2), TIOCVHANGUP and a lost carrier all end in drivers/tty/tty_io.c,
//! `__tty_hangup` -> `tty_signal_session_leader`: SIGHUP and SIGCONT to the session leader. Its foreground job
//! gets the same pair when the leader then exits (drivers/tty/tty_jobctrl.c, `disassociate_ctty` with
//! `tty_old_pgrp`).

use super::{Case, Cause, Finding};
use crate::explain::case::Blow;
use crate::explain::process::{Process, SignalRun};
use crate::model::event::Call;
use crate::model::report::{Kind, Mechanism};
use crate::model::signal::{Signo, code};

pub(super) struct TtyHangup;

impl Cause for TtyHangup {
    fn kind(&self) -> Kind {
        Kind::TtyHangup
    }

    fn examine(&self, case: &Case<'_>) -> Option<Finding> {
        let blow = case.blow()?;
        if !blow.is(Signo::HUP, code::SI_KERNEL, true) || blow.own {
            return None;
        }
        let finding = Finding::kernel(Kind::TtyHangup).mechanism(Mechanism::None);
        if !blow.run.current_exiting {
            // The process that closed the master or asked for the hangup is alive; a kernel worker is not it.
            let asked = blow.in_call(&[Call::Ioctl, Call::Vhangup]) == Some(true);
            let mechanism = if asked { Mechanism::TtyIoctl } else { Mechanism::None };
            return Some(Finding { killer: blow.other(), ..finding.mechanism(mechanism) });
        }
        let current = blow.current?;
        if case.victim.leads_session() {
            // A dying process held the last reference to the master.
            return Some(finding.because_of(Some(current.id)));
        }
        // Second half of a hangup: the leader had been hung up itself.
        (with_continue(case.victim, blow.run) && was_hung_up(current))
            .then(|| finding.because_of(Some(current.id)))
    }
}

/// SIGCONT came with the SIGHUP, from the same task.
pub(super) fn with_continue(victim: &Process, hangup: &SignalRun) -> bool {
    const TOGETHER_NS: u64 = 5_000_000;
    victim.history.runs.iter().any(|run| {
        run.signo == Signo::CONT
            && run.code == code::SI_KERNEL
            && run.current_tid == hangup.current_tid
            && run.first.t_ns.abs_diff(hangup.last.t_ns) < TOGETHER_NS
    })
}

/// The kernel had hung up its terminal before it exited.
pub(super) fn was_hung_up(leader: &Process) -> bool {
    leader.history.runs.iter().any(|run| {
        run.is(Signo::HUP, code::SI_KERNEL, true) && run.result.queued() && run.current != Some(leader.id)
    })
}

/// The hangup bits, sent by a task that was exiting.
pub(super) fn from_dying(blow: &Blow<'_>) -> bool {
    blow.is(Signo::HUP, code::SI_KERNEL, true) && !blow.own && blow.run.current_exiting
}
