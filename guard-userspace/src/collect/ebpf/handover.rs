//! What the kernel holds for a watch, for the next killtrace to go on with where this one ends.
//!
//! Programs stay at work for as long as anybody holds their links, and what they see waits in the ring buffer, which knows
//! how far it was read (kernel/bpf/ringbuf.c: the consumer's position is in a page of the map). So whoever is given the
//! descriptors misses nothing of the time between, or counts it.

use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;

use aya::maps::{Map, MapData, PerCpuArray, RingBuf};
use guard_ebpf::{PROBES, Probe};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::kernel::Kernel;
use super::load::{Loaded, OBJECT};
use crate::collect::Inherited;

/// What the descriptors are called: this, a dash and the signature.
const RING: &str = "ring";
const LOST: &str = "lost";
const TOLD: &str = "told";
const LINK: &str = "link";

/// Tells watches apart that cannot go on with each other's: by the programs, what they were told of the kernel, and
/// the buffer's size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signature(String);

impl Signature {
    pub(super) fn of(kernel: &Kernel, ring_bytes: u32) -> Self {
        let mut hasher = DefaultHasher::new();
        OBJECT.hash(&mut hasher);
        // All of it is shown, and nothing else.
        format!("{:?} {:?} {ring_bytes}", kernel.settings, kernel.tracepoints).hash(&mut hasher);
        Self(format!("{:016x}", hasher.finish()))
    }

    fn name(&self, what: &str) -> String {
        format!("{what}-{}", self.0)
    }
}

/// How many events of each probe were told to be lost, where the next one finds it.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) counts: [u64; PROBES],
    /// In memory; without one the next one tells them once more.
    file: Option<File>,
}

impl Told {
    fn new() -> Self {
        let file = memfd_create("killtrace-told", MFdFlags::MFD_CLOEXEC);
        let told = Self { counts: [0; PROBES], file: file.ok().map(File::from) };
        told.save();
        told
    }

    fn read(file: File) -> Option<Self> {
        let mut bytes = [0; PROBES * 8];
        file.read_exact_at(&mut bytes, 0).ok()?;
        let mut counts = [0; PROBES];
        for (count, bytes) in counts.iter_mut().zip(bytes.chunks_exact(8)) {
            *count = u64::from_ne_bytes(bytes.try_into().ok()?);
        }
        Some(Self { counts, file: Some(file) })
    }

    /// For whoever goes on with this.
    pub(super) fn save(&self) {
        let Some(file) = &self.file else { return };
        let bytes: Vec<u8> = self.counts.iter().flat_map(|count| count.to_ne_bytes()).collect();
        if let Err(error) = file.write_all_at(&bytes, 0) {
            log::warn!("cannot keep for the next killtrace what was lost: {error}");
        }
    }
}

/// A watch's objects in the kernel.
pub(super) struct Objects {
    pub(super) signature: Signature,
    pub(super) ring: RingBuf<MapData>,
    pub(super) lost: PerCpuArray<MapData, u64>,
    lost_fd: OwnedFd,
    pub(super) told: Told,
    /// Each holds a program at its tracepoint.
    links: Vec<OwnedFd>,
    /// They were another killtrace's.
    pub(super) inherited: bool,
}

impl Objects {
    /// What was just loaded.
    pub(super) fn new(signature: Signature, loaded: Loaded) -> Self {
        let Loaded { ring, lost, lost_fd, links } = loaded;
        Self { signature, ring, lost, lost_fd, told: Told::new(), links, inherited: false }
    }

    /// Those of an earlier watch like this one. `None` when there are none, or not all.
    pub(super) fn inherit(signature: &Signature, kernel: &Kernel, inherited: &Inherited) -> Option<Self> {
        let all = |what: &str| -> Option<Vec<OwnedFd>> {
            let name = signature.name(what);
            inherited.named(&name).map(|fd| fd.try_clone_to_owned().ok()).collect()
        };
        let one = |what: &str| <[OwnedFd; 1]>::try_from(all(what)?).ok().map(|[fd]| fd);
        let map = |fd| Map::from_map_data(MapData::from_fd(fd).ok()?).ok();
        let (ring, lost_fd, told, links) = (one(RING)?, one(LOST)?, one(TOLD)?, all(LINK)?);
        if links.len() != kernel.tracepoints.len() {
            return None;
        }
        Some(Self {
            signature: signature.clone(),
            ring: RingBuf::try_from(map(ring)?).ok()?,
            lost: PerCpuArray::try_from(map(lost_fd.try_clone().ok()?)?).ok()?,
            lost_fd,
            told: Told::read(File::from(told))?,
            links,
            inherited: true,
        })
    }

    /// All that the next one needs.
    pub(super) fn hand_over(&self) -> Vec<(String, BorrowedFd<'_>)> {
        let Some(told) = &self.told.file else { return Vec::new() };
        let name = |what| self.signature.name(what);
        let mut all = vec![
            (name(RING), self.ring.as_fd()),
            (name(LOST), self.lost_fd.as_fd()),
            (name(TOLD), told.as_fd()),
        ];
        all.extend(self.links.iter().map(|link| (name(LINK), link.as_fd())));
        all
    }

    /// The counters of what was lost, by probe and processor, as sums since the programs were loaded.
    ///
    /// # Errors
    /// When the kernel does not show them.
    pub(super) fn lost(&self, probe: Probe) -> Result<u64, aya::maps::MapError> {
        Ok(self.lost.get(&(probe as u32), 0)?.iter().sum())
    }
}
