//! The compiler and linker that make static programs for a processor.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use super::Arch;
use crate::setup::{add_architecture, install_packages, is_packaged, update_package_lists};
use crate::shell::{cargo, is_installed, quiet_output, run};

/// Debian's compiler, which rustup's never shadows under this path.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

pub(super) struct Toolchain {
    arch: Arch,
    rustc: PathBuf,
}

impl Toolchain {
    /// Finds one, or installs it.
    ///
    /// # Errors
    /// When none is to be had.
    pub(super) fn for_target(arch: Arch) -> Result<Self> {
        if let Some(found) = Self::find(arch) {
            found.install_linker()?;
            return Ok(found);
        }
        install(arch)?;
        let Some(found) = Self::find(arch) else {
            bail!("no compiler here makes programs for {}, though one was installed", arch.name());
        };
        found.install_linker()?;
        Ok(found)
    }

    fn find(arch: Arch) -> Option<Self> {
        let own = std::env::var_os("RUSTC").map_or_else(|| PathBuf::from("rustc"), PathBuf::from);
        let found = [own, DEBIAN_RUSTC.into()].into_iter().find(|rustc| has_target(rustc, arch))?;
        Some(Self { arch, rustc: found })
    }

    pub(super) fn name(&self) -> String {
        let version = quiet_output(Command::new(&self.rustc).arg("--version")).unwrap_or_default();
        version.trim().to_owned()
    }

    /// Cargo, set up to use it. Flags and linker are given by variables that concern the target alone: what runs
    /// while building is built as always.
    pub(super) fn cargo(&self) -> Command {
        let target = self.arch.target();
        let variable =
            |what: &str| format!("CARGO_TARGET_{}_{what}", target.replace('-', "_").to_uppercase());
        let mut command = cargo();
        command.env("RUSTC", &self.rustc).env("CARGO_BUILD_TARGET", &target);
        command.env(variable("RUSTFLAGS"), "-C target-feature=+crt-static");
        if !self.is_native() {
            command.env(variable("LINKER"), self.linker());
        }
        command
    }

    fn is_native(&self) -> bool {
        self.arch.name() == std::env::consts::ARCH
    }

    fn linker(&self) -> String {
        format!("{}-linux-gnu-gcc", self.arch.name())
    }

    /// The C compiler links, and brings the static C library.
    fn install_linker(&self) -> Result<()> {
        if self.is_native() || is_installed(&self.linker()) {
            return Ok(());
        }
        println!("Linking programs for {} needs a C compiler and C library for it.", self.arch.name());
        let compiler = format!("gcc-{}-linux-gnu", self.arch.name().replace('_', "-"));
        install_packages(&[&compiler, &format!("libc6-dev-{}-cross", self.arch.debian())])
    }
}

/// This compiler has the standard library for it.
fn has_target(rustc: &Path, arch: Arch) -> bool {
    let target = arch.target();
    let libdir = quiet_output(Command::new(rustc).args(["--print", "target-libdir", "--target", &target]));
    let Ok(libdir) = libdir else { return false };
    // Both the directory and what is in it: rustup leaves an empty one.
    std::fs::read_dir(libdir.trim()).is_ok_and(|mut entries| {
        entries
            .any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("libstd-")))
    })
}

fn install(arch: Arch) -> Result<()> {
    let name = arch.name();
    println!("Building for {name} needs Rust's standard library for it.");
    add_architecture(arch.debian())?;
    update_package_lists()?;
    let library = format!("libstd-rust-web-dev:{}", arch.debian());
    if is_packaged(&library) {
        return install_packages(&["rustc-web", &library]);
    }
    if !is_installed("rustup") {
        bail!(
            "no compiler for {name} to be had\n  help: install rustup, or Debian's rustc-web and libstd-rust-web-dev:{}",
            arch.debian()
        );
    }
    run(Command::new("rustup").args(["target", "add", &arch.target()]))
}
