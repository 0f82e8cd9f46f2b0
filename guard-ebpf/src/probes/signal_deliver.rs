//! `signal:signal_deliver` (kernel/signal.c, `get_signal`), since Linux 2.6.33.
//!
//! `TP_PROTO(int sig, struct kernel_siginfo *info, struct k_sigaction *ka)`
//!
//! `current` is the target, about to take the signal. For a fatal signal that dumps no core it says 9,
//! whatever was sent (`complete_signal`). Signals taken by sigwait or a signalfd never get here.

use aya_ebpf::{
    macros::raw_tracepoint,
    programs::{RawTracePointContext, TracePointContext},
};
use guard_ebpf::{Probe, record::SignalDeliver};

use super::{SIGCHLD, SIGCONT, SIGURG, SIGWINCH, fields};
use crate::{
    maps::{Record, Wake, emit, setting},
    task::Kernel,
};

// SAFETY: `#[repr(C)]` integers, header first.
unsafe impl Record for SignalDeliver {}

classic!(signal_deliver);

#[inline(always)]
fn classic(ctx: TracePointContext) {
    let fields = fields(&ctx);
    let signo: i32 = fields.read_or_zero(setting!(signal_deliver.sig));
    if is_noise(signo) {
        return;
    }
    emit(Probe::SignalDeliver, Wake::Later, |record: &mut SignalDeliver| {
        record.signo = signo;
        record.errno = fields.read_or_zero(setting!(signal_deliver.errno));
        record.code = fields.read_or_zero(setting!(signal_deliver.code));
        record.handler = fields.read_or_zero(setting!(signal_deliver.sa_handler));
    });
}

#[raw_tracepoint(tracepoint = "signal_deliver")]
fn signal_deliver_btf(ctx: RawTracePointContext) -> i32 {
    let signo: i32 = ctx.arg(0);
    if is_noise(signo) {
        return 0;
    }
    let info = Kernel::at(ctx.arg(1));
    // `struct k_sigaction` begins with `struct sigaction`, which begins with `sa_handler`.
    let action = Kernel::at(ctx.arg(2));
    emit(Probe::SignalDeliver, Wake::Later, |record: &mut SignalDeliver| {
        record.signo = signo;
        record.errno = info.read_or_zero(setting!(siginfo.si_errno));
        record.code = info.read_or_zero(setting!(siginfo.si_code));
        record.handler = action.read_or_zero(0);
    });
    0
}

#[inline(always)]
fn is_noise(signo: i32) -> bool {
    matches!(signo, SIGCHLD | SIGURG | SIGWINCH | SIGCONT)
}
