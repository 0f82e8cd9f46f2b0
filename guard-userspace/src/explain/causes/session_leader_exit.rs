//! SIGHUP to the foreground group because the session leader ended (drivers/tty/tty_jobctrl.c,
//! `disassociate_ctty`): without SIGCONT, unless the terminal had been hung up before.

use super::{Case, Cause, Finding, hangup};
use crate::model::report::{Kind, Mechanism};

pub(super) struct SessionLeaderExit;

impl Cause for SessionLeaderExit {
    fn kind(&self) -> Kind {
        Kind::SessionLeaderExit
    }

    fn examine(&self, case: &Case<'_>) -> Option<Finding> {
        let hangup = hangup::from_dying(case).filter(|hangup| hangup.kind == self.kind())?;
        let finding = Finding::kernel(self.kind()).mechanism(Mechanism::None).because_of(Some(hangup.by));
        Some(if hangup.certain { finding } else { finding.likely() })
    }
}
