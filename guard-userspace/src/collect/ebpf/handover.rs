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
use super::load::{AtWork, OBJECT};
use crate::collect::Inherited;

/// What the descriptors are called: this, a dash and the signature.
const RING: &str = "ring";
const LOST: &str = "lost";
const TOLD: &str = "told";
const LINK: &str = "link";

/// Tells watches apart that cannot go on with each other's: by the programs, and what they were told of the kernel and the
/// buffer.
struct Signature(String);

impl Signature {
    fn of(kernel: &Kernel) -> Self {
        let mut hasher = DefaultHasher::new();
        OBJECT.hash(&mut hasher);
        // All of it is shown, and nothing else.
        format!("{:?} {:?}", kernel.settings, kernel.tracepoints).hash(&mut hasher);
        Self(format!("{:016x}", hasher.finish()))
    }

    fn name(&self, what: &str) -> String {
        format!("{what}-{}", self.0)
    }
}

/// How many events of each probe were told to be lost, where the next one finds it.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) counts: [u64; PROBES],
    /// In memory, once there may be a next one; without it that one tells them once more.
    file: Option<File>,
}

impl Told {
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

    /// Where it is found.
    fn place(&mut self) -> Option<&File> {
        if self.file.is_none() {
            self.file = memfd_create("killtrace-told", MFdFlags::MFD_CLOEXEC).ok().map(File::from);
            self.save();
        }
        self.file.as_ref()
    }
}

/// A watch's objects in the kernel.
pub(super) struct Objects {
    pub(super) at_work: AtWork,
    pub(super) told: Told,
    /// They were another killtrace's.
    pub(super) inherited: bool,
}

impl Objects {
    /// What was just loaded.
    pub(super) fn new(at_work: AtWork) -> Self {
        Self { at_work, told: Told::default(), inherited: false }
    }

    /// Those of an earlier watch like this one. `None` when there are none, or not all.
    pub(super) fn inherit(kernel: &Kernel, inherited: &Inherited) -> Option<Self> {
        if inherited.is_empty() {
            return None;
        }
        let signature = Signature::of(kernel);
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
        let ring = RingBuf::try_from(map(ring)?).ok()?;
        let lost = PerCpuArray::try_from(map(lost_fd.try_clone().ok()?)?).ok()?;
        let at_work = AtWork { ring, lost, lost_fd, links };
        Some(Self { at_work, told: Told::read(File::from(told))?, inherited: true })
    }

    /// All that the next one needs.
    pub(super) fn hand_over(&mut self, kernel: &Kernel) -> Vec<(String, BorrowedFd<'_>)> {
        let Some(told) = self.told.place() else { return Vec::new() };
        let AtWork { ring, lost_fd, links, .. } = &self.at_work;
        let signature = Signature::of(kernel);
        let name = |what| signature.name(what);
        let mut all =
            vec![(name(RING), ring.as_fd()), (name(LOST), lost_fd.as_fd()), (name(TOLD), told.as_fd())];
        all.extend(links.iter().map(|link| (name(LINK), link.as_fd())));
        all
    }

    /// The counters of what was lost, by probe and processor, as sums since the programs were loaded.
    ///
    /// # Errors
    /// When the kernel does not show them.
    pub(super) fn lost(&self, probe: Probe) -> Result<u64, aya::maps::MapError> {
        Ok(self.at_work.lost.get(&(probe as u32), 0)?.iter().sum())
    }
}
