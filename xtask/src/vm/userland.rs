//! What a guest has beside busybox, killtrace and what is played: a directory tree, which becomes part of the guest's first
//! root directory.

mod debian;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use self::debian::Debian;
use super::packages::store;
use super::plan::Machine;
use crate::dist::Arch;
use crate::shell::{root, run};

/// What makes a guest like a person's machine, with npm and a real Vite.
const DEV: Debian = Debian {
    release: None,
    packages: &[
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
    ],
    unused: &["debconf_", "dpkg_", "libdb5", "libgdbm", "libperl", "perl", "tar_", "usrmerge_"],
};

/// What boots by itself, and has packages installed. The release is the first whose systemd has the kernel kill whole
/// cgroups (257).
const SYSTEMD: Debian = Debian {
    release: Some("trixie"),
    packages: &[
        "base-files",
        "base-passwd",
        "bash",
        "bash-completion",
        "coreutils",
        "dash",
        "dbus",
        "dpkg",
        "findutils",
        "grep",
        "gzip",
        "init-system-helpers",
        "libc-bin",
        "mount",
        "perl-base",
        "procps",
        "sed",
        "systemd",
        "systemd-oomd",
        "systemd-sysv",
        "tar",
        "util-linux",
    ],
    unused: &["debconf_", "openssl-provider", "usrmerge_"],
};

/// npm's own package, which brings all that it needs; the last one for Debian's Node.
const NPM: &str = "npm@10.9.4";

/// The tree of a guest that is more than its first programs, made when there is none or the last one was made of something
/// else.
///
/// # Errors
/// When a package cannot be had.
pub(super) fn tree(arch: Arch, machine: Machine) -> Result<Option<PathBuf>> {
    let (name, debian) = match machine {
        Machine::Bare => return Ok(None),
        Machine::Dev => ("userland", &DEV),
        Machine::Systemd => ("systemd", &SYSTEMD),
    };
    let tree = store().join(format!("{name}-{}", arch.name()));
    let recipe = recipe(debian, machine)?;
    // Beside the tree, and written when that is whole.
    let made_of = tree.with_extension("recipe");
    if tree.is_dir() && fs::read_to_string(&made_of).is_ok_and(|made_of| made_of == recipe) {
        return Ok(Some(tree));
    }
    println!("Unpacking Debian's {} for {}", debian.packages.join(", "), arch.name());
    let _ = fs::remove_file(&made_of);
    if tree.exists() {
        fs::remove_dir_all(&tree).with_context(|| format!("cannot remove {}", tree.display()))?;
    }
    fs::create_dir_all(&tree).with_context(|| format!("cannot make {}", tree.display()))?;
    debian.unpack(arch, &tree)?;
    if machine == Machine::Dev {
        println!("Installing npm and Vite");
        install_npm(&tree)?;
        install_vite(arch, &tree)?;
    }
    fs::write(&made_of, recipe).with_context(|| format!("cannot write {}", made_of.display()))?;
    Ok(Some(tree))
}

/// All that decides what is in the tree, but for Debian's updates.
fn recipe(debian: &Debian, machine: Machine) -> Result<String> {
    let debian = debian.recipe();
    if machine != Machine::Dev {
        return Ok(debian);
    }
    let lock = app().join("package-lock.json");
    let lock = fs::read_to_string(&lock).with_context(|| format!("cannot read {}", lock.display()))?;
    Ok(format!("{debian}\n{NPM}\n{lock}"))
}

fn app() -> PathBuf {
    root().join("tests/vite-app")
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
