//! `cargo xtask setup --ebpf`: the compiler and linker that rebuild the eBPF object. Nobody else needs them: the
//! object is checked in.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use super::{install_packages, is_packaged, update_package_lists};
use crate::shell::{is_installed, quiet_output, run};

/// The LLVM that the linker is built with has to read what the compiler's LLVM wrote.
const LLVM: &str = "22";
/// Pinned, for the object is compared byte by byte.
const BPF_LINKER: &str = "0.13.0";

/// Installs what `cargo xtask build-ebpf` needs.
///
/// # Errors
/// When neither Debian nor rustup has it.
pub(crate) fn setup_ebpf() -> Result<()> {
    if has_debian_compiler() || has_nightly_with_source() {
        return install_linker();
    }
    update_package_lists()?;
    if is_packaged("rustc-web") {
        println!(
            "Building the eBPF object needs the source of Rust's core library, for a target without one."
        );
        install_packages(&["rustc-web", "rust-web-src"])?;
    } else if is_installed("rustup") {
        println!("Building the eBPF object needs a nightly compiler and the source of its core library.");
        let mut rustup = Command::new("rustup");
        run(rustup.args([
            "toolchain",
            "install",
            "nightly",
            "--profile",
            "minimal",
            "--component",
            "rust-src",
        ]))?;
    } else {
        bail!(
            "no compiler for eBPF to be had\n  help: install rustup, or Debian's rustc-web and rust-web-src"
        );
    }
    install_linker()
}

fn install_linker() -> Result<()> {
    if is_installed("bpf-linker") {
        return Ok(());
    }
    println!("Installing bpf-linker {BPF_LINKER}, which links eBPF programs");
    let mut cargo = Command::new("cargo");
    cargo.args(["install", "bpf-linker", "--locked", "--quiet", "--version", BPF_LINKER]);
    update_package_lists()?;
    let (llvm, polly) = (format!("llvm-{LLVM}-dev"), format!("libpolly-{LLVM}-dev"));
    if is_packaged(&llvm) {
        // LLVM's own libraries name the two compressors when they are linked, its package does not.
        install_packages(&[&llvm, &polly, "zlib1g-dev", "libzstd-dev"])?;
        cargo.env("LLVM_PREFIX", format!("/usr/lib/llvm-{LLVM}"));
        cargo.args(["--no-default-features", "--features", &format!("llvm-{LLVM}")]);
    }
    run(cargo.stdin(Stdio::null()))
}

fn has_debian_compiler() -> bool {
    ["/usr/bin/rustc", "/usr/lib/rustlib/src/rust/library/core"].iter().all(|path| Path::new(path).exists())
}

fn has_nightly_with_source() -> bool {
    let mut rustup = Command::new("rustup");
    rustup.args(["component", "list", "--installed", "--toolchain", "nightly"]).stderr(Stdio::null());
    is_installed("rustup")
        && quiet_output(&mut rustup).is_ok_and(|list| list.lines().any(|line| line == "rust-src"))
}
