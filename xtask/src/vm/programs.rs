//! The programs that a guest needs, all static: it has no libraries, but those that stories bring.

use std::path::PathBuf;

use anyhow::Result;

use super::packages::file_of_package;
use super::userland;
use crate::dist::{Arch, build};

pub(super) struct Programs {
    /// Each by its path in the guest.
    files: Vec<(&'static str, PathBuf)>,
    /// What else its first root directory holds.
    pub(super) userland: Option<PathBuf>,
}

impl Programs {
    /// Builds ours and fetches the others'.
    ///
    /// # Errors
    /// When something does not build, or a package manager cannot be asked.
    pub(super) fn build(arch: Arch, stories: bool) -> Result<Self> {
        // Test programs look for those that they need above themselves.
        let ours: &[_] = if stories {
            &[
                ("tests/victim", "--bin=victim"),
                ("tests/deps/live_vite", "--test=live_vite"),
                ("tests/deps/vm_stories", "--test=vm_stories"),
            ]
        } else {
            &[
                ("bin/zoo", "--bin=zoo"),
                ("bin/live_zoo", "--test=live_zoo"),
                ("bin/live_machine", "--test=live_machine"),
            ]
        };
        let userland = if stories { Some(userland::tree(arch)?) } else { None };
        let killtrace = ("bin/killtrace", "--bin=killtrace");
        let ours = || ours.iter().chain([&killtrace]);
        let mut arguments = vec!["--profile=guest", "--package=guard-userspace", "--package=killtrace-tests"];
        arguments.extend(ours().map(|(_, argument)| argument));
        let built = build(arch, &arguments)?;
        let mut files = vec![("bin/busybox", busybox(arch)?)];
        for (path, _) in ours() {
            let name = path.rsplit('/').next().unwrap_or_default();
            files.push((path, built.find(name)?));
        }
        Ok(Self { files, userland })
    }

    pub(super) fn files(&self) -> &[(&'static str, PathBuf)] {
        &self.files
    }
}

fn busybox(arch: Arch) -> Result<PathBuf> {
    let package = format!("busybox-static:{}", arch.debian());
    file_of_package(&package, "*bin/busybox", &format!("busybox-{}", arch.name()))
}
