//! What the index knows of a record: enough to tell whether a question means it, without reading it.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::model::event::Cgroups;
use crate::model::record::{DeathRecord, Gap};
use crate::model::select::{self, Subject};
use crate::model::text::Comm;
use crate::model::time::Timestamp;
use crate::model::unit;

/// One record, in [`Entry::BYTES`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// When it died, or the gap ended.
    pub(super) at_ns: i64,
    /// Where its line begins, and how long it is without its line break.
    pub(super) offset: u64,
    pub(super) len: u32,
    pub(super) kind: Kind,
    /// It answers to more words than fit: only the record itself can tell that one is not among them.
    pub(super) more_words: bool,
    pub(super) pid: u32,
    /// Inside its PID namespace; 0 for none.
    pub(super) inner_pid: u32,
    pub(super) uid: Option<u32>,
    /// Hashes of what it answers to, its name first; 0 for none.
    pub(super) words: [u32; Entry::WORDS],
}

/// What a line holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Death,
    Gap,
}

/// A line that is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// Torn, or no record at all.
    Damaged,
    /// Written by a newer killtrace.
    Newer,
}

impl Entry {
    pub(super) const BYTES: usize = 84;
    pub(super) const WORDS: usize = 12;

    /// What the index holds of a line.
    pub(super) fn of_line(line: &[u8], offset: u64) -> Result<Self, Unread> {
        let brief: Brief = serde_json::from_slice(line).map_err(|_not_a_record| Unread::Damaged)?;
        let len = u32::try_from(line.len()).map_err(|_too_long| Unread::Damaged)?;
        let nobody = Self {
            at_ns: 0,
            offset,
            len,
            kind: Kind::Gap,
            more_words: false,
            pid: 0,
            inner_pid: 0,
            uid: None,
            words: [0; Self::WORDS],
        };
        match (brief.schema.as_str(), &brief.death, brief.until) {
            (DeathRecord::SCHEMA, Some(death), _) => {
                Ok(Self { at_ns: death.died_at.0, ..nobody }.with(&death.victim))
            }
            (Gap::SCHEMA, _, Some(until)) => Ok(Self { at_ns: until.0, ..nobody }),
            (schema, ..) if schema.starts_with("killtrace.") => Err(match schema {
                DeathRecord::SCHEMA | Gap::SCHEMA => Unread::Damaged,
                _ => Unread::Newer,
            }),
            _ => Err(Unread::Damaged),
        }
    }

    fn with(mut self, victim: &Who) -> Self {
        self.kind = Kind::Death;
        self.pid = victim.pid;
        self.inner_pid = victim.pid_in_namespace.unwrap_or(0);
        self.uid = victim.uid;
        let mut words: Vec<u32> = Vec::new();
        for word in std::iter::once(victim.name.as_str()).chain(victim.names()).map(name_hash).chain(
            victim
                .cgroup
                .as_deref()
                .into_iter()
                .flat_map(|path| path.split('/'))
                .filter(|part| !part.is_empty())
                .map(unit_hash),
        ) {
            if !words.contains(&word) {
                words.push(word);
            }
        }
        self.more_words = words.len() > Self::WORDS;
        for (place, word) in self.words.iter_mut().zip(words) {
            *place = word;
        }
        self
    }

    pub(super) fn to_bytes(self) -> [u8; Self::BYTES] {
        let Self { at_ns, offset, len, kind, more_words, pid, inner_pid, uid, words } = self;
        let flags = u32::from(kind == Kind::Gap) | u32::from(more_words) << 1 | u32::from(uid.is_some()) << 2;
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&at_ns.to_le_bytes());
        bytes[8..16].copy_from_slice(&offset.to_le_bytes());
        let rest = [len, flags, pid, inner_pid, uid.unwrap_or(0)].into_iter().chain(words);
        for (place, value) in bytes[16..].chunks_exact_mut(4).zip(rest) {
            place.copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let number = |index: usize| {
            let at = 16 + index * 4;
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let long = |at: usize| {
            let mut long = [0; 8];
            long.copy_from_slice(&bytes[at..at + 8]);
            long
        };
        let flags = number(1);
        Self {
            at_ns: i64::from_le_bytes(long(0)),
            offset: u64::from_le_bytes(long(8)),
            len: number(0),
            kind: if flags & 1 == 0 { Kind::Death } else { Kind::Gap },
            more_words: flags & 2 != 0,
            pid: number(2),
            inner_pid: number(3),
            uid: (flags & 4 != 0).then(|| number(4)),
            words: std::array::from_fn(|index| number(5 + index)),
        }
    }

    /// Where the next line begins.
    pub(super) fn end(&self) -> u64 {
        self.offset.saturating_add(u64::from(self.len)).saturating_add(1)
    }
}

/// The few fields of a record that a question can be about.
#[derive(Debug, Deserialize)]
struct Brief {
    schema: String,
    death: Option<BriefDeath>,
    until: Option<Timestamp>,
}

#[derive(Debug, Deserialize)]
struct BriefDeath {
    died_at: Timestamp,
    victim: Who,
}

/// A victim, as far as a question can be about it.
#[derive(Debug, Deserialize)]
pub(super) struct Who {
    pub(super) pid: u32,
    pub(super) pid_in_namespace: Option<u32>,
    pub(super) comm: String,
    pub(super) name: String,
    pub(super) exe: Option<String>,
    pub(super) cmdline: Option<Vec<String>>,
    pub(super) uid: Option<u32>,
    pub(super) user: Option<String>,
    pub(super) unit: Option<String>,
    pub(super) cgroup: Option<String>,
}

impl Who {
    /// The victim of a death's line.
    pub(super) fn of_line(line: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Brief>(line).ok()?.death.map(|death| death.victim)
    }

    fn subject(&self) -> Subject<'_> {
        static NO_PORTS: BTreeSet<u16> = BTreeSet::new();
        Subject {
            tgid: self.pid,
            comm: Comm::from(self.comm.as_str()),
            exe: self.exe.as_deref(),
            cmdline: self.cmdline.as_deref(),
            uid: self.uid,
            cgroups: None,
            listening: &NO_PORTS,
        }
    }

    fn names(&self) -> Vec<&str> {
        select::names(&self.comm, self.exe.as_deref(), self.cmdline.as_deref().unwrap_or_default())
    }

    pub(super) fn answers_to(&self, wanted: &str) -> bool {
        self.name == wanted || select::answers_to(&self.subject(), wanted)
    }

    pub(super) fn is_in_unit(&self, wanted: &str) -> bool {
        let cgroups = Cgroups { v2: self.cgroup.clone(), ..Cgroups::default() };
        self.unit.as_deref() == Some(wanted) || unit::belongs_to(&cgroups, wanted)
    }

    pub(super) fn is_of_user(&self, wanted: &str) -> bool {
        self.user.as_deref() == Some(wanted) || self.uid.is_some_and(|uid| wanted.parse() == Ok(uid))
    }
}

/// What a process is called by. A comm is cut to 15 bytes, so that is all that is compared.
pub(super) fn name_hash(name: &str) -> u32 {
    hash(b'n', name)
}

/// A component of a cgroup path. A service is found with and without its suffix.
pub(super) fn unit_hash(component: &str) -> u32 {
    hash(b'u', component.strip_suffix(".service").unwrap_or(component))
}

/// FNV-1a, which stays what it is for as long as there are indexes; never 0.
fn hash(kind: u8, word: &str) -> u32 {
    let bytes = std::iter::once(kind).chain(word.bytes());
    bytes.fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)).max(1)
}
