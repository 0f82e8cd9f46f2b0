//! Debian's packages and all that they need, unpacked for a machine where nothing is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::dist::Arch;
use crate::setup::update_package_lists;
use crate::shell::{is_installed, quiet_output, run};
use crate::vm::packages::{store, unpack};

/// Parts of packages that nothing here reads.
const UNUSED_FILES: [&str; 9] = [
    "*/@types/*",
    "*/gconv/*",
    "*/perl5/*",
    "*/share/doc/*",
    "*/share/info/*",
    "*/share/locale/*",
    "*/share/man/*",
    "*/share/zoneinfo/*",
    "*/zsh/functions/Completion/*",
];

/// What is unpacked.
#[derive(Debug)]
pub(super) struct Debian {
    /// The release; that of this machine, if not said.
    pub(super) release: Option<&'static str>,
    /// Beside those that they need.
    pub(super) packages: &'static [&'static str],
    /// Packages that are needed to install others, not to run them: the beginnings of their files' names.
    pub(super) unused: &'static [&'static str],
}

impl Debian {
    /// All that decides what is unpacked, but for Debian's updates.
    pub(super) fn recipe(&self) -> String {
        format!("{self:?}\n{UNUSED_FILES:?}")
    }

    /// # Errors
    /// When a package cannot be had.
    pub(super) fn unpack(&self, arch: Arch, tree: &Path) -> Result<()> {
        if !is_installed("apt-get") {
            bail!("Debian's packages are fetched with apt-get, which is not there");
        }
        let dir = tempfile::Builder::new().prefix("packages").tempdir_in(store())?;
        let dir = dir.path();
        fs::create_dir_all(dir.join("archives/partial"))?;
        fs::write(dir.join("status"), "")?;
        if let Some(release) = self.release {
            self.look_up(release, arch, dir)?;
            self.download(arch, dir)?;
        } else {
            let download = || self.download(arch, dir);
            // A new machine knows of no packages, and an old one of packages that are gone.
            download().or_else(|_| update_package_lists().and_then(|()| download()))?;
        }
        for file in fs::read_dir(dir.join("archives"))? {
            let file = file?;
            let name = file.file_name();
            let is_unused = self.unused.iter().any(|prefix| name.to_string_lossy().starts_with(prefix));
            if file.path().extension().is_some_and(|end| end == "deb") && !is_unused {
                unpack_useful(&file.path(), tree)?;
            }
        }
        Ok(())
    }

    /// Asks where this machine has its packages from what there is of another release.
    fn look_up(&self, release: &str, arch: Arch, dir: &Path) -> Result<()> {
        let archive = archive()?;
        fs::create_dir_all(dir.join("lists/partial"))?;
        let source = format!("deb [signed-by={KEYS}] {archive} {release} main\n");
        fs::write(dir.join("sources.list"), source)?;
        run(self.apt(arch, dir).args(["--option=Acquire::Languages=none", "update"]))
            .with_context(|| format!("cannot learn what Debian's {release} has"))
    }

    /// Fetches the packages and all that they need.
    fn download(&self, arch: Arch, dir: &Path) -> Result<()> {
        let mut apt = self.apt(arch, dir);
        apt.args(["--yes", "--download-only", "--no-install-recommends", "install"]);
        run(apt.args(self.packages))
    }

    /// apt for a machine where nothing is installed.
    fn apt(&self, arch: Arch, dir: &Path) -> Command {
        let mut options: Vec<(&str, PathBuf)> = vec![
            ("APT::Architecture", arch.debian().into()),
            ("APT::Architectures", arch.debian().into()),
            ("APT::Sandbox::User", "root".into()),
            ("Debug::NoLocking", "true".into()),
            ("Dir::Cache::archives", dir.join("archives")),
            ("Dir::State::status", dir.join("status")),
        ];
        if self.release.is_some() {
            options.extend([
                ("Dir::Cache::pkgcache", PathBuf::new()),
                ("Dir::Cache::srcpkgcache", PathBuf::new()),
                ("Dir::Etc::sourcelist", dir.join("sources.list")),
                ("Dir::Etc::sourceparts", "/dev/null".into()),
                ("Dir::State::lists", dir.join("lists")),
            ]);
        }
        let mut apt = Command::new("apt-get");
        apt.args(options.iter().map(|(name, value)| format!("--option={name}={}", value.display())));
        apt.arg("--quiet=2").stdin(Stdio::null()).stdout(Stdio::null());
        apt
    }
}

/// Debian's own keys, also those of releases newer than this machine's.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where this machine has Debian's packages from.
fn archive() -> Result<String> {
    const MAIN: &str = "$(LABEL) $(REPO_URI)";
    let known = || -> Result<Option<String>> {
        let targets = quiet_output(Command::new("apt-get").args(["indextargets", "--format", MAIN]))?;
        Ok(targets.lines().find_map(|line| line.strip_prefix("Debian ")).map(str::to_owned))
    };
    if let Some(archive) = known()? {
        return Ok(archive);
    }
    update_package_lists()?;
    known()?.context("this machine has no packages of Debian's, and no place to get them from")
}

fn unpack_useful(package_file: &Path, tree: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--no-same-owner", "--wildcards"]);
    tar.args(UNUSED_FILES.map(|pattern| format!("--exclude={pattern}")));
    unpack(package_file, tar.arg("--directory").arg(tree))
}
