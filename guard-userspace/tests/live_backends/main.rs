//! The backends against the running kernel: processes whose fate the test knows, and what was reported.
//!
//! Nearly everything runs three times: by eBPF with the kernel's BTF and as if it had none, and by perf.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says what it skips"
)]

#[path = "../needs/mod.rs"]
mod needs;
mod processes;
mod rare;
mod signals;
mod source;
mod support;
