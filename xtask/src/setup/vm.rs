//! What `cargo xtask vm-test` needs: an emulator for each processor.

use anyhow::Result;

use super::{add_architecture, install_packages};
use crate::dist::Arch;
use crate::shell::is_installed;

/// Installs the emulators that are missing.
///
/// # Errors
/// When the package manager is unknown here, or fails.
pub(crate) fn setup_vm(archs: impl Iterator<Item = Arch>) -> Result<()> {
    let mut archs: Vec<Arch> = archs.collect();
    archs.dedup();
    let emulators = archs.iter().map(|arch| match arch {
        Arch::X86_64 => ("qemu-system-x86_64", "qemu-system-x86"),
        Arch::Aarch64 => ("qemu-system-aarch64", "qemu-system-arm"),
    });
    let missing: Vec<&str> =
        emulators.filter(|(program, _)| !is_installed(program)).map(|(_, package)| package).collect();
    if !missing.is_empty() {
        println!("Booting other kernels needs QEMU. A qemu-utils of another version gives way to it.");
        install_packages(&missing)?;
    }
    for arch in archs {
        add_architecture(arch.debian())?;
    }
    Ok(())
}
