//! A PID namespace of the test's own: `pkill` inside it can reach nobody outside, and all of it dies with the test.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::procs::{children, eventually};
use crate::victim::victim_path;

/// The namespace, kept by an init that reaps. Everything in it is killed when this is dropped.
#[derive(Debug)]
pub struct Sandbox {
    unshare: Child,
    init: u32,
    dir: TempDir,
}

impl Sandbox {
    /// # Panics
    /// When the kernel refuses a PID namespace.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "starting processes is no default")]
    pub fn new() -> Self {
        let mut command = Command::new("unshare");
        command
            .args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"])
            .arg(victim_path())
            .arg("reap");
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        die_with_this_thread(&mut command);
        let mut unshare = command.spawn().expect("cannot run unshare (util-linux)");
        let stdout = unshare.stdout.as_mut().expect("its output is a pipe");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("the init writes text");
        assert!(line.starts_with("ready"), "no PID namespace: unshare said {line:?}");
        let init = children(unshare.id()).first().copied().expect("unshare --fork has a child");
        let dir =
            tempfile::Builder::new().prefix("kt-").tempdir().expect("cannot make a temporary directory");
        Self { unshare, init, dir }
    }

    /// A command that will run inside, in directory `dir`.
    #[must_use]
    pub fn command(&self, dir: &Path, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string(), "--pid", "--mount", "--", "env", "-C"]);
        command.arg(dir).arg(program).stdin(Stdio::null());
        command
    }

    /// A directory for the test's scripts and logs.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes an executable script.
    ///
    /// # Panics
    /// When the temporary directory is full.
    #[must_use]
    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir().join(name);
        fs::write(&path, text).expect("cannot write a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("cannot make it executable");
        path
    }

    /// Runs a script inside with `sh`, to its end.
    ///
    /// # Panics
    /// When it fails.
    pub fn run_script(&self, name: &str, text: &str) {
        let script = self.script(name, text);
        let output =
            self.command(self.dir(), "sh").arg(script).output().expect("cannot run nsenter (util-linux)");
        assert!(
            output.status.success(),
            "{name} failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // `--kill-child`: its death is the init's death, and that is everybody's.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        let init = self.init;
        if !std::thread::panicking() {
            eventually(10, "the namespace to end", || {
                (!Path::new(&format!("/proc/{init}")).exists()).then_some(())
            });
        }
    }
}

/// A test that is killed must leave nothing behind.
pub(crate) fn die_with_this_thread(command: &mut Command) {
    // SAFETY: prctl is async-signal-safe and the closure touches no memory.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
}
