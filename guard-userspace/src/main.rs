//! The `killtrace` program: parse, run, print the error, choose the exit code.

#![forbid(unsafe_code)]

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use killtrace::cli::{self, args::Cli};

fn main() -> ExitCode {
    match cli::run(Cli::parse()) {
        Ok(code) => code.into(),
        Err(failure) => {
            // With nobody listening, the exit code still says it.
            let _ = writeln!(std::io::stderr().lock(), "{failure}");
            failure.code().into()
        }
    }
}
