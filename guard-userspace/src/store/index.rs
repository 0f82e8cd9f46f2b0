//! The index of a segment: what lies in it, found without reading it.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::entry::{Entry, Unread};
use super::segment;

/// Begins every index; another number is another layout, and such an index is made again.
const MAGIC: &[u8; 8] = b"KTINDEX1";
/// Longest line that is read. The longest that is written hold a hundred processes with all their arguments.
pub(super) const MAX_LINE: u64 = 16 << 20;

/// The records of a segment.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) entries: Vec<Entry>,
    /// Lines that are torn, or no records.
    pub(super) damaged: u64,
    /// Lines of a newer killtrace.
    pub(super) newer: u64,
    /// How many of the entries the index on disk has.
    indexed: usize,
}

/// What a segment holds: by its index, as far as there is one, and by its lines after that.
pub(super) fn contents(path: &Path, file: &File) -> io::Result<Contents> {
    let len = file.metadata()?.len();
    let entries = read(&index_of(path)).filter(|entries| fits(entries, len)).unwrap_or_default();
    let mut contents = Contents { indexed: entries.len(), entries, ..Contents::default() };
    let covered = contents.entries.last().map_or(0, Entry::end);
    if covered < len {
        scan(file, covered, &mut contents)?;
    }
    Ok(contents)
}

/// What a file of records holds, whatever lies beside it.
pub(super) fn scanned(file: &File) -> io::Result<Contents> {
    let mut contents = Contents::default();
    scan(file, 0, &mut contents)?;
    Ok(contents)
}

/// Reads the lines from `from` on.
fn scan(mut file: &File, from: u64, contents: &mut Contents) -> io::Result<()> {
    file.seek(SeekFrom::Start(from))?;
    let mut lines = BufReader::with_capacity(1 << 16, file);
    let mut line = Vec::new();
    let mut offset = from;
    loop {
        line.clear();
        let read = (&mut lines).take(MAX_LINE).read_until(b'\n', &mut line)? as u64;
        if read == 0 {
            return Ok(());
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        match Entry::of_line(text, offset) {
            Ok(entry) => contents.entries.push(entry),
            Err(_) if text.is_empty() => {}
            Err(Unread::Damaged) => contents.damaged += 1,
            Err(Unread::Newer) => contents.newer += 1,
        }
        offset += read;
    }
}

/// Reads one record's line.
pub(super) fn read_line(file: &File, offset: u64, len: u32) -> io::Result<Vec<u8>> {
    let mut line = vec![0; usize::try_from(len).unwrap_or(0)];
    file.read_exact_at(&mut line, offset)?;
    Ok(line)
}

pub(super) fn index_of(segment: &Path) -> PathBuf {
    segment.with_extension("idx")
}

fn read(path: &Path) -> Option<Vec<Entry>> {
    let mut bytes = Vec::new();
    segment::open(path).ok()?.read_to_end(&mut bytes).ok()?;
    // A torn last entry is left out.
    let (entries, _torn) = bytes.strip_prefix(MAGIC)?.as_chunks::<{ Entry::BYTES }>();
    Some(entries.iter().map(Entry::from_bytes).collect())
}

/// Whether entries can be those of a segment of that length.
fn fits(entries: &[Entry], len: u64) -> bool {
    let mut end = 0;
    entries.iter().all(|entry| {
        let follows = entry.offset >= end;
        end = entry.end();
        follows
    }) && end <= len.saturating_add(1)
}

/// Makes the index of a segment whole, if it is not.
pub(super) fn mend(path: &Path) -> io::Result<()> {
    let contents = contents(path, &segment::open(path)?)?;
    if contents.indexed == contents.entries.len() && index_of(path).exists() {
        return Ok(());
    }
    let _ = fs::remove_file(index_of(path));
    let mut out = BufWriter::new(begin(path)?);
    for entry in &contents.entries {
        out.write_all(&entry.to_bytes())?;
    }
    out.flush()
}

/// Begins the index of a new segment.
pub(super) fn begin(segment: &Path) -> io::Result<File> {
    let mut file = segment::create(&index_of(segment))?;
    file.write_all(MAGIC)?;
    Ok(file)
}
