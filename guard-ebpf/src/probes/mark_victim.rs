//! `oom:mark_victim` (mm/oom_kill.c, `mark_oom_victim`), since Linux 4.13.
//!
//! `TP_PROTO(int pid)`, and since 6.8 and its backports `TP_PROTO(struct task_struct *task, uid_t uid)`.
//!
//! `current` is the task whose allocation failed, which is not to blame. It fires after the SIGKILL was
//! generated, and also, without any SIGKILL, for a task that is already dying of something else.

use aya_ebpf::programs::TracePointContext;
use guard_ebpf::{ABSENT, Probe, record::MarkVictim};

use super::fields;
use crate::maps::{Record, Wake, emit, setting};

// SAFETY: `#[repr(C)]` integers, header first.
unsafe impl Record for MarkVictim {}

classic!(mark_victim);

#[inline(always)]
fn classic(ctx: TracePointContext) {
    let fields = fields(&ctx);
    emit(Probe::MarkVictim, Wake::Now, |record: &mut MarkVictim| {
        record.tid = fields.read_or_zero(setting!(mark_victim.pid));
        if setting!(mark_victim.total_vm) != ABSENT {
            record.details = 1;
            record.total_vm_kb = fields.read_or_zero(setting!(mark_victim.total_vm));
            record.anon_rss_kb = fields.read_or_zero(setting!(mark_victim.anon_rss));
            record.file_rss_kb = fields.read_or_zero(setting!(mark_victim.file_rss));
            record.shmem_rss_kb = fields.read_or_zero(setting!(mark_victim.shmem_rss));
            record.pgtables_kb = fields.read_or_zero(setting!(mark_victim.pgtables));
            record.uid = fields.read_or_zero(setting!(mark_victim.uid));
            let adj: i16 = fields.read_or_zero(setting!(mark_victim.oom_score_adj));
            record.oom_score_adj = i32::from(adj);
        }
    });
}
