//! What happens to people's dev servers, on a machine of the test's own: here memory may run out, and the clock jump.
//!
//! A real Vite runs under npm, in a real shell in a real tmux, as it does for them. Elsewhere than in the guests of
//! `cargo xtask vm-test --stories` no story is told.

#![allow(clippy::print_stdout, reason = "a test program talks")]

mod ballast;
mod clock;
mod dev_server;
mod earlyoom;
mod journald;
mod kernel_oom;

use std::path::Path;
use std::process::ExitCode;

use killtrace_tests::{Case, run_cases};

fn main() -> ExitCode {
    let in_guest = std::env::var_os("KILLTRACE_VM").is_some();
    let no_zram = (!Path::new(kernel_oom::ZRAM).exists()).then(|| "its kernel has no zram".to_owned());
    let stories: [Case; 5] = [
        ("earlyoom_kills_the_wrapper_of_vite", earlyoom::kills_the_wrapper, None),
        ("earlyoom_kills_the_stubborn_shell_of_vite", earlyoom::kills_the_stubborn_shell, None),
        ("kernel_out_of_memory_kills_vite", kernel_oom::without_swap, None),
        ("kernel_out_of_swap_kills_vite", kernel_oom::with_swap, no_zram),
        ("the_clock_jumps", clock::jumps, None),
    ];
    run_cases(stories.into_iter().filter(|_| in_guest))
}
