//! `cargo xtask setup`: installs what the tests need. Run twice, it does nothing the second time.

mod ebpf;
mod vm;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::shell::{as_root, cargo, is_installed, output, quiet_output, root, run};

pub(crate) use ebpf::setup_ebpf;
pub(crate) use vm::setup_vm;

/// A program, the Debian package that has it, and what it is for.
struct Need {
    program: &'static str,
    package: &'static str,
    why: &'static str,
}

/// Those that killtrace is compared with.
const COMPARED: [Need; 4] = [
    Need { program: "bpftrace", package: "bpftrace", why: "prints what happens at the same tracepoints" },
    Need { program: "sigsnoop", package: "libbpf-tools", why: "prints every signal" },
    Need { program: "exitsnoop", package: "libbpf-tools", why: "prints every exit" },
    Need { program: "strace", package: "strace", why: "stops a program at every signal" },
];

const NEEDS: [Need; 14] = [
    Need { program: "node", package: "nodejs", why: "runs Vite, the victim of the end-to-end tests" },
    Need { program: "npm", package: "npm", why: "installs Vite and tsx and starts them, as people do" },
    Need { program: "pkill", package: "procps", why: "kills Vite by name" },
    Need { program: "fuser", package: "psmisc", why: "kills Vite by port" },
    Need { program: "tmux", package: "tmux", why: "gives Vite a terminal that can be closed" },
    Need { program: "bash", package: "bash", why: "is the shell in that terminal" },
    Need { program: "unshare", package: "util-linux", why: "keeps pkill in a PID namespace of its own" },
    Need { program: "nsenter", package: "util-linux", why: "starts processes in that namespace" },
    Need { program: "systemctl", package: "systemd", why: "runs as init of namespaces, and stops services" },
    Need { program: "setpriv", package: "util-linux", why: "starts a process as another user" },
    Need { program: "shellcheck", package: "shellcheck", why: "reads the GitHub Action's shell" },
    Need { program: "curl", package: "curl", why: "fetches a release, as that action does" },
    Need { program: "lintian", package: "lintian", why: "looks at the Debian package" },
    Need { program: "setcap", package: "libcap2-bin", why: "gives killtrace its capabilities there" },
];

/// The oldest Node that the pinned Vite runs on.
const OLDEST_NODE: u32 = 18;

/// # Errors
/// When something is missing and cannot be installed.
pub(crate) fn setup() -> Result<()> {
    install_programs()?;
    install_browser()?;
    check_node()?;
    install_packages_of("vite-app", "Vite")?;
    install_packages_of("tsx-app", "tsx")
}

/// What `cargo xtask bench` compares killtrace with, as far as this system has it as a package.
///
/// # Errors
/// When something cannot be installed.
pub(crate) fn setup_bench() -> Result<()> {
    if COMPARED.iter().any(|need| !is_installed(need.program)) {
        update_package_lists()?;
    }
    let to_be_had = COMPARED.iter().filter(|need| is_installed(need.program) || is_packaged(need.package));
    install_missing("The benchmarks compare", to_be_had)
}

/// Vite, for whoever builds with it.
///
/// # Errors
/// When it is missing and cannot be installed.
pub(crate) fn setup_vite() -> Result<()> {
    install_missing(
        "The benchmarks need",
        NEEDS.iter().filter(|need| ["nodejs", "npm"].contains(&need.package)),
    )?;
    install_packages_of("vite-app", "Vite")
}

fn install_programs() -> Result<()> {
    install_missing("The tests need", NEEDS.iter())
}

fn install_missing(who: &str, needs: impl Iterator<Item = &'static Need>) -> Result<()> {
    let missing: Vec<&Need> = needs.filter(|need| !is_installed(need.program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("{who} programs that are not installed:");
    for need in &missing {
        println!("  {:10} {} (package {})", need.program, need.why, need.package);
    }
    let mut packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    packages.dedup();
    install_packages(&packages)
}

/// Chromium is the browser of the kiosk whose renderers are a spawn storm; no smaller program starts them as it does.
/// Debian has it as a package (some 125 MB with what it needs), Ubuntu only as a snap: there its test is skipped.
fn install_browser() -> Result<()> {
    const BROWSER: &str = "chromium";
    if is_installed(BROWSER) {
        return Ok(());
    }
    update_package_lists()?;
    if !is_packaged(BROWSER) {
        println!("There is no package {BROWSER} here: the test of the kiosk will be skipped");
        return Ok(());
    }
    println!("The tests need {BROWSER}: it is the kiosk's browser, whose renderers are a spawn storm");
    install_packages(&[BROWSER])
}

/// Asks the system's package manager.
///
/// # Errors
/// When there is none that is known here, or it fails.
pub(crate) fn install_packages(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if !is_installed("apt-get") {
        bail!(
            "cannot install {list}: only apt-get is known here\n  help: install them with this system's package manager"
        );
    }
    println!("Installing with apt-get: {list}");
    update_package_lists()?;
    let mut install = as_root("env")?;
    install.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "--yes", "--quiet=2"]);
    install.arg("--no-install-recommends").args(packages);
    run(install.stdin(Stdio::null()))
}

