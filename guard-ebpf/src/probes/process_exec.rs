//! `sched:sched_process_exec` (fs/exec.c, `exec_binprm`), since Linux 3.4.
//!
//! `TP_PROTO(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`
//!
//! `current` has become the new program and not yet run it; its arguments lie on the new stack, where
//! nobody can have changed them. An execve that fails, even past the point of no return, does not get here.

use core::mem::offset_of;

use aya_ebpf::{
    helpers::generated::{bpf_probe_read_kernel_str, bpf_probe_read_user},
    macros::{map, raw_tracepoint},
    maps::PerCpuArray,
    programs::{RawTracePointContext, TracePointContext},
};
use aya_log_ebpf::debug;
use guard_ebpf::{ABSENT, EXEC_DATA_LEN, Probe, record::ProcessExec};

use super::fields;
use crate::{
    maps::{Wake, emit_bytes, setting},
    task::{Kernel, current, describe_current, parent_tgid, process_start},
};

/// Longest path kept, NUL included; the rest of the record belongs to the arguments.
const PATH_MAX: u64 = 1024;
const INTERP_MAX: u64 = 512;

/// Where a record is put together: it is too large for the stack, and its length varies.
///
/// Longer than a record, because the verifier adds up the largest lengths of the parts.
#[repr(C)]
struct Scratch {
    record: ProcessExec,
    _slack: [u8; (PATH_MAX + INTERP_MAX) as usize],
}

#[map]
static EXEC_SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

classic!(process_exec);

#[inline(always)]
fn classic(ctx: TracePointContext) {
    let fields = fields(&ctx);
    let Some(mut exec) = Builder::start() else { return };
    exec.record().old_tid = fields.read_or_zero(setting!(process_exec.old_pid));
    // `__data_loc`: length in the upper half, offset in the lower.
    let location: u32 = fields.read_or_zero(setting!(process_exec.filename));
    let path = fields.address().wrapping_add(u64::from(location & 0xffff));
    let path = exec.push_kernel_text::<PATH_MAX>(path);
    exec.record().path_len = path;
    exec.emit();
}

#[raw_tracepoint(tracepoint = "sched_process_exec")]
fn process_exec_btf(ctx: RawTracePointContext) -> i32 {
    let task = Kernel::at(ctx.arg(0));
    let bprm = Kernel::at(ctx.arg(2));
    let Some(mut exec) = Builder::start() else { return 0 };
    exec.record().old_tid = ctx.arg(1);
    exec.record().ppid = parent_tgid(task);
    exec.record().start_boottime_ns = process_start(task);
    let path = exec.push_kernel_text::<PATH_MAX>(bprm.follow(setting!(binprm.filename)).address());
    exec.record().path_len = path;
    let interp = exec.push_kernel_text::<INTERP_MAX>(bprm.follow(setting!(binprm.interp)).address());
    exec.record().interp_len = interp;
    exec.push_args();
    if exec.record().args_len == 0 {
        debug!(&ctx, "exec by {}: its arguments cannot be read", exec.record().header.tgid);
    }
    exec.emit();
    0
}

/// Puts the parts of a record one after the other.
struct Builder {
    scratch: *mut Scratch,
    /// Bytes of `data` used so far.
    used: u64,
}

impl Builder {
    #[inline(always)]
    fn start() -> Option<Self> {
        let scratch = EXEC_SCRATCH.get_ptr_mut(0)?;
        let mut this = Self { scratch, used: 0 };
        let record = this.record();
        describe_current(Probe::ProcessExec, &mut record.header);
        record.old_tid = 0;
        record.ppid = 0;
        record.start_boottime_ns = 0;
        record.path_len = 0;
        record.interp_len = 0;
        record.args_len = 0;
        record.args_total = 0;
        Some(this)
    }

    #[inline(always)]
    fn record(&mut self) -> &mut ProcessExec {
        // SAFETY: this CPU's own map value, used by one program at a time: exec does not nest, and
        // programs do not migrate. Integers only, so any old content is valid.
        unsafe { &mut (*self.scratch).record }
    }

    /// Where the next part goes, at most `LIMIT` bytes into the data.
    #[inline(always)]
    fn end<const LIMIT: u64>(&mut self) -> *mut u8 {
        let used = at_most::<LIMIT>(self.used);
        // SAFETY: every limit is inside the scratch.
        unsafe { self.scratch.cast::<u8>().add(offset_of!(ProcessExec, data) + used as usize) }
    }

    /// Appends text from the kernel without its NUL and returns its length.
    #[inline(always)]
    fn push_kernel_text<const MAX: u64>(&mut self, address: u64) -> u32 {
        let end = self.end::<PATH_MAX>();
        // SAFETY: at most PATH_MAX bytes are in use, and MAX more fit into the scratch.
        let copied = unsafe { bpf_probe_read_kernel_str(end.cast(), MAX as u32, address as *const _) };
        // Negative when it failed; else the length with the NUL.
        let len = if copied > 0 { copied as u64 - 1 } else { 0 };
        self.used += len;
        len as u32
    }

    /// Appends the arguments, as far as there is room.
    #[inline(always)]
    fn push_args(&mut self) {
        let mm = current().follow(setting!(task.mm));
        let start: u64 = mm.read_or_zero(setting!(mm.arg_start));
        let end: u64 = mm.read_or_zero(setting!(mm.arg_end));
        if mm.address() == 0 || setting!(mm.arg_start) == ABSENT || end <= start {
            return;
        }
        let total = end - start;
        self.record().args_total = total.min(u64::from(u32::MAX)) as u32;
        let room = (EXEC_DATA_LEN as u64).saturating_sub(self.used);
        let to = self.end::<{ PATH_MAX + INTERP_MAX }>();
        let len = at_most::<{ EXEC_DATA_LEN as u64 }>(total.min(room));
        // SAFETY: `to` is at most PATH_MAX + INTERP_MAX bytes into the data, and EXEC_DATA_LEN bytes more
        // fit into the scratch.
        if unsafe { bpf_probe_read_user(to.cast(), len as u32, start as *const _) } == 0 {
            self.record().args_len = len as u32;
            self.used += len;
        }
    }

    #[inline(always)]
    fn emit(&mut self) {
        let now_ns = self.record().header.t_boottime_ns;
        let whole = (offset_of!(ProcessExec, data) as u64).wrapping_add(self.used);
        let len = at_most::<{ size_of::<ProcessExec>() as u64 }>(whole);
        // SAFETY: at most the size of a record.
        unsafe { emit_bytes(Probe::ProcessExec, Wake::Now, now_ns, self.scratch.cast(), len) };
    }
}

/// `value`, but never more than `LIMIT`.
///
/// In assembly, because the compiler proves such comparisons superfluous and drops them, or does them on a
/// copy in another register, and then the verifier, which sees neither, refuses the program.
#[inline(always)]
fn at_most<const LIMIT: u64>(value: u64) -> u64 {
    let mut value = value;
    // SAFETY: works on one register and falls through to its end.
    unsafe {
        core::arch::asm!(
            "if {value} <= {limit} goto +1",
            "{value} = {limit}",
            value = inout(reg) value,
            limit = const LIMIT,
        );
    }
    value
}
