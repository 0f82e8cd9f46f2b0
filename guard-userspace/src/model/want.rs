//! What the explainer would like read from /proc while it can still be read.
//!
//! The explainer itself never looks: it asks, the collector answers with events, and a replay finds the
//! answers already in the stream.

use super::event::Cgroups;
use super::journal::Query;

/// A question for the collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// A process joined a watched tree, changed program, or acted on one: everything /proc tells about it.
    /// Answered by `Fact::Process` or `Fact::ProcessGone`.
    Process(u32),
    /// A watched process is dying: its memory figures before they are gone. Answered like [`Want::Process`],
    /// with only the memory fields set.
    ProcessMemory(u32),
    /// The name of a user. Answered by `Fact::User`.
    User(u32),
    /// The machine's memory. Answered by `Fact::Memory`.
    MachineMemory,
    /// The figures of the memory cgroup a process sat in. Answered by `Fact::CgroupMemory`, once for the
    /// cgroup itself and once for the nearest ancestor that has a limit, if that is another.
    CgroupMemory(Cgroups),
    /// The same with the largest tasks in it: the OOM killer has just chosen one of them.
    CgroupTasks(Cgroups),
    /// Descendants of a dead process that may have outlived it: their parent and listening ports now.
    /// Answered by `Fact::Process` or `Fact::ProcessGone` for each.
    Survivors(Vec<u32>),
    /// What a killer or a service manager has said of a death in the systemd journal. Answered by any number of
    /// `Fact::Journal`, a while later or never.
    Journal(Query),
}
