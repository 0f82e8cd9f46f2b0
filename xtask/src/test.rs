//! `cargo xtask test`: all tests, and an honest count of them.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::counts::Counts;
use crate::dist::{Arch, package};
use crate::setup::setup;
use crate::shell::{as_root, cargo, is_installed, output, quiet_output, root};

/// A test binary that cargo has built.
struct TestBinary {
    name: String,
    path: PathBuf,
    /// Where its package is; tests run there.
    dir: PathBuf,
}

impl TestBinary {
    /// Watching the kernel needs root; nothing else is given it.
    fn is_live(&self) -> bool {
        self.name.split('_').any(|word| word == "live")
    }

    /// Some of its tests have this in their names.
    fn has_tests(&self, filter: &str) -> bool {
        let listed = quiet_output(Command::new(&self.path).args(["--list", "--format=terse", filter]));
        listed.is_ok_and(|tests| !tests.is_empty())
    }
}

/// Runs the tests whose name contains `filter`.
///
/// # Errors
/// When a test fails, or, with `CI=true`, is skipped; or none can be run.
pub(crate) fn run(filter: Option<&str>) -> Result<()> {
    setup()?;
    let (killtrace, binaries) = build()?;
    let mut counts = Counts::default();
    for binary in &binaries {
        println!(
            "\n== {} ({})",
            binary.name,
            if binary.is_live() { "live, as root" } else { "as this user" }
        );
        let mut command = if binary.is_live() { as_root(env_path())? } else { Command::new(env_path()) };
        command.arg(format!("CARGO_MANIFEST_DIR={}", binary.dir.display()));
        command.arg(format!("KILLTRACE_BIN={}", killtrace.display()));
        if let Some(ci) = std::env::var_os("CI") {
            command.arg(format!("CI={}", ci.display()));
        }
        if binary.name == PACKAGED
            && filter.is_none_or(|filter| binary.has_tests(filter))
            && let Some(deb) = package(&killtrace)?
        {
            command.arg(format!("KILLTRACE_DEB={}", deb.display()));
        }
        command.arg(&binary.path).arg("--show-output").args(filter).current_dir(&binary.dir);
        counts += count(&mut command)?;
    }
    if filter.is_none() {
        println!("\n== documentation");
        counts += count(cargo().args(["test", "--quiet", "--workspace", "--doc", "--", "--show-output"]))?;
    }
    close(&counts)
}

/// The tests that install killtrace's package.
const PACKAGED: &str = "live_package";

/// Packs the program that is tested, where packages are Debian's.
fn package(killtrace: &Path) -> Result<Option<PathBuf>> {
    let Some(arch) = Arch::native().filter(|_| is_installed("dpkg-deb")) else { return Ok(None) };
    package::deb(arch, killtrace, &root().join("target")).map(Some)
}

/// `env` carries variables through sudo, which drops them.
fn env_path() -> &'static str {
    "/usr/bin/env"
}

fn close(counts: &Counts) -> Result<()> {
    println!();
    for skip in &counts.skipped {
        println!("skipped: {skip}");
    }
    // Alone on its line, for whoever counts.
    println!("{}", counts.summary());
    if counts.failed > 0 {
        bail!("{} tests failed", counts.failed);
    }
    if counts.passed == 0 {
        bail!("no test ran");
    }
    if !counts.skipped.is_empty() && std::env::var("CI").is_ok_and(|ci| ci == "true") {
        bail!("{} tests were skipped, and CI=true lets none be", counts.skipped.len());
    }
    Ok(())
}

/// Builds killtrace and all test binaries.
fn build() -> Result<(PathBuf, Vec<TestBinary>)> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--no-run", "--message-format=json-render-diagnostics"]);
    let messages = output(&mut command)?;
    let mut killtrace = None;
    let mut binaries = Vec::new();
    for line in messages.lines() {
        let message: Value = serde_json::from_str(line).context("cargo's messages are JSON")?;
        let Some(path) = message["executable"].as_str().map(PathBuf::from) else { continue };
        let name = message["target"]["name"].as_str().unwrap_or_default().to_owned();
        if message["profile"]["test"] == true {
            let manifest = PathBuf::from(message["manifest_path"].as_str().unwrap_or_default());
            let dir = manifest.parent().map_or_else(root, PathBuf::from);
            binaries.push(TestBinary { name, path, dir });
        } else if name == "killtrace" {
            killtrace = Some(path);
        }
    }
    binaries.sort_by_key(|binary| (binary.is_live(), binary.name.clone(), binary.path.clone()));
    Ok((killtrace.context("cargo built no killtrace")?, binaries))
}

/// Runs a test binary, shows what it prints, and counts.
fn count(command: &mut Command) -> Result<Counts> {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot run the tests")?;
    let stdout = child.stdout.take().context("its output is a pipe")?;
    let mut output = String::new();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.context("cannot read what the tests say")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        output.push_str(&line);
        output.push('\n');
    }
    let status = child.wait().context("cannot wait for the tests")?;
    let mut counts = Counts::read(&output);
    if !status.success() && counts.failed == 0 {
        println!("the tests ended with {status}");
        counts.failed = 1;
    }
    Ok(counts)
}
