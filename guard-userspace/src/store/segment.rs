//! The files of a store: their names, and how they are opened.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use chrono::DateTime;

use super::StoreError;

const PREFIX: &str = "deaths-";
const SUFFIX: &str = ".jsonl";

/// The segments of a store, oldest first.
///
/// # Errors
/// When there is no such directory, or it cannot be read.
pub fn segments(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let found = fs::read_dir(directory).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => StoreError::Missing { path: directory.to_owned() },
        _ => StoreError::io("read", directory)(source),
    })?;
    let mut segments: Vec<(u64, PathBuf)> = Vec::new();
    for entry in found {
        let path = entry.map_err(StoreError::io("read", directory))?.path();
        if let Some(sequence) = sequence(&path) {
            segments.push((sequence, path));
        }
    }
    segments.sort();
    Ok(segments.into_iter().map(|(_, path)| path).collect())
}

/// `42` of `deaths-00000042-20261122T031200Z.jsonl`
pub(super) fn sequence(path: &Path) -> Option<u64> {
    let rest = path.file_name()?.to_str()?.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    rest.split('-').next()?.parse().ok()
}

pub(super) fn file_name(sequence: u64, now_ns: i64) -> String {
    let time = DateTime::from_timestamp_nanos(now_ns).format("%Y%m%dT%H%M%SZ");
    format!("{PREFIX}{sequence:08}-{time}{SUFFIX}")
}

/// Opens a file of a store to read it. A link is not followed: the store has none of its own.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

/// Makes a file that must not exist yet, for its owner only.
pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)
}
