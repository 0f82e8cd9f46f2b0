//! A death under examination: who died, how it ended, and which signal decided it.

use crate::model::event::{Call, WaitStatus};
use crate::model::report::Confidence;
use crate::model::signal::{DefaultAction, Signo, code};

use super::history::{Handled, SignalRun, Taken};
use super::process::{Ending, Process};
use super::table::Table;

/// How far the exit status is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// As `waitpid` would report it.
    Known(WaitStatus),
    /// SIGCHLD said "killed"; by which signal is inferred.
    Killed,
    /// SIGCHLD said "exited"; with which code is not known.
    Exited,
    Unknown,
}

/// The signal that decided a death.
#[derive(Clone, Copy, Debug)]
pub struct Decisive<'a> {
    pub run: &'a SignalRun,
    /// The victim took the signal in a handler (or waited for it) and then left in its own time.
    pub graceful: bool,
    /// How well the link between signal and end is known.
    pub confidence: Confidence,
    /// The victim repeated the signal to itself after handling it.
    pub reraised: Option<&'a SignalRun>,
}

/// What a cause may look at.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    pub table: &'a Table,
    pub victim: &'a Process,
    pub ending: Ending,
    pub status: Status,
    pub decisive: Option<Decisive<'a>>,
}

/// A handler that leaves has this long after the request; later, the exit counts as its own doing.
pub(super) const STOP_WINDOW_NS: u64 = 30_000_000_000;
/// SIGHUP often means "reload", so it has less.
const HANGUP_WINDOW_NS: u64 = 5_000_000_000;
/// Requests this close before the end are one story, told from its first.
pub(super) const SAME_STORY_NS: u64 = 2_000_000_000;
/// Events of one moment may be numbered in another order on two CPUs.
const SLACK_NS: u64 = 1_000_000;

impl<'a> Case<'a> {
    /// `None` when the process has not ended.
    #[must_use]
    pub fn new(table: &'a Table, victim: &'a Process) -> Option<Self> {
        let ending = victim.ending?;
        let status = match (ending.status, victim.child_code_says_killed()) {
            (Some(status), _) => Status::Known(status),
            (None, Some(true)) => Status::Killed,
            (None, Some(false)) => Status::Exited,
            (None, None) => Status::Unknown,
        };
        let mut case = Self { table, victim, ending, status, decisive: None };
        case.decisive = case.find_decisive();
        if let Some(run) = case.decisive.map(|decisive| decisive.run).filter(|run| case.is_reboot(run)) {
            case.status = reboot_status(run);
        }
        Some(case)
    }

    /// The case of a signal that a process survived, so far: who sent it, and why.
    #[must_use]
    pub fn of_signal(table: &'a Table, target: &'a Process, run: &'a SignalRun) -> Self {
        let ending = Ending::assumed(run.last, run.target_tid);
        let decisive = Decisive { run, graceful: false, confidence: Confidence::Certain, reraised: None };
        Self { table, victim: target, ending, status: Status::Killed, decisive: Some(decisive) }
    }

    /// The signal it died of, as `waitpid` would report it or as far as it can be inferred.
    #[must_use]
    pub fn death_signal(&self) -> Option<Signo> {
        match self.status {
            Status::Known(status) => status.signal().map(Signo),
            Status::Killed => self.decisive.filter(|decisive| !decisive.graceful).map(|d| d.run.signo),
            Status::Exited | Status::Unknown => None,
        }
    }

    /// It has the status of this signal and took none: the kernel ended it itself (`do_exit`, `make_task_dead`).
    #[must_use]
    pub fn ended_without_signal(&self) -> Option<Signo> {
        self.death_signal().filter(|_| self.decisive.is_none() && self.victim.signaled() == Some(false))
    }

