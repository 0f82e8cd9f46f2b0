//! What makes a guest like a person's machine: Debian's Node, tmux, shells and earlyoom, with npm and a real Vite.
//!
//! One directory tree, which becomes part of the guest's first root directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::packages::{store, unpack};
use crate::dist::Arch;
use crate::setup::update_package_lists;
use crate::shell::{is_installed, root, run};

/// Debian's packages, beside those that they need.
const PACKAGES: [&str; 13] = [
    "bash",
    "coreutils",
    "dash",
    "earlyoom",
    "libc-bin",
    "ncurses-base",
    "nodejs",
    "procps",
    "psmisc",
    "systemd",
    "tmux",
    "util-linux",
    "zsh",
];

/// npm's own package, which brings all that it needs; the last one for Debian's Node.
const NPM: &str = "npm@10.9.4";

/// Packages that are needed to install others, not to run them.
const UNUSED_PACKAGES: [&str; 8] =
    ["debconf_", "dpkg_", "libdb5", "libgdbm", "libperl", "perl", "tar_", "usrmerge_"];

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

/// The tree, made when there is none or the last one was made of something else.
///
/// # Errors
/// When a package cannot be had.
pub(super) fn tree(arch: Arch) -> Result<PathBuf> {
    let tree = store().join(format!("userland-{}", arch.name()));
    let recipe = recipe()?;
    // Beside the tree, and written when that is whole.
    let made_of = tree.with_extension("recipe");
    if tree.is_dir() && fs::read_to_string(&made_of).is_ok_and(|made_of| made_of == recipe) {
        return Ok(tree);
    }
    println!("Unpacking Debian's {} for {}, npm and Vite", PACKAGES.join(", "), arch.name());
    let _ = fs::remove_file(&made_of);
    if tree.exists() {
        fs::remove_dir_all(&tree).with_context(|| format!("cannot remove {}", tree.display()))?;
    }
    fs::create_dir_all(&tree).with_context(|| format!("cannot make {}", tree.display()))?;
    unpack_packages(arch, &tree)?;
    install_npm(&tree)?;
    install_vite(arch, &tree)?;
    fs::write(&made_of, recipe).with_context(|| format!("cannot write {}", made_of.display()))?;
    Ok(tree)
}

/// All that decides what is in the tree, but for Debian's updates.
fn recipe() -> Result<String> {
    let lock = app().join("package-lock.json");
    let lock = fs::read_to_string(&lock).with_context(|| format!("cannot read {}", lock.display()))?;
    Ok(format!("{PACKAGES:?}\n{UNUSED_PACKAGES:?}\n{UNUSED_FILES:?}\n{NPM}\n{lock}"))
}

fn app() -> PathBuf {
    root().join("tests/vite-app")
}

fn unpack_packages(arch: Arch, tree: &Path) -> Result<()> {
    if !is_installed("apt-get") {
        bail!("Debian's packages are fetched with apt-get, which is not there");
    }
    let dir = tempfile::Builder::new().prefix("packages").tempdir_in(store())?;
    let download = || download(arch, dir.path());
    // A new machine knows of no packages, and an old one of packages that are gone.
    download().or_else(|_| update_package_lists().and_then(|()| download()))?;
    for file in fs::read_dir(dir.path().join("archives"))? {
        let file = file?;
        let name = file.file_name();
        let is_unused = UNUSED_PACKAGES.iter().any(|prefix| name.to_string_lossy().starts_with(prefix));
        if file.path().extension().is_some_and(|end| end == "deb") && !is_unused {
            unpack_useful(&file.path(), tree)?;
        }
    }
    Ok(())
}

/// Fetches the packages and all that they need, as for a machine where nothing is installed.
fn download(arch: Arch, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir.join("archives/partial"))?;
    fs::write(dir.join("status"), "")?;
    let mut apt = Command::new("apt-get");
    for (name, value) in [
        ("APT::Architecture", arch.debian().into()),
        ("APT::Architectures", arch.debian().into()),
        ("APT::Sandbox::User", "root".into()),
        ("Debug::NoLocking", "true".into()),
        ("Dir::Cache::archives", dir.join("archives")),
        ("Dir::State::status", dir.join("status")),
    ] as [(&str, PathBuf); 6]
    {
        apt.arg(format!("--option={name}={}", value.display()));
    }
    apt.args(["--quiet=2", "--yes", "--download-only", "--no-install-recommends", "install"]);
    run(apt.args(PACKAGES).stdin(Stdio::null()).stdout(Stdio::null()))
}

fn unpack_useful(package_file: &Path, tree: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--no-same-owner", "--wildcards"]);
    tar.args(UNUSED_FILES.map(|pattern| format!("--exclude={pattern}")));
    unpack(package_file, tar.arg("--directory").arg(tree))
}

fn install_npm(tree: &Path) -> Result<()> {
    let lib = tree.join("usr/lib/node_modules/npm");
    fs::create_dir_all(&lib)?;
    let dir = tempfile::Builder::new().prefix("npm").tempdir_in(store())?;
    run(npm(dir.path()).args(["pack", "--silent", NPM]).stdout(Stdio::null()))?;
    let file = fs::read_dir(dir.path())?.next().context("npm packed nothing")??.path();
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--no-same-owner", "--strip-components=1", "--exclude=*/man", "--exclude=*/docs"]);
    run(tar.arg("--file").arg(file).arg("--directory").arg(lib))?;
    std::os::unix::fs::symlink("../lib/node_modules/npm/bin/npm-cli.js", tree.join("usr/bin/npm"))?;
    Ok(())
}

/// The app of the live tests, with its packages for that processor.
fn install_vite(arch: Arch, tree: &Path) -> Result<()> {
    let app_there = tree.join("app");
    fs::create_dir_all(&app_there)?;
    for file in fs::read_dir(app())?.filter_map(Result::ok) {
        if file.file_type()?.is_file() {
            fs::copy(file.path(), app_there.join(file.file_name()))?;
        }
    }
    let cpu = match arch {
        Arch::X86_64 => "x64",
        Arch::Aarch64 => "arm64",
    };
    let mut npm = npm(&app_there);
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]);
    run(npm.args(["--os=linux", "--libc=glibc"]).arg(format!("--cpu={cpu}")))
}

fn npm(dir: &Path) -> Command {
    let mut npm = Command::new("npm");
    npm.current_dir(dir).stdin(Stdio::null());
    npm
}
