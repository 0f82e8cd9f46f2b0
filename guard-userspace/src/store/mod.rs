//! The flight recorder's store: a directory of segments that are only ever appended to.
//!
//! A segment, `deaths-SEQUENCE-TIME.jsonl`, holds one self-contained JSON record a line. A writer always begins a
//! new one, so what a crash tore stays the last line of a segment, where it is skipped. Segments are in order of
//! their sequence numbers: the clock of a machine without a battery may step back.
//!
//! Beside each lies an index of fixed-size entries. It is a convenience: what it lacks is read from the segment, and
//! a damaged one is made again.

pub mod ask;
mod entry;
mod index;
mod note;
mod recorder;
mod seen;
mod segment;
pub mod tail;
mod writer;

use std::io;
use std::path::PathBuf;

pub use recorder::Recorder;
pub use seen::Seen;
pub use segment::segments;
pub use writer::{Limits, Writer};

/// Where the flight recorder keeps its records unless it is told otherwise.
pub const DEFAULT: &str = "/var/lib/killtrace";

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("there is no store in {}", path.display())]
    Missing { path: PathBuf },
    #[error("another killtrace records into {}", path.display())]
    InUse { path: PathBuf },
    #[error("others can write to {}", path.display())]
    Open { path: PathBuf },
    #[error("cannot {what} {}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl StoreError {
    /// What the user can do about it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Missing { .. } => Some(
                "`sudo killtrace record` begins one: it has to run before the death that is asked about; \
                 --store names another place"
                    .to_owned(),
            ),
            Self::InUse { .. } => {
                Some("one is enough for the whole machine: `killtrace why` asks it".to_owned())
            }
            Self::Open { path } => Some(format!(
                "give it to whoever runs killtrace: chmod 700 {}; or choose another place with --store",
                path.display()
            )),
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => {
                    Some("a store belongs to whoever recorded it: try sudo".to_owned())
                }
                io::ErrorKind::StorageFull => Some("make room there, or choose another --store".to_owned()),
                _ => None,
            },
        }
    }

    /// Somebody else may use it.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }

    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }
}

#[cfg(test)]
mod tests;
