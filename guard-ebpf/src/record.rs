//! The records in the ring buffer, one type per hook.
//!
//! `#[repr(C)]`, native endian, explicit padding, sizes asserted at compile time. Text is bytes: the kernel
//! promises no encoding. A record starts with a [`Header`], whose `probe` says which type follows.

use crate::{CGROUP_PATH_LEN, COMM_LEN, EXEC_DATA_LEN};

/// Start of every record: when, where, and which task was `current`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Header {
    /// `bpf_ktime_get_boot_ns()`: CLOCK_BOOTTIME, in nanoseconds.
    pub t_boottime_ns: u64,
    /// A [`crate::Probe`], as a number.
    pub probe: u32,
    /// The CPU the record was made on.
    pub cpu: u32,
    /// Thread id of `current`, in the initial PID namespace.
    pub tid: u32,
    /// Process id of `current`, in the initial PID namespace.
    pub tgid: u32,
    /// Real user id of `current`, in the initial user namespace.
    pub uid: u32,
    /// [`CURRENT_EXITING`] when known to be so.
    pub flags: u32,
    /// `comm` of `current`.
    pub comm: [u8; COMM_LEN],
}

/// [`Header::flags`]: `current` had `PF_EXITING` set (needs BTF).
pub const CURRENT_EXITING: u32 = 1;
/// [`Header::flags`]: the flags were readable, so an unset bit means "no" (needs BTF).
pub const CURRENT_FLAGS_KNOWN: u32 = 2;

/// `signal:signal_generate` (kernel/signal.c, `__send_signal_locked` and `send_sigqueue`).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SignalGenerate {
    pub header: Header,
    pub signo: i32,
    /// `si_errno`.
    pub errno: i32,
    /// `si_code`; SI_USER for `SEND_SIG_NOINFO`, SI_KERNEL for `SEND_SIG_PRIV`.
    pub code: i32,
    /// Thread that the signal was generated for.
    pub target_tid: u32,
    /// Its process; 0 where it cannot be read (no BTF).
    pub target_tgid: u32,
    /// 1 when process directed.
    pub group: u32,
    /// `TRACE_SIGNAL_*`: 0 delivered (queued), 1 ignored, 2 already pending, 3 overflow, 4 siginfo lost.
    pub result: u32,
    /// [`SYSCALL_KNOWN`] and the like.
    pub flags: u32,
    pub target_comm: [u8; COMM_LEN],
    /// Number of the system call that `current` entered the kernel with; -1 when it was not in one.
    pub syscall: i64,
    /// First three arguments of that system call.
    pub args: [u64; 3],
    /// Session of the target's process, in the initial PID namespace; for the kernel's own SIGHUP only, 0 otherwise
    /// and where it cannot be read.
    pub target_sid: u32,
    pub _pad: u32,
}

/// [`SignalGenerate::flags`]: `syscall` and `args` were read from the sender's saved registers.
pub const SYSCALL_KNOWN: u32 = 1;

/// `signal:signal_deliver` (kernel/signal.c, `get_signal`). `current` is the target.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SignalDeliver {
    pub header: Header,
    pub signo: i32,
    pub errno: i32,
    pub code: i32,
    pub _pad: u32,
    /// 0 `SIG_DFL`, 1 `SIG_IGN`, else the handler's address.
    pub handler: u64,
}

/// `oom:mark_victim` (mm/oom_kill.c, `mark_oom_victim`). `current` is the allocating task, not to blame.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct MarkVictim {
    pub header: Header,
    /// Thread id of the victim; may be a thread that is not the leader.
    pub tid: u32,
    /// 1 when the fields below exist on this kernel.
    pub details: u32,
    pub total_vm_kb: u64,
    pub anon_rss_kb: u64,
    pub file_rss_kb: u64,
    pub shmem_rss_kb: u64,
    pub pgtables_kb: u64,
    pub uid: u32,
    pub oom_score_adj: i32,
}

/// `sched:sched_process_exit` (kernel/exit.c, `do_exit`), one per thread. `current` is the dying thread.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ProcessExit {
    pub header: Header,
    /// [`EXIT_CODE_KNOWN`] and the like.
    pub flags: u32,
    /// `task->exit_code`, as `wait` would show it.
    pub exit_code: i32,
    /// `signal->group_exit_code`, valid when `signal_flags` has `SIGNAL_GROUP_EXIT` (4).
    pub group_exit_code: i32,
    pub signal_flags: u32,
    /// `real_parent->tgid`.
    pub ppid: u32,
    /// `task->seccomp.mode`.
    pub seccomp_mode: u32,
    /// Signals still pending for the thread, bit `signo - 1`.
    pub pending: u64,
    /// Signals still pending for the process.
    pub shared_pending: u64,
    /// `start_boottime` of the process (its leader), in nanoseconds.
    pub start_boottime_ns: u64,
    /// `signal->maxrss`, in pages: the peak resident set.
    pub max_rss_pages: u64,
    /// Signals that the thread blocked.
    pub blocked: u64,
    /// The hard RLIMIT_CPU in seconds and RLIMIT_RTTIME in microseconds, when it ended by a signal; all ones for none.
    pub cpu_limit_s: u64,
    pub rttime_limit_us: u64,
}

