//! What crosses from the kernel to user space: the only definition of it.
//!
//! Built for the host too, where the agent decodes what the programs in `main.rs` wrote. Records carry raw
//! kernel values; nothing here knows what they mean.
#![no_std]

pub mod record;
pub mod settings;

/// Bytes of a task's `comm`, NUL included (`TASK_COMM_LEN`, include/linux/sched.h).
pub const COMM_LEN: usize = 16;

/// Bytes of executable path, interpreter path and arguments that an exec record carries at most, together.
pub const EXEC_DATA_LEN: usize = 4096;

/// Bytes of a cgroup path that a cgroup record carries at most.
pub const CGROUP_PATH_LEN: usize = 256;

/// A field offset that this kernel does not have, or whose place is not known.
pub const ABSENT: u32 = u32::MAX;

/// The hooks, in the order of the per-CPU loss counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Probe {
    /// `signal:signal_generate`
    SignalGenerate = 0,
    /// `signal:signal_deliver`
    SignalDeliver = 1,
    /// `oom:mark_victim`
    MarkVictim = 2,
    /// `sched:sched_process_exit`
    ProcessExit = 3,
    /// `sched:sched_process_exec`
    ProcessExec = 4,
    /// `task:task_newtask`
    NewTask = 5,
    /// `task:task_rename`
    TaskRename = 6,
    /// `sock:inet_sock_set_state`, listening sockets only
    SockState = 7,
    /// `cgroup:cgroup_attach_task`
    CgroupAttach = 8,
}

/// How many [`Probe`]s there are.
pub const PROBES: usize = 9;

impl Probe {
    /// Every probe, in counter order.
    pub const ALL: [Probe; PROBES] = [
        Probe::SignalGenerate,
        Probe::SignalDeliver,
        Probe::MarkVictim,
        Probe::ProcessExit,
        Probe::ProcessExec,
        Probe::NewTask,
        Probe::TaskRename,
        Probe::SockState,
        Probe::CgroupAttach,
    ];

    /// The tracepoint's category and name, as under `/sys/kernel/tracing/events`.
    #[must_use]
    pub const fn tracepoint(self) -> (&'static str, &'static str) {
        match self {
            Probe::SignalGenerate => ("signal", "signal_generate"),
            Probe::SignalDeliver => ("signal", "signal_deliver"),
            Probe::MarkVictim => ("oom", "mark_victim"),
            Probe::ProcessExit => ("sched", "sched_process_exit"),
            Probe::ProcessExec => ("sched", "sched_process_exec"),
            Probe::NewTask => ("task", "task_newtask"),
            Probe::TaskRename => ("task", "task_rename"),
            Probe::SockState => ("sock", "inet_sock_set_state"),
            Probe::CgroupAttach => ("cgroup", "cgroup_attach_task"),
        }
    }
}
