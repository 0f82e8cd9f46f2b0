//! The `zoo` program, run by a test.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde::Deserialize;

use super::truth::Truth;
use crate::sandbox::die_with_this_thread;

/// Far longer than any case takes, also on an emulated machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the zoo says of a case.
#[derive(Clone, Debug, Deserialize)]
pub struct Listed {
    pub name: String,
    pub about: String,
    /// Why it cannot happen on this machine.
    pub impossible: Option<String>,
    /// It can also be watched from its curtain on.
    pub late: bool,
    /// Arguments for `killtrace watch`.
    pub watch: Vec<String>,
}

/// The zoo to run: `ZOO_BIN`, or the one built with this test.
///
/// # Panics
/// When this program is no test.
#[must_use]
pub fn zoo_path() -> PathBuf {
    std::env::var_os("ZOO_BIN").map_or_else(
        || {
            let test = std::env::current_exe().expect("a running program has a path");
            test.ancestors().nth(2).expect("test binaries live in target/PROFILE/deps").join("zoo")
        },
        PathBuf::from,
    )
}

/// Every case of the zoo.
///
/// # Panics
/// When the zoo cannot be run.
#[must_use]
pub fn listed() -> Vec<Listed> {
    let output = Command::new(zoo_path()).arg("list").output().expect("cannot run the zoo; is it built?");
    assert!(output.status.success(), "zoo list: {}", output.status);
    let text = String::from_utf8(output.stdout).expect("the zoo writes UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("a case is JSON")).collect()
}

/// A case being played.
#[derive(Debug)]
pub struct Director {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Director {
    /// Starts a case. With `curtain` it waits when all is set up.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(case: &str, curtain: bool) -> Self {
        let mut command = Command::new(zoo_path());
        command.args(["run", "--hold"]).args(curtain.then_some("--curtain")).arg(case);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        die_with_this_thread(&mut command);
        let mut child = command.spawn().expect("cannot run the zoo");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let stdin = child.stdin.take();
        Self { child, stdin, stdout }
    }

    /// Waits until all is set up.
    ///
    /// # Panics
    /// When the case fails first.
    pub fn until_curtain(&mut self) {
        assert_eq!(self.line(), "curtain", "the director fails");
    }

    /// Lets it go on, and waits for the truth. What lives then, lives until this is dropped.
    ///
    /// # Panics
    /// When the case fails.
    pub fn truth(&mut self) -> Truth {
        // It reads this only if it stopped at its curtain.
        let _ = self.stdin.as_mut().map(|stdin| writeln!(stdin));
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("no truth ({error}): {line:?}"))
    }

    fn line(&mut self) -> String {
        if !self.talks() {
            self.kill();
            panic!("the case hangs: its director said nothing for {} s", PATIENCE.as_secs());
        }
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("the director writes text");
        line.trim_end().to_owned()
    }
}

impl Director {
    /// Waits until there is something to read.
    fn talks(&self) -> bool {
        let mut fds = [PollFd::new(self.stdout.get_ref().as_fd(), PollFlags::POLLIN)];
        let patience = PollTimeout::try_from(PATIENCE).expect("less than a month");
        !self.stdout.buffer().is_empty() || poll(&mut fds, patience) != Ok(0)
    }

    /// Ends it with its actors: none may be taken for one of the next case.
    fn kill(&mut self) {
        for pid in descendants(self.child.id()) {
            let _ = nix::sys::signal::kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
        }
        let _ = self.child.kill();
    }
}

/// A process's children, theirs, and so on.
fn descendants(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<u32> =
        lists.flat_map(|list| list.split_whitespace().flat_map(str::parse).collect::<Vec<_>>()).collect();
    children.iter().flat_map(|&child| descendants(child)).chain(children.iter().copied()).collect()
}

impl Drop for Director {
    fn drop(&mut self) {
        // End of file: it kills what is left, and ends.
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}
