//! What is done while a tracer watches.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::Programs;
use crate::shell::root;

/// One load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Of the program `load`.
    Load(&'static str),
    /// A real `npm run build`: node, a shell and esbuild.
    Npm,
    /// A real `cargo build`: some dozens of processes, most of their time in the compiler.
    Cargo,
}

/// Each load, and what killtrace may make it cost with the eBPF backend, as a ratio to no tracer.
const LOADS: [(&str, Option<f64>); 8] = [
    ("null-call", Some(1.02)),
    ("ignored-signal", Some(1.25)),
    ("handled-signal", Some(1.30)),
    ("fork-exit", Some(1.03)),
    ("spawn", Some(1.03)),
    ("thread", Some(1.05)),
    ("fork-kill", None),
    ("arithmetic", None),
];
const BUILD: f64 = 1.01;
/// What `cargo build` is asked for: killtrace needs it, so that its source is there.
const CRATE: &str = "serde_json";

impl Work {
    pub(super) fn loads() -> Vec<Self> {
        LOADS.iter().map(|&(name, _)| Self::Load(name)).collect()
    }

    pub(super) fn builds() -> Vec<Self> {
        vec![Self::Npm, Self::Cargo]
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Load(name) => name,
            Self::Npm => "npm-build",
            Self::Cargo => "cargo-build",
        }
    }

    /// The most that it may cost under killtrace, as a ratio to no tracer.
    pub(super) fn bar(self) -> Option<f64> {
        match self {
            Self::Load(name) => LOADS.iter().find(|(known, _)| *known == name)?.1,
            Self::Npm | Self::Cargo => Some(BUILD),
        }
    }

    /// Nanoseconds per operation, or for the whole of it.
    ///
    /// # Errors
    /// When it fails.
    pub(super) fn measure(self, programs: &Programs, wrapper: &[&str]) -> Result<f64> {
        match self {
            Self::Load(name) => {
                let mut words: Vec<&std::ffi::OsStr> = wrapper.iter().map(std::ffi::OsStr::new).collect();
                words.extend([programs.load.as_os_str(), name.as_ref()]);
                let (program, args) = words.split_first().context("there is a program")?;
                let output =
                    Command::new(program).args(args).stdin(Stdio::null()).stderr(Stdio::null()).output();
                let output = output.context("cannot run a load")?;
                let said = String::from_utf8_lossy(&output.stdout);
                said.trim().parse().with_context(|| format!("the load {name} said {said:?}"))
            }
            Self::Npm => {
                let out = tempfile::tempdir().context("cannot make a temporary directory")?;
                let mut npm = Command::new("npm");
                npm.args(["run", "build", "--", "--emptyOutDir", "--outDir"]).arg(out.path());
                timed(npm.current_dir(root().join("tests/vite-app")), wrapper)
            }
            Self::Cargo => {
                let out = tempfile::tempdir().context("cannot make a temporary directory")?;
                let mut cargo = crate::shell::cargo();
                cargo.args(["build", "--offline", "--package", CRATE, "--target-dir"]).arg(out.path());
                timed(&mut cargo, wrapper)
            }
        }
    }
}

fn timed(command: &mut Command, wrapper: &[&str]) -> Result<f64> {
    if !wrapper.is_empty() {
        bail!("builds are not run under {}", wrapper.join(" "));
    }
    let begun = Instant::now();
    crate::shell::run(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()))?;
    Ok(begun.elapsed().as_secs_f64() * 1e9)
}
