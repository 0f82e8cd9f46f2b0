//! The archive that the Linux kernel unpacks into its first root directory: cpio's "newc" form, without compression,
//! since an emulated processor takes longer to unpack than QEMU to copy.
//!
//! The form: Documentation/driver-api/early-userspace/buffer-format.rst in the kernel's source.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

const DIRECTORY: u32 = 0o04_0000;
const FILE: u32 = 0o10_0000;
const LINK: u32 = 0o12_0000;
const CHARACTER_DEVICE: u32 = 0o02_0000;

/// An archive that grows.
#[derive(Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    pub(super) fn directory(&mut self, path: &str) {
        self.entry(path, DIRECTORY | 0o755, (0, 0), &[]);
    }

    pub(super) fn file(&mut self, path: &str, content: &[u8]) {
        self.entry(path, FILE | 0o644, (0, 0), content);
    }

    pub(super) fn program(&mut self, path: &str, content: &[u8]) {
        self.entry(path, FILE | 0o755, (0, 0), content);
    }

    pub(super) fn link(&mut self, path: &str, to: &str) {
        self.entry(path, LINK | 0o777, (0, 0), to.as_bytes());
    }

    pub(super) fn character_device(&mut self, path: &str, major: u32, minor: u32) {
        self.entry(path, CHARACTER_DEVICE | 0o600, (major, minor), &[]);
    }

    /// All that is below a directory, with its permissions; root's, like everything.
    ///
    /// # Errors
    /// When something cannot be read, or is neither file, directory nor link.
    pub(super) fn tree(&mut self, dir: &Path, below: &str) -> Result<()> {
        let mut entries: Vec<_> = fs::read_dir(dir)
            .and_then(Iterator::collect)
            .with_context(|| format!("cannot read {}", dir.display()))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let name = format!("{below}{}", entry.file_name().to_string_lossy());
            let (kind, mode) = (entry.file_type()?, entry.metadata()?.permissions().mode() & 0o7777);
            if kind.is_dir() {
                self.entry(&name, DIRECTORY | mode, (0, 0), &[]);
                self.tree(&path, &format!("{name}/"))?;
            } else if kind.is_symlink() {
                let to = fs::read_link(&path)?;
                self.entry(&name, LINK | 0o777, (0, 0), to.as_os_str().as_bytes());
            } else if kind.is_file() {
                let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
                self.entry(&name, FILE | mode, (0, 0), &content);
            } else {
                bail!("{} is neither file, directory nor link", path.display());
            }
        }
        Ok(())
    }

    /// The whole archive, ended as it has to be.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let name = [path.as_bytes(), &[0]].concat();
        let fields = [
            self.entries,
            mode,
            0, // uid
            0, // gid
            1, // links
            0, // modification time
            length(content),
            0, // device of the file system
            0,
            device.0,
            device.1,
            length(&name),
            0, // checksum, which this form does not use
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(&name);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    /// Names and contents begin at multiples of four.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(archive: &[u8], number: usize) -> u32 {
        let at = 6 + 8 * number;
        let text = std::str::from_utf8(&archive[at..at + 8]).expect("hexadecimal");
        u32::from_str_radix(text, 16).expect("a number")
    }

    #[test]
    fn an_entry_is_a_header_a_name_and_a_content() {
        let mut archive = Archive::default();
        archive.program("init", b"#!/bin/sh\n");
        let bytes = archive.finish();
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(field(&bytes, 1), 0o10_0755);
        assert_eq!((field(&bytes, 6), field(&bytes, 11)), (10, 5));
        // 110 bytes of header and 5 of name are padded to 116.
        assert_eq!(&bytes[110..116], b"init\0\0");
        assert_eq!(&bytes[116..128], b"#!/bin/sh\n\0\0");
        assert_eq!(&bytes[128..134], b"070701");
    }

    #[test]
    fn a_device_has_its_numbers() {
        let mut archive = Archive::default();
        archive.character_device("dev/console", 5, 1);
        let bytes = archive.finish();
        assert_eq!((field(&bytes, 1), field(&bytes, 9), field(&bytes, 10)), (0o02_0600, 5, 1));
    }

    #[test]
    fn a_tree_is_its_directories_files_and_links() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(dir.path().join("usr")).expect("there is room");
        fs::write(dir.path().join("usr/file"), "text").expect("there is room");
        std::os::unix::fs::symlink("usr", dir.path().join("link")).expect("there is room");
        let mut archive = Archive::default();
        archive.tree(dir.path(), "").expect("it can be read");
        let bytes = archive.finish();
        let text = String::from_utf8_lossy(&bytes);
        let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("no {what:?} in it"));
        // A directory has to come before what is in it.
        assert!(at("link\0") < at("usr\0") && at("usr\0") < at("usr/file\0"));
        assert!(text[at("usr/file\0")..].contains("text"));
    }

    #[test]
    fn an_archive_ends_with_its_trailer() {
        let bytes = Archive::default().finish();
        assert_eq!(&bytes[110..121], b"TRAILER!!!\0");
        assert_eq!(bytes.len() % 4, 0);
    }
}
