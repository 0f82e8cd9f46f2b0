//! Text from the kernel, which promises no encoding.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A task's `comm`: at most 15 bytes that its owner chose. Copied, never allocated.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Comm([u8; Comm::LEN]);

impl Comm {
    const LEN: usize = guard_ebpf::COMM_LEN;

    /// The name without its padding, invalid UTF-8 replaced.
    #[must_use]
    pub fn to_text(self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }

    /// The raw bytes, up to the first NUL.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        let end = self.0.iter().position(|&byte| byte == 0).unwrap_or(Self::LEN);
        &self.0[..end]
    }

    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0[0] == 0
    }
}

impl From<[u8; guard_ebpf::COMM_LEN]> for Comm {
    /// Bytes after the first NUL are padding; the kernel leaves old ones there.
    fn from(bytes: [u8; guard_ebpf::COMM_LEN]) -> Self {
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(Self::LEN);
        let mut comm = [0; Self::LEN];
        comm[..end].copy_from_slice(&bytes[..end]);
        Self(comm)
    }
}

impl From<&str> for Comm {
    /// Cut at 15 bytes, as the kernel does.
    fn from(text: &str) -> Self {
        Self::from(text.as_bytes())
    }
}

impl From<&[u8]> for Comm {
    fn from(text: &[u8]) -> Self {
        let mut comm = [0; Self::LEN];
        let len = text.len().min(Self::LEN - 1);
        comm[..len].copy_from_slice(&text[..len]);
        Self::from(comm)
    }
}

impl fmt::Display for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&String::from_utf8_lossy(self.bytes()))
    }
}

impl fmt::Debug for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_text())
    }
}

impl Serialize for Comm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&String::from_utf8_lossy(self.bytes()))
    }
}

impl<'de> Deserialize<'de> for Comm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(CommVisitor)
    }
}

/// Takes the text as it comes: a replay reads millions of these, and an allocation each would be half of its work.
struct CommVisitor;

impl Visitor<'_> for CommVisitor {
    type Value = Comm;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a task")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Comm, E> {
        Ok(Comm::from(text))
    }
}
