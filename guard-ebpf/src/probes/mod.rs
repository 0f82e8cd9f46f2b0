//! One file per hook.

/// Makes the module's `classic` a tracepoint program of the given name.
///
/// Not aya's attribute: a program made by that returns 0, and then the kernel keeps the event from everybody else who
/// samples this tracepoint, `perf record` and killtrace's own perf backend among them (kernel/events/core.c,
/// `perf_trace_run_bpf_submit`).
macro_rules! classic {
    ($name:ident) => {
        #[unsafe(no_mangle)]
        #[unsafe(link_section = "tracepoint")]
        extern "C" fn $name(ctx: *mut core::ffi::c_void) -> u32 {
            classic(aya_ebpf::programs::TracePointContext::new(ctx));
            1
        }
    };
}

mod cgroup_attach;
mod mark_victim;
mod new_task;
mod process_exec;
mod process_exit;
mod signal_deliver;
mod signal_generate;
mod sock_state;
mod task_rename;

use aya_ebpf::{EbpfContext, programs::TracePointContext};

use crate::task::Kernel;

/// The record of a classic tracepoint, as bytes in the kernel.
///
/// Its fields lie at offsets that only the loader knows, and the verifier wants constants for direct
/// loads from the context; so they are read like any other kernel memory.
#[inline(always)]
fn fields(ctx: &TracePointContext) -> Kernel {
    Kernel::at(ctx.as_ptr() as u64)
}

/// Signals that are ignored unless handled, and which therefore end nobody (arch-independent numbers).
const SIGHUP: i32 = 1;
const SIGCHLD: i32 = 17;
const SIGCONT: i32 = 18;
const SIGURG: i32 = 23;
const SIGWINCH: i32 = 28;
