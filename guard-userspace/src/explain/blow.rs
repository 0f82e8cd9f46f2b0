//! The decisive signal, as the causes ask about it.

use crate::model::event::Call;
use crate::model::signal::Signo;

use super::case::{Case, Decisive};
use super::history::SignalRun;
use super::process::{ProcId, Process};

/// Reads a signal's facts the way the causes ask for them.
#[derive(Clone, Copy, Debug)]
pub struct Blow<'a> {
    pub run: &'a SignalRun,
    pub decisive: Decisive<'a>,
    /// The victim was `current` itself.
    pub own: bool,
    pub current: Option<&'a Process>,
    /// `current` is a thread of the kernel, or nobody.
    pub kernel_thread: bool,
}

impl<'a> Case<'a> {
    #[must_use]
    pub fn blow(&self) -> Option<Blow<'a>> {
        let decisive = self.decisive?;
        let current = self.current();
        Some(Blow {
            run: decisive.run,
            decisive,
            own: self.own(decisive.run),
            current,
            kernel_thread: current.is_none_or(|process| {
                self.table.is_kernel_thread(process.id) || looks_like_worker(process, decisive.run)
            }),
        })
    }
}

/// Neither in a system call nor ending, and nothing else is known of it: a worker of the kernel, as far as anybody can
/// tell.
fn looks_like_worker(current: &Process, run: &SignalRun) -> bool {
    current.is_faceless() && run.in_call(&[Call::None]) == Some(true) && !run.current_exiting
}

impl Blow<'_> {
    /// The system call that `current` was in; `None` where the kernel does not show it.
    #[must_use]
    pub fn call(&self) -> Option<Call> {
        self.run.syscall.map(|syscall| syscall.call)
    }

    /// Whether `current` was in one of these calls; `None` where it cannot be known.
    #[must_use]
    pub fn in_call(&self, calls: &[Call]) -> Option<bool> {
        self.run.in_call(calls)
    }

    /// Whether `current` was in a call that sends signals; `None` where it cannot be known.
    #[must_use]
    pub fn in_kill(&self) -> Option<bool> {
        self.in_call(&[
            Call::Kill,
            Call::Tkill,
            Call::Tgkill,
            Call::RtSigqueueinfo,
            Call::RtTgsigqueueinfo,
            Call::PidfdSendSignal,
        ])
    }

    #[must_use]
    pub fn is(&self, signo: Signo, code: i32, group: bool) -> bool {
        self.run.is(signo, code, group)
    }

    /// The process that was `current`, unless that is the victim or the kernel.
    #[must_use]
    pub fn other(&self) -> Option<ProcId> {
        self.current.filter(|_| !self.own && !self.kernel_thread).map(|process| process.id)
    }
}
