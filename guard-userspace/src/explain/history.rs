//! What was done to one process: the signals it was sent and took, bounded.

use std::collections::VecDeque;

use crate::model::event::{Call, Deliver, Disposition, OomVictim, SignalResult, Syscall};
use crate::model::signal::{DefaultAction, Signo};
use crate::model::text::Comm;

use super::process::{Mark, ProcId};

/// Alike signals in a row: one generated signal, or thousands.
#[derive(Clone, Copy, Debug)]
pub struct SignalRun {
    pub first: Mark,
    pub last: Mark,
    pub count: u64,
    pub signo: Signo,
    pub code: i32,
    pub group: bool,
    pub result: SignalResult,
    pub target_tid: u32,
    /// Of the last one.
    pub syscall: Option<Syscall>,
    /// The process that was `current`.
    pub current: Option<ProcId>,
    pub current_tid: u32,
    pub current_comm: Comm,
    /// `current` was exiting.
    pub current_exiting: bool,
    /// The target's session, where the kernel told it.
    pub target_sid: Option<u32>,
    /// The target was stopped when the first of them came.
    pub target_stopped: bool,
    /// How many of them a handler took.
    pub handled: u64,
}

impl SignalRun {
    /// One more of the same kind, from the same sender by the same call.
    fn continues(&self, other: &SignalRun) -> bool {
        other.first.t_ns >= self.last.t_ns
            && self.signo == other.signo
            && self.code == other.code
            && self.group == other.group
            && self.result == other.result
            && self.target_tid == other.target_tid
            && self.current == other.current
            && self.current_exiting == other.current_exiting
            && self.syscall.map(|s| (s.call, s.args[0])) == other.syscall.map(|s| (s.call, s.args[0]))
    }

    /// Whether `current` was in one of these calls; `None` where it cannot be known.
    #[must_use]
    pub fn in_call(&self, calls: &[Call]) -> Option<bool> {
        self.syscall.map(|syscall| calls.contains(&syscall.call))
    }

    /// Every one of them went to a handler, so none of them killed.
    #[must_use]
    pub fn all_handled(&self) -> bool {
        self.handled >= self.count
    }

    /// Bits that decide what a signal is: number, code, process directed.
    #[must_use]
    pub fn is(&self, signo: Signo, code: i32, group: bool) -> bool {
        self.signo == signo && self.code == code && self.group == group
    }
}

/// The last time a signal was taken with its default action: the death blow, as far as the target shows it.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    pub at: Mark,
    pub tid: u32,
    pub signo: Signo,
    pub code: i32,
}

/// What was done to a process, bounded.
///
/// Each CPU hands over its own events, so a signal may be heard of after what it led to. Time decides what came
/// first, not arrival.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// In time order.
    pub runs: VecDeque<SignalRun>,
    /// Runs that were dropped to stay bounded.
    pub forgotten: u64,
    /// The first delivery with the default action.
    pub taken: Option<Taken>,
    pub oom: Option<OomMark>,
    /// It was stopped, and not continued since.
    pub stopped: Option<Mark>,
    /// Signals that a handler took and that were not seen to be generated: before watching began, or it was lost.
    pub unexplained: VecDeque<Handled>,
    /// When it stopped for its tracer: the first time, and the last few.
    pub stops: VecDeque<Stop>,
    /// Exit status as told by SIGCHLD's code: `(code, when)`.
    pub child_code: Option<i32>,
}

/// A handler took a signal.
#[derive(Clone, Copy, Debug)]
pub struct Handled {
    pub at: Mark,
    pub tid: u32,
    pub signo: Signo,
}

impl Handled {
    /// It can have been one of these.
    fn is_of(&self, run: &SignalRun) -> bool {
        run.signo == self.signo
            && run.result.queued()
            && !run.all_handled()
            && (run.group || run.target_tid == self.tid)
            && run.first.t_ns <= self.at.t_ns
    }
}

/// A thread stopped for the process that traces it, which decides what becomes of the signal it stopped for
/// (kernel/signal.c, `ptrace_signal`).
#[derive(Clone, Copy, Debug)]
pub struct Stop {
    pub at: Mark,
    pub tracer: ProcId,
}

/// The OOM killer marked this process.
#[derive(Clone, Copy, Debug)]
pub struct OomMark {
    pub at: Mark,
    pub victim: OomVictim,
    /// Thread that was allocating.
    pub current_tid: u32,
    pub current: Option<ProcId>,
    pub current_comm: Comm,
}

