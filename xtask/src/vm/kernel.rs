//! Kernels to boot: found, fetched, or built.

mod pi5;

use std::path::PathBuf;

use anyhow::Result;

use super::matrix::{Image, Kernel};
use super::packages::{file_of_package, find_file, kernel_dirs, newest};

/// The kernel's image.
///
/// # Errors
/// When it lies nowhere, and cannot be fetched or built.
pub(super) fn image(kernel: &Kernel) -> Result<PathBuf> {
    let name = match kernel.image {
        Image::Debian { .. } => format!("vmlinuz-{}", kernel.name),
        Image::Pi5 { file, .. } => file.to_owned(),
    };
    if let Some(found) = find_file(&kernel_dirs(), &name) {
        return Ok(found);
    }
    match kernel.image {
        Image::Debian { release, flavour } => {
            let package = newest(&format!("linux-image-{release}."), &format!("-{flavour}-unsigned"))?;
            file_of_package(&format!("{package}:{}", kernel.arch.debian()), "*/vmlinuz-*", &name)
        }
        Image::Pi5 { enable, .. } => pi5::build(&name, enable),
    }
}
