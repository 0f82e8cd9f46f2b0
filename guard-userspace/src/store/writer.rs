//! Appends to a store, and keeps it within its bounds.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::entry::Entry;
use super::{StoreError, index, segment};
use crate::place::{self, Place};

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub max_bytes: u64,
    pub max_age: Duration,
}

impl Limits {
    /// A store is removed a segment at a time: in so many parts at least.
    const PARTS: u32 = 8;

    fn segment_bytes(&self) -> u64 {
        self.max_bytes / u64::from(Self::PARTS)
    }
}

/// Appends to a store. There is one at a time: [`super::Seen`] holds the lock.
#[derive(Debug)]
pub struct Writer {
    directory: PathBuf,
    limits: Limits,
    open: Option<Open>,
    next_sequence: u64,
}

/// The segment that is written to.
#[derive(Debug)]
struct Open {
    file: File,
    /// `None` once it could not be written; the index is mended at the next start.
    index: Option<File>,
    path: PathBuf,
    len: u64,
    since: SystemTime,
}

/// Makes the directory of a store, for its owner only.
pub(super) fn make_directory(directory: &Path) -> Result<(), StoreError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(StoreError::io("make the directory", directory))?;
    let looking = || StoreError::io("look at", directory);
    let found = Place::find(directory).map_err(looking())?;
    let metadata = fs::metadata(found.path()).map_err(looking())?;
    // Whoever can write there can make up deaths, and take away those that were.
    if metadata.permissions().mode() & 0o002 != 0 || !place::is_trusted(metadata.uid()) {
        return Err(StoreError::Open { path: directory.to_owned() });
    }
    Ok(())
}

impl Writer {
    /// Prepares to append to a store. Nothing is written yet but indexes that were missing.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn open(directory: &Path, limits: Limits) -> Result<Self, StoreError> {
        let segments = segment::segments(directory)?;
        for path in &segments {
            if let Err(error) = index::mend(path) {
                log::warn!("cannot index {}: {error}", path.display());
            }
        }
        let last = segments.last().and_then(|path| segment::sequence(path)).unwrap_or(0);
        Ok(Self { directory: directory.to_owned(), limits, open: None, next_sequence: last + 1 })
    }

    /// Appends lines in order, and has the disk confirm them. What is safe is removed from `lines`; the rest can be
    /// tried again.
    ///
    /// # Errors
    /// When the first of the remaining lines cannot be written. Nothing of it stays behind.
    pub fn append(&mut self, lines: &mut VecDeque<String>) -> io::Result<()> {
        let segment_bytes = self.limits.segment_bytes();
        let mut at_once = usize::MAX;
        while !lines.is_empty() {
            let open = self.writable(lines.front().map_or(0, String::len) as u64)?;
            let room = segment_bytes.saturating_sub(open.len);
            let mut batch = String::new();
            let mut count = 0;
            for line in lines.iter().take(at_once) {
                if count > 0 && (batch.len() + line.len()) as u64 >= room {
                    break;
                }
                batch.push_str(line);
                batch.push('\n');
                count += 1;
            }
            match open.write(batch.as_bytes()) {
                Ok(()) => drop(lines.drain(..count)),
                Err(error) => {
                    // What could not be confirmed may or may not be there: it goes, and a new segment begins.
                    let gone = open.file.set_len(open.len).is_ok();
                    if !gone || error.raw_os_error() != Some(libc::ENOSPC) {
                        self.open = None;
                    }
                    if count == 1 {
                        return Err(error);
                    }
                    // Where all of it has no room, some of it may have.
                    at_once = 1;
                }
            }
        }
        Ok(())
    }

    /// The segment for the next line.
    fn writable(&mut self, len: u64) -> io::Result<&mut Open> {
        let now = SystemTime::now();
        let limits = self.limits;
        let full = |open: &Open| {
            // A clock that was set back makes nothing old.
            let age = now.duration_since(open.since).unwrap_or_default();
            open.len > 0 && open.len + len >= limits.segment_bytes() || age > limits.max_age / Limits::PARTS
        };
        if self.open.as_ref().is_some_and(full) {
            self.open = None;
        }
        match &mut self.open {
            Some(_) => {}
            none => {
                prune(&self.directory, limits, now);
                *none = Some(Open::begin(&self.directory, self.next_sequence, now)?);
                self.next_sequence += 1;
            }
        }
        self.open.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Open {
    fn begin(directory: &Path, sequence: u64, now: SystemTime) -> io::Result<Self> {
        let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now_ns = i64::try_from(since_1970.as_nanos()).unwrap_or(i64::MAX);
        let path = directory.join(segment::file_name(sequence, now_ns));
        let file = segment::create(&path)?;
        let index = index::begin(&path).ok();
        // The name is safe only once the directory is; some file systems cannot, and lose nothing by it.
        let _ = File::open(directory).and_then(|directory| directory.sync_all());
        Ok(Self { file, index, path, len: 0, since: now })
    }

    fn write(&mut self, batch: &[u8]) -> io::Result<()> {
        self.file.write_all(batch)?;
        self.file.sync_data()?;
        if let Some(index) = &mut self.index {
            let mut entries = Vec::new();
            let mut offset = self.len;
            for line in batch.split_inclusive(|&byte| byte == b'\n') {
                if let Ok(entry) = Entry::of_line(line.strip_suffix(b"\n").unwrap_or(line), offset) {
                    entries.extend(entry.to_bytes());
                }
                offset += line.len() as u64;
            }
            if let Err(error) = index.write_all(&entries) {
                log::warn!("cannot index {}: {error}", self.path.display());
                self.index = None;
            }
        }
        self.len += batch.len() as u64;
        Ok(())
    }
}

/// Removes the oldest segments until another one fits, and those that are too old.
fn prune(directory: &Path, limits: Limits, now: SystemTime) {
    let Ok(segments) = segment::segments(directory) else { return };
    let size = |path: &Path| fs::symlink_metadata(path).map_or(0, |metadata| metadata.len());
    let mut total: u64 = segments.iter().map(|path| size(path) + size(&index::index_of(path))).sum();
    // An index takes less than an eighth of its segment.
    let room = limits.max_bytes.saturating_sub(limits.segment_bytes() / 8 * 9);
    for path in segments {
        let written = fs::symlink_metadata(&path).and_then(|metadata| metadata.modified()).unwrap_or(now);
        let old = now.duration_since(written).is_ok_and(|age| age > limits.max_age);
        if !old && total <= room {
            return;
        }
        let index = index::index_of(&path);
        total = total.saturating_sub(size(&path) + size(&index));
        if let Err(error) = fs::remove_file(&path) {
            log::warn!("cannot remove {}: {error}", path.display());
        }
        let _ = fs::remove_file(index);
    }
}
