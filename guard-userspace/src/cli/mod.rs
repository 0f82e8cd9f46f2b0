//! The commands: they wire the collector, the explainer and the reports together.

mod agent;
pub mod args;
mod child;
mod config;
mod confine;
pub mod demo;
pub mod doctor;
pub mod failure;
mod keeper;
mod log;
mod output;
pub mod record;
pub mod report;
pub mod run;
mod safe_file;
mod select;
mod service;
mod session;
mod signals;
mod sources;
mod step_summary;
mod sys;
pub mod watch;
mod when;
pub mod why;

#[cfg(fuzzing)]
pub use config::read_as_config;

use args::{Cli, Command};
use failure::Failure;

/// Does what the command line says; returns the exit code.
///
/// # Errors
/// Whatever keeps the command from being done, ready to be printed.
pub fn run(cli: Cli) -> Result<u8, Failure> {
    match cli.command {
        Command::Watch(args) => watch::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Record(args) => record::run(&args),
        Command::Why(args) => why::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Demo(args) => demo::run(&args),
    }
}
