//! It wrote to a pipe or socket that nobody reads (fs/pipe.c, net/core/stream.c: SIGPIPE to itself, one thread).

use super::{Case, Cause, Finding};
use crate::model::report::Kind;
use crate::model::signal::{Signo, code};

pub(super) struct BrokenPipe;

impl Cause for BrokenPipe {
    fn kind(&self) -> Kind {
        Kind::BrokenPipe
    }

    fn examine(&self, case: &Case<'_>) -> Option<Finding> {
        let blow = case.blow()?;
        let wrote = blow.own && blow.is(Signo::PIPE, code::SI_USER, false) && blow.in_kill() != Some(true);
        wrote.then(|| Finding::kernel(Kind::BrokenPipe))
    }
}
