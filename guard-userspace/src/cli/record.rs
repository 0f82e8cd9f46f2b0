//! `killtrace record`

use super::args::{OutputArgs, RecordArgs};
use super::config::Config;
use super::failure::Failure;
use super::keeper::{Include, Store};
use super::log;
use super::output::{Output, Owner};
use super::safe_file::open_growing;
use super::select::Selection;
use super::service;
use super::session::{Job, Session};
use super::watch;
use crate::collect::{Options, host};
use crate::store::{Seen, Writer};

/// Records until it is told to stop; returns the exit code.
///
/// # Errors
/// When the store cannot be used, privileges are missing, or the kernel gives no events.
pub fn run(args: &RecordArgs) -> Result<u8, Failure> {
    let config = Config::read(args.config.as_deref())?.overridden_by(args);
    let include = Include::new(config.include());
    let selection = Selection::everybody(include.everybody())?;
    let output = Output::new(&OutputArgs::default(), Owner::Record)?;
    let events = args.collect.events.as_deref().map(open_growing).transpose()?;
    log::init(args.collect.verbose);
    let directory = config.store().to_owned();
    let seen = Seen::take(&directory, host::host().boot_id)?;
    let writer = Writer::open(&directory, config.limits())?;
    let store = Some(Store { directory, seen, writer, include, exports: config.exports() });
    let collect = Options { inherited: service::kept(), ..watch::options(&args.collect, false) };
    let job = Job::Watch { once: false, duration: None };
    Session { selection, output, events, store, backend: args.collect.backend, collect, job }.run()
}
