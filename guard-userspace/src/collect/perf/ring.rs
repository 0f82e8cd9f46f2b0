//! The memory that the kernel writes one CPU's records to, and a reader of it.
//!
//! `struct perf_event_mmap_page`, then 2^n pages of records. The kernel moves `data_head`, the reader
//! `data_tail`; in between the kernel writes nothing (kernel/events/ring_buffer.c).

#![allow(unsafe_code, reason = "it reads what the kernel writes to shared memory")]

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::collect::perf_event::bindings::perf_event_mmap_page;

/// Bytes of `struct perf_event_header`: u32 type, u16 misc, u16 size.
pub(super) const HEADER: usize = 8;

/// The records of one CPU.
#[derive(Debug)]
pub(super) struct Ring {
    control: NonNull<perf_event_mmap_page>,
    data: NonNull<u8>,
    /// Of the records: a power of two.
    bytes: usize,
    mapped: NonZeroUsize,
    /// A record that lies over the end, put together.
    joined: Vec<u8>,
}

/// What to do with a record that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It is done with.
    Go,
    /// It is left for the next time, with all that follow.
    Stop,
}

impl Ring {
    /// Maps the buffer of an event: `bytes` for records, a power of two and a multiple of the page size.
    pub(super) fn map(event: BorrowedFd<'_>, bytes: usize, page_size: usize) -> io::Result<Self> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let mapped = bytes.checked_add(page_size).and_then(NonZeroUsize::new).ok_or_else(invalid)?;
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping at an address that the kernel chooses.
        let base =
            unsafe { libc::mmap(std::ptr::null_mut(), mapped.get(), access, kind, event.as_raw_fd(), 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let control = NonNull::new(base.cast::<perf_event_mmap_page>()).ok_or_else(invalid)?;
        // SAFETY: the records begin one page into the mapping, which is longer than a page.
        let data = unsafe { control.cast::<u8>().add(page_size) };
        Ok(Self { control, data, bytes, mapped, joined: Vec::new() })
    }

    pub(super) fn len(&self) -> usize {
        self.bytes
    }

    fn head(&self) -> u64 {
        // SAFETY: an aligned field of the mapped page, which the kernel writes as a whole. Acquire: what it wrote
        // before it moved the head is seen after.
        unsafe { AtomicU64::from_ptr(&raw mut (*self.control.as_ptr()).data_head) }.load(Ordering::Acquire)
    }

    /// Only this reader writes it.
    fn tail(&self) -> &AtomicU64 {
        // SAFETY: an aligned field of the mapped page, which lives as long as `self`.
        unsafe { AtomicU64::from_ptr(&raw mut (*self.control.as_ptr()).data_tail) }
    }

    /// Shows every record there is to `look`, oldest first, and returns how many bytes were done with.
    ///
    /// # Errors
    /// When the buffer holds what cannot be a record. All of it is dropped then.
    pub(super) fn read(&mut self, mut look: impl FnMut(&[u8]) -> Next) -> Result<usize, Damaged> {
        let (begin, head) = (self.tail().load(Ordering::Relaxed), self.head());
        let mut tail = begin;
        let result = loop {
            let there = usize::try_from(head.wrapping_sub(tail)).unwrap_or(usize::MAX);
            if there == 0 {
                break Ok(());
            }
            let Some(record) = self.record(tail, there) else {
                tail = head;
                break Err(Damaged);
            };
            let len = record.len() as u64;
            if look(record) == Next::Stop {
                break Ok(());
            }
            tail = tail.wrapping_add(len);
        };
        // Release: the kernel writes here only after all of it has been read.
        self.tail().store(tail, Ordering::Release);
        result.map(|()| usize::try_from(tail.wrapping_sub(begin)).unwrap_or(usize::MAX))
    }

    /// The record at `at`, of `there` bytes that can be read; `None` when there is none.
    fn record(&mut self, at: u64, there: usize) -> Option<&[u8]> {
        if there > self.bytes || there < HEADER {
            return None;
        }
        // Records begin at multiples of eight, so a header never lies over the end.
        let offset = usize::try_from(at % self.bytes as u64).ok()?;
        let header = self.piece(offset, HEADER)?;
        let len = usize::from(u16::from_ne_bytes([header[6], header[7]]));
        if len < HEADER || len > there || len % 8 != 0 {
            return None;
        }
        let first = len.min(self.bytes - offset);
        if first == len {
            return self.piece(offset, len);
        }
        let mut joined = std::mem::take(&mut self.joined);
        joined.clear();
        joined.extend_from_slice(self.piece(offset, first)?);
        joined.extend_from_slice(self.piece(0, len - first)?);
        self.joined = joined;
        Some(&self.joined)
    }

    /// Bytes between tail and head, which the caller has checked.
    fn piece(&self, offset: usize, len: usize) -> Option<&[u8]> {
        let end = offset.checked_add(len)?;
        // SAFETY: inside the mapping, and the kernel does not write between tail and head.
        (end <= self.bytes)
            .then(|| unsafe { std::slice::from_raw_parts(self.data.add(offset).as_ptr(), len) })
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping that `map` made, which nothing refers to any more.
        unsafe { libc::munmap(self.control.as_ptr().cast(), self.mapped.get()) };
    }
}

/// The buffer holds what cannot be a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damaged;

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd};

