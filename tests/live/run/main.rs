//! `killtrace run` as continuous integration uses it.

mod cancelled;
mod on_failure;
mod signals;

use std::process::Command;

use killtrace_tests::killtrace_path;

/// `killtrace run ARGUMENTS -- bash -c SCRIPT`
fn run(arguments: &[&str], script: &str) -> Command {
    let mut command = Command::new(killtrace_path());
    command.arg("run").args(arguments).args(["--", "bash", "-c", script]).env("NO_COLOR", "1");
    for variable in ["GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"] {
        command.env_remove(variable);
    }
    command
}
