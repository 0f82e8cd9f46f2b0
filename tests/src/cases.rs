//! Test programs that learn at run time what this machine can have.

#![allow(clippy::print_stdout, reason = "a test program talks")]

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

use crate::live;

/// Its name, what happens in it, and why this machine cannot have it.
pub type Case = (&'static str, fn(), Option<String>);

/// The `main` of a program of live tests: one after the other, and of those that cannot be had it says why.
pub fn run_cases(cases: impl IntoIterator<Item = Case>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let mut trials = Vec::new();
    for (name, case, impossible) in cases {
        if let Some(reason) = impossible {
            println!("not on this machine: {name}: {reason}");
            continue;
        }
        trials.push(Trial::test(name, move || {
            let Some(_turn) = live() else { return Ok(()) };
            case();
            Ok(())
        }));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
