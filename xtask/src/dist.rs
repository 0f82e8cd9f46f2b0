//! `cargo xtask dist`: static programs, for this processor and the other one.
//!
//! glibc is linked in, so that one file runs on every distribution, however old. For the processor that this machine does
//! not have, Debian's own cross compiler is used, or a rustup toolchain with that target.

pub(crate) mod package;
mod toolchain;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde_json::Value;

use self::toolchain::Toolchain;
use crate::shell::{is_installed, output, root};

/// A processor that killtrace runs on, by the kernel's name for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Arch {
    #[value(name = "x86_64")]
    X86_64,
    Aarch64,
}

impl Arch {
    pub(crate) const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// Debian's name for it.
    pub(crate) fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    fn target(self) -> String {
        format!("{}-unknown-linux-gnu", self.name())
    }

    pub(crate) fn native() -> Option<Self> {
        Self::ALL.into_iter().find(|arch| arch.name() == std::env::consts::ARCH)
    }

    /// The program of binutils that works on programs for it.
    fn strip(self) -> String {
        match Self::native() == Some(self) {
            true => "strip".to_owned(),
            false => format!("{}-linux-gnu-strip", self.name()),
        }
    }
}

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only for this processor
    #[arg(long)]
    arch: Option<Arch>,
}

/// Builds killtrace as it is given to people, in target/dist: a program, and where Debian's tools are, a package.
///
/// # Errors
/// When a compiler is missing and cannot be installed, or fails; or the package is not as it should be.
pub(crate) fn run(options: &Options) -> Result<()> {
    let dist = root().join("target/dist");
    fs::create_dir_all(&dist).with_context(|| format!("cannot make {}", dist.display()))?;
    for arch in Arch::ALL.into_iter().filter(|&arch| options.arch.is_none_or(|only| only == arch)) {
        let arguments = ["--release", "--package=guard-userspace", "--bin=killtrace"];
        let built = build(arch, &arguments)?.find("killtrace")?;
        let name = format!("killtrace-{}", arch.name());
        fs::copy(&built, dist.join(&name)).with_context(|| format!("cannot write target/dist/{name}"))?;
        println!("target/dist/{name}: {} bytes", fs::metadata(&built)?.len());
        if is_installed("dpkg-deb") {
            let deb = package::deb(arch, &built, &dist)?;
            println!("{}: {} bytes", deb.display(), fs::metadata(&deb)?.len());
        } else {
            println!("no Debian package: dpkg-deb is not installed");
        }
    }
    // For action.yml, among others.
    let sums =
        Command::new("sh").args(["-c", "sha256sum killtrace[-_]* > SHA256SUMS"]).current_dir(&dist).status();
    ensure!(sums.context("cannot run sh")?.success(), "cannot write target/dist/SHA256SUMS");
    Ok(())
}

/// What cargo built, by its own account.
pub(crate) struct Built(Vec<Value>);

/// Builds static programs; `arguments` say which and how.
///
/// # Errors
/// When a compiler is missing and cannot be installed, or fails.
pub(crate) fn build(arch: Arch, arguments: &[&str]) -> Result<Built> {
    let toolchain = Toolchain::for_target(arch)?;
    println!("Building static programs for {} with {}", arch.name(), toolchain.name());
    let mut cargo = toolchain.cargo();
    cargo.args(["build", "--locked", "--message-format=json-render-diagnostics"]).args(arguments);
    let messages = output(&mut cargo)?;
    Ok(Built(messages.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()))
}

impl Built {
    /// The program of this name.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn find(&self, name: &str) -> Result<PathBuf> {
        let of_that_name = self.0.iter().filter(|message| message["target"]["name"] == name);
        of_that_name
            .filter_map(|message| message["executable"].as_str())
            .map(|path| Path::new(path).to_path_buf())
            .next()
            .with_context(|| format!("cargo built no {name}"))
    }
}
