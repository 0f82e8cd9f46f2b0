//! The causes of death, one file each. A cause looks at a case and claims it or does not.
//!
//! Which signal means what is `kernel/signal.c` and its callers; the function each rule rests on stands
//! beside the rule. Order here never decides who wins: claims are exclusive by construction, and a test
//! holds them to it; [`unknown`] takes what nobody claims.

mod async_notification;
mod broken_pipe;
mod cgroup_kill;
mod crashed;
mod debugger;
mod exec_failed;
mod exited;
mod hangup;
mod killed_by_process;
mod killed_by_self;
mod oom_kill;
mod orphaned_process_group;
pub mod parent_death_signal;
mod pid_namespace_teardown;
mod rlimit;
mod seccomp;
mod session_leader_exit;
mod sibling_thread_exit;
mod sysrq;
mod timer;
pub mod tty_hangup;
mod tty_keyboard;
pub mod unknown;

use std::fmt;

use crate::model::report::{Confidence, Kind, Mechanism};

use super::case::Case;
use super::history::{OomMark, SignalRun};
use super::process::ProcId;

pub(super) use hangup::{continued, was_hung_up};

/// A rule that recognises one kind of death.
pub trait Cause: Sync {
    fn kind(&self) -> Kind;

    /// The claim, or `None` when this is not how it died.
    fn examine(&self, case: &Case<'_>) -> Option<Finding>;

    /// Why it was not this, in words; `None` when that needs no saying.
    fn ruled_out(&self, _case: &Case<'_>) -> Option<String> {
        None
    }
}

impl fmt::Debug for dyn Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind())
    }
}

/// Every cause.
pub const CAUSES: &[&dyn Cause] = &[
    &exited::Exited,
    &killed_by_process::KilledByProcess,
    &killed_by_self::KilledBySelf,
    &crashed::Crashed,
    &oom_kill::OomKill,
    &tty_hangup::TtyHangup,
    &tty_keyboard::TtyKeyboard,
    &session_leader_exit::SessionLeaderExit,
    &orphaned_process_group::OrphanedProcessGroup,
    &parent_death_signal::ParentDeathSignal,
    &cgroup_kill::CgroupKill,
    &pid_namespace_teardown::PidNamespaceTeardown,
    &seccomp::Seccomp,
    &rlimit::Rlimit,
    &timer::Timer,
    &broken_pipe::BrokenPipe,
    &debugger::Debugger,
    &sysrq::Sysrq,
    &exec_failed::ExecFailed,
    &sibling_thread_exit::SiblingThreadExit,
    &async_notification::AsyncNotification,
];

/// One cause's claim.
#[derive(Clone, Debug)]
pub struct Finding {
    pub kind: Kind,
    /// `None` where the system call cannot be seen and several leave the same.
    pub mechanism: Option<Mechanism>,
    pub confidence: Confidence,
    pub detail: Option<&'static str>,
    /// The process whose act it was.
    pub killer: Option<ProcId>,
    /// The kernel made the signal by itself; `current` merely ran.
    pub kernel: bool,
    /// The process whose own end set this one off.
    pub because_of: Option<ProcId>,
    pub oom: Option<OomMark>,
}

impl Finding {
    /// The kernel did it, for reasons of its own.
    #[must_use]
    pub fn kernel(kind: Kind) -> Self {
        Self {
            kind,
            mechanism: Some(Mechanism::Kernel),
            confidence: Confidence::Certain,
            detail: None,
            killer: None,
            kernel: true,
            because_of: None,
            oom: None,
        }
    }

    /// A process did it.
    #[must_use]
    pub fn process(kind: Kind, mechanism: impl Into<Option<Mechanism>>, killer: Option<ProcId>) -> Self {
        Self { mechanism: mechanism.into(), killer, kernel: false, ..Self::kernel(kind) }
    }

    #[must_use]
    pub fn detail(self, detail: &'static str) -> Self {
        Self { detail: Some(detail), ..self }
    }

    #[must_use]
    pub fn mechanism(self, mechanism: impl Into<Option<Mechanism>>) -> Self {
        Self { mechanism: mechanism.into(), ..self }
    }

    /// Another process's end set it off.
    #[must_use]
    pub fn because_of(self, process: Option<ProcId>) -> Self {
        Self { because_of: process, ..self }
    }

    #[must_use]
    pub fn likely(self) -> Self {
        Self { confidence: self.confidence.min(Confidence::Likely), ..self }
    }
}

/// The best claim: the surest one. Two sure claims contradict each other, so both are doubted.
#[must_use]
pub fn examine(case: &Case<'_>) -> Finding {
    let mut claims: Vec<Finding> = CAUSES.iter().filter_map(|cause| cause.examine(case)).collect();
    claims.sort_by_key(|claim| std::cmp::Reverse(claim.confidence));
    let contradicted = claims.len() > 1 && claims[0].confidence == claims[1].confidence;
    let Some(mut finding) = claims.into_iter().next() else { return unknown::finding(case) };
    if contradicted {
        finding = finding.likely();
    }
    if let Some(decisive) = case.decisive {
        finding.confidence = finding.confidence.min(decisive.confidence);
    }
    if case.unexplained().is_some() {
        finding = finding.likely();
    }
    finding
}

/// The call behind a signal that a process sent.
///
/// Where it cannot be seen, what it leaves in the signal does not tell kill(2) of a process, of a group and of everybody
/// from pidfd_send_signal, nor tkill from tgkill, nor the ways to queue one (kernel/signal.c, `prepare_kill_siginfo`,
/// `do_tkill`, `do_rt_sigqueueinfo`).
pub(in crate::explain) fn mechanism(run: &SignalRun) -> Option<Mechanism> {
    use crate::model::event::Call;
    Some(match run.syscall.map(|syscall| (syscall.call, syscall.args[0]))? {
        (Call::Kill, target) => kill_target(target),
        (Call::Tkill, _) => Mechanism::Tkill,
        (Call::Tgkill, _) => Mechanism::Tgkill,
        (Call::RtSigqueueinfo, _) => Mechanism::Sigqueue,
        (Call::RtTgsigqueueinfo, _) => Mechanism::Tgsigqueue,
        (Call::PidfdSendSignal, _) => Mechanism::PidfdSendSignal,
        _ => return None,
    })
}

/// `kill(2)`'s first argument: a process, a group or everybody (kernel/signal.c, `kill_something_info`).
fn kill_target(target: u64) -> Mechanism {
    // A pid_t in a 64-bit register: its upper half is not defined.
    #[allow(clippy::cast_possible_truncation, reason = "a pid_t is the low half of the register")]
    let target = target as u32;
    match target.cast_signed() {
        1.. => Mechanism::Kill,
        -1 => Mechanism::KillAll,
        _ => Mechanism::KillGroup,
    }
}
