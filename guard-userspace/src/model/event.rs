//! Events: one fact each, in the order the kernel made them. The stream that backends produce, recordings
//! hold and the explainer reads.

use serde::{Deserialize, Serialize};

use super::text::Comm;

/// One fact, and when, where and under which task it was seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Position in the stream, from 1. Reports cite events by it.
    pub id: u64,
    /// CLOCK_BOOTTIME, in nanoseconds.
    pub t_ns: u64,
    /// The CPU it was seen on; `None` for what was read from /proc.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u32>,
    /// The task that ran when the kernel made the event; `None` for what was read from /proc.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<Current>,
    pub fact: Fact,
}

/// The task that was `current` at an event. Ids are those of the initial namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Current {
    pub tid: u32,
    /// `None` where the backend sees thread ids only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tgid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// `None` where the backend cannot tell (a perf sample); the process table knows it then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comm: Option<Comm>,
    /// `PF_EXITING` was set; `None` where it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exiting: Option<bool>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// `task:task_newtask`: a process or thread was born; `current` made it.
    Fork(Fork),
    /// `sched:sched_process_exec`: `current` became another program.
    Exec(Box<Exec>),
    /// `task:task_rename`.
    Rename { tid: u32, comm: Comm },
    /// `signal:signal_generate`: `current` (or the kernel while it ran) generated a signal.
    Signal(Signal),
    /// `signal:signal_deliver`: `current` takes a signal.
    Deliver(Deliver),
    /// `oom:mark_victim`.
    OomVictim(OomVictim),
    /// `sched:sched_process_exit`: `current`, one thread, ends.
    Exit(Exit),
    /// taskstats: the exit status of one thread, on kernels without BTF.
    Taskstats(Taskstats),
    /// `cgroup:cgroup_attach_task`: a task was moved; `current` moved it.
    CgroupAttach { tid: u32, hierarchy: u32, path: String },
    /// `sock:inet_sock_set_state`: `current` starts (or stops) to listen on a TCP port.
    Listen { port: u16, listening: bool },
    /// Read from /proc: what only it can tell about a process. Fields that were not read are `None`.
    Process(Box<ProcessFacts>),
    /// The name of a user; `None` when there is none.
    User { uid: u32, name: Option<String> },
    /// A look-up in /proc came too late: the process had gone.
    ProcessGone { tgid: u32 },
    /// Every process that existed when watching began has been read.
    Seeded { processes: u64 },
    /// Read from /proc/meminfo and /proc/pressure when a watched process died.
    Memory(MachineMemory),
    /// Read from a memory cgroup's files when a process in it was chosen by the OOM killer or died.
    CgroupMemory(CgroupMemory),
    /// One line of the kernel log that bears on deaths (`oom-kill:`, `Killed process`, `segfault at`).
    KernelLog { text: String },
    /// One line of the systemd journal, that was asked for after a death.
    Journal(Box<super::journal::Entry>),
    /// Records that the kernel side had no room for since the last such event.
    Lost { probe: String, count: u64 },
    /// Time passed. Lets a verdict settle when nothing else happens.
    Tick,
    /// Watching ended; the last event of a stream.
    End,
}

/// A birth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fork {
    pub child_tid: u32,
    /// The child's process; equals `child_tid` unless the child is a thread.
    pub child_tgid: u32,
    pub clone_flags: u64,
    /// The child's parent process, where it can be read; else it is `current`'s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ppid: Option<u32>,
    /// The child's process id inside its own PID namespace, when that is not the initial one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ns_tgid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_boottime_ns: Option<u64>,
}

/// A successful `execve`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// Thread id before the exec; differs when a thread other than the leader called it.
    pub old_tid: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ppid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_boottime_ns: Option<u64>,
    /// The path given to `execve`; a script's own path.
    pub path: String,
    /// The binary that runs: the interpreter of a script. `None` where it cannot be read in the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interp: Option<String>,
    /// `None` when neither the kernel side nor /proc could tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// The arguments were longer than what was recorded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub args_truncated: bool,
}