/// Builds a program of cargo's from its published source, unless it is there.
///
/// # Errors
/// When it does not build.
pub(crate) fn install_with_cargo(program: &str, what_for: &str) -> Result<()> {
    if is_installed(program) {
        return Ok(());
    }
    println!("Installing {program}, which {what_for}");
    run(cargo().args(["install", program, "--locked", "--quiet"]))
}

/// Asks the package manager to look what there is; a new machine knows of nothing.
pub(crate) fn update_package_lists() -> Result<()> {
    if !is_installed("apt-get") {
        return Ok(());
    }
    run(as_root("apt-get")?.args(["update", "--quiet=2"]).stdin(Stdio::null()))
}

/// The system's package manager knows it, and could install it.
pub(crate) fn is_packaged(package: &str) -> bool {
    let policy = quiet_output(Command::new("apt-cache").args(["policy", package])).unwrap_or_default();
    has_candidate(&policy)
}

fn has_candidate(policy: &str) -> bool {
    let candidate = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "));
    candidate.is_some_and(|version| version != "(none)")
}

/// Makes packages for another processor known, as `package:arch`. Nothing is installed by that.
///
/// # Errors
/// When the package manager refuses.
pub(crate) fn add_architecture(debian: &str) -> Result<()> {
    if !is_installed("dpkg") {
        return Ok(());
    }
    let own = quiet_output(Command::new("dpkg").arg("--print-architecture"))?;
    let foreign = quiet_output(Command::new("dpkg").arg("--print-foreign-architectures"))?;
    if own.lines().chain(foreign.lines()).any(|known| known == debian) {
        return Ok(());
    }
    println!("Telling dpkg that packages for {debian} may be used too");
    run(as_root("dpkg")?.args(["--add-architecture", debian]))?;
    update_package_lists()
}

fn check_node() -> Result<()> {
    let version = output(Command::new("node").arg("--version"))?;
    let major = major(&version).with_context(|| format!("node has a strange version: {version:?}"))?;
    if major < OLDEST_NODE {
        bail!("node {} is too old for Vite\n  help: install Node {OLDEST_NODE} or later", version.trim());
    }
    Ok(())
}

/// `v20.11.1` is 20.
fn major(version: &str) -> Option<u32> {
    version.trim().strip_prefix('v')?.split('.').next()?.parse().ok()
}

/// Installs what a package of the tests depends on.
fn install_packages_of(name: &str, what: &str) -> Result<()> {
    let app = root().join("tests").join(name);
    if is_up_to_date(&app) {
        return Ok(());
    }
    println!("Installing {what} with npm, as pinned in tests/{name}/package-lock.json");
    // Its packages' install scripts only look for what the lock file has pinned already.
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&app).stdin(Stdio::null());
    run(&mut npm)
}

/// npm writes its own copy of the lock file when it has installed everything.
fn is_up_to_date(app: &Path) -> bool {
    let written = |file: &str| fs::metadata(app.join(file)).and_then(|meta| meta.modified()).ok();
    match (written("node_modules/.package-lock.json"), written("package-lock.json")) {
        (Some(installed), Some(locked)) => installed >= locked,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_without_candidate_is_not_packaged() {
        assert!(has_candidate("x:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1\n"));
        assert!(!has_candidate("x:\n  Installed: (none)\n  Candidate: (none)\n"));
        assert!(!has_candidate(""));
    }

    #[test]
    fn a_node_version_has_a_major_number() {
        assert_eq!(major("v20.11.1\n"), Some(20));
        assert_eq!(major("20.11.1"), None);
        assert_eq!(major("vx"), None);
    }

    #[test]
    fn an_app_without_packages_is_not_up_to_date() {
        assert!(!is_up_to_date(Path::new("/nonexistent")));
    }
}