impl History {
    /// How many runs are kept for a process nobody watches, and for one that is watched.
    const RUNS: usize = 16;
    const WATCHED_RUNS: usize = 64;
    const UNEXPLAINED: usize = 8;
    const STOPS: usize = 16;

    /// Adds one signal; returns which run it has become part of.
    pub(super) fn push(&mut self, mut run: SignalRun, watched: bool) -> usize {
        let place = self.runs.partition_point(|known| known.first.t_ns <= run.first.t_ns);
        let handled = self.unexplained.iter().position(|handled| handled.is_of(&run));
        run.handled = u64::from(handled.and_then(|index| self.unexplained.remove(index)).is_some());
        if let Some(before) = place.checked_sub(1)
            && let Some(last) = self.runs.get_mut(before).filter(|last| last.continues(&run))
        {
            last.count += 1;
            last.handled += run.handled;
            last.last = run.last;
            last.syscall = run.syscall;
            return before;
        }
        run.target_stopped = self.stopped.is_some_and(|stopped| stopped.t_ns <= run.first.t_ns);
        if run.target_stopped && matches!(run.signo, Signo::CONT | Signo::KILL) {
            self.stopped = None;
        }
        let limit = if watched { Self::WATCHED_RUNS } else { Self::RUNS };
        if self.runs.len() >= limit {
            self.runs.remove(self.spare(&run));
            self.forgotten += 1;
        }
        let place = self.runs.partition_point(|known| known.first.t_ns <= run.first.t_ns);
        self.runs.insert(place, run);
        place
    }

    pub(super) fn stopped_for(&mut self, at: Mark, tracer: ProcId) {
        let place = self.stops.partition_point(|stop| stop.at.t_ns <= at.t_ns);
        self.stops.insert(place, Stop { at, tracer });
        if self.stops.len() > Self::STOPS {
            self.stops.remove(1);
        }
    }

    /// How often it has stopped for its tracer since a signal, as far as is remembered. SIGKILL asks no tracer.
    #[must_use]
    pub fn stops_since(&self, run: &SignalRun) -> usize {
        if run.signo == Signo::KILL || !run.result.queued() {
            return 0;
        }
        self.stops.iter().filter(|stop| stop.at.t_ns >= run.last.t_ns).count()
    }

    /// Which run can best be forgotten to make room for another.
    ///
    /// First what a handler took, or was ignored. Then what has another of its number beside it: of ordinary signals
    /// a later one, for then the earlier one was taken; of real-time signals an earlier one, which is taken first
    /// (kernel/signal.c, `legacy_queue`, `collect_signal`).
    fn spare(&self, new: &SignalRun) -> usize {
        let harmless =
            |run: &SignalRun| !run.result.queued() || run.all_handled() || !run.signo.is_fatal_by_default();
        let doubled = |n: usize| {
            let alike = |other: &SignalRun| other.signo == self.runs[n].signo && other.result.queued();
            if self.runs[n].signo.is_real_time() {
                self.runs.iter().take(n).any(alike)
            } else {
                self.runs.iter().skip(n + 1).chain([new]).any(alike)
            }
        };
        let spare = self.runs.iter().position(harmless);
        spare.or_else(|| (0..self.runs.len()).find(|&n| doubled(n))).unwrap_or(0)
    }

    pub(super) fn deliver(&mut self, at: Mark, tid: u32, deliver: &Deliver) {
        let signo = Signo(deliver.signo);
        match deliver.disposition {
            Disposition::Handler => {
                let handled = Handled { at, tid, signo };
                match self.runs.iter_mut().rev().find(|run| handled.is_of(run)) {
                    Some(run) => run.handled += 1,
                    None => {
                        if self.unexplained.len() == Self::UNEXPLAINED {
                            self.unexplained.pop_front();
                        }
                        self.unexplained.push_back(handled);
                    }
                }
            }
            Disposition::Default => {
                // Siblings of a dying thread each take a 9 of their own; the first fatal one is the truth,
                // unless what came before did not end the process (stop, continue).
                let first = self.taken.is_none_or(|taken| at.t_ns < taken.at.t_ns);
                if signo.is_fatal_by_default() && first {
                    self.taken = Some(Taken { at, tid, signo, code: deliver.code });
                }
                if signo.default_action() == DefaultAction::Stop {
                    self.stopped = Some(at);
                }
            }
            Disposition::Ignore => {}
        }
    }
}
