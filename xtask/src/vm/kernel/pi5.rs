//! A kernel that behaves for a tracer like the one that a Raspberry Pi 5 boots by default, from Debian's source.
//!
//! 16 KiB pages, no BTF, and with neither KPROBES nor UPROBE_EVENTS no BPF_EVENTS either.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::setup::install_packages;
use crate::shell::{root, run};
use crate::vm::packages::{file_of_package, store};

const FRAGMENT: &str = "tests/vm/pi5-stock.fragment";
const SOURCE: &str = "linux-source-6.12";
/// What a kernel is built with.
const TOOLS: [&str; 9] =
    ["gcc-aarch64-linux-gnu", "gcc", "libc6-dev", "make", "flex", "bison", "bc", "libssl-dev", "xz-utils"];

/// Builds it, with these options on besides, as `name` in the store.
///
/// # Errors
/// When the source or the tools are not to be had, or it does not build.
pub(super) fn build(name: &str, enable: &[&str]) -> Result<PathBuf> {
    println!("Building the kernel {name} from Debian's {SOURCE}; this takes some minutes");
    install_packages(&TOOLS)?;
    let source = source()?;
    // A directory for each, so that what one kernel has built does not end up in the other.
    let build = store().join(format!("build-{name}"));
    fs::create_dir_all(&build).with_context(|| format!("cannot make {}", build.display()))?;
    make(&source, &build, &["tinyconfig"])?;
    let more = build.join("more.fragment");
    fs::write(&more, enable.iter().map(|option| format!("CONFIG_{option}=y\n")).collect::<String>())?;
    let mut merge = Command::new(source.join("scripts/kconfig/merge_config.sh"));
    merge.args(["-m", "-O"]).arg(&build).arg(build.join(".config")).arg(root().join(FRAGMENT)).arg(&more);
    run(merge.current_dir(&source).stdin(Stdio::null()).stdout(Stdio::null()))?;
    make(&source, &build, &["olddefconfig", "Image"])?;
    let image = store().join(name);
    fs::rename(build.join("arch/arm64/boot/Image"), &image).context("make left no image")?;
    fs::remove_dir_all(&build).context("cannot remove what the kernel was built from")?;
    Ok(image)
}

fn source() -> Result<PathBuf> {
    let source = store().join(SOURCE);
    if !source.join("Makefile").exists() {
        let archive = file_of_package(SOURCE, "*.tar.xz", &format!("{SOURCE}.tar.xz"))?;
        run(Command::new("tar")
            .arg("--extract")
            .arg("--file")
            .arg(&archive)
            .arg("--directory")
            .arg(store()))?;
        fs::remove_file(&archive)?;
    }
    Ok(source)
}

fn make(source: &Path, build: &Path, goals: &[&str]) -> Result<()> {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let mut make = Command::new("make");
    make.arg("-C").arg(source).arg(format!("O={}", build.display())).arg(format!("-j{jobs}")).arg("-s");
    make.args(["ARCH=arm64", "CROSS_COMPILE=aarch64-linux-gnu-"]).args(goals);
    run(make.stdin(Stdio::null()).stdout(Stdio::null()))
}
