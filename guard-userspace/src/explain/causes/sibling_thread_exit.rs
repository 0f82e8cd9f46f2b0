//! Another thread ended the process with a failure while its main thread was still at work (kernel/exit.c,
//! `do_group_exit`): `exit` in a worker, which nobody waiting for the main thread expects.
//!
//! The main thread's own end tells: it did not call exit, yet ends with an exit code and not a signal's. With code 0
//! it is a plain end: Go and Java programs, whose main function runs on any thread, all end so. And a main thread that
//! had left before waits for its threads on purpose.

use super::{Case, Cause, Finding};
use crate::model::report::{Kind, Mechanism};

pub(super) struct SiblingThreadExit;

impl Cause for SiblingThreadExit {
    fn kind(&self) -> Kind {
        Kind::SiblingThreadExit
    }

    fn examine(&self, case: &Case<'_>) -> Option<Finding> {
        by_sibling(case).then(|| {
            Finding { kernel: false, ..Finding::kernel(Kind::SiblingThreadExit) }.mechanism(Mechanism::None)
        })
    }
}

pub(super) fn by_sibling(case: &Case<'_>) -> bool {
    let failed = case.exit_code().is_some_and(|code| code != 0);
    failed && case.decisive.is_none() && case.victim.leader_overruled
}
