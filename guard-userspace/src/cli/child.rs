//! The command of `run`: forked at once, so that its pid is known, and held back until the probes are armed.

#![allow(unsafe_code, reason = "it forks, and execs what it is told to")]

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{self, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, pipe2};

use super::failure::{Failure, exit};
use crate::model::signal::Signo;

/// A forked command.
///
/// `std::process::Command` would return only after the exec, too late to arm anything for it.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    name: OsString,
    /// A byte lets it go; closed without one, it ends.
    go: Option<File>,
    /// Carries the error when it cannot exec; closed by a successful exec.
    failed: File,
    reaped: bool,
}

impl Child {
    /// Forks. Must be called while the process has one thread.
    pub(crate) fn fork(command: &[OsString]) -> Result<Self, Failure> {
        let args = command
            .iter()
            .map(|arg| CString::new(arg.as_bytes()))
            .collect::<Result<Vec<_>, _>>()
            .context("an argument of the command holds a NUL byte")?;
        let pointers: Vec<_> = args.iter().map(|arg| arg.as_ptr()).chain([std::ptr::null()]).collect();
        let (go_read, go) = pipe()?;
        let (failed, failed_write) = pipe()?;
        // SAFETY: the process has one thread, so the child may do anything; it allocates nothing all the same.
        match unsafe { fork() }.context("cannot fork")? {
            ForkResult::Child => {
                drop((go, failed));
                exec_when_told(go_read.as_raw_fd(), failed_write.as_raw_fd(), &pointers)
            }
            ForkResult::Parent { child } => Ok(Self {
                pid: child,
                name: command.first().cloned().unwrap_or_default(),
                go: Some(File::from(go)),
                failed: File::from(failed),
                reaped: false,
            }),
        }
    }

    /// Its process id, before and after the exec.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// Lets it exec, and waits until it has.
    pub(crate) fn start(&mut self) -> Result<(), Failure> {
        if let Some(mut go) = self.go.take() {
            // When it is gone already, reading says so below.
            let _ = go.write_all(b"!");
        }
        let mut errno = [0; 4];
        match self.failed.read_exact(&mut errno) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => {
                return Err(Failure::new(anyhow::Error::new(error).context("cannot start the command")));
            }
        }
        let error = io::Error::from_raw_os_error(i32::from_ne_bytes(errno));
        let found = error.kind() != io::ErrorKind::NotFound;
        let code = if found { exit::RUN_CANNOT_EXECUTE } else { exit::RUN_NOT_FOUND };
        let help = if found {
            "is it a program, and may you execute it?"
        } else {
            "is it installed, and spelled right?"
        };
        let what = format!("cannot run {}", self.name.display());
        Err(Failure::new(anyhow::Error::new(error).context(what)).help(help).with_code(code))
    }

    /// Passes a signal on.
    pub(crate) fn signal(&self, signo: Signo) {
        if let (false, Ok(signal)) = (self.reaped, Signal::try_from(signo.0)) {
            // It may have died just now, which SIGCHLD is about to say.
            let _ = signal::kill(self.pid, signal);
        }
    }

    /// What a shell would give as its status, once it has ended: its code, or 128 plus the signal.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<u8>> {
        let low = |status: i32| u8::try_from(status & 0xff).unwrap_or(u8::MAX);
        loop {
            let status = match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(_, code)) => Some(low(code)),
                Ok(WaitStatus::Signaled(_, signal, _)) => Some(low(128 + signal as i32)),
                Ok(_) => None,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(anyhow::Error::new(errno).context("cannot wait for the command")),
            };
            self.reaped |= status.is_some();
            return Ok(status);
        }
    }
}

impl Drop for Child {
    /// One that was never let go ends by itself; it must not stay a zombie of whoever killtrace becomes.
    fn drop(&mut self) {
        if self.go.take().is_some() {
            let _ = waitpid(self.pid, None);
        }
    }
}

fn pipe() -> anyhow::Result<(OwnedFd, OwnedFd)> {
    pipe2(OFlag::O_CLOEXEC).context("cannot make a pipe")
}

/// What the child does.
fn exec_when_told(go: RawFd, failed: RawFd, args: &[*const libc::c_char]) -> ! {
    let mut told = [0_u8; 1];
    // SAFETY: the pointers are to live local memory or to NUL-terminated strings of the parent's copy, ending
    // with a null pointer; the descriptors are open.
    unsafe {
        // The Rust runtime ignores it, and an exec passes that on.
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        loop {
            match libc::read(go, told.as_mut_ptr().cast(), 1) {
                1 => break,
                -1 if Errno::last_raw() == libc::EINTR => {}
                // killtrace is gone or could not arm its probes.
                _ => libc::_exit(i32::from(exit::RUN_FAILED)),
            }
        }
        libc::execvp(args[0], args.as_ptr());
        let errno = Errno::last_raw().to_ne_bytes();
        libc::write(failed, errno.as_ptr().cast(), errno.len());
        libc::_exit(i32::from(exit::RUN_NOT_FOUND))
    }
}
