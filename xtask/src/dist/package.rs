//! The Debian package: what cargo-deb finds in target/deb, and cargo-deb.
//!
//! What goes where stands in guard-userspace/Cargo.toml, and the unit and the scripts in guard-userspace/packaging.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::CommandFactory as _;
use clap_complete::aot::{Shell, generate_to};
use killtrace::cli::args::Cli;

use super::Arch;
use crate::setup::install_with_cargo;
use crate::shell::{cargo, is_installed, output, quiet_output, root, run};

const PROGRAM: &str = "killtrace";

/// Packs a program that was built for `arch` as `killtrace_ARCH.deb` in `to`, and has lintian look at it.
///
/// # Errors
/// When cargo-deb cannot be had or fails, or lintian finds an error.
pub(crate) fn deb(arch: Arch, program: &Path, to: &Path) -> Result<PathBuf> {
    install_with_cargo("cargo-deb", "makes Debian packages")?;
    let staged = root().join("target/deb");
    stage(&staged)?;
    // A release has no symbols, but a program for tests has.
    let mut strip = Command::new(arch.strip());
    strip.arg("--strip-all").arg("-o").arg(staged.join(PROGRAM)).arg(program);
    run(&mut strip)?;
    let deb = to.join(format!("{PROGRAM}_{}.deb", arch.debian()));
    let mut command = cargo();
    command.args(["deb", "--quiet", "--package=guard-userspace", "--no-build", "--no-strip", "--locked"]);
    command.arg(format!("--target={}", arch.target())).arg("--output").arg(&deb);
    run(&mut command)?;
    if is_installed("lintian") {
        run(Command::new("lintian").args(["--fail-on", "error", "--allow-root"]).arg(&deb))?;
    } else {
        println!("lintian is not installed, and has not looked at {}", deb.display());
    }
    Ok(deb)
}

/// Man pages, completions and Debian's changelog.
fn stage(to: &Path) -> Result<()> {
    let (man, completions) = (to.join("man"), to.join("completions"));
    // Pages of commands that are no more would be packed, too.
    let _ = fs::remove_dir_all(to);
    for directory in [&man, &completions] {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    clap_mangen::generate_to(Cli::command(), &man).context("cannot write the man pages")?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut Cli::command(), PROGRAM, &completions)
            .with_context(|| format!("cannot write the completions for {shell}"))?;
    }
    fs::write(to.join("changelog"), changelog()?).context("cannot write Debian's changelog")
}

/// As Debian's tools read it: what changed is in CHANGELOG.md.
fn changelog() -> Result<String> {
    let version = env!("CARGO_PKG_VERSION");
    let mut last_commit = Command::new("git");
    last_commit.args(["log", "-1", "--format=%cD"]).current_dir(root());
    let date = quiet_output(&mut last_commit).or_else(|_no_git| output(Command::new("date").arg("-R")))?;
    let maintainer = "The killtrace maintainers <killtrace@users.noreply.github.com>";
    let changes = format!("https://github.com/killtrace/killtrace/blob/v{version}/CHANGELOG.md");
    Ok(format!(
        "{PROGRAM} ({version}-1) unstable; urgency=medium\n\n  * {changes}\n\n -- {maintainer}  {}\n",
        date.trim()
    ))
}