/// A signal was generated. Generated is not delivered, and delivered is not fatal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    pub signo: i32,
    /// `si_code`.
    pub code: i32,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub errno: i32,
    /// Directed at the process rather than one thread.
    pub group: bool,
    pub result: SignalResult,
    pub target_tid: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_tgid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_comm: Option<Comm>,
    /// The system call that `current` was in, from its saved registers; `None` where they cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syscall: Option<Syscall>,
    /// The target's session; told with the kernel's own SIGHUP only, where its structures can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_sid: Option<u32>,
}

fn is_zero(n: &i32) -> bool {
    *n == 0
}

/// `TRACE_SIGNAL_*` of include/trace/events/signal.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SignalResult {
    /// Queued. It may yet be handled, blocked or swallowed.
    Delivered,
    /// Ignored, or the target was already dying (`prepare_signal`).
    Ignored,
    AlreadyPending,
    /// The real-time queue was full; not sent.
    OverflowFail,
    /// Queued without its siginfo.
    LoseInfo,
}

impl SignalResult {
    /// The signal was queued, so it can have had an effect.
    #[must_use]
    pub fn queued(self) -> bool {
        matches!(self, SignalResult::Delivered | SignalResult::LoseInfo)
    }
}

/// The system call a task was in, with its first three arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Syscall {
    /// Its name, for the calls that matter to a verdict.
    pub call: Call,
    /// Its number on the machine's architecture.
    pub nr: i64,
    pub args: [u64; 3],
}

/// The system calls that can end a process or show why a signal was generated. Numbers differ by
/// architecture; the collector maps them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    Kill,
    Tkill,
    Tgkill,
    RtSigqueueinfo,
    RtTgsigqueueinfo,
    PidfdSendSignal,
    Ptrace,
    Reboot,
    Write,
    Writev,
    Pwrite64,
    Sendfile,
    Splice,
    Ioctl,
    Close,
    ExitGroup,
    Exit,
    Execve,
    Execveat,
    MqTimedsend,
    Vhangup,
    Setsid,
    ProcessMrelease,
    IoUringEnter,
    /// In a system call that is none of these.
    Other,
    /// Not in a system call: a fault, or a kernel thread.
    None,
}

/// A signal is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deliver {
    /// 9 for every fatal signal that dumps no core, whatever was sent (`complete_signal`).
    pub signo: i32,
    pub code: i32,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub errno: i32,
    pub disposition: Disposition,
}

/// What the target does with a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Disposition {
    Default,
    Ignore,
    Handler,
}

/// The OOM killer chose a task. Sizes as the kernel had them at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OomVictim {
    /// May be a thread that is not the leader.
    pub tid: u32,
    /// `None` on kernels whose event carries only the pid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<OomDetails>,
}

/// What newer kernels add to `oom:mark_victim`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OomDetails {
    pub total_vm_bytes: u64,
    pub anon_rss_bytes: u64,
    pub file_rss_bytes: u64,
    pub shmem_rss_bytes: u64,
    pub pgtables_bytes: u64,
    pub uid: u32,
    pub oom_score_adj: i32,
}

impl OomDetails {
    /// What it held in memory.
    #[must_use]
    pub fn rss_bytes(&self) -> u64 {
        self.anon_rss_bytes.saturating_add(self.file_rss_bytes).saturating_add(self.shmem_rss_bytes)
    }
}

/// One thread ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// What `wait` would report, known only where the kernel's structures can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<WaitStatus>,
    /// This was the process's last thread. `None` where it must be counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_dead: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ppid: Option<u32>,
    /// Signals that were still pending, for the thread or the process, bit `signo - 1`: never consumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_boottime_ns: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rss_bytes: Option<u64>,
    /// It ended in `get_signal`: a signal took it, or another thread's `exit_group` did. If not, its own system call
    /// did, or the kernel in the middle of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signaled: Option<bool>,
    /// Its own call ended the whole process.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended_all: bool,
    /// Signals that the thread blocked, bit `signo - 1`; in a handler, the handler's own among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<u64>,
    /// `task->seccomp.mode` when it ended by a signal: 1 strict, 2 filter, 3 after a forbidden call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seccomp_mode: Option<u32>,
    /// Hard limits when it ended by a signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
}

/// The hard limits of time that can end a process; `None` where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// RLIMIT_CPU, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_s: Option<u64>,
    /// RLIMIT_RTTIME, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rttime_us: Option<u64>,
}

