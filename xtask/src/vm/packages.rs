//! Single files out of Debian's packages, without installing them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::setup::{is_packaged, update_package_lists};
use crate::shell::{is_installed, quiet_output, root, run};

/// Where kernels and everything else for the guests are kept.
pub(super) fn store() -> PathBuf {
    root().join("target/vm")
}

/// The file of a package whose path matches `pattern`, kept as `name` in the store.
///
/// # Errors
/// When the package or the file is not to be had.
pub(super) fn file_of_package(package: &str, pattern: &str, name: &str) -> Result<PathBuf> {
    let wanted = store().join(name);
    if wanted.exists() {
        return Ok(wanted);
    }
    let (_dir, package_file) = download(package)?;
    // Renamed when it is whole.
    let partial = store().join(format!("{name}.part"));
    let content = File::create(&partial).with_context(|| format!("cannot write {}", partial.display()))?;
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--to-stdout", "--wildcards", pattern]).stdout(content);
    unpack(&package_file, &mut tar)?;
    if fs::metadata(&partial)?.len() == 0 {
        bail!("the package {package} has no {pattern}");
    }
    fs::rename(&partial, &wanted).with_context(|| format!("cannot write {}", wanted.display()))?;
    Ok(wanted)
}

/// Gives the files of a package, as an archive, to a `tar` that says what to do with them.
///
/// # Errors
/// When either of the two fails.
pub(super) fn unpack(package_file: &Path, tar: &mut Command) -> Result<()> {
    let mut listing = Command::new("dpkg-deb");
    listing.arg("--fsys-tarfile").arg(package_file).stdout(Stdio::piped());
    let mut listing = listing.spawn().context("dpkg-deb")?;
    let archive = listing.stdout.take().context("its output is a pipe")?;
    run(tar.stdin(archive))?;
    if !listing.wait().context("dpkg-deb")?.success() {
        bail!("dpkg-deb cannot read {}", package_file.display());
    }
    Ok(())
}

/// The newest package whose name begins and ends like this, with only a version between.
///
/// # Errors
/// When the package manager knows of none.
pub(super) fn newest(prefix: &str, suffix: &str) -> Result<String> {
    let help = "other kernels can be put into the directory that KILLTRACE_VM_KERNELS names";
    if !is_installed("apt-cache") {
        bail!("there is no apt here to get {prefix}*{suffix} from\n  help: {help}");
    }
    if let Some(known) = newest_known(prefix, suffix)? {
        return Ok(known);
    }
    // A new machine knows of nothing.
    update_package_lists()?;
    newest_known(prefix, suffix)?
        .with_context(|| format!("apt knows no package {prefix}*{suffix}\n  help: {help}"))
}

fn newest_known(prefix: &str, suffix: &str) -> Result<Option<String>> {
    let pattern = format!("^{}", prefix.replace('.', "\\."));
    let found = quiet_output(Command::new("apt-cache").args(["search", "--names-only", &pattern]))?;
    let names = found.lines().filter_map(|line| line.split(' ').next());
    let versions = names.filter(|name| {
        let between = name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(suffix));
        between.is_some_and(is_plain_version)
    });
    Ok(versions.max_by_key(|name| numbers(name)).map(str::to_owned))
}

/// `117+deb12` and `0-56` are, `0-56-cloud` is another kernel.
fn is_plain_version(text: &str) -> bool {
    !text.split('-').skip(1).any(|part| part.starts_with(|first: char| first.is_ascii_alphabetic()))
}

/// The numbers in a text: what versions are compared by.
fn numbers(text: &str) -> Vec<u64> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

fn download(package: &str) -> Result<(tempfile::TempDir, PathBuf)> {
    if !is_packaged(package) {
        update_package_lists()?;
    }
    println!("Fetching {package}");
    fs::create_dir_all(store()).with_context(|| format!("cannot make {}", store().display()))?;
    let dir = tempfile::Builder::new().prefix("download").tempdir_in(store())?;
    let mut apt = Command::new("apt-get");
    // As this user: apt's own cannot write here.
    apt.args(["--option=APT::Sandbox::User=root", "--quiet=2", "download", package]);
    run(apt.current_dir(&dir).stdin(Stdio::null()).stdout(Stdio::null()))?;
    let file = fs::read_dir(&dir)?.next().context("apt-get downloaded nothing")??.path();
    Ok((dir, file))
}

/// The places where a kernel may lie ready, best first.
pub(super) fn kernel_dirs() -> Vec<PathBuf> {
    let given = std::env::var_os("KILLTRACE_VM_KERNELS").map(PathBuf::from);
    let beside = root().parent().map(|parent| parent.join("shared/vm"));
    given.into_iter().chain([store()]).chain(beside).collect()
}

/// `name` or `name.gz` in one of these directories.
pub(super) fn find_file(dirs: &[PathBuf], name: &str) -> Option<PathBuf> {
    let candidates = dirs.iter().flat_map(|dir: &PathBuf| [dir.join(name), dir.join(format!("{name}.gz"))]);
    candidates.into_iter().find(|path: &PathBuf| Path::is_file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert!(numbers("linux-image-6.12.117+deb12-amd64") > numbers("linux-image-6.12.99+deb12-amd64"));
        assert!(numbers("linux-image-6.1.0-56-amd64") > numbers("linux-image-6.1.0-9-amd64"));
    }

    #[test]
    fn a_flavour_is_no_version() {
        assert!(is_plain_version("117+deb12"));
        assert!(is_plain_version("0-56"));
        assert!(!is_plain_version("0-56-cloud"));
        assert!(!is_plain_version("117+deb12-rt"));
    }
}
