//! The families of deaths, one file each: cases, and the acts that only they need.

mod cgroups;
mod chains;
mod debuggers;
mod dispositions;
mod faults;
mod graceful;
mod io;
mod killers;
mod kills;
mod limits;
mod machine;
mod memory;
mod namespaces;
mod parents;
mod ptys;
mod seccomp;
mod self_inflicted;
mod sessions;
mod terminals;
mod threads;

use crate::Case;
use crate::acts::Act;

/// Cases that belong together.
pub(crate) struct Family {
    pub(crate) cases: &'static [Case],
    pub(crate) acts: &'static [Act],
}

/// Every family.
pub(crate) const ALL: &[&Family] = &[
    &kills::KILLS,
    &dispositions::DISPOSITIONS,
    &graceful::GRACEFUL,
    &killers::KILLERS,
    &self_inflicted::SELF_INFLICTED,
    &threads::THREADS,
    &faults::FAULTS,
    &limits::LIMITS,
    &io::IO,
    &seccomp::SECCOMP,
    &debuggers::DEBUGGERS,
    &namespaces::NAMESPACES,
    &cgroups::CGROUPS,
    &terminals::TERMINALS,
    &sessions::SESSIONS,
    &parents::PARENTS,
    &chains::CHAINS,
    &memory::MEMORY,
    &machine::MACHINE,
];
