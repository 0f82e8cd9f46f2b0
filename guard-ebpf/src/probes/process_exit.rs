//! `sched:sched_process_exit` (kernel/exit.c, `do_exit`), since Linux 2.6.33.
//!
//! `TP_PROTO(struct task_struct *p)`, and since 6.16 `TP_PROTO(struct task_struct *p, bool group_dead)`.
//!
//! One per thread; `current` is the dying thread. What it does to others (hang up a terminal, PDEATHSIG)
//! comes after it. Before 6.16 the memory is already gone; since then it is still there.

use aya_ebpf::{
    macros::raw_tracepoint,
    programs::{RawTracePointContext, TracePointContext},
};
use guard_ebpf::{
    ABSENT, Probe,
    record::{EXIT_CODE_KNOWN, GROUP_DEAD, GROUP_DEAD_KNOWN, ProcessExit, SIGNALED},
};

use super::fields;
use crate::{
    maps::{Record, Wake, emit, setting},
    task::{Kernel, parent_tgid, process_start},
};

/// `SIGNAL_GROUP_EXIT` (include/linux/sched/signal.h).
const SIGNAL_GROUP_EXIT: u32 = 4;
/// `PF_SIGNALED` (include/linux/sched.h): it ends in `get_signal`, for a signal or because another thread ended all.
const PF_SIGNALED: u32 = 0x400;
/// Indices into `signal->rlim`, whose elements are two 64-bit words, soft and hard (include/uapi/linux/resource.h).
const RLIMIT_CPU: u32 = 0;
const RLIMIT_RTTIME: u32 = 15;

// SAFETY: `#[repr(C)]` integers, header first.
unsafe impl Record for ProcessExit {}

classic!(process_exit);

#[inline(always)]
fn classic(ctx: TracePointContext) {
    let fields = fields(&ctx);
    let known = setting!(process_exit.group_dead) != ABSENT;
    let dead = fields.read_or_zero::<u8>(setting!(process_exit.group_dead)) != 0;
    let wake = if dead || !known { Wake::Now } else { Wake::Later };
    emit(Probe::ProcessExit, wake, |record: &mut ProcessExit| {
        if known {
            record.flags = GROUP_DEAD_KNOWN | if dead { GROUP_DEAD } else { 0 };
        }
    });
}

#[raw_tracepoint(tracepoint = "sched_process_exit")]
fn process_exit_btf(ctx: RawTracePointContext) -> i32 {
    let task = Kernel::at(ctx.arg(0));
    let signal = task.follow(setting!(task.signal));
    let dead = if setting!(exit_has_group_dead) != 0 {
        ctx.arg::<u64>(1) as u8 != 0
    } else {
        // Counted down before the event, so two threads that die at once may both see 0 and the process is
        // then reported dead twice; it is never missed.
        signal.read_or_zero::<i32>(setting!(signal.live)) == 0
    };
    let mut exit_code: i32 = task.read_or_zero(setting!(task.exit_code));
    let signal_flags: u32 = signal.read_or_zero(setting!(signal.flags));
    let signaled = task.read_or_zero::<u32>(setting!(task.flags)) & PF_SIGNALED != 0;
    if !dead && exit_code == 0 && (signaled || signal_flags & SIGNAL_GROUP_EXIT == 0) {
        // A thread that simply ended, or that another one ended with all the others: that one is told of.
        return 0;
    }
    if dead && signal_flags & SIGNAL_GROUP_EXIT == 0 {
        // Nobody called exit_group: `wait` reports what the leader passed to exit (`wait_task_zombie`).
        exit_code = task.follow(setting!(task.group_leader)).read_or_zero(setting!(task.exit_code));
    }
    let wake = if dead { Wake::Now } else { Wake::Later };
    emit(Probe::ProcessExit, wake, |record: &mut ProcessExit| {
        record.flags = EXIT_CODE_KNOWN
            | GROUP_DEAD_KNOWN
            | if dead { GROUP_DEAD } else { 0 }
            | if signaled { SIGNALED } else { 0 };
        record.exit_code = exit_code;
        record.group_exit_code = signal.read_or_zero(setting!(signal.group_exit_code));
        record.blocked = task.read_or_zero(setting!(task.blocked));
        if (exit_code | record.group_exit_code) & 0x7f != 0 {
            record.seccomp_mode = task.read_or_zero(setting!(task.seccomp_mode));
            record.cpu_limit_s = hard_limit(signal, RLIMIT_CPU);
            record.rttime_limit_us = hard_limit(signal, RLIMIT_RTTIME);
        }
        record.signal_flags = signal_flags;
        record.ppid = parent_tgid(task);
        record.pending = task.read_or_zero(setting!(task.pending));
        record.shared_pending = signal.read_or_zero(setting!(signal.shared_pending));
        record.start_boottime_ns = process_start(task);
        record.max_rss_pages = signal.read_or_zero(setting!(signal.maxrss));
    });
    0
}

/// The hard limit of a resource.
#[inline(always)]
fn hard_limit(signal: Kernel, resource: u32) -> u64 {
    signal.read_or_zero(setting!(signal.rlim).wrapping_add(16 * resource + 8))
}
