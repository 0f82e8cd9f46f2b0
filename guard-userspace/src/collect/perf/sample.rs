//! Records of `perf_event_open`, as [`super::events`] asks for them.

use crate::collect::perf_event::bindings;

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record<'a> {
    Sample(Sample<'a>),
    /// So many records found no room.
    Lost(u64),
    /// Something about the buffer itself (throttling and the like).
    Other,
}

/// A tracepoint was hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample<'a> {
    /// `current`, in the initial PID namespace.
    pub(super) tgid: u32,
    pub(super) tid: u32,
    /// CLOCK_MONOTONIC.
    pub(super) t_mono_ns: u64,
    pub(super) cpu: u32,
    /// What the tracepoint's `format` file describes.
    pub(super) raw: &'a [u8],
}

/// What a sample consists of, besides `PERF_SAMPLE_RAW` at its end.
pub(super) const SAMPLE_TYPE: u64 = bindings::PERF_SAMPLE_TID as u64
    | bindings::PERF_SAMPLE_TIME as u64
    | bindings::PERF_SAMPLE_CPU as u64
    | bindings::PERF_SAMPLE_RAW as u64;

impl<'a> Record<'a> {
    /// Reads a record, its header included; `None` when it is too short.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = Bytes(bytes);
        let kind = rest.u32()?;
        rest.u32()?;
        Some(match kind {
            bindings::PERF_RECORD_SAMPLE => {
                let (tgid, tid, t_mono_ns) = (rest.u32()?, rest.u32()?, rest.u64()?);
                let cpu = rest.u32()?;
                rest.u32()?;
                let len = usize::try_from(rest.u32()?).ok()?;
                Record::Sample(Sample { tgid, tid, t_mono_ns, cpu, raw: rest.0.get(..len)? })
            }
            bindings::PERF_RECORD_LOST => {
                let _id = rest.u64()?;
                Record::Lost(rest.u64()?)
            }
            _ => Record::Other,
        })
    }
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_ne_bytes)
    }
}
