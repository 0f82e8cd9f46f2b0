//! What a stream of events must say about itself before it can be read years later on another machine.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::time::Timestamp;

/// First line of a recording, and what the collector tells the explainer at the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Always [`Header::SCHEMA`]; a larger number means a newer killtrace wrote it.
    pub schema: String,
    pub tool: Tool,
    pub host: Host,
    pub backend: String,
    /// What this kernel could not give, in plain words.
    pub degraded: Vec<String>,
    pub capabilities: Capabilities,
    /// When watching began.
    pub started_at: Timestamp,
    /// CLOCK_REALTIME minus CLOCK_BOOTTIME when watching began, in nanoseconds.
    pub wall_minus_boottime_ns: i64,
    /// The selectors as the user gave them, `comm=vite`.
    pub selectors: Vec<String>,
    /// killtrace itself, whose own children and signals are not the story.
    pub own_tgid: u32,
}

impl Header {
    /// Name and version of the recording format.
    pub const SCHEMA: &str = "killtrace.events/1";

    /// When watching began, on CLOCK_BOOTTIME.
    #[must_use]
    pub fn since_ns(&self) -> u64 {
        u64::try_from(self.started_at.0.saturating_sub(self.wall_minus_boottime_ns)).unwrap_or(0)
    }

    /// The wall-clock time of a CLOCK_BOOTTIME moment.
    #[must_use]
    pub fn wall(&self, t_ns: u64) -> Timestamp {
        Timestamp(self.wall_minus_boottime_ns.saturating_add_unsigned(t_ns))
    }
}

/// What the backend can and cannot see; decides between "not seen" and "could not be seen".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts about a kernel, not a state")]
pub struct Capabilities {
    /// Exit events carry the exit status.
    pub exit_status: bool,
    /// Exit events say whether the whole process is dead.
    pub group_dead: bool,
    /// Signals carry the sender's system call.
    pub syscalls: bool,
    /// Signals carry the target's process id.
    pub target_tgid: bool,
    /// Exec events carry the arguments.
    pub exec_args: bool,
    /// taskstats is listened to.
    pub taskstats: bool,
    /// The kernel log is read.
    pub kernel_log: bool,
    /// Moves between cgroups are seen.
    pub cgroup_attach: bool,
    /// Sockets that start to listen are seen.
    pub listen: bool,
}

/// The program that wrote a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tool {
    pub name: String,
    pub version: String,
}

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    pub hostname: String,
    /// `uname -r`.
    pub kernel: String,
    /// `uname -m`.
    pub arch: String,
    pub page_size: u64,
    /// /proc/sys/kernel/random/boot_id
    pub boot_id: Option<String>,
    /// Online CPUs.
    pub cpus: u32,
    /// Physical memory, in bytes.
    pub memory_bytes: Option<u64>,
}
