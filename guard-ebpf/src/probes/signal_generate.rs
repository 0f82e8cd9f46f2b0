//! `signal:signal_generate` (kernel/signal.c, `__send_signal_locked`, `send_sigqueue`), since Linux 2.6.33.
//!
//! `TP_PROTO(int sig, struct kernel_siginfo *info, struct task_struct *task, int group, int result)`
//!
//! `current` is whoever runs when the signal is generated: the sender, or an innocent bystander when the
//! kernel sends it (timers, OOM, terminals). Interrupts are off and the target's siglock is held. `info`
//! may be 0 or 1 instead of an address. Generated is not delivered.

use aya_ebpf::{
    macros::raw_tracepoint,
    programs::{RawTracePointContext, TracePointContext},
};
use guard_ebpf::{Probe, record::SignalGenerate};

use super::{SIGCHLD, SIGHUP, SIGURG, fields};
use crate::{
    maps::{Record, Wake, emit, setting},
    task::{Kernel, describe_syscall, session},
};

const SI_USER: i32 = 0;
const SI_KERNEL: i32 = 128;
/// `SEND_SIG_NOINFO` and `SEND_SIG_PRIV` (include/linux/sched/signal.h): they stand for an `info`.
const SEND_SIG_NOINFO: u64 = 0;
const SEND_SIG_PRIV: u64 = 1;
/// `TRACE_SIGNAL_DELIVERED`: the signal was queued.
const DELIVERED: u32 = 0;

// SAFETY: `#[repr(C)]` integers, header first.
unsafe impl Record for SignalGenerate {}

classic!(signal_generate);

#[inline(always)]
fn classic(ctx: TracePointContext) {
    let fields = fields(&ctx);
    let signo: i32 = fields.read_or_zero(setting!(signal_generate.sig));
    let code: i32 = fields.read_or_zero(setting!(signal_generate.code));
    let result: u32 = fields.read_or_zero(setting!(signal_generate.result));
    if is_noise(signo, code) {
        return;
    }
    emit(Probe::SignalGenerate, urgency(result), |record: &mut SignalGenerate| {
        record.signo = signo;
        record.code = code;
        record.result = result;
        record.errno = fields.read_or_zero(setting!(signal_generate.errno));
        record.target_tid = fields.read_or_zero(setting!(signal_generate.pid));
        record.group = fields.read_or_zero(setting!(signal_generate.group));
        fields.read_comm(setting!(signal_generate.comm), &mut record.target_comm);
        record.syscall = -1;
    });
}

#[raw_tracepoint(tracepoint = "signal_generate")]
fn signal_generate_btf(ctx: RawTracePointContext) -> i32 {
    let signo: i32 = ctx.arg(0);
    let info: u64 = ctx.arg(1);
    let (code, errno) = match info {
        SEND_SIG_NOINFO => (SI_USER, 0),
        SEND_SIG_PRIV => (SI_KERNEL, 0),
        address => {
            let (errno, code) =
                Kernel::at(address).read_pair(setting!(siginfo.si_errno), setting!(siginfo.si_code));
            (code as i32, errno as i32)
        }
    };
    if is_noise(signo, code) {
        return 0;
    }
    let target = Kernel::at(ctx.arg(2));
    let result: u32 = ctx.arg(4);
    let group: u32 = ctx.arg(3);
    emit(Probe::SignalGenerate, urgency(result), |record: &mut SignalGenerate| {
        record.signo = signo;
        record.code = code;
        record.errno = errno;
        record.result = result;
        record.group = group;
        (record.target_tid, record.target_tgid) = target.read_pair(setting!(task.pid), setting!(task.tgid));
        target.read_comm(setting!(task.comm), &mut record.target_comm);
        describe_syscall(record);
        if signo == SIGHUP && code == SI_KERNEL {
            record.target_sid = session(target);
        }
    });
    0
}

/// SIGURG is socket life; a SIGCHLD for an exit says less than the exit's own record, where that has the
/// status.
#[inline(always)]
fn is_noise(signo: i32, code: i32) -> bool {
    const CLD_EXITED: i32 = 1;
    const CLD_DUMPED: i32 = 3;
    signo == SIGURG
        || (signo == SIGCHLD && setting!(exit_status_known) != 0 && (CLD_EXITED..=CLD_DUMPED).contains(&code))
}

#[inline(always)]
fn urgency(result: u32) -> Wake {
    if result == DELIVERED { Wake::Soon } else { Wake::Later }
}
