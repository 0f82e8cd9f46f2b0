//! Follows a store as it grows, from one record to the next.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{StoreError, note, segment, segments};
use crate::model::record::{DeathRecord, Gap};

/// Most that is read at once, in bytes of lines.
const BATCH: u64 = 1 << 20;

/// A line of a store.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    Death(Box<DeathRecord>),
    Gap(Box<Gap>),
}

impl Record {
    fn of_line(line: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Named {
            schema: String,
        }
        match serde_json::from_slice::<Named>(line).ok()?.schema.as_str() {
            DeathRecord::SCHEMA => serde_json::from_slice(line).ok().map(Self::Death),
            Gap::SCHEMA => serde_json::from_slice(line).ok().map(Self::Gap),
            _ => None,
        }
    }
}

/// Where a reader is: at a byte of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The segment's number; 0 is before the first.
    sequence: u64,
    offset: u64,
}

/// A reader that follows a store.
#[derive(Debug)]
pub struct Tail {
    directory: PathBuf,
    place: Place,
}

/// What came next.
#[derive(Debug, Default)]
pub struct Batch {
    pub records: Vec<Record>,
    /// Where to go on once they have been dealt with.
    pub until: Place,
    /// Segments that had to make room before they were read to their end.
    pub segments_missed: u64,
    /// There is more already.
    pub more: bool,
}

impl Tail {
    /// Follows a store from there on.
    #[must_use]
    pub fn new(directory: &Path, place: Place) -> Self {
        Self { directory: directory.to_owned(), place }
    }

    /// Follows a store from its end on.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn from_end(directory: &Path) -> Result<Self, StoreError> {
        let place = match segments(directory)?.last() {
            Some(last) => Place {
                sequence: segment::sequence(last).unwrap_or(0),
                offset: last.symlink_metadata().map_or(0, |metadata| metadata.len()),
            },
            None => Place::default(),
        };
        Ok(Self::new(directory, place))
    }

    /// The next records, of one segment. The same again until [`Self::advance`] is called.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn next(&self) -> Result<Batch, StoreError> {
        // Listed before it is read: a segment that has a successor then gets no more lines.
        let numbered = |path: PathBuf| segment::sequence(&path).map(|sequence| (sequence, path));
        let mut left = segments(&self.directory)?.into_iter().filter_map(numbered);
        let Some((sequence, path)) = left.find(|(sequence, _)| *sequence >= self.place.sequence) else {
            return Ok(Batch { until: self.place, ..Batch::default() });
        };
        let successor = left.next().map(|(sequence, _)| sequence);
        let here = sequence == self.place.sequence;
        // The first of all is missed by nobody who has read nothing.
        let segments_missed =
            if here || self.place == Place::default() { 0 } else { sequence - self.place.sequence };
        let from = if here { self.place.offset } else { 0 };
        let reading = StoreError::io("read", &path);
        let (records, end, more) = match read(&path, from) {
            // Removed since, because the store was full: the next call goes on behind it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Vec::new(), from, false),
            read => read.map_err(reading)?,
        };
        let until = match successor {
            Some(successor) if !more => Place { sequence: successor, offset: 0 },
            _ => Place { sequence, offset: end },
        };
        Ok(Batch { records, until, segments_missed, more: more || successor.is_some() })
    }

    /// Where it is.
    #[must_use]
    pub fn place(&self) -> Place {
        self.place
    }

    /// What was read up to there has been dealt with.
    pub fn advance(&mut self, until: Place) {
        self.place = until;
    }
}

/// The records from `from` on, as far as a batch goes; where they end, and whether there are more. A line without
/// its end is not written whole yet, or torn.
fn read(path: &Path, from: u64) -> io::Result<(Vec<Record>, u64, bool)> {
    let mut file = segment::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut lines = BufReader::new(file);
    let (mut records, mut end) = (Vec::new(), from);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut lines).take(super::index::MAX_LINE).read_until(b'\n', &mut line)? as u64;
        if read == 0 || line.last() != Some(&b'\n') && read < super::index::MAX_LINE {
            return Ok((records, end, false));
        }
        end += read;
        records.extend(Record::of_line(&line));
        if end - from >= BATCH {
            return Ok((records, end, true));
        }
    }
}

/// A place that is remembered in a file of the store, so that a reader goes on after a restart where it was.
#[derive(Debug)]
pub struct Bookmark {
    file: File,
}

/// The file of a bookmark.
#[derive(Debug, Serialize, Deserialize)]
struct Marked {
    schema: String,
    #[serde(flatten)]
    place: Place,
}

impl Bookmark {
    const SCHEMA: &str = "killtrace.bookmark/1";

    /// Opens the bookmark of that name, and what it says; `None` when it is new.
    ///
    /// # Errors
    /// When it cannot be opened for writing.
    pub fn open(directory: &Path, name: &str) -> Result<(Self, Option<Place>), StoreError> {
        let file = note::open(&directory.join(name))?;
        let marked: Option<Marked> = note::read(&file);
        let place = marked.filter(|marked| marked.schema == Self::SCHEMA).map(|marked| marked.place);
        Ok((Self { file }, place))
    }

    /// Remembers a place.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set(&self, place: Place) -> io::Result<()> {
        note::write(&self.file, &Marked { schema: Self::SCHEMA.to_owned(), place })
    }
}