/// A raw wait status: low seven bits the signal, 0x80 a core dump, next byte the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WaitStatus(pub i32);

impl WaitStatus {
    /// The signal that ended the process.
    #[must_use]
    pub fn signal(self) -> Option<i32> {
        Some(self.0 & 0x7f).filter(|&signo| signo != 0)
    }

    /// What it passed to `exit`.
    #[must_use]
    pub fn code(self) -> Option<i32> {
        (self.signal().is_none()).then_some((self.0 >> 8) & 0xff)
    }

    #[must_use]
    pub fn core_dumped(self) -> bool {
        self.0 & 0x80 != 0
    }
}

/// What taskstats says of one thread's end (include/uapi/linux/taskstats.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taskstats {
    pub tid: u32,
    /// From version 12.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tgid: Option<u32>,
    /// `ac_exitcode` of this thread.
    pub status: WaitStatus,
    /// `ac_flag` has AGROUP: the last thread of its process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_dead: Option<bool>,
    /// `ac_comm`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comm: Option<Comm>,
    /// `ac_flag` has AXSIG: it ended through a delivered signal, or another thread's `exit_group`.
    pub signaled: bool,
    /// `hiwater_rss`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rss_bytes: Option<u64>,
}

/// What /proc tells of a process. `None` means not read, never "none".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessFacts {
    pub tgid: u32,
    /// From the first scan, not a later look.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub seeded: bool,
    /// Dead and not yet reaped when it was read.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub zombie: bool,
    /// Stopped when it was read.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
    /// Its leader thread has ended, others live on.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub leaderless: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ppid: Option<u32>,
    /// From clock ticks: 10 ms steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_boottime_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comm: Option<Comm>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmdline: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Of the variable that Node takes options from, those that limit its heap. The rest is nobody's business.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_options: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The user's name, resolved by the collector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroups: Option<Cgroups>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pgid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sid: Option<u32>,
    /// Name of the controlling terminal, `pts/3`; an empty string when it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tty: Option<String>,
    /// Its pid inside its own PID namespace, when that is not the initial one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ns_tgid: Option<u32>,
    /// Thread ids other than the leader's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub threads: Vec<u32>,
    /// The process that traces it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracer: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signals: Option<SignalMasks>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_rss_bytes: Option<u64>,
    /// TCP ports it listens on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listening: Option<Vec<u16>>,
}

/// Where a process sits in the cgroup hierarchies (`/proc/PID/cgroup`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cgroups {
    /// Path in the v2 hierarchy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub v2: Option<String>,
    /// Path in the v1 hierarchy named `systemd`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub systemd: Option<String>,
    /// Path in the v1 memory hierarchy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// Path it was last moved to, in a hierarchy that only /proc could name, which has not been read since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved: Option<String>,
}

/// `SigBlk`, `SigIgn`, `SigCgt`, and `SigPnd` with `ShdPnd`, of `/proc/PID/status`, bit `signo - 1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalMasks {
    pub blocked: u64,
    pub ignored: u64,
    pub caught: u64,
    #[serde(default)]
    pub waiting: u64,
}

/// The machine's memory at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MachineMemory {
    pub available_bytes: Option<u64>,
    pub swap_free_bytes: Option<u64>,
    /// `some avg10` of /proc/pressure/memory, in percent; `None` where PSI is off.
    pub psi_some_avg10: Option<f64>,
}

/// A memory cgroup's own figures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CgroupMemory {
    /// Path in its hierarchy.
    pub path: String,
    /// `memory.max` or `memory.limit_in_bytes`; `None` when there is no limit.
    pub limit_bytes: Option<u64>,
    /// `memory.current` or `memory.usage_in_bytes`, read after the fact.
    pub usage_bytes: Option<u64>,
    pub peak_bytes: Option<u64>,
    /// Processes in it that the OOM killer has ended so far.
    pub oom_kills: Option<u64>,
    /// Those that hold most, the largest first; only where they were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub largest: Vec<TaskMemory>,
}

/// What a process holds of its cgroup's memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskMemory {
    pub tgid: u32,
    pub comm: Comm,
    pub rss_bytes: u64,
}
