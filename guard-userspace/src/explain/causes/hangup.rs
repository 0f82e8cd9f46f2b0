//! Which of the kernel's three ways to send SIGHUP from a dying task it was.
//!
//! - Its descriptors are closed, and one was the last of a terminal's master: SIGHUP and SIGCONT to the leader of the
//!   terminal's session (drivers/tty/tty_io.c, `__tty_hangup` -> `tty_signal_session_leader`).
//! - It led a session: SIGHUP to the foreground group (drivers/tty/tty_jobctrl.c, `disassociate_ctty`); SIGHUP and
//!   SIGCONT when its terminal had been hung up before (`tty_old_pgrp`).
//! - It was the last who could continue a group that has stopped members: SIGHUP and SIGCONT to the group
//!   (kernel/exit.c, `kill_orphaned_pgrp`).
//!
//! The session of the target tells them apart. Where it is not known, circumstances make one of them likely.

use super::Case;
use crate::explain::history::SignalRun;
use crate::explain::process::{ProcId, Process};
use crate::model::report::Kind;
use crate::model::signal::{Signo, code};

/// The kernel's SIGHUP from a dying task.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hangup {
    /// [`Kind::TtyHangup`], [`Kind::SessionLeaderExit`] or [`Kind::OrphanedProcessGroup`].
    pub(super) kind: Kind,
    pub(super) certain: bool,
    /// The process that died.
    pub(super) by: ProcId,
}

/// `None` when it was something else.
pub(super) fn from_dying(case: &Case<'_>) -> Option<Hangup> {
    let blow = case.blow()?;
    let (victim, current, run) = (case.victim, blow.current?, blow.run);
    if !blow.is(Signo::HUP, code::SI_KERNEL, true) || blow.own || !run.current_exiting {
        return None;
    }
    let continued = continued(victim, run);
    let (kind, certain) = match run.target_sid {
        Some(sid) if sid == victim.tgid => (Kind::TtyHangup, true),
        _ if !continued && victim.leads_session() => (Kind::TtyHangup, false),
        _ if !continued => (Kind::SessionLeaderExit, !fellow_continued(case, run)),
        // Its foreground job, or a stopped one behind it.
        Some(sid) if sid == current.tgid && was_hung_up(current) => (Kind::TtyHangup, !run.target_stopped),
        Some(_) => (Kind::OrphanedProcessGroup, true),
        None if victim.leads_session() => (Kind::TtyHangup, true),
        None if was_hung_up(current) => (Kind::TtyHangup, !run.target_stopped),
        // It may have become a leader since it was looked at, if it was.
        None if run.target_stopped || victim.read => (Kind::OrphanedProcessGroup, false),
        None => (Kind::TtyHangup, false),
    };
    Some(Hangup { kind, certain, by: current.id })
}

/// What one end sends comes soon, even on a machine that is busy or emulated.
const TOGETHER_NS: u64 = 100_000_000;

/// SIGCONT came with the SIGHUP, next, from the same task.
pub(in crate::explain) fn continued(victim: &Process, hangup: &SignalRun) -> bool {
    let mut after = victim.history.runs.iter().skip_while(|run| run.first.id != hangup.first.id).skip(1);
    after.find(|run| run.current_tid == hangup.current_tid).is_some_and(|run| {
        run.signo == Signo::CONT
            && run.code == hangup.code
            && run.first.t_ns.abs_diff(hangup.last.t_ns) < TOGETHER_NS
    })
}

/// Somebody else was sent SIGCONT with the same SIGHUP: so was the victim, unless that was lost.
fn fellow_continued(case: &Case<'_>, hangup: &SignalRun) -> bool {
    let same_end = |run: &&SignalRun| {
        run.is(Signo::HUP, code::SI_KERNEL, true)
            && run.current_tid == hangup.current_tid
            && run.target_sid == hangup.target_sid
            && run.last.t_ns.abs_diff(hangup.last.t_ns) < TOGETHER_NS
    };
    case.table
        .iter()
        .filter(|process| process.id != case.victim.id)
        .any(|process| process.history.runs.iter().find(same_end).is_some_and(|run| continued(process, run)))
}

/// The kernel had hung up its terminal before it died, whatever it thought of that.
pub(in crate::explain) fn was_hung_up(leader: &Process) -> bool {
    hung_up(leader).is_some()
}

/// The SIGHUP with which the kernel hung up the terminal of a session leader.
pub(super) fn hung_up(leader: &Process) -> Option<&SignalRun> {
    let mut runs = leader.history.runs.iter();
    runs.find(|run| run.is(Signo::HUP, code::SI_KERNEL, true) && run.current != Some(leader.id))
}
