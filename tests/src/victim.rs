//! A process to kill, and what really happened to it.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

/// The `victim` program of this crate, whose first argument is the way to die.
///
/// # Panics
/// When it has not been built.
#[must_use]
pub fn victim_path() -> PathBuf {
    program("victim")
}

/// The `striker` program of this crate, whose first argument is the system call to use.
///
/// # Panics
/// When it has not been built.
#[must_use]
pub fn striker_path() -> PathBuf {
    program("striker")
}

fn program(name: &str) -> PathBuf {
    // Beside the `deps` directory that holds the test binary.
    let test = std::env::current_exe().expect("a running program has a path");
    let path = test.ancestors().nth(2).expect("test binaries live in target/PROFILE/deps").join(name);
    assert!(path.exists(), "{} is missing: cargo builds it with the tests", path.display());
    path
}

/// A running victim. Killed when dropped.
#[derive(Debug)]
pub struct Victim {
    child: Child,
}

impl Victim {
    /// Starts `victim ARGS` and waits until it says `ready`, for those that do.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(args: &[&str]) -> Self {
        let mut command = Command::new(victim_path());
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("cannot start the victim");
        let mut line = String::new();
        let stdout = child.stdout.as_mut().expect("its output is a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("the victim writes text");
        Self { child }
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end, as a parent does.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn wait(&mut self) -> Truth {
        drop(self.child.stdin.take());
        Truth::from(self.child.wait().expect("a child can be waited for"))
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // Fails when it is dead already, which is what a victim is for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `waitpid` said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truth {
    pub code: Option<i32>,
    pub signal: Option<i32>,
}

impl From<ExitStatus> for Truth {
    fn from(status: ExitStatus) -> Self {
        Self { code: status.code(), signal: status.signal() }
    }
}

/// Has another process, which is gone a moment later, send a signal. Returns its pid.
///
/// # Panics
/// When it could not.
pub fn strike(pid: i32, signo: i32) -> u32 {
    let args = ["kill", &pid.to_string(), &signo.to_string()];
    let mut striker = Command::new(striker_path()).args(args).spawn().expect("cannot start the striker");
    let pid = striker.id();
    let status = striker.wait().expect("a child can be waited for");
    assert!(status.success(), "the striker failed: {status}");
    pid
}
