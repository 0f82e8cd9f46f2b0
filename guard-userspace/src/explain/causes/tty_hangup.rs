//! SIGHUP because its terminal went away.
//!
//! Closing a pty's master, vhangup(2), TIOCVHANGUP and a lost carrier all end in drivers/tty/tty_io.c,
//! `__tty_hangup` -> `tty_signal_session_leader`: SIGHUP and SIGCONT to the session leader. Its foreground job
//! gets the same pair when the leader then exits (drivers/tty/tty_jobctrl.c, `disassociate_ctty` with
//! `tty_old_pgrp`), or at once when the leader gives the terminal up (TIOCNOTTY, `disassociate_ctty(0)`). A job whose
//! leader ignores the hangup gets no signal: its reads end and its writes fail.

use super::{Case, Cause, Finding, hangup};
use crate::explain::blow::Blow;
use crate::explain::case::{SAME_STORY_NS, Status};
use crate::explain::history::SignalRun;
use crate::explain::process::Process;
use crate::model::event::Call;
use crate::model::report::{Kind, Mechanism};
use crate::model::signal::{Signo, code};

/// `finding.detail`: it ended by itself, when its terminal had gone.
pub const TERMINAL_GONE: &str = "terminal_gone";
/// `finding.detail`: its session leader gave the terminal up.
pub const GIVEN_UP: &str = "given_up";

/// Whoever reads the terminal is woken before it is hung up (drivers/tty/pty.c, `pty_close`), and may be gone first.
const WOKEN_NS: u64 = 20_000_000;

pub(super) struct TtyHangup;

impl Cause for TtyHangup {
    fn kind(&self) -> Kind {
        Kind::TtyHangup
    }

    fn examine(&self, case: &Case<'_>) -> Option<Finding> {
        if let Some(left) = left_behind(case) {
            let finding = by_hangup(left.hangup, left.closer, None);
            return Some(finding.detail(TERMINAL_GONE).likely());
        }
        let blow = case.blow()?;
        if given_up(&blow) {
            let finding = Finding::process(Kind::TtyHangup, Mechanism::TtyIoctl, blow.other());
            return Some(Finding { kernel: true, ..finding.detail(GIVEN_UP) });
        }
        if let Some(hangup) = hangup::from_dying(case) {
            let finding =
                Finding::kernel(Kind::TtyHangup).mechanism(Mechanism::None).because_of(Some(hangup.by));
            let finding = if hangup.certain { finding } else { finding.likely() };
            return (hangup.kind == Kind::TtyHangup).then_some(finding);
        }
        if !blow.is(Signo::HUP, code::SI_KERNEL, true) || blow.own {
            return None;
        }
        Some(by_hangup(blow.run, blow.current.filter(|_| !blow.kernel_thread), blow.call()))
    }
}

/// The finding for a hangup by this process: it closed the master, asked for the hangup, or died.
fn by_hangup(run: &SignalRun, closer: Option<&Process>, call: Option<Call>) -> Finding {
    let finding = Finding::kernel(Kind::TtyHangup).mechanism(Mechanism::None);
    if run.current_exiting {
        return finding.because_of(closer.map(|closer| closer.id));
    }
    // A kernel worker is not to blame, and does not say who is.
    let asked = matches!(call, Some(Call::Ioctl | Call::Vhangup));
    let mechanism = if asked { Mechanism::TtyIoctl } else { Mechanism::None };
    Finding { killer: closer.map(|closer| closer.id), ..finding.mechanism(mechanism) }
}

/// A leader that gives its terminal up hangs up the foreground with plain `kill_pgrp`, which says SI_USER.
fn given_up(blow: &Blow<'_>) -> bool {
    blow.is(Signo::HUP, code::SI_USER, true)
        && !blow.run.current_exiting
        && blow.in_call(&[Call::Ioctl]) == Some(true)
}

/// The hangup of the terminal of a process that got no signal of it.
#[derive(Clone, Copy, Debug)]
pub struct LeftBehind<'a> {
    pub leader: &'a Process,
    pub hangup: &'a SignalRun,
    closer: Option<&'a Process>,
}

/// It ended by itself just after the leader of its session, which lives on, had been hung up: it read the end of its
/// input. Programs that use their terminal do that; whether this one did is not seen.
#[must_use]
pub fn left_behind<'a>(case: &Case<'a>) -> Option<LeftBehind<'a>> {
    let by_itself = case.decisive.is_none()
        && match case.status {
            Status::Known(status) => status.code().is_some(),
            Status::Exited => true,
            Status::Killed | Status::Unknown => false,
        };
    if !by_itself {
        return None;
    }
    let leader = leader(case)?;
    let hangup = hangup::hung_up(leader)?;
    let (end_ns, hangup_ns) = (case.ending.at.t_ns, hangup.first.t_ns);
    let near =
        if end_ns < hangup_ns { hangup_ns - end_ns < WOKEN_NS } else { end_ns - hangup_ns < SAME_STORY_NS };
    let closer =
        hangup.current.filter(|&id| !case.table.is_kernel_thread(id)).and_then(|id| case.table.get(id));
    (leader.alive() && near).then_some(LeftBehind { leader, hangup, closer })
}

/// The leader of the victim's session. That it was hung up says that they had a terminal; /proc says so only before.
fn leader<'a>(case: &Case<'a>) -> Option<&'a Process> {
    if !case.victim.read {
        // It ended before it could be looked at: it has the session that it was born in.
        return case.table.ancestors(case.victim.id).find(|process| hangup::was_hung_up(process));
    }
    let sid = case.victim.image.sid.filter(|&sid| sid != case.victim.tgid)?;
    case.table.by_tid(sid).and_then(|id| case.table.get(id))
}