/// [`ProcessExit::flags`]: codes, pending sets, parent and start time were read (needs BTF).
pub const EXIT_CODE_KNOWN: u32 = 1;
/// [`ProcessExit::flags`]: whether this was the process's last thread is known.
pub const GROUP_DEAD_KNOWN: u32 = 2;
/// [`ProcessExit::flags`]: it was.
pub const GROUP_DEAD: u32 = 4;
/// [`ProcessExit::flags`]: `PF_SIGNALED`, valid with [`EXIT_CODE_KNOWN`]: it did not end by its own system call.
pub const SIGNALED: u32 = 8;

/// `task:task_newtask` (kernel/fork.c, `copy_process`). `current` is the task that forked.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NewTask {
    pub header: Header,
    pub child_tid: u32,
    /// 0 where it cannot be read; then the child is a thread exactly when `CLONE_THREAD` is set.
    pub child_tgid: u32,
    pub clone_flags: u64,
    /// `real_parent->tgid` of the child (differs from `current` with `CLONE_PARENT`); 0 where unknown.
    pub ppid: u32,
    /// Process id in the child's own PID namespace; 0 where unknown.
    pub ns_tgid: u32,
    /// Depth of that namespace; 0 is the initial one.
    pub ns_level: u32,
    pub _pad: u32,
    /// 0 where unknown.
    pub start_boottime_ns: u64,
}

/// `sched:sched_process_exec` (fs/exec.c, `exec_binprm`). `current` has just become the new program.
///
/// Followed by `path_len` bytes of the path given to `execve`, `interp_len` bytes of the binary that really
/// runs (differs for scripts), and `args_len` bytes of NUL-separated arguments.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ProcessExec {
    pub header: Header,
    /// Thread id before the exec, when a thread that was not the leader called it.
    pub old_tid: u32,
    /// Parent's process id; 0 where unknown.
    pub ppid: u32,
    pub start_boottime_ns: u64,
    pub path_len: u32,
    pub interp_len: u32,
    pub args_len: u32,
    /// Size of the whole argument area; larger than `args_len` when it was cut. 0 where unknown.
    pub args_total: u32,
    pub data: [u8; EXEC_DATA_LEN],
}

/// `task:task_rename` (fs/exec.c, `__set_task_comm`). The renamed task need not be `current`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TaskRename {
    pub header: Header,
    pub tid: u32,
    pub _pad: u32,
    pub comm: [u8; COMM_LEN],
}

/// `sock:inet_sock_set_state` (net/ipv4/af_inet.c, `inet_sk_set_state`), into or out of TCP_LISTEN only.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SockState {
    pub header: Header,
    pub port: u32,
    /// 1 when the socket starts to listen, 0 when it stops.
    pub listening: u32,
}

/// `cgroup:cgroup_attach_task` (kernel/cgroup/cgroup.c, `cgroup_migrate_execute`). `current` is the mover.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CgroupAttach {
    pub header: Header,
    pub tid: u32,
    /// Id of the hierarchy (`/proc/PID/cgroup`, first column); 0 or 1 is the v2 one.
    pub hierarchy: u32,
    pub path_len: u32,
    pub _pad: u32,
    pub path: [u8; CGROUP_PATH_LEN],
}

const _: () = {
    assert!(size_of::<Header>() == 48);
    assert!(size_of::<SignalGenerate>() == 48 + 32 + 16 + 32 + 8);
    assert!(size_of::<SignalDeliver>() == 48 + 24);
    assert!(size_of::<MarkVictim>() == 48 + 56);
    assert!(size_of::<ProcessExit>() == 48 + 80);
    assert!(size_of::<NewTask>() == 48 + 40);
    assert!(size_of::<ProcessExec>() == 48 + 32 + EXEC_DATA_LEN);
    assert!(size_of::<TaskRename>() == 48 + 24);
    assert!(size_of::<SockState>() == 48 + 8);
    assert!(size_of::<CgroupAttach>() == 48 + 16 + CGROUP_PATH_LEN);
};
