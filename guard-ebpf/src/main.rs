//! The eBPF programs: they copy facts out of the kernel and decide nothing.
//!
//! Every hot hook has two programs that fill the same record. `NAME` is a classic tracepoint program: it
//! needs no BTF and finds the fields by the offsets of the tracepoint's `format` file. `NAME_btf` is a raw
//! tracepoint program: cheaper, and it reads what the tracepoint does not tell, by BTF offsets. The loader
//! loads one of the two. Both kinds of offsets arrive as one read-only global, so that a single object
//! serves every kernel and both architectures.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]
#![cfg_attr(
    target_arch = "bpf",
    allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "registers are 64 bits wide; a cast takes the part that the kernel's prototype names"
    )
)]

#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod probes;
#[cfg(target_arch = "bpf")]
mod task;

/// Most helpers that read kernel memory are only for programs under the GPL.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Never reached: the verifier refuses a program that could loop here for ever.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The programs exist for the BPF target only.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
