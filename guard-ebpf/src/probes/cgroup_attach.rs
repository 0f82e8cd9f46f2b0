//! `cgroup:cgroup_attach_task` (kernel/cgroup/cgroup.c, `cgroup_migrate_execute`), since Linux 3.17.
//!
//! `TP_PROTO(struct cgroup *dst_cgrp, const char *path, struct task_struct *task, bool threadgroup)`
//!
//! `current` moves the task, one event per process moved.

use aya_ebpf::{helpers::generated::bpf_probe_read_kernel_str, programs::TracePointContext};
use guard_ebpf::{CGROUP_PATH_LEN, Probe, record::CgroupAttach};

use super::fields;
use crate::maps::{Record, Wake, emit, setting};

// SAFETY: `#[repr(C)]` integers, header first.
unsafe impl Record for CgroupAttach {}

classic!(cgroup_attach);

#[inline(always)]
fn classic(ctx: TracePointContext) {
    let fields = fields(&ctx);
    emit(Probe::CgroupAttach, Wake::Later, |record: &mut CgroupAttach| {
        record.tid = fields.read_or_zero(setting!(cgroup_attach.pid));
        record.hierarchy = fields.read_or_zero(setting!(cgroup_attach.dst_root));
        // `__data_loc`: length in the upper half, offset in the lower.
        let location: u32 = fields.read_or_zero(setting!(cgroup_attach.dst_path));
        let path = fields.address().wrapping_add(u64::from(location & 0xffff));
        // SAFETY: the buffer is CGROUP_PATH_LEN bytes of the record; the helper checks the address.
        let copied = unsafe {
            bpf_probe_read_kernel_str(
                record.path.as_mut_ptr().cast(),
                CGROUP_PATH_LEN as u32,
                path as *const _,
            )
        };
        // Negative when it failed; else the length with the NUL.
        record.path_len = if copied > 0 { copied as u32 - 1 } else { 0 };
    });
}
