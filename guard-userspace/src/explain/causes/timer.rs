//! A timer of its own ran out: alarm and setitimer (kernel/time/itimer.c, `it_real_fn`, and posix-cpu-timers.c),
//! timer_create (kernel/time/posix-timers.c, `send_sigqueue`). `current` is whoever was interrupted.

use super::{Case, Cause, Finding};
use crate::model::event::Call;
use crate::model::report::Kind;
use crate::model::signal::{Signo, code};

pub(super) struct Timer;

impl Cause for Timer {
    fn kind(&self) -> Kind {
        Kind::Timer
    }

    fn examine(&self, case: &Case<'_>) -> Option<Finding> {
        let blow = case.blow()?;
        let finding = Finding::kernel(Kind::Timer);
        if blow.run.code == code::SI_TIMER {
            // Any caller of sigqueue can say SI_TIMER.
            let forged = blow.in_call(&[Call::RtSigqueueinfo, Call::RtTgsigqueueinfo, Call::PidfdSendSignal]);
            return match forged {
                Some(true) => None,
                Some(false) => Some(finding.detail("timer_create")),
                None => Some(finding.detail("timer_create").likely()),
            };
        }
        let kernel = blow.run.code == code::SI_KERNEL && blow.run.group;
        match blow.run.signo {
            Signo::ALRM if kernel => Some(finding.detail("itimer_real")),
            Signo::VTALRM if kernel => Some(finding.detail("itimer_virtual")),
            Signo::PROF if kernel => Some(finding.detail("itimer_prof")),
            _ => None,
        }
    }
}
