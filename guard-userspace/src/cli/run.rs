//! `killtrace run -- CMD`

use super::args::RunArgs;
use super::child::Child;
use super::failure::{Failure, exit};
use super::log;
use super::output::{Output, Owner};
use super::safe_file::open_growing;
use super::select::Selection;
use super::session::{Job, Session};
use super::watch::options;

/// Runs a command, watches its tree, and returns its exit status.
///
/// # Errors
/// When it cannot be watched or run. It is never run unwatched.
pub fn run(args: &RunArgs) -> Result<u8, Failure> {
    watch(args).map_err(|failure| match failure.code() {
        exit::RUN_CANNOT_EXECUTE | exit::RUN_NOT_FOUND => failure,
        _ => failure.with_code(exit::RUN_FAILED),
    })
}

fn watch(args: &RunArgs) -> Result<u8, Failure> {
    // First of all, while there is one thread and nothing open that the command must not inherit.
    let child = Child::fork(&args.command)?;
    let selection = Selection::pid(child.pid())?;
    let output = Output::new(&args.report, Owner::Command { on_failure: args.on_failure })?;
    let events = args.collect.events.as_deref().map(open_growing).transpose()?;
    log::init(args.collect.verbose);
    let collect = options(&args.collect, false);
    let backend = args.collect.backend;
    let job = Job::Run(child);
    Session { selection, output, events, store: None, backend, collect, job }.run()
}