    /// What it passed to `exit`.
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        match self.status {
            Status::Known(status) => status.code(),
            _ => None,
        }
    }

    /// The task that ran when the decisive signal was made.
    #[must_use]
    pub fn current(&self) -> Option<&'a Process> {
        self.decisive?.run.current.and_then(|id| self.table.get(id))
    }

    pub(super) fn own(&self, run: &SignalRun) -> bool {
        run.current == Some(self.victim.id)
    }

    fn find_decisive(&self) -> Option<Decisive<'a>> {
        match self.status {
            Status::Known(status) => match status.signal() {
                Some(signo) => self.killed_by(Some(Signo(signo))),
                None => self.in_fault_handler(status.code()).or_else(|| self.asked(status.code())),
            },
            Status::Killed => self.killed_by(None),
            Status::Exited => self.asked(None),
            Status::Unknown => None,
        }
    }

    /// The signal that ended it.
    ///
    /// A signal that dumps no core and is not blocked marks the whole group as exiting when it is sent
    /// (kernel/signal.c, `complete_signal`), and every later one is "ignored" (`prepare_signal`): so the last
    /// one that was queued decided. One that dumps core, or waited while blocked or stopped, is named by the
    /// delivery itself (`get_signal`).
    fn killed_by(&self, signo: Option<Signo>) -> Option<Decisive<'a>> {
        let history = &self.victim.history;
        let taken = history.taken;
        let signo = self.dumped_for().or(signo);
        let signo = signo.or(taken.map(|taken| taken.signo).filter(|&signo| signo != Signo::KILL));
        let mut candidates = history
            .runs
            .iter()
            .filter(|run| signo.is_none_or(|signo| run.signo == signo))
            .filter(|run| run.signo.is_fatal_by_default())
            .filter(|run| run.result.queued() && !run.all_handled() && !self.swallowed(run))
            .filter(|run| run.first.t_ns <= self.ending.at.t_ns.saturating_add(SLACK_NS));
        let named = taken.filter(|taken| Some(taken.signo) == signo && taken.signo != Signo::KILL);
        let run = match named {
            Some(taken) => dequeued(candidates.collect(), taken),
            None => candidates.next_back(),
        }?;
        let certain = Decisive { run, graceful: false, confidence: Confidence::Certain, reraised: None };
        if let Some(fault) = self.fault_without_handler(run) {
            let seen = fault.syscall.is_some() && run.syscall.is_some();
            let confidence = if seen { Confidence::Certain } else { Confidence::Likely };
            return Some(Decisive { run: fault, reraised: Some(run), confidence, ..certain });
        }
        let forged = run.in_call(&[Call::RtSigqueueinfo, Call::RtTgsigqueueinfo]) == Some(true);
        // `send_sig` in the kernel, for a broken pipe or a file too large; kill(2) is for a process.
        let from_kernel = run.code == code::SI_USER && !run.group;
        if !self.own(run) || from_kernel || (run.code > code::SI_USER && !forged) {
            return Some(certain);
        }
        // A handler that repeats the signal, or kills its own process to be done with it: what made the
        // handler run is the cause. A fault handler (a crash reporter) does the same with a fault.
        let prompt = history.runs.iter().rev().find(|earlier| {
            (earlier.handled > 0 || self.consumed(earlier))
                && earlier.result.queued()
                && earlier.first.id != run.first.id
                && (earlier.signo == run.signo || (run.signo == Signo::KILL && asks_to_stop(earlier.signo)))
                && earlier.first.t_ns <= run.first.t_ns
                && run.last.t_ns - earlier.last.t_ns.min(run.last.t_ns) < STOP_WINDOW_NS
                && (!self.own(earlier) || earlier.code > code::SI_USER)
        });
        Some(match prompt {
            Some(prompt) => Decisive {
                run: prompt,
                graceful: !(prompt.signo.is_fault() && prompt.code > code::SI_USER),
                confidence: if prompt.handled > 0 { Confidence::Certain } else { Confidence::Likely },
                reraised: Some(run),
            },
            None => certain,
        })
    }

    /// The signal that it was dumping core for when a SIGKILL cut that short.
    ///
    /// Whoever has taken a signal that dumps core is dying of it (kernel/signal.c, `get_signal`). A SIGKILL is still
    /// accepted then, and since Linux 5.18 puts its own number into the status (`complete_signal`).
    #[must_use]
    pub fn dumped_for(&self) -> Option<Signo> {
        let killed = matches!(self.status, Status::Known(status) if status.signal() == Some(Signo::KILL.0));
        let taken = self.victim.history.taken?;
        let later = |run: &SignalRun| {
            run.signo == Signo::KILL && run.result.queued() && run.first.t_ns > taken.at.t_ns
        };
        let dumps = taken.signo.default_action() == DefaultAction::Core;
        (killed && dumps && self.victim.history.runs.iter().any(later)).then_some(taken.signo)
    }

    /// The fault whose handler could not even be entered: for want of a stack the kernel raises SIGSEGV once more, from
    /// itself (kernel/signal.c, `signal_setup_done`), and the registers are still those of the fault. Where they cannot
    /// be read, the next moment has to do, and makes it likely.
    fn fault_without_handler(&self, run: &SignalRun) -> Option<&'a SignalRun> {
        const AT_ONCE_NS: u64 = 20_000_000;
        if !self.own(run) || !run.is(Signo::SEGV, code::SI_KERNEL, false) {
            return None;
        }
        let not_entered = |fault: &SignalRun| match (fault.syscall, run.syscall) {
            (Some(before), Some(now)) => before == now,
            _ => run.first.t_ns.saturating_sub(fault.last.t_ns) < AT_ONCE_NS,
        };
        self.victim.history.runs.iter().rev().find(|earlier| {
            self.is_own_fault(earlier)
                && earlier.target_tid == run.target_tid
                && earlier.first.t_ns < run.first.t_ns
                && not_entered(earlier)
        })
    }

    /// The kernel raised it for the thread's own instruction or system call, and a handler took it.
    fn is_own_fault(&self, run: &SignalRun) -> bool {
        let raised = run.signo.is_fault() || run.signo == Signo::SYS;
        raised && self.own(run) && !run.group && run.code > code::SI_USER && run.handled > 0
    }

    /// The last fault of its own that a handler took, which may have exited there or gone on.
    pub fn handled_fault(&self) -> Option<&'a SignalRun> {
        self.victim.history.runs.iter().rev().find(|run| self.is_own_fault(run))
    }

    /// The fault in whose handler it called `exit`.
    ///
    /// A handler runs with its signal blocked (kernel/signal.c, `signal_delivered`), and a fault that is blocked cannot
    /// reach one (`force_sig_info_to_task`): a thread that blocks it when it exits has not left its handler. Programs
    /// such as Java handle faults all day, so what is long over counts for nothing.
    fn in_fault_handler(&self, exit_code: Option<i32>) -> Option<Decisive<'a>> {
        const PROMPT_NS: u64 = 50_000_000;
        let run = self.handled_fault()?;
        let by = self.victim.ended_by;
        let blocked = by.filter(|by| by.tid == run.target_tid).and_then(|by| by.blocked);
        let confidence = if blocked.is_some_and(|blocked| blocked & run.signo.bit() != 0) {
            Confidence::Certain
        } else if self.ending.exit.blocked.is_none()
            && exit_code != Some(0)
            && self.ending.at.t_ns.saturating_sub(run.last.t_ns) < PROMPT_NS
        {
            Confidence::Likely
        } else {
            return None;
        };
        Some(Decisive { run, graceful: false, confidence, reraised: None })
    }

    /// The request to stop that it complied with.
    ///
    /// Only a request that a handler took (`signal_deliver` with a handler) or that it waited for itself
    /// (`sigwait`, `signalfd`: queued, never delivered, and no longer pending at the end) counts.
    fn asked(&self, code: Option<i32>) -> Option<Decisive<'a>> {
        let end = self.ending.at.t_ns;
        let since = |run: &SignalRun| end.saturating_sub(run.first.t_ns);
        let requests: Vec<&SignalRun> = self
            .victim
            .history
            .runs
            .iter()
            .filter(|run| self.in_stop_window(run))
            .filter(|run| run.result.queued() && !self.own(run))
            .filter(|run| run.handled > 0 || self.consumed(run))
            .collect();
        let says_so = |run: &&SignalRun| code == Some(128 + run.signo.0);
        let run = requests
            .iter()
            .find(|run| says_so(run))
            .or_else(|| requests.iter().find(|run| since(run) < SAME_STORY_NS))
            .or(requests.last())?;
        let confidence =
            if says_so(run) && run.handled > 0 { Confidence::Certain } else { Confidence::Likely };
        Some(Decisive { run, graceful: true, confidence, reraised: None })
    }

    /// A request to stop, shortly before the end, that no handler took.
    #[must_use]
    pub fn untaken_request(&self) -> Option<&'a SignalRun> {
        let mut runs = self.victim.history.runs.iter();
        runs.find(|run| {
            self.in_stop_window(run) && run.result.queued() && !run.all_handled() && !self.own(run)
        })
    }

    /// A request to stop, so shortly before the end that this can be its doing.
    fn in_stop_window(&self, run: &SignalRun) -> bool {
        let since = self.ending.at.t_ns.saturating_sub(run.first.t_ns);
        stop_window(run.signo).is_some_and(|window| since < window)
    }

    /// A handler took a request to stop that nobody was seen to make, or a fault that was not seen, and the process left
    /// by its own act.
    #[must_use]
    pub fn unexplained(&self) -> Option<&'a Handled> {
        let repeated = match self.decisive {
            Some(decisive) if !decisive.graceful && self.own(decisive.run) => Some(decisive.run.signo),
            Some(decisive) if !decisive.graceful => return None,
            _ => None,
        };
        self.victim.history.unexplained.iter().find(|handled| {
            let window = match stop_window(handled.signo) {
                Some(window) => window,
                None if repeated == Some(handled.signo)
                    || handled.signo.is_fault()
                    || handled.signo == Signo::SYS =>
                {
                    STOP_WINDOW_NS
                }
                None => return false,
            };
            self.ending.at.t_ns.saturating_sub(handled.at.t_ns) < window
        })
    }

    /// Queued, never seen to be delivered, and no longer pending when the process ended: it was waited for, or the
    /// delivery was lost. While one waits, no other of its kind is queued for the same process or the same thread
    /// (kernel/signal.c, `legacy_queue`).
    fn consumed(&self, run: &SignalRun) -> bool {
        let later = |other: &SignalRun| {
            other.signo == run.signo
                && other.group == run.group
                && (run.group || other.target_tid == run.target_tid)
                && other.result.queued()
                && other.first.t_ns > run.first.t_ns
        };
        // In a process that was traced, its tracer may have swallowed it.
        self.victim.history.stops_since(run) == 0
            && (self.ending.exit.pending.is_some_and(|pending| pending & run.signo.bit() == 0)
                || (!run.signo.is_real_time() && self.victim.history.runs.iter().any(later)))
    }

    /// It stopped for its tracer with this signal, and later with another one: the first went nowhere.
    #[must_use]
    pub fn swallowed(&self, run: &SignalRun) -> bool {
        let history = &self.victim.history;
        let stops = history.stops_since(run);
        let later = |later: &SignalRun| {
            let after = later.handled == 0 && later.first.t_ns > run.last.t_ns;
            after && (1..stops).contains(&history.stops_since(later))
        };
        stops > 1 && history.runs.iter().any(later)
    }

    /// A request to stop that its tracer may have swallowed.
    #[must_use]
    pub fn asked_through_tracer(&self) -> Option<Signo> {
        let history = &self.victim.history;
        let held = |run: &&SignalRun| run.handled == 0 && history.stops_since(run) > 0;
        let asked = history.runs.iter().find(|run| held(run) && self.in_stop_window(run));
        asked.map(|run| run.signo)
    }

    /// The process that traced it: the one it last stopped for, or the one that /proc named.
    #[must_use]
    pub fn tracer(&self) -> Option<&'a Process> {
        let stopped_for = self.victim.history.stops.back().map(|stop| stop.tracer);
        let tracer = stopped_for.or_else(|| self.table.by_tid(self.victim.tracer?));
        tracer.and_then(|id| self.table.get(id))
    }

    /// It had stopped for a tracer before this moment.
    #[must_use]
    pub fn stopped_before(&self, t_ns: u64) -> bool {
        self.victim.history.stops.front().is_some_and(|stop| stop.at.t_ns <= t_ns)
    }

    /// SIGKILL before its birth was announced, from the task that was forking it: a fork that raced with a write
    /// to cgroup.kill (kernel/cgroup/cgroup.c, `cgroup_post_fork`). The parent is not to blame.
    #[must_use]
    pub fn killed_at_birth(&self) -> bool {
        let (Some(decisive), Some(born)) = (self.decisive, self.victim.born) else { return false };
        let run = decisive.run;
        run.is(Signo::KILL, code::SI_USER, true)
            && run.current.is_some()
            && run.current == self.victim.parent
            && run.first.t_ns <= born.t_ns
    }

    /// Magic SysRq f had the OOM killer choose it (drivers/tty/sysrq.c, `moom_callback`): from a worker of the
    /// kernel, and the kernel log says so about then.
    #[must_use]
    pub fn chosen_by_sysrq(&self) -> bool {
        const ABOUT_THEN_NS: u64 = 1_000_000_000;
        let Some(blow) = self.blow().filter(|blow| blow.kernel_thread) else { return false };
        let asked = self.table.manual_oom_ns;
        self.victim.history.oom.is_some()
            && asked.is_some_and(|t_ns| t_ns.abs_diff(blow.run.last.t_ns) < ABOUT_THEN_NS)
    }

    /// reboot(2) in a PID namespace kills its init (kernel/reboot.c, `reboot_pid_ns`): nobody else sends the
    /// kernel's SIGKILL to one thread, but a dying tracer.
    #[must_use]
    pub fn is_reboot(&self, run: &SignalRun) -> bool {
        let bits = run.is(Signo::KILL, code::SI_KERNEL, false) && !run.current_exiting && !self.own(run);
        bits && run.syscall.is_none_or(|syscall| syscall.call == Call::Reboot)
    }
}

