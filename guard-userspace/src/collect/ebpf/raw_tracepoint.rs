//! `bpf(BPF_RAW_TRACEPOINT_OPEN)`: hangs a program on a tracepoint, for as long as somebody holds what it returns.

#![allow(unsafe_code, reason = "a system call")]

use std::ffi::CString;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

/// enum bpf_cmd (include/uapi/linux/bpf.h).
const BPF_RAW_TRACEPOINT_OPEN: libc::c_int = 17;

/// union bpf_attr, `raw_tracepoint`, as Linux 4.17 has it.
#[repr(C)]
struct Attributes {
    name: u64,
    prog_fd: u32,
    unused: u32,
}

/// # Errors
/// When the kernel has no such tracepoint, or the program does not fit it.
pub(super) fn open(tracepoint: &str, program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let name = CString::new(tracepoint)?;
    let attributes =
        Attributes { name: name.as_ptr() as u64, prog_fd: program.as_raw_fd().cast_unsigned(), unused: 0 };
    // SAFETY: the attributes and the name outlive the call, which only reads them.
    let fd = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_RAW_TRACEPOINT_OPEN, &raw const attributes, size_of::<Attributes>())
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the call has just returned this descriptor, closed on exec (kernel/bpf/syscall.c, `bpf_link_prime`);
    // nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