    use super::*;

    const PAGE: usize = 4096;

    /// A ring in ordinary memory, and the hand of the kernel.
    fn ring() -> Ring {
        // SAFETY: the name ends with a NUL.
        let fd = unsafe { libc::memfd_create(c"ring".as_ptr(), libc::MFD_CLOEXEC) };
        // SAFETY: the call has just returned it.
        let file = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: plain integers.
        assert_eq!(unsafe { libc::ftruncate(fd, 2 * PAGE as libc::off_t) }, 0);
        Ring::map(file.as_fd(), PAGE, PAGE).unwrap()
    }

    impl Ring {
        /// Writes as the kernel does.
        fn write(&self, record: &[u8]) {
            let head = self.head();
            for (at, &byte) in (head..).zip(record) {
                let offset = usize::try_from(at).unwrap() % PAGE;
                // SAFETY: inside the mapping.
                unsafe { self.data.add(offset).write(byte) };
            }
            self.set_head(head + record.len() as u64);
        }

        fn set_head(&self, head: u64) {
            // SAFETY: the field of the mapped page.
            unsafe { AtomicU64::from_ptr(&raw mut (*self.control.as_ptr()).data_head) }
                .store(head, Ordering::Release);
        }
    }

    fn record(fill: u8, len: u16) -> Vec<u8> {
        let mut bytes = vec![fill; usize::from(len)];
        bytes[..6].copy_from_slice(&[9, 0, 0, 0, 2, 0]);
        bytes[6..8].copy_from_slice(&len.to_ne_bytes());
        bytes
    }

    fn read(ring: &mut Ring) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        ring.read(|record| {
            records.push(record.to_vec());
            Next::Go
        })
        .unwrap();
        records
    }

    #[test]
    fn records_come_out_as_they_went_in_also_over_the_end() {
        let mut ring = ring();
        for round in 0..200_u8 {
            let (one, two) = (record(round, 24), record(round, 72));
            ring.write(&one);
            ring.write(&two);
            assert_eq!(read(&mut ring), [one, two]);
            assert_eq!(read(&mut ring), Vec::<Vec<u8>>::new());
        }
        assert!(!ring.joined.is_empty(), "none lay over the end");
    }

    #[test]
    fn what_is_not_wanted_yet_stays() {
        let mut ring = ring();
        ring.write(&record(1, 16));
        ring.write(&record(2, 16));
        let mut first = true;
        let done = ring.read(|_| if std::mem::take(&mut first) { Next::Go } else { Next::Stop });
        assert_eq!(done, Ok(16));
        assert_eq!(read(&mut ring), [record(2, 16)]);
    }

    #[test]
    fn damage_is_dropped_and_said() {
        for len in [0_u16, 4, 12, 4096] {
            let mut ring = ring();
            let mut broken = record(1, 16);
            broken[6..8].copy_from_slice(&len.to_ne_bytes());
            ring.write(&broken);
            assert_eq!(ring.read(|_| Next::Go), Err(Damaged), "{len}");
            ring.write(&record(2, 16));
            assert_eq!(read(&mut ring), [record(2, 16)]);
        }
        let mut ring = ring();
        ring.set_head(1 << 40);
        assert_eq!(ring.read(|_| Next::Go), Err(Damaged));
    }
}
