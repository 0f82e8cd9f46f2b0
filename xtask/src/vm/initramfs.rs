//! What a guest boots into: busybox, killtrace, what is to be played, and a script that plays it.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use super::cpio::Archive;
use super::matrix::Ports;
use super::plan::{Boot, Machine, Play};
use super::programs::Programs;
use crate::shell::root;

/// Where the guests' own files are.
const GUEST: &str = "tests/vm";

/// Stories that are not the mission's, in the quick half.
const BESIDE_THE_MISSION: [&str; 5] =
    ["by_pkill", "by_fuser", "closed_terminal", "stubborn_shell", "clock_jumps"];

/// Parts of the mission's story that the live tests tell as well, on the machine that they run on.
const NO_MACHINE_OF_ITS_OWN: [&str; 4] =
    ["by_its_tmux_session", "out_of_heap", "restarts_itself", "out_of_swap"];

impl Play {
    fn programs(self) -> &'static str {
        match self {
            Self::OnTime | Self::Zoo => "live_machine live_zoo",
            Self::Late => "live_zoo",
            Self::Mission | Self::Stories => "/tests/deps/live_vite /tests/deps/vm_stories",
            Self::Systemd => "/tests/deps/vm_systemd /tests/deps/live_systemd /tests/deps/live_package",
            Self::Command => "",
        }
    }

    /// Everything takes so many times longer than on a processor that is not emulated. The zoo needs no more time.
    fn patience(self) -> u32 {
        if self.is_story() { 10 } else { 1 }
    }

    /// As `KILLTRACE_ZOO_WATCH`.
    fn watch(self) -> &'static str {
        match self {
            Self::OnTime => "on-time",
            Self::Late => "late",
            Self::Zoo | Self::Mission | Self::Stories | Self::Systemd | Self::Command => "",
        }
    }
}

/// What is to be done in the guest.
#[derive(Debug)]
pub(super) struct Job<'a> {
    pub(super) boot: Boot,
    pub(super) machine: Machine,
    /// Only the cases with this in their name.
    pub(super) cases: &'a str,
    /// Bring each case's recording and truth out.
    pub(super) keep: bool,
    /// For its shell.
    pub(super) command: &'a str,
}

impl Job<'_> {
    /// For Rust's test programs.
    fn arguments(&self) -> String {
        let mut arguments = self.cases.to_owned();
        if self.boot.play == Play::Mission {
            arguments.extend(BESIDE_THE_MISSION.map(|story| format!(" --skip {story}")));
            if !self.boot.part.is_whole() {
                arguments.extend(NO_MACHINE_OF_ITS_OWN.map(|story| format!(" --skip {story}")));
            }
        }
        arguments
    }
}

impl Ports {
    /// The guest's devices for results and for files.
    fn devices(&self) -> (&'static str, &'static str) {
        match self {
            Self::Serial => ("/dev/ttyS1", "/dev/ttyS2"),
            Self::VirtioPci | Self::VirtioMmio => ("/dev/vport0p1", "/dev/vport0p2"),
        }
    }
}

const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUP: &[u8] = b"root:x:0:\nnogroup:x:65534:\n";

/// # Errors
/// When a file that belongs in it cannot be read.
pub(super) fn build(programs: &Programs, job: &Job<'_>) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    let tree = programs.userland.as_deref();
    if let Some(tree) = tree {
        archive.tree(tree, "")?;
    }
    // The kernel would put a directory in the place of a link, as /bin may be one.
    let is_there = |name: &str| tree.is_some_and(|tree| tree.join(name).symlink_metadata().is_ok());
    for name in ["bin", "dev", "etc", "mnt", "proc", "root", "run", "sys", "tests", "tests/deps", "tmp"] {
        if !is_there(name) {
            archive.directory(name);
        }
    }
    if programs.userland.is_none() {
        archive.link("bin/sh", "busybox");
    }
    // The kernel opens it for the first process, before that can mount anything.
    archive.character_device("dev/console", 5, 1);
    let own = |name: &str| read(&root().join(GUEST).join(name));
    archive.program("play", &own("play")?);
    if job.machine == Machine::Systemd {
        archive.program("init", &own("init-systemd")?);
        archive.file("etc/systemd/system/play.service", &own("play.service")?);
    } else {
        archive.program("init", &own("init")?);
        archive.file("etc/passwd", PASSWD);
        archive.file("etc/group", GROUP);
    }
    for (path, file) in programs.files() {
        archive.program(path, &read(file)?);
    }
    archive.file("guest.conf", configuration(job)?.as_bytes());
    Ok(archive.finish())
}

/// Variables for the script, as a shell reads them.
fn configuration(job: &Job<'_>) -> Result<String> {
    let Boot { run, play, part, .. } = job.boot;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs();
    let (results, files) = run.kernel.ports.devices();
    let variables = [
        ("NOW", now.to_string()),
        ("RESULTS", results.to_owned()),
        ("FILES", files.to_owned()),
        ("ARGUMENTS", run.backend.arguments.to_owned()),
        ("CASES", job.arguments()),
        ("KEEP", if job.keep { "/tmp/kept".to_owned() } else { String::new() }),
        ("PROGRAMS", play.programs().to_owned()),
        ("PATIENCE", play.patience().to_string()),
        ("WATCH", play.watch().to_owned()),
        ("PART", format!("{}/{}", part.first, part.of)),
        ("KERNEL", run.kernel.name.to_owned()),
        ("BACKEND", run.backend.name.to_owned()),
        ("CI", std::env::var("CI").unwrap_or_default()),
        ("COMMAND", job.command.to_owned()),
    ];
    Ok(variables.iter().map(|(name, value)| format!("{name}={}\n", quoted(value))).collect())
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_what_was_meant() {
        assert_eq!(quoted("echo 'a b'"), r"'echo '\''a b'\'''");
        assert_eq!(quoted(""), "''");
    }
}
