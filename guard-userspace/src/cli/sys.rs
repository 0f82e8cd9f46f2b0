//! The C library's functions that have no safe face elsewhere: all `unsafe` of the commands but for [`super::child`].

#![allow(unsafe_code, reason = "that is what it is for: each is a few lines, and safe to call")]

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};

use nix::sys::signal::Signal;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Goes before others that wait for a processor, or behind them: from -20 to 19.
///
/// # Errors
/// Without CAP_SYS_NICE, or a limit that allows it.
pub(super) fn set_nice(nice: i32) -> io::Result<()> {
    // SAFETY: plain system call.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Gives the system back what arming took: parsing the kernel's BTF leaves megabytes that glibc would keep.
pub(super) fn return_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no pointers are passed, and it is safe in any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Whether this process ignores a signal, as whoever started it may have decided.
pub(super) fn is_ignored(signal: Signal) -> bool {
    // SAFETY: all zero is a valid sigaction; with no new action the call only fills it in.
    unsafe {
        let mut current: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal as i32, std::ptr::null(), &raw mut current) == 0
            && current.sa_sigaction == libc::SIG_IGN
    }
}

/// Waits for a descriptor to become readable.
pub(super) fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd stays open, and the same, until it is dropped with its registration.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}

/// The descriptors that systemd passed to this process, by name. Only the first call has them: the variables that say
/// which they are stay, and nobody may own them twice.
pub(super) fn passed_descriptors() -> Vec<(String, OwnedFd)> {
    static ASKED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    if ASKED.swap(true, std::sync::atomic::Ordering::SeqCst) {
        return Vec::new();
    }
    let Ok(descriptors) = sd_notify::listen_fds_with_names() else { return Vec::new() };
    // SAFETY: systemd passes them to this process alone, and nobody has asked for them before.
    let owned = |(fd, name): (RawFd, String)| (name, unsafe { OwnedFd::from_raw_fd(fd) });
    descriptors.map(owned).collect()
}
