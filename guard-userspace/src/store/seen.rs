//! Until when the store's recorder watched: what was before its start, it cannot know otherwise.

use std::fs::File;
use std::io;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::entry::Entry;
use super::{StoreError, index, note, segment, writer};
use crate::model::header::{Host, Tool};
use crate::model::record::{Gap, Why};
use crate::model::time::Timestamp;

const FILE: &str = "last-seen";

/// The file that says until when was watched. Whoever has it open is the only one to write to the store.
#[derive(Debug)]
pub struct Seen {
    file: Flock<File>,
    boot_id: Option<String>,
    /// What it held at the start.
    before: Option<Mark>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    schema: String,
    at: Timestamp,
    boot_id: Option<String>,
    /// The recorder ended then, in its own time.
    stopped: bool,
}

impl Mark {
    const SCHEMA: &str = "killtrace.seen/1";
}

impl Seen {
    /// Takes the store for this recorder; makes it if there is none.
    ///
    /// # Errors
    /// When another one records there, or the directory cannot be used.
    pub fn take(directory: &Path, boot_id: Option<String>) -> Result<Self, StoreError> {
        writer::make_directory(directory)?;
        let path = directory.join(FILE);
        let locked = Flock::lock(note::open(&path)?, FlockArg::LockExclusiveNonblock);
        let file = locked.map_err(|(_, error)| match error {
            nix::errno::Errno::EAGAIN => StoreError::InUse { path: directory.to_owned() },
            error => StoreError::io("lock", &path)(error.into()),
        })?;
        let before = note::read(&file);
        Ok(Self { file, boot_id, before })
    }

    /// The time before this start of which the store knows nothing.
    #[must_use]
    pub fn gap(&self, directory: &Path, tool: &Tool, host: &Host, now: Timestamp) -> Gap {
        let last = last_record(directory);
        let why = match &self.before {
            None if last.is_none() => Why::NothingBefore,
            Some(mark) if mark.stopped => Why::Stopped,
            Some(mark) if mark.boot_id != host.boot_id => Why::Rebooted,
            _ => Why::Ended,
        };
        // A power cut may have taken the mark back to before what is on the disk.
        let from = self.before.as_ref().map(|mark| mark.at).max(last);
        // A clock that was set back says nothing.
        let from = from.filter(|&from| from <= now);
        Gap {
            schema: Gap::SCHEMA.to_owned(),
            tool: tool.clone(),
            host: host.clone(),
            from,
            until: now,
            why,
            count: None,
        }
    }

    /// Notes that it watches, or at the end that it does no more.
    pub(super) fn mark(&self, at: Timestamp, stopped: bool) -> io::Result<()> {
        let mark = Mark { schema: Mark::SCHEMA.to_owned(), at, boot_id: self.boot_id.clone(), stopped };
        note::write(&self.file, &mark)
    }
}

/// The time of the last line of a store.
fn last_record(directory: &Path) -> Option<Timestamp> {
    let segments = segment::segments(directory).ok()?;
    segments.iter().rev().find_map(|path| {
        let contents = index::contents(path, &segment::open(path).ok()?).ok()?;
        contents.entries.last().map(|entry: &Entry| Timestamp(entry.at_ns))
    })
}
