//! `task:task_rename` (fs/exec.c, `__set_task_comm`), since Linux 3.7.
//!
//! `TP_PROTO(struct task_struct *task, const char *comm)`
//!
//! `current` is the renamed task, or another thread of its process that wrote `/proc/PID/task/TID/comm`.

use aya_ebpf::programs::TracePointContext;
use guard_ebpf::{ABSENT, Probe, record::TaskRename};

use super::fields;
use crate::maps::{Record, Wake, emit, setting};

// SAFETY: `#[repr(C)]` integers, header first.
unsafe impl Record for TaskRename {}

classic!(task_rename);

#[inline(always)]
fn classic(ctx: TracePointContext) {
    let fields = fields(&ctx);
    emit(Probe::TaskRename, Wake::Later, |record: &mut TaskRename| {
        record.tid = if setting!(task_rename.pid) == ABSENT {
            record.header.tid
        } else {
            fields.read_or_zero(setting!(task_rename.pid))
        };
        fields.read_comm(setting!(task_rename.newcomm), &mut record.comm);
    });
}
