//! Takes events from the kernel and facts from /proc. Blames nobody.

pub mod btf;
pub mod decode;
pub mod ebpf;
pub mod enrich;
pub mod host;
pub mod kmsg;
pub mod procfs;
pub mod syscalls;
pub mod taskstats;
pub mod tracefs;

use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use crate::model::Event;
use crate::model::header::Capabilities;

/// A stream of kernel events.
///
/// Events come as they are found, with [`Event::id`] 0; the caller puts what all sources gave into time
/// order and numbers it.
pub trait Source {
    /// `ebpf`, `perf`, `taskstats`, `kmsg`.
    fn name(&self) -> &'static str;

    /// What this source can see.
    fn capabilities(&self) -> Capabilities;

    /// What this kernel could not give it, one plain sentence each.
    fn degraded(&self) -> &[String];

    /// Becomes readable when there are events.
    fn fd(&self) -> BorrowedFd<'_>;

    /// Appends every event there is now, losses included, without blocking.
    ///
    /// # Errors
    /// When the kernel refuses to hand them over; what was appended before stays good.
    fn drain(&mut self, out: &mut Vec<Event>) -> Result<(), CollectError>;
}

/// Why events cannot be collected.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    #[error("killtrace needs more privileges to see the kernel's events")]
    Privileges {
        /// Those that are missing, `CAP_BPF`.
        missing: Vec<String>,
    },
    #[error("cannot find or mount tracefs")]
    Tracefs(#[source] std::io::Error),
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot understand {}: {problem}", path.display())]
    Format { path: PathBuf, problem: String },
    #[error("the kernel has no tracepoint {tracepoint}")]
    NoTracepoint { tracepoint: String },
    #[error("the kernel cannot run tracing programs (CONFIG_BPF_EVENTS is not set)")]
    NoTracingPrograms,
    #[error("cannot attach the probe {probe}")]
    Attach {
        probe: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("cannot load the eBPF programs")]
    Load(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("cannot listen to {what}")]
    Listen {
        what: &'static str,
        #[source]
        source: std::io::Error,
    },
}

impl CollectError {
    /// What the user can do about it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Privileges { missing } if missing.is_empty() => Some("run it with sudo".to_owned()),
            Self::Privileges { missing } => Some(format!(
                "run it with sudo, or grant {}; `killtrace doctor` lists everything missing",
                missing.join(", ")
            )),
            Self::Tracefs(_) => {
                Some("mount it: sudo mount -t tracefs tracefs /sys/kernel/tracing".to_owned())
            }
            Self::NoTracepoint { .. } | Self::NoTracingPrograms | Self::Load(_) | Self::Attach { .. } => {
                Some("`killtrace doctor` says what this kernel can do and what is missing".to_owned())
            }
            Self::Read { .. } | Self::Format { .. } | Self::Listen { .. } => None,
        }
    }
}
