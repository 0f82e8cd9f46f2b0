//! What killtrace gives up once its probes are armed: privileges, and system calls.
//!
//! From then on it reads what every process of the machine says of itself, and processes say what they like. Should one
//! of them ever say the right thing, it is not to get more than killtrace needs to go on. Where the kernel refuses, or
//! whoever started killtrace gave it too little to give anything up, it goes on as it is and says so with `-v`.
//!
//! Both are inherited by threads, so this comes before the first of them.

mod capabilities;
mod syscalls;

use std::path::PathBuf;

use crate::collect::Upkeep;

/// What a session still does.
#[derive(Debug, Default)]
pub(super) struct Plans {
    /// What its sources still ask of the kernel.
    pub(super) upkeep: Vec<Upkeep>,
    /// Files that it opens by name to write to them, and directories that it makes files in.
    pub(super) writes: Vec<PathBuf>,
    /// It passes signals on to a command, which may have become another user's.
    pub(super) signals_command: bool,
    /// It has `journalctl` answer what the systemd journal says.
    pub(super) asks_journal: bool,
    /// It sends what it finds to another machine, or to a program on this one.
    pub(super) sends: bool,
}

/// Gives up what is not needed for these.
pub(super) fn confine(plans: &Plans) {
    let kept = capabilities::needed(plans);
    match capabilities::keep_only(&kept) {
        Ok(()) => log::debug!("kept of all capabilities: {}", capabilities::names(&kept)),
        Err(error) => log::info!("cannot give up privileges that are not needed any more: {error:#}"),
    }
    let filtered = syscalls::Filters::of(plans).and_then(|filters| Ok(filters.install()?));
    match filtered {
        Ok(()) => log::debug!("what is not needed any more of the system calls is refused from here on"),
        Err(error) => log::info!("cannot give up system calls that are not needed any more: {error:#}"),
    }
}
