//! Takes events from the kernel and facts from /proc. Blames nobody.

pub mod btf;
pub mod decode;
pub mod ebpf;
pub mod enrich;
pub mod host;
pub mod journal;
pub mod kmsg;
pub mod perf;
mod perf_event;
mod privileges;
pub mod procfs;
pub mod syscalls;
pub mod taskstats;
pub mod tracefs;
mod tracepoints;

use std::collections::BTreeSet;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;

pub use self::privileges::is_paranoid;
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

    /// Records of the kernel that made no sense, since the start; anything but 0 is a bug.
    fn refused(&self) -> u64 {
        0
    }

    /// What another source like this needs to go on with where this one ends, by name. Whoever holds it keeps the kernel
    /// at work. Nothing where the kernel keeps nothing for others.
    fn hand_over(&mut self) -> Vec<(String, BorrowedFd<'_>)> {
        Vec::new()
    }

    /// It goes on with what an earlier one has left.
    fn is_continued(&self) -> bool {
        false
    }

    /// What it tells of, the kernel has put into the backend's buffers before.
    fn follows_backend(&self) -> bool {
        false
    }

    /// What it still asks of the kernel while it is at work, beyond reading from its descriptors.
    fn upkeep(&self) -> Upkeep {
        Upkeep::None
    }
}

/// What a source still does when everything is armed, of what takes privileges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upkeep {
    None,
    /// Looks into maps of eBPF programs (`BPF_MAP_LOOKUP_ELEM`), which before Linux 5.19 takes CAP_BPF where
    /// `kernel.unprivileged_bpf_disabled` is set.
    ReadMaps,
    /// Opens the perf events of processors that come online, and maps their buffers.
    OpenEvents,
}

/// How a backend is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Act as if the kernel had no BTF.
    pub hide_btf: bool,
    /// Hand the diagnostics of the kernel side to the `log` crate.
    pub verbose: bool,
    /// Report sockets that start and stop to listen.
    pub listen: bool,
    /// Room for records on their way to the agent, over all CPUs: a power of two and a multiple of the page size.
    pub ring_bytes: u32,
    /// What an earlier watch has left.
    pub inherited: Inherited,
}

impl Default for Options {
    fn default() -> Self {
        let inherited = Inherited::default();
        Self { hide_btf: false, verbose: false, listen: true, ring_bytes: 4 << 20, inherited }
    }
}

/// Descriptors that an earlier watch handed over, by name.
#[derive(Clone, Debug, Default)]
pub struct Inherited(Rc<Vec<(String, OwnedFd)>>);

impl Inherited {
    #[must_use]
    pub fn new(descriptors: Vec<(String, OwnedFd)>) -> Self {
        Self(Rc::new(descriptors))
    }

    /// Those of this name.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = BorrowedFd<'a>> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, fd)| fd.as_fd())
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each name once.
    #[must_use]
    pub fn names(&self) -> BTreeSet<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }
}

/// A way to get the kernel's events, on which a watch can rest.
#[derive(Clone, Copy, Debug)]
pub struct Backend {
    /// [`Source::name`], and the word for `--backend`.
    pub name: &'static str,
    /// Arms it. Events are collected from here on.
    pub open: fn(&Options) -> Result<Box<dyn Source>, CollectError>,
}

/// Every backend, the one that sees most first.
pub const SOURCES: [Backend; 2] = [
    Backend { name: "ebpf", open: |options| Ok(Box::new(ebpf::EbpfSource::open(options)?)) },
    Backend { name: "perf", open: |options| Ok(Box::new(perf::PerfSource::open(options)?)) },
];

/// The backend that `auto` settles on, armed, and why each better one could not be had.
///
/// # Errors
/// When none can: what the user can do something about, if any of them said that.
pub fn open_best(options: &Options) -> Result<(Box<dyn Source>, Vec<CollectError>), CollectError> {
    let mut refusals = Vec::new();
    for backend in SOURCES {
        match (backend.open)(options) {
            Ok(source) => return Ok((source, refusals)),
            Err(error) => refusals.push(error),
        }
    }
    let curable = |error: &CollectError| matches!(error, CollectError::Privileges { .. });
    let told = refusals.iter().position(curable).unwrap_or(refusals.len() - 1);
    Err(refusals.swap_remove(told))
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