/// What `waitpid` says of an init whose namespace was rebooted: as if by SIGHUP for a restart and SIGINT for a
/// halt. The kernel puts it in place of the 9 after the exit event (kernel/pid_namespace.c,
/// `zap_pid_ns_processes`).
fn reboot_status(run: &SignalRun) -> Status {
    const RESTART: [u64; 2] = [0x0123_4567, 0xa1b2_c3d4];
    match run.syscall.map(|syscall| syscall.args[2] & 0xffff_ffff) {
        Some(command) if RESTART.contains(&command) => Status::Known(WaitStatus(Signo::HUP.0)),
        Some(_) => Status::Known(WaitStatus(Signo::INT.0)),
        None => Status::Unknown,
    }
}

/// Which of several alike signals a delivery took.
///
/// At most one ordinary signal of a number waits at a thread and one at its process (kernel/signal.c,
/// `legacy_queue`), so it is the last that was queued; real-time signals queue up, and the first is taken
/// (`collect_signal`). What waits at the thread goes first (`dequeue_signal`).
fn dequeued(mut alike: Vec<&SignalRun>, taken: Taken) -> Option<&SignalRun> {
    if alike.iter().any(|run| run.code == taken.code) {
        alike.retain(|run| run.code == taken.code);
    }
    let (own, shared): (Vec<_>, Vec<_>) =
        alike.into_iter().partition(|run| !run.group && run.target_tid == taken.tid);
    let queue = if own.is_empty() { shared } else { own };
    if taken.signo.is_real_time() { queue.first().copied() } else { queue.last().copied() }
}

/// It can mean "please end".
#[must_use]
pub fn asks_to_stop(signo: Signo) -> bool {
    stop_window(signo).is_some()
}

/// How long after this signal an exit can still be its doing; `None` when it is no request to stop.
fn stop_window(signo: Signo) -> Option<u64> {
    match signo {
        Signo::TERM | Signo::INT | Signo::QUIT => Some(STOP_WINDOW_NS),
        Signo::HUP => Some(HANGUP_WINDOW_NS),
        _ => None,
    }
}
