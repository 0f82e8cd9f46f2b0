//! It ended by itself: `exit_group(n)`, or a return from main (kernel/exit.c, `do_group_exit`).

use super::sibling_thread_exit::by_sibling;
use super::{Case, Cause, Finding, tty_hangup};
use crate::explain::case::Status;
use crate::model::report::{Confidence, Kind, Mechanism};

pub(super) struct Exited;

impl Cause for Exited {
    fn kind(&self) -> Kind {
        Kind::Exited
    }

    fn examine(&self, case: &Case<'_>) -> Option<Finding> {
        let by_itself = match case.status {
            Status::Known(status) => status.code().is_some(),
            Status::Exited => true,
            Status::Killed | Status::Unknown => false,
        };
        let otherwise = by_sibling(case) || tty_hangup::left_behind(case).is_some();
        if !by_itself || case.decisive.is_some() || otherwise {
            return None;
        }
        let finding = Finding { kernel: false, ..Finding::kernel(Kind::Exited) }.mechanism(Mechanism::None);
        Some(if case.exit_code().is_some() {
            finding
        } else {
            // SIGCHLD alone: up to 6.12 it says "exited" when the leader had left before a fatal signal.
            Finding { confidence: Confidence::Likely, ..finding }
        })
    }

    fn ruled_out(&self, case: &Case<'_>) -> Option<String> {
        case.death_signal().map(|signo| format!("it did not exit: it was ended by {signo}"))
    }
}
