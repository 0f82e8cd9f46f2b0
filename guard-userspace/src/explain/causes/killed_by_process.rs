//! Another process sent the signal: kill, tkill, tgkill, sigqueue, pidfd (kernel/signal.c, `do_send_sig_info`
//! from the system calls). What the kernel sends with the same bits is told apart by the call.

use super::{Case, Cause, Finding, mechanism};
use crate::explain::blow::Blow;
use crate::model::report::Kind;
use crate::model::signal::code;

pub(super) struct KilledByProcess;

impl Cause for KilledByProcess {
    fn kind(&self) -> Kind {
        Kind::KilledByProcess
    }

    fn examine(&self, case: &Case<'_>) -> Option<Finding> {
        let blow = case.blow()?;
        if blow.own || !sent_by_call(&blow) || case.killed_at_birth() {
            return None;
        }
        Some(Finding::process(Kind::KilledByProcess, mechanism(blow.run), blow.other()))
    }

    fn ruled_out(&self, case: &Case<'_>) -> Option<String> {
        let from_others = case.victim.history.runs.iter().any(|run| run.current != Some(case.victim.id));
        let history = &case.victim.history;
        (!from_others && history.forgotten == 0 && history.unexplained.is_empty())
            .then(|| "no other process sent it a signal".to_owned())
    }
}

/// Whether `current` meant to send it.
pub(super) fn sent_by_call(blow: &Blow<'_>) -> bool {
    if blow.run.current_exiting {
        // A dying task sends nothing any more, even if its registers still say kill(2): it killed itself so.
        return false;
    }
    match blow.in_kill() {
        // SI_KERNEL cannot be passed by another process (`do_rt_sigqueueinfo`), so a SIGALRM that fires while
        // some task is in kill(2) is still the timer's.
        Some(in_kill) => in_kill && blow.run.code <= code::SI_USER && !is_timer(blow),
        None => match blow.run.code {
            // In-kernel `send_sig(sig, task, 0)` says SI_USER too: PDEATHSIG by a dying task, SIGPIPE and
            // SIGXFSZ to oneself, cgroup.kill and PTRACE_KILL as SIGKILL to a thread.
            code::SI_USER => blow.run.group,
            code::SI_TKILL | code::SI_QUEUE => true,
            _ => false,
        },
    }
}

/// SI_TIMER by somebody who was in sigqueue is forged; in any other call it is the victim's own timer.
fn is_timer(blow: &Blow<'_>) -> bool {
    use crate::model::event::Call;
    blow.run.code == code::SI_TIMER
        && blow.in_call(&[Call::RtSigqueueinfo, Call::RtTgsigqueueinfo, Call::PidfdSendSignal]) == Some(false)
}
