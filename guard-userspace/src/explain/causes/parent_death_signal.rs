//! `PR_SET_PDEATHSIG` (kernel/exit.c, `forget_original_parent`): the signal the process asked for when the
//! thread that forked it ends. SI_USER, from the dying parent, in no system call that sends signals.

use super::killed_by_process::sent_by_call;
use super::{Case, Cause, Finding};
use crate::model::event::Call;
use crate::model::report::Kind;
use crate::model::signal::code;

/// `finding.detail`: the thread that forked it ended, and not its process.
pub const THREAD_EXIT: &str = "parent_thread_exit";
/// The threads of a process that ends all end within this time, on a machine that is not too busy.
const TOGETHER_NS: u64 = 20_000_000;

pub(super) struct ParentDeathSignal;

impl Cause for ParentDeathSignal {
    fn kind(&self) -> Kind {
        Kind::ParentDeathSignal
    }

    fn examine(&self, case: &Case<'_>) -> Option<Finding> {
        let blow = case.blow()?;
        let from_dying = blow.run.current_exiting && blow.run.code == code::SI_USER && blow.run.group;
        if blow.own || !from_dying || sent_by_call(&blow) {
            return None;
        }
        let parent = blow.current?;
        let finding = Finding::kernel(Kind::ParentDeathSignal);
        let by_thread = Finding { killer: Some(parent.id), ..finding.clone().detail(THREAD_EXIT) };
        let by_parent = finding.because_of(Some(parent.id));
        let alone = blow.in_call(&[Call::Exit]);
        let Some(ending) = parent.ending else {
            // A thread that did not call exit(2) may have been ended with all others, which takes its time.
            return Some(if alone == Some(true) { by_thread } else { by_thread.likely() });
        };
        if ending.at.t_ns <= blow.run.first.t_ns {
            return Some(by_parent);
        }
        // The thread went first. It was alone in that if it called exit(2), which ends one thread.
        let all_were_ending = parent.history.taken.is_some_and(|taken| taken.at.t_ns <= blow.run.first.t_ns);
        Some(match alone {
            Some(true) => by_thread,
            Some(false) => by_parent,
            None if all_were_ending => by_parent.likely(),
            None if ending.at.t_ns - blow.run.first.t_ns > TOGETHER_NS => by_thread.likely(),
            None => by_parent.likely(),
        })
    }
}
