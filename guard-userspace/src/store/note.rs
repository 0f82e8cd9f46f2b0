//! A few words that the store remembers: until when was watched, how far a reader got.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;

/// Opens such a file, for its owner only; makes it if there is none. A link is not followed.
///
/// # Errors
/// When it cannot be opened for writing.
pub(super) fn open(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    options.open(path).map_err(StoreError::io("write to", path))
}

/// What it says; `None` when it is new or damaged.
pub(super) fn read<T: DeserializeOwned>(mut file: &File) -> Option<T> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// Replaces what it says, in place: of about one length, so that there is always a whole note, even on a full disk.
pub(super) fn write(file: &File, note: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_string(note)?;
    text.push('\n');
    file.write_all_at(text.as_bytes(), 0)?;
    file.set_len(text.len() as u64)
}
