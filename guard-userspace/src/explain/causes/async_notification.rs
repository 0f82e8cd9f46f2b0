//! It asked to be told of something by signal and did not handle the signal: SIGIO and F_SETSIG (fs/fcntl.c,
//! `send_sigio_to_task`), mq_notify (ipc/mqueue.c, `__do_notify`), usbdevfs. The task doing the I/O is innocent.

use super::killed_by_process::sent_by_call;
use super::killed_by_self::is_forged;
use super::{Case, Cause, Finding};
use crate::model::report::Kind;
use crate::model::signal::{Signo, code};

pub(super) struct AsyncNotification;

impl Cause for AsyncNotification {
    fn kind(&self) -> Kind {
        Kind::AsyncNotification
    }

    fn examine(&self, case: &Case<'_>) -> Option<Finding> {
        let blow = case.blow()?;
        if sent_by_call(&blow) || is_forged(&blow) || !blow.run.group {
            return None;
        }
        let finding = Finding::kernel(Kind::AsyncNotification);
        // Any caller of sigqueue can say a code below zero.
        let below_zero = if blow.call().is_none() { finding.clone().likely() } else { finding.clone() };
        match (blow.run.code, blow.run.signo) {
            (code::SI_MESGQ, _) => Some(below_zero.detail("mq_notify")),
            (code::SI_SIGIO, _) => Some(below_zero.detail("sigio")),
            (code::SI_ASYNCIO, _) => Some(below_zero.detail("usb_urb")),
            (code::SI_KERNEL, Signo::IO) => Some(finding.detail("sigio")),
            // F_SETSIG with a signal of one's own choice carries POLL_* codes, unless the signal has codes of its own
            // (`sig_specific_sicodes`), and then SI_SIGIO.
            (1..=6, signo) if !signo.is_fault() && signo != Signo::SYS => Some(finding.detail("sigio")),
            _ => None,
        }
    }
}
