//! systemd's journal, without the rest of systemd.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use killtrace_tests::eventually;

/// Ended when dropped.
pub(crate) struct Journald(Child);

impl Journald {
    /// Where a program's output goes that is to be in the journal.
    pub(crate) const SOCKET: &str = "/run/systemd/journal/stdout";

    /// Starts it, and waits until it takes what is said.
    pub(crate) fn start() -> Self {
        for dir in ["/run/systemd/journal", "/run/log/journal", "/etc/systemd"] {
            fs::create_dir_all(dir).expect("it can be made");
        }
        // Its files are below a name of the machine's own.
        fs::write("/etc/machine-id", "6b696c6c747261636520697320686572\n").expect("it can be written");
        fs::write("/etc/systemd/journald.conf", "[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=\n")
            .expect("it can be written");
        let mut command = Command::new("/lib/systemd/systemd-journald");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let journald = Self(command.spawn().expect("cannot run systemd-journald"));
        fs::write(format!("/proc/{}/oom_score_adj", journald.0.id()), "-1000").expect("it is ours");
        eventually(20, "the journal", || Path::new(Self::SOCKET).exists().then_some(()));
        journald
    }
}

impl Drop for Journald {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        let _ = fs::remove_file(Self::SOCKET);
    }
}
