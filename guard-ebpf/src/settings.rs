//! What the loader tells the programs about the kernel they run on.
//!
//! One read-only global, [`Settings`], overridden before the programs are loaded. The verifier knows its
//! values and removes every branch that this kernel does not need.

use crate::ABSENT;

macro_rules! offsets {
    ($($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident),+ $(,)? })+) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(C)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: u32,)+
        }

        impl $name {
            /// Nothing is known.
            pub const ABSENT: Self = Self { $($field: ABSENT),+ };
        }
    )+};
}

offsets! {
    /// Where the fields of `signal:signal_generate` are, from its `format` file.
    SignalGenerateFields { sig, errno, code, comm, pid, group, result }
    /// Fields of `signal:signal_deliver`.
    SignalDeliverFields { sig, errno, code, sa_handler }
    /// Fields of `oom:mark_victim`; all but `pid` came with Linux 6.8 and its backports.
    MarkVictimFields { pid, total_vm, anon_rss, file_rss, shmem_rss, pgtables, uid, oom_score_adj }
    /// Fields of `sched:sched_process_exit`; `group_dead` came with Linux 6.16.
    ProcessExitFields { group_dead }
    /// Fields of `sched:sched_process_exec`.
    ProcessExecFields { filename, old_pid }
    /// Fields of `task:task_newtask`.
    NewTaskFields { pid, clone_flags }
    /// Fields of `task:task_rename`.
    TaskRenameFields { pid, newcomm }
    /// Fields of `sock:inet_sock_set_state`.
    SockStateFields { oldstate, newstate, sport, protocol }
    /// Fields of `cgroup:cgroup_attach_task`.
    CgroupAttachFields { dst_root, pid, dst_path }

    /// Members of `struct task_struct`, from BTF.
    TaskFields {
        pid, tgid, comm, flags, exit_code, signal, group_leader, real_parent, start_boottime, mm,
        /// `pending.signal`
        pending,
        thread_pid,
        /// `seccomp.mode`, where the kernel has it.
        seccomp_mode,
        /// The first word of the set.
        blocked,
    }
    /// Members of `struct signal_struct`, from BTF.
    SignalStructFields {
        flags, group_exit_code,
        /// `live.counter`
        live,
        /// `shared_pending.signal`
        shared_pending,
        maxrss,
        /// `rlim`, an array.
        rlim,
        /// `pids`, by `enum pid_type`
        pids,
    }
    /// Members of `struct kernel_siginfo`, from BTF.
    SiginfoFields { si_errno, si_code }
    /// Members of `struct pid` and the size of `struct upid`, from BTF.
    PidFields { level, numbers, upid_size }
    /// Members of `struct mm_struct`, from BTF.
    MmFields { arg_start, arg_end }
    /// Members of `struct linux_binprm`, from BTF.
    BinprmFields { filename, interp }
    /// Members of `struct pt_regs`, from BTF: the number and arguments of the system call in progress.
    RegsFields {
        nr, arg0, arg1, arg2,
        /// A 64-bit word that tells a 32-bit system call, in the registers (arm64 `pstate`).
        compat_word,
    }
}

/// Everything the programs must know before they are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Settings {
    pub signal_generate: SignalGenerateFields,
    pub signal_deliver: SignalDeliverFields,
    pub mark_victim: MarkVictimFields,
    pub process_exit: ProcessExitFields,
    pub process_exec: ProcessExecFields,
    pub new_task: NewTaskFields,
    pub task_rename: TaskRenameFields,
    pub sock_state: SockStateFields,
    pub cgroup_attach: CgroupAttachFields,
    pub task: TaskFields,
    pub signal: SignalStructFields,
    pub siginfo: SiginfoFields,
    pub pid: PidFields,
    pub mm: MmFields,
    pub binprm: BinprmFields,
    pub regs: RegsFields,
    /// Bytes of the system call number in `pt_regs`: 8 on x86_64, 4 on arm64.
    pub syscall_nr_size: u32,
    /// A word that tells a 32-bit system call, in the task (x86 `thread_info.status`).
    pub task_compat_word: u32,
    /// The bits of either compat word that are set in a 32-bit system call.
    pub compat_mask: u32,
    /// 1 when the kernel has `bpf_get_current_task_btf` and `bpf_task_pt_regs` (Linux 5.15).
    pub has_task_regs: u32,
    /// 1 when the raw `sched_process_exit` hands over `group_dead` (Linux 6.16).
    pub exit_has_group_dead: u32,
    /// 1 when exit events carry the exit status, so that SIGCHLD adds nothing.
    pub exit_status_known: u32,
    /// Bytes waiting in the ring buffer from which every record wakes the agent.
    pub wake_bytes: u32,
}

impl Settings {
    /// A kernel nothing is known of.
    pub const UNKNOWN: Self = Self {
        signal_generate: SignalGenerateFields::ABSENT,
        signal_deliver: SignalDeliverFields::ABSENT,
        mark_victim: MarkVictimFields::ABSENT,
        process_exit: ProcessExitFields::ABSENT,
        process_exec: ProcessExecFields::ABSENT,
        new_task: NewTaskFields::ABSENT,
        task_rename: TaskRenameFields::ABSENT,
        sock_state: SockStateFields::ABSENT,
        cgroup_attach: CgroupAttachFields::ABSENT,
        task: TaskFields::ABSENT,
        signal: SignalStructFields::ABSENT,
        siginfo: SiginfoFields::ABSENT,
        pid: PidFields::ABSENT,
        mm: MmFields::ABSENT,
        binprm: BinprmFields::ABSENT,
        regs: RegsFields::ABSENT,
        syscall_nr_size: 8,
        task_compat_word: ABSENT,
        compat_mask: 0,
        has_task_regs: 0,
        exit_has_group_dead: 0,
        exit_status_known: 0,
        wake_bytes: 1 << 19,
    };
}

/// Name of the global that holds the [`Settings`].
pub const SETTINGS: &str = "SETTINGS";
