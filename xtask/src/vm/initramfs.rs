//! What a guest boots into: busybox, killtrace, what is to be played, and a script that plays it.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use super::cpio::Archive;
use super::matrix::{Ports, Run};
use super::programs::Programs;
use crate::shell::root;

const INIT: &str = "tests/vm/init";

/// What a guest is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Play<'a> {
    /// Every way to die.
    Zoo,
    /// What happens to people, with the programs that it happens to.
    Stories,
    /// A command for its shell.
    Command(&'a str),
}

impl Play<'_> {
    fn programs(self) -> &'static str {
        match self {
            Self::Zoo => "live_zoo",
            Self::Stories => "/tests/deps/live_vite /tests/deps/vm_stories",
            Self::Command(_) => "",
        }
    }

    /// Everything takes so many times longer than on a processor that is not emulated. The zoo needs no more time.
    fn patience(self) -> u32 {
        match self {
            Self::Stories => 10,
            Self::Zoo | Self::Command(_) => 1,
        }
    }
}

/// What is to be done in the guest.
#[derive(Debug)]
pub(super) struct Job<'a> {
    pub(super) play: Play<'a>,
    /// Only the cases with this in their name.
    pub(super) cases: &'a str,
    /// Bring each case's recording and truth out.
    pub(super) keep: bool,
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

/// # Errors
/// When a file that belongs in it cannot be read.
pub(super) fn build(run: &Run, programs: &Programs, job: &Job<'_>) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    // First, because its /bin is a link.
    if let Some(tree) = &programs.userland {
        archive.tree(tree, "")?;
    }
    for directory in ["bin", "dev", "etc", "proc", "root", "run", "sys", "tests", "tests/deps", "tmp"] {
        archive.directory(directory);
    }
    if programs.userland.is_none() {
        archive.link("bin/sh", "busybox");
    }
    // The kernel opens it for the first process, before that can mount anything.
    archive.character_device("dev/console", 5, 1);
    archive.program("init", &read(&root().join(INIT))?);
    for (path, file) in programs.files() {
        archive.program(path, &read(file)?);
    }
    archive.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n");
    archive.file("etc/group", b"root:x:0:\nnogroup:x:65534:\n");
    archive.file("guest.conf", configuration(run, job)?.as_bytes());
    Ok(archive.finish())
}

/// Variables for the script, as a shell reads them.
fn configuration(run: &Run, job: &Job<'_>) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs();
    let (results, files) = run.kernel.ports.devices();
    let variables = [
        ("NOW", now.to_string()),
        ("RESULTS", results.to_owned()),
        ("FILES", files.to_owned()),
        ("ARGUMENTS", run.backend.arguments.to_owned()),
        ("CASES", job.cases.to_owned()),
        ("KEEP", if job.keep { "/tmp/kept".to_owned() } else { String::new() }),
        ("PROGRAMS", job.play.programs().to_owned()),
        ("PATIENCE", job.play.patience().to_string()),
        ("COMMAND", if let Play::Command(command) = job.play { command.to_owned() } else { String::new() }),
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
