//! A place of the test's own: `pkill` inside it can reach nobody outside, and all of it dies with the test.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use crate::procs::{children, eventually};
use crate::victim::victim_path;

/// Everything in it is killed when this is dropped.
#[derive(Debug)]
pub struct Sandbox {
    walls: Walls,
    dir: TempDir,
}

/// What keeps a sandbox's processes together.
#[derive(Debug)]
enum Walls {
    /// A PID namespace, kept by an init that reaps.
    Namespace { unshare: Child, init: u32 },
    /// A cgroup. The whole machine is the test's, so `pkill` may look everywhere, and what happens is what happens to
    /// people, who have no namespaces.
    Cgroup(PathBuf),
}

impl Sandbox {
    /// # Panics
    /// When the kernel refuses a PID namespace, or, where `KILLTRACE_VM` is set, a cgroup.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "starting processes is no default")]
    pub fn new() -> Self {
        let walls =
            if std::env::var_os("KILLTRACE_VM").is_some() { Walls::cgroup() } else { Walls::namespace() };
        let dir =
            tempfile::Builder::new().prefix("kt-").tempdir().expect("cannot make a temporary directory");
        Self { walls, dir }
    }

    /// A command that will run inside, in directory `dir`.
    #[must_use]
    pub fn command(&self, dir: &Path, program: impl AsRef<OsStr>) -> Command {
        let mut command = match &self.walls {
            Walls::Namespace { init, .. } => {
                let mut command = Command::new("nsenter");
                command.args(["--target", &init.to_string(), "--pid", "--mount", "--"]);
                command
            }
            Walls::Cgroup(path) => {
                let mut command = Command::new("sh");
                command.args(["-c", "echo 0 >\"$0/cgroup.procs\" && exec \"$@\""]).arg(path);
                command
            }
        };
        command.args(["env", "-C"]).arg(dir).arg(program).stdin(Stdio::null());
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

impl Walls {
    fn namespace() -> Self {
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
        Self::Namespace { unshare, init }
    }

    fn cgroup() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("/sys/fs/cgroup/test-{}-{number}", std::process::id()));
        fs::create_dir(&path).expect("this machine has a cgroup v2 hierarchy");
        Self::Cgroup(path)
    }

    fn kill_all(&mut self) {
        match self {
            Self::Namespace { unshare, .. } => {
                // `--kill-child`: its death is the init's death, and that is everybody's.
                let _ = unshare.kill();
                let _ = unshare.wait();
            }
            Self::Cgroup(path) => {
                let _ = fs::write(path.join("cgroup.kill"), "1");
            }
        }
    }

    fn are_gone(&self) -> bool {
        match self {
            Self::Namespace { init, .. } => !Path::new(&format!("/proc/{init}")).exists(),
            // Refused while anybody is in it.
            Self::Cgroup(path) => fs::remove_dir(path).is_ok(),
        }
    }
}

impl Drop for Walls {
    fn drop(&mut self) {
        self.kill_all();
        if !std::thread::panicking() {
            eventually(10, "the sandbox to be empty", || self.are_gone().then_some(()));
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
