//! The programs that a guest needs, all static: it has no libraries.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::packages::file_of_package;
use crate::dist::{Arch, build};

pub(super) struct Programs {
    killtrace: PathBuf,
    zoo: PathBuf,
    live_zoo: PathBuf,
    busybox: PathBuf,
}

impl Programs {
    /// Builds ours and fetches busybox.
    ///
    /// # Errors
    /// When something does not build, or the package manager cannot be asked.
    pub(super) fn build(arch: Arch) -> Result<Self> {
        let arguments = [
            "--profile=guest",
            "--package=guard-userspace",
            "--package=killtrace-tests",
            "--bin=killtrace",
            "--bin=zoo",
            "--test=live_zoo",
        ];
        let built = build(arch, &arguments)?;
        Ok(Self {
            killtrace: built.find("killtrace")?,
            zoo: built.find("zoo")?,
            live_zoo: built.find("live_zoo")?,
            busybox: busybox(arch)?,
        })
    }

    pub(super) fn all(&self) -> [(&'static str, &Path); 4] {
        [
            ("killtrace", &self.killtrace),
            ("zoo", &self.zoo),
            ("live_zoo", &self.live_zoo),
            ("busybox", &self.busybox),
        ]
    }
}

fn busybox(arch: Arch) -> Result<PathBuf> {
    let package = format!("busybox-static:{}", arch.debian());
    file_of_package(&package, "*bin/busybox", &format!("busybox-{}", arch.name()))
}
