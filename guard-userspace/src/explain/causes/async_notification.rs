//! It asked to be told of something by signal and did not handle the signal: SIGIO and F_SETSIG (fs/fcntl.c,
//! `send_sigio_to_task`), mq_notify (ipc/mqueue.c, `__do_notify`), usbdevfs. The task doing the I/O is innocent.

use super::killed_by_process::sent_by_call;
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
        if sent_by_call(&blow) {
            return None;
        }
        let finding = Finding::kernel(Kind::AsyncNotification);
        match (blow.run.code, blow.run.signo) {
            (code::SI_MESGQ, _) => Some(finding.detail("mq_notify")),
            (code::SI_SIGIO, _) => Some(finding.detail("sigio")),
            (code::SI_ASYNCIO, _) => Some(finding.detail("usb_urb")),
            (code::SI_KERNEL | 1..=6, Signo::IO) => Some(finding.detail("sigio")),
            // F_SETSIG with a signal of one's own choice carries POLL_* codes; real-time signals have no
            // codes of their own that are positive.
            (1..=6, signo) if signo.is_real_time() => Some(finding.detail("sigio")),
            _ => None,
        }
    }
}
