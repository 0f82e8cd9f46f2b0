//! SIGHUP to the foreground group because the session leader ended (drivers/tty/tty_jobctrl.c,
//! `disassociate_ctty`): without SIGCONT, unless the terminal had been hung up before.

use super::tty_hangup::{from_dying, was_hung_up, with_continue};
use super::{Case, Cause, Finding};
use crate::model::report::{Kind, Mechanism};

pub(super) struct SessionLeaderExit;

impl Cause for SessionLeaderExit {
    fn kind(&self) -> Kind {
        Kind::SessionLeaderExit
    }

    fn examine(&self, case: &Case<'_>) -> Option<Finding> {
        let blow = case.blow()?;
        let leader = blow.current?;
        if !from_dying(&blow) || case.victim.leads_session() || was_hung_up(leader) {
            return None;
        }
        if with_continue(case.victim, blow.run) {
            return None;
        }
        let finding = Finding::kernel(Kind::SessionLeaderExit).mechanism(Mechanism::None);
        Some(finding.because_of(Some(leader.id)))
    }
}
