//! `task:task_newtask` (kernel/fork.c, `copy_process`), since Linux 3.7.
//!
//! `TP_PROTO(struct task_struct *task, unsigned long clone_flags)`
//!
//! `current` made the new task, which is complete but has not run yet.

use aya_ebpf::{
    macros::raw_tracepoint,
    programs::{RawTracePointContext, TracePointContext},
};
use guard_ebpf::{ABSENT, Probe, record::NewTask};

use super::fields;
use crate::{
    maps::{Record, Wake, emit, setting},
    task::{Kernel, parent_tgid, process_start},
};

/// `CLONE_THREAD` (include/uapi/linux/sched.h).
const CLONE_THREAD: u64 = 0x1_0000;
/// `MAX_PID_NS_LEVEL` (include/linux/pid_namespace.h).
const MAX_LEVEL: u32 = 32;

// SAFETY: `#[repr(C)]` integers, header first.
unsafe impl Record for NewTask {}

classic!(new_task);

#[inline(always)]
fn classic(ctx: TracePointContext) {
    let fields = fields(&ctx);
    emit(Probe::NewTask, Wake::Later, |record: &mut NewTask| {
        record.child_tid = fields.read_or_zero(setting!(new_task.pid));
        record.clone_flags = fields.read_or_zero(setting!(new_task.clone_flags));
    });
}

#[raw_tracepoint(tracepoint = "task_newtask")]
fn new_task_btf(ctx: RawTracePointContext) -> i32 {
    let task = Kernel::at(ctx.arg(0));
    let clone_flags: u64 = ctx.arg(1);
    if clone_flags & CLONE_THREAD != 0 {
        // Every other record names the process, so nobody needs to know its threads.
        return 0;
    }
    emit(Probe::NewTask, Wake::Later, |record: &mut NewTask| {
        record.child_tid = task.read_or_zero(setting!(task.pid));
        record.child_tgid = task.read_or_zero(setting!(task.tgid));
        record.clone_flags = clone_flags;
        record.ppid = parent_tgid(task);
        record.start_boottime_ns = process_start(task);
        let pid = task.follow(setting!(task.thread_pid));
        let level: u32 = pid.read_or_zero(setting!(pid.level));
        if pid.address() != 0 && setting!(pid.numbers) != ABSENT && level <= MAX_LEVEL {
            record.ns_level = level;
            let number = setting!(pid.numbers).wrapping_add(level.wrapping_mul(setting!(pid.upid_size)));
            record.ns_tgid = pid.read_or_zero(number);
        }
    });
    0
}
