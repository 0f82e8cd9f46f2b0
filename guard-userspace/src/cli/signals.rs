//! Signals to killtrace itself, through a signalfd: with their sender, and in the order they came.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::Context as _;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tokio::io::unix::AsyncFd;

use super::sys::{is_ignored, register};
use crate::model::signal::{Signo, code};

/// A signal that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub(crate) signo: Signo,
    /// The kernel sent it: typed at the terminal, which means the whole foreground group has it.
    pub(crate) from_terminal: bool,
}

/// Signals that are blocked, to be read later. Made while the process has one thread, so that every thread
/// made after it blocks them too.
#[derive(Debug)]
pub(crate) struct Blocked {
    fd: SignalFd,
}

impl Blocked {
    /// Blocks signals, except SIGHUP where it is ignored: that is how `nohup` works.
    pub(crate) fn new(signals: &[Signal]) -> anyhow::Result<Self> {
        let mut set = SigSet::empty();
        for &signal in signals {
            if signal != Signal::SIGHUP || !is_ignored(signal) {
                set.add(signal);
            }
        }
        set.thread_block().context("cannot block signals")?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            .context("cannot make a signalfd")?;
        Ok(Self { fd })
    }

    /// Registers them with the runtime that is running.
    pub(crate) fn listen(self) -> io::Result<Signals> {
        let ready = register(self.fd.as_fd().try_clone_to_owned()?)?;
        Ok(Signals { fd: self.fd, ready })
    }
}

/// Signals, one at a time.
#[derive(Debug)]
pub(crate) struct Signals {
    fd: SignalFd,
    ready: AsyncFd<OwnedFd>,
}

impl Signals {
    /// Waits for the next one. Nothing is lost when the wait is given up.
    pub(crate) async fn next(&self) -> io::Result<Arrived> {
        loop {
            let mut guard = self.ready.readable().await?;
            match self.fd.read_signal() {
                Ok(Some(info)) => {
                    let signo = Signo(i32::try_from(info.ssi_signo).unwrap_or(0));
                    return Ok(Arrived { signo, from_terminal: info.ssi_code == code::SI_KERNEL });
                }
                Ok(None) => guard.clear_ready(),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::raise;

    use super::*;

    // A thread of its own: the signal mask is per thread, and the test's other threads must not take them.
    #[test]
    fn signals_arrive_in_order_and_none_is_from_the_terminal() {
        let thread = std::thread::spawn(|| {
            let blocked = Blocked::new(&[Signal::SIGUSR1, Signal::SIGUSR2]).unwrap();
            raise(Signal::SIGUSR1).unwrap();
            raise(Signal::SIGUSR2).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let signals = blocked.listen().unwrap();
                let first = signals.next().await.unwrap();
                assert_eq!(first, Arrived { signo: Signo::USR1, from_terminal: false });
                assert_eq!(signals.next().await.unwrap().signo, Signo::USR2);
            });
        });
        thread.join().unwrap();
    }
}
