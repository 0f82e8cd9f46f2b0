//! What killtrace makes of the machine that it runs on, and how it leaves it.
//!
//! In the guests of `cargo xtask vm-test`, where it is known which kernel this is (`KILLTRACE_VM_KERNEL`), what it
//! finds is held against that.

#![allow(clippy::print_stdout, reason = "a test program talks")]

mod doctor;
mod hotplug;
mod left_behind;
mod suspend;

use std::process::ExitCode;

use killtrace_tests::{Case, run_cases};

fn main() -> ExitCode {
    let tests: [Case; 6] = [
        ("doctor_agrees_with_watch", doctor::agrees_with_watch, None),
        ("doctor_names_what_this_kernel_lacks", doctor::names_what_is_missing, None),
        ("doctor_works_without_privileges", doctor::works_without_privileges, None),
        ("nothing_is_left_in_the_kernel", left_behind::nothing, None),
        ("machine_loses_a_cpu_for_a_while", hotplug::comes_back, hotplug::impossible()),
        ("machine_is_suspended", suspend::while_watching, suspend::impossible()),
    ];
    run_cases(tests)
}
