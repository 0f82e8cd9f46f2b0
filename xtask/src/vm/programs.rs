//! The programs that a guest needs, all static: it has no libraries, but those that a userland brings.

use std::path::PathBuf;

use anyhow::Result;

use super::packages::{self, file_of_package};
use super::plan::Machine;
use super::userland;
use crate::dist::{Arch, build, package};

pub(super) struct Programs {
    /// Each by its path in the guest.
    files: Vec<(&'static str, PathBuf)>,
    /// What else its first root directory holds.
    pub(super) userland: Option<PathBuf>,
}

/// By their places in the guest, and how cargo builds them. Test programs look for those that they need above themselves.
type Ours = &'static [(&'static str, &'static str)];

impl Machine {
    fn ours(self) -> Ours {
        match self {
            Self::Bare => &[
                ("bin/zoo", "--bin=zoo"),
                ("bin/live_zoo", "--test=live_zoo"),
                ("bin/live_machine", "--test=live_machine"),
            ],
            Self::Dev => &[
                ("tests/victim", "--bin=victim"),
                ("tests/deps/live_vite", "--test=live_vite"),
                ("tests/deps/vm_stories", "--test=vm_stories"),
            ],
            Self::Systemd => &[
                ("tests/victim", "--bin=victim"),
                ("tests/striker", "--bin=striker"),
                ("tests/deps/live_package", "--test=live_package"),
                ("tests/deps/live_systemd", "--test=live_systemd"),
                ("tests/deps/vm_systemd", "--test=vm_systemd"),
            ],
        }
    }
}

impl Programs {
    /// Builds ours and fetches the others'.
    ///
    /// # Errors
    /// When something does not build, or a package manager cannot be asked.
    pub(super) fn build(arch: Arch, machine: Machine) -> Result<Self> {
        let userland = userland::tree(arch, machine)?;
        let killtrace = ("bin/killtrace", "--bin=killtrace");
        let ours = || machine.ours().iter().chain([&killtrace]);
        let mut arguments = vec!["--profile=guest", "--package=guard-userspace", "--package=killtrace-tests"];
        arguments.extend(ours().map(|(_, argument)| argument));
        let built = build(arch, &arguments)?;
        let mut files = vec![("bin/busybox", busybox(arch)?)];
        for (path, _) in ours() {
            let name = path.rsplit('/').next().unwrap_or_default();
            files.push((path, built.find(name)?));
        }
        if machine == Machine::Systemd {
            let deb = package::deb(arch, &built.find("killtrace")?, &packages::store())?;
            files.push(("tests/killtrace.deb", deb));
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
