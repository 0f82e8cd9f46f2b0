//! What becomes of services on a machine that systemd has booted, where the test cannot play it elsewhere: in namespaces
//! there is no systemd-oomd, and the systemd that is installed may be an old one.
//!
//! Elsewhere than in the guests of `cargo xtask vm-test --systemd` it does nothing.

#![allow(clippy::print_stdout, reason = "a test program talks")]

mod cgroup_kill;
mod oomd;

use std::path::Path;
use std::process::ExitCode;

use killtrace_tests::{Case, Systemd, run_cases};

fn main() -> ExitCode {
    let no_zram = (!Path::new(oomd::ZRAM).exists()).then(|| "its kernel has no zram to swap to".to_owned());
    let cases: [Case; 3] = [
        ("systemd_oomd_kills_a_service_under_pressure", oomd::under_pressure, no_zram),
        ("systemd_kills_a_whole_cgroup_when_asked_to", cgroup_kill::when_asked, None),
        ("systemd_kills_what_does_not_stop_in_time", cgroup_kill::when_time_is_up, None),
    ];
    run_cases(cases.into_iter().filter(|_| Systemd::is_of_a_guest()))
}
