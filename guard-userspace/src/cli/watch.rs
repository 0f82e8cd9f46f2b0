//! `killtrace watch`

use super::args::{CollectArgs, WatchArgs};
use super::failure::Failure;
use super::log;
use super::output::{Output, Owner};
use super::safe_file::open_growing;
use super::select::Selection;
use super::session::{Job, Session};
use crate::collect::Options;

/// Watches until it is told to stop; returns the exit code.
///
/// # Errors
/// When the arguments make no sense, privileges are missing, or the kernel gives no events.
pub fn run(args: &WatchArgs) -> Result<u8, Failure> {
    let selection = Selection::from_args(&args.select)?;
    let output = Output::new(&args.report, Owner::Watch)?;
    let events = args.collect.events.as_deref().map(open_growing).transpose()?;
    log::init(args.collect.verbose);
    let collect = options(&args.collect, !args.select.port.is_empty());
    let job = Job::Watch { once: args.once, duration: args.duration };
    let backend = args.collect.backend;
    Session { selection, output, events, store: None, backend, collect, job }.run()
}

/// How the sources are opened. Listening sockets are followed only when ports are watched.
pub(super) fn options(args: &CollectArgs, listen: bool) -> Options {
    Options { hide_btf: args.no_btf, verbose: args.verbose > 1, listen, ..Options::default() }
}
