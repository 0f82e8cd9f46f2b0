//! Finds a compiler that can build for the BPF target: one with the sources of the standard library, and
//! either a nightly or told to act as one.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// What the object depends on besides its sources.
pub(super) const FLAGS: [&str; 4] = [
    // Only aya's argument accessors look at it, which nothing here uses: one object serves every machine.
    "--cfg=bpf_target_arch=\"x86_64\"",
    "-Cdebuginfo=2",
    "-Cpanic=abort",
    "-Clink-arg=--btf",
];

const TARGET: &str = "bpfel-unknown-none";
const PROFILE: &str = "ebpf";
const BIN: &str = "killtrace-bpf";

const NO_COMPILER: &str =
    "no Rust compiler here can build for the BPF target: it needs the sources of the standard library
  with rustup:  rustup toolchain install nightly --component rust-src
  on Debian:    sudo apt install rustc-web rust-web-src, or rustc and rust-src";
const NO_LINKER: &str = "bpf-linker is not installed
  cargo install bpf-linker
  (on Debian it first needs the LLVM of the compiler: `rustc -vV` says which; sudo apt install llvm-22-dev libpolly-22-dev)";

/// A compiler and a linker.
pub(super) struct Toolchain {
    rustc: PathBuf,
    /// Let a stable compiler use unstable features.
    bootstrap: bool,
    pub(super) sysroot: PathBuf,
    pub(super) cargo_home: PathBuf,
    /// Release, commit and LLVM version.
    pub(super) rustc_version: String,
    pub(super) linker_version: String,
}

impl Toolchain {
    /// The first of: rustup's nightly, the system's compiler, the default one.
    pub(super) fn find() -> Result<Self> {
        let nightly = output(Command::new("rustup").args(["which", "--toolchain", "nightly", "rustc"]));
        let candidates = [
            nightly.ok().map(|path| (PathBuf::from(path.trim()), false)),
            Some((PathBuf::from("/usr/bin/rustc"), true)),
            Some((PathBuf::from("rustc"), true)),
        ];
        let found = candidates.into_iter().flatten().find_map(|(rustc, bootstrap)| {
            let sysroot = output(Command::new(&rustc).args(["--print", "sysroot"])).ok()?;
            let sysroot = PathBuf::from(sysroot.trim());
            let has_sources = sysroot.join("lib/rustlib/src/rust/library/core").is_dir();
            has_sources.then_some((rustc, bootstrap, sysroot))
        });
        let Some((rustc, bootstrap, sysroot)) = found else { bail!(NO_COMPILER) };
        let rustc_version = version_of(&output(Command::new(&rustc).arg("-vV"))?);
        let linker_version = output(Command::new("bpf-linker").arg("--version").env("PATH", path()?))
            .context(NO_LINKER)?
            .trim()
            .to_owned();
        Ok(Self { rustc, bootstrap, sysroot, cargo_home: cargo_home()?, rustc_version, linker_version })
    }

    /// Compiles the programs and returns the path of the linked object.
    pub(super) fn compile(&self, workspace: &Path, target_dir: &Path) -> Result<PathBuf> {
        let mut cargo = Command::new("cargo");
        cargo
            .current_dir(workspace)
            .args(["build", "--locked", "-Zbuild-std=core", "--profile", PROFILE, "--target", TARGET])
            .args(["--package", "guard-ebpf", "--bin", BIN, "--features", "programs", "--target-dir"])
            .arg(target_dir)
            .env("PATH", path()?)
            .env("RUSTC", &self.rustc)
            .env("CARGO_ENCODED_RUSTFLAGS", self.flags(workspace).join("\x1f"))
            // What the cargo that runs this set for itself.
            .env_remove("RUSTC_WRAPPER")
            .env_remove("RUSTFLAGS")
            .env_remove("RUSTUP_TOOLCHAIN")
            .env_remove("CARGO_BUILD_TARGET");
        // For a nightly compiler it is for cargo, which may be a stable one.
        cargo.env("RUSTC_BOOTSTRAP", "1");
        let status = cargo.status().context("cannot run cargo")?;
        let how = if self.bootstrap { "a stable compiler acting as nightly" } else { "nightly" };
        ensure!(status.success(), "the eBPF programs do not compile with {} ({how})", self.rustc_version);
        Ok(target_dir.join(TARGET).join(PROFILE).join(BIN))
    }

    /// The flags of every build and those that keep this machine's paths out of the object.
    fn flags(&self, workspace: &Path) -> Vec<String> {
        let mut flags = FLAGS.map(str::to_owned).to_vec();
        let mut remap = |from: &Path, to: &str| {
            flags.push(format!("--remap-path-prefix={}={to}", from.display()));
        };
        // The last one that fits counts.
        remap(&self.cargo_home, "/cargo");
        let registries = std::fs::read_dir(self.cargo_home.join("registry/src"));
        for registry in registries.into_iter().flatten().flatten() {
            remap(&registry.path(), "/crates");
        }
        remap(&self.sysroot.join("lib/rustlib/src/rust"), "/rust");
        remap(workspace, "/killtrace");
        flags
    }
}

/// Release, commit and LLVM from `rustc -vV`: what decides about the code.
fn version_of(verbose: &str) -> String {
    let field = |name: &str| {
        verbose.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or("unknown")
    };
    let commit = field("commit-hash");
    let commit = commit.get(..9).unwrap_or(commit);
    format!("rustc {} ({commit}, LLVM {})", field("release"), field("LLVM version"))
}

/// The search path, with the place where `cargo install` puts bpf-linker.
fn path() -> Result<std::ffi::OsString> {
    let mut path: Vec<PathBuf> = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
    path.push(cargo_home()?.join("bin"));
    env::join_paths(path).context("PATH holds a directory with a colon in its name")
}

fn cargo_home() -> Result<PathBuf> {
    if let Some(home) = env::var_os("CARGO_HOME") {
        return Ok(home.into());
    }
    let home = env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?;
    Ok(PathBuf::from(home).join(".cargo"))
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {:?}", command.get_program()))?;
    ensure!(output.status.success(), "{:?} failed", command.get_program());
    String::from_utf8(output.stdout).context("its answer is not text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compilers_version_names_release_commit_and_llvm() {
        let verbose = "rustc 1.96.0 (ac68faa20 2026-05-25)\nbinary: rustc\n\
                       commit-hash: ac68faa20c58cbccd01ee7208bf3b6e93a7d7f96\nrelease: 1.96.0\n\
                       LLVM version: 22.1.8\n";
        assert_eq!(version_of(verbose), "rustc 1.96.0 (ac68faa20, LLVM 22.1.8)");
        assert_eq!(version_of(""), "rustc unknown (unknown, LLVM unknown)");
    }
}
