//! `perf_event_open` and its requests, owned and with errors.
//!
//! Both backends reach tracepoints by it. `perf-event-open-sys` has the kernel's own structures and numbers for
//! every architecture, and no code to speak of; the crates that wrap it look for tracefs in fixed places, decode
//! tracepoints at fixed offsets or have no filters.

#![allow(unsafe_code, reason = "system calls")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

pub(super) use perf_event_open_sys::bindings;
use perf_event_open_sys::ioctls;

use bindings::perf_event_attr;

/// A tracepoint, to be opened disabled.
pub(super) fn attributes(tracepoint: u64) -> perf_event_attr {
    let mut attributes = perf_event_attr {
        type_: bindings::PERF_TYPE_TRACEPOINT,
        // No longer than what is used: an older kernel takes it as it is, a newer one fills it up with zeroes.
        size: bindings::PERF_ATTR_SIZE_VER4,
        config: tracepoint,
        ..Default::default()
    };
    attributes.set_disabled(1);
    attributes
}

/// Opens an event of all processes on one CPU.
pub(super) fn open(attributes: &mut perf_event_attr, cpu: u32) -> io::Result<OwnedFd> {
    const ANY_PROCESS: libc::pid_t = -1;
    const NO_GROUP: libc::c_int = -1;
    let cpu = i32::try_from(cpu).map_err(io::Error::other)?;
    let flags = libc::c_ulong::from(bindings::PERF_FLAG_FD_CLOEXEC);
    // SAFETY: the attributes are initialized and ours to write to; the rest is integers.
    let fd = unsafe { perf_event_open_sys::perf_event_open(attributes, ANY_PROCESS, cpu, NO_GROUP, flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just returned this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(super) fn enable(event: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes an integer.
    done(unsafe { ioctls::ENABLE(event.as_raw_fd(), 0) })
}

/// Runs a program at the tracepoint.
pub(super) fn set_program(event: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes a descriptor.
    done(unsafe { ioctls::SET_BPF(event.as_raw_fd(), program.as_raw_fd().cast_unsigned()) })
}

/// Writes records to the buffer of another event of the same CPU.
pub(super) fn set_output(event: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes a descriptor.
    done(unsafe { ioctls::SET_OUTPUT(event.as_raw_fd(), to.as_raw_fd()) })
}

/// Keeps only records that an expression over the tracepoint's fields fits.
pub(super) fn set_filter(event: BorrowedFd<'_>, filter: &CStr) -> io::Result<()> {
    // SAFETY: the text ends with a NUL, and the kernel only reads it.
    done(unsafe { ioctls::SET_FILTER(event.as_raw_fd(), filter.as_ptr().cast_mut()) })
}

/// How many eBPF programs sit on the event's tracepoint, whoever put them there.
pub(super) fn programs(event: BorrowedFd<'_>) -> io::Result<u32> {
    let mut query = bindings::perf_event_query_bpf::default();
    // SAFETY: a query that has room for no ids is asked for their number only, which the kernel writes into it.
    match done(unsafe { ioctls::QUERY_BPF(event.as_raw_fd(), &raw mut query) }) {
        Err(error) if error.raw_os_error() != Some(libc::ENOSPC) => Err(error),
        _ => Ok(query.prog_cnt),
    }
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
