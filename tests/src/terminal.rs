//! A terminal that a test can close.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::openpty;

use crate::procs::eventually;

/// A pseudo-terminal with a program in its foreground.
#[derive(Debug)]
pub struct Terminal {
    master: File,
    screen: Arc<Mutex<Vec<u8>>>,
    closing: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
    child: Child,
}

impl Terminal {
    /// Starts `command` with a new terminal on its standard streams. The program has to make itself session
    /// leader and take the terminal, as `setsid --ctty` does.
    ///
    /// # Panics
    /// When there is no terminal to be had.
    #[must_use]
    pub fn open(mut command: Command) -> Self {
        let pty = openpty(None, None).expect("no pseudo-terminal");
        // A child that inherited the master would keep the terminal open for ever.
        for fd in [&pty.master, &pty.slave] {
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("cannot set FD_CLOEXEC");
        }
        let stdio = |fd: &OwnedFd| Stdio::from(fd.try_clone().expect("out of file descriptors"));
        command.stdin(stdio(&pty.slave)).stdout(stdio(&pty.slave)).stderr(stdio(&pty.slave));
        let child = command.spawn().expect("cannot start a program on the terminal");
        let master = File::from(pty.master);
        let screen = Arc::new(Mutex::new(Vec::new()));
        let closing = Arc::new(AtomicBool::new(false));
        // What nobody reads would in the end block the program.
        let reader = std::thread::spawn({
            let master = master.try_clone().expect("out of file descriptors");
            let (screen, closing) = (Arc::clone(&screen), Arc::clone(&closing));
            move || read(master, &screen, &closing)
        });
        Self { master, screen, closing, reader: Some(reader), child }
    }

    /// Types a line.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn enter(&mut self, line: &str) {
        writeln!(self.master, "{line}").expect("cannot type");
    }

    /// Presses a key: `\x03` is Ctrl-C.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn press(&mut self, key: &str) {
        self.master.write_all(key.as_bytes()).expect("cannot type");
    }

    /// Makes the window another size, in characters.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the descriptor is open, and the argument is what this request reads.
        let result = unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        assert_eq!(result, 0, "cannot resize the terminal");
    }

    /// Waits until this was printed, and returns all that was.
    ///
    /// # Panics
    /// When it is not in time.
    pub fn until(&self, said: &str) -> String {
        eventually(30, &format!("{said:?} on the terminal:\n{}", self.screen()), || {
            Some(self.screen()).filter(|screen| screen.contains(said))
        })
    }

    /// What was printed so far.
    #[must_use]
    pub fn screen(&self) -> String {
        let screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&screen).into_owned()
    }

    /// Closes the terminal, as the user's click does, and waits for the program that it was opened for.
    ///
    /// # Panics
    /// When that program does not end of it.
    pub fn close(mut self) {
        // The reader's descriptor is a second reference to the master: it has to go first.
        self.closing.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader does not panic");
        }
        let Self { master, mut child, .. } = self;
        drop(master);
        child.wait().expect("a child can be waited for");
    }
}

fn read(mut master: File, screen: &Mutex<Vec<u8>>, closing: &AtomicBool) {
    let mut buffer = [0; 4096];
    while !closing.load(Ordering::Relaxed) {
        let mut fds = [PollFd::new(master.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(20_u8)) {
            Ok(0) => continue,
            Ok(_) => {}
            Err(_) => return,
        }
        // EIO: every slave is closed.
        let Ok(len @ 1..) = master.read(&mut buffer) else { return };
        screen.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..len]);
    }
}
