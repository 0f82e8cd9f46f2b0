//! `killtrace watch`

use super::args::{Backend, CollectArgs, WatchArgs};
use super::failure::Failure;
use super::log;
use super::output::{Output, Owner};
use super::safe_file::open_growing;
use super::select::Selection;
use super::session::{Job, Session};
use crate::collect::ebpf;

/// Watches until it is told to stop; returns the exit code.
///
/// # Errors
/// When the arguments make no sense, privileges are missing, or the kernel gives no events.
pub fn run(args: &WatchArgs) -> Result<u8, Failure> {
    check_backend(args.collect.backend)?;
    let selection = Selection::from_args(&args.select)?;
    let output = Output::new(&args.report, Owner::Watch)?;
    let events = args.collect.events.as_deref().map(open_growing).transpose()?;
    log::init(args.collect.verbose);
    let collect = options(&args.collect, !args.select.port.is_empty());
    let job = Job::Watch { once: args.once, duration: args.duration };
    Session { selection, output, events, collect, job }.run()
}

/// How the sources are opened. Listening sockets are followed only when ports are watched.
pub(super) fn options(args: &CollectArgs, listen: bool) -> ebpf::Options {
    ebpf::Options { hide_btf: args.no_btf, verbose: args.verbose > 1, listen, ..ebpf::Options::default() }
}

pub(super) fn check_backend(backend: Backend) -> Result<(), Failure> {
    match backend {
        Backend::Auto | Backend::Ebpf => Ok(()),
        Backend::Perf => Err(Failure::usage(
            "the perf backend is not in this version yet",
            "leave --backend out: this version has ebpf only",
        )),
    }
}
