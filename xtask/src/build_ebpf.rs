//! `cargo xtask build-ebpf`: compiles the eBPF programs and puts the object next to the code that embeds it.
//!
//! The object is checked in, so that building killtrace needs stable Rust and nothing else. Beside it lies a
//! note of what it was made from and with; `--check` uses it to prove that the object is not out of date.

mod strip;
mod toolchain;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use self::toolchain::Toolchain;

const OBJECT: &str = "guard-userspace/bpf/killtrace.bpf.o";
const NOTE: &str = "guard-userspace/bpf/killtrace.bpf.json";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Change nothing; fail when the object is not what the sources make
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let workspace = workspace()?;
    let sources = sources_hash(&workspace)?;
    if options.check {
        return check(&workspace, &sources);
    }
    let toolchain = Toolchain::find()?;
    println!("compiling with {} and {}", toolchain.rustc_version, toolchain.linker_version);
    let object = compile(&workspace, &toolchain)?;
    let note = json!({
        "rustc": toolchain.rustc_version,
        "bpf_linker": toolchain.linker_version,
        "sources_fnv64": sources,
        "object_fnv64": fnv64(&object),
    });
    let directory = workspace.join(OBJECT).parent().context("the object has no directory")?.to_path_buf();
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    write(&workspace.join(OBJECT), &object)?;
    write(&workspace.join(NOTE), format!("{note:#}\n").as_bytes())?;
    println!("{OBJECT}: {} bytes", object.len());
    Ok(())
}

/// Proves that the object is what the sources make, as far as the tools at hand allow.
fn check(workspace: &Path, sources: &str) -> Result<()> {
    const HELP: &str = "run `cargo xtask build-ebpf` and commit the result";
    let object = read(&workspace.join(OBJECT))?;
    let note: Value = serde_json::from_slice(&read(&workspace.join(NOTE))?)
        .with_context(|| format!("{NOTE} is damaged: {HELP}"))?;
    ensure!(note["sources_fnv64"] == sources, "{OBJECT} was made from other sources: {HELP}");
    ensure!(
        note["object_fnv64"] == fnv64(&object),
        "{OBJECT} is not the object that {NOTE} describes: {HELP}"
    );
    let toolchain = match Toolchain::find() {
        Ok(toolchain) => toolchain,
        Err(why) => {
            println!("{OBJECT} fits its sources; not compiled anew: {why:#}");
            return Ok(());
        }
    };
    let same = note["rustc"] == toolchain.rustc_version && note["bpf_linker"] == toolchain.linker_version;
    let rebuilt = compile(workspace, &toolchain)?;
    if same {
        ensure!(rebuilt == object, "{OBJECT} differs from what its sources make with the same tools: {HELP}");
        println!("{OBJECT} is exactly what its sources make");
    } else {
        println!(
            "{OBJECT} fits its sources, which compile here; not compared byte for byte, because it was made \
             with {} and {} and this machine has {} and {}",
            note["rustc"], note["bpf_linker"], toolchain.rustc_version, toolchain.linker_version
        );
    }
    Ok(())
}

fn compile(workspace: &Path, toolchain: &Toolchain) -> Result<Vec<u8>> {
    let target = workspace.join("target/ebpf");
    let linked = toolchain.compile(workspace, &target)?;
    let object = strip::strip_debug(&read(&linked)?).context("cannot strip the compiled object")?;
    for private in [workspace.to_path_buf(), toolchain.cargo_home.clone(), toolchain.sysroot.clone()] {
        let private = private.to_string_lossy();
        let found = object.windows(private.len()).any(|window| window == private.as_bytes());
        ensure!(!found, "the object would give away the path {private}");
    }
    Ok(object)
}

/// One number for everything of ours that the object is made from: the sources, the versions of the crates
/// and the flags.
fn sources_hash(workspace: &Path) -> Result<String> {
    let mut files = vec![workspace.join("guard-ebpf/Cargo.toml")];
    rust_files(&workspace.join("guard-ebpf/src"), &mut files)?;
    files.sort();
    let mut all = Vec::new();
    for file in files {
        let name = file.strip_prefix(workspace).unwrap_or(&file).to_string_lossy().into_owned();
        all.extend(name.bytes().chain([0]));
        all.extend(read(&file)?);
        all.push(0);
    }
    let lock = String::from_utf8(read(&workspace.join("Cargo.lock"))?).context("Cargo.lock is not text")?;
    all.extend(kernel_side_crates(&lock).bytes());
    all.extend(toolchain::FLAGS.join(" ").bytes());
    Ok(fnv64(&all))
}

/// The entries of `Cargo.lock` that end up in the object.
fn kernel_side_crates(lock: &str) -> String {
    lock.split("\n\n")
        .filter(|entry| {
            ["aya-ebpf", "aya-log-ebpf", "aya-log-common"]
                .iter()
                .any(|name| entry.contains(&format!("name = \"{name}")))
        })
        .collect()
}

fn rust_files(directory: &Path, out: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            rust_files(&path, out)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
    Ok(())
}

/// FNV-1a: enough to notice a change, and no dependency.
fn fnv64(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    format!("{hash:016x}")
}

fn workspace() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Some(workspace) = here.parent() else { bail!("{} has no parent directory", here.display()) };
    Ok(workspace.to_path_buf())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        assert_eq!(fnv64(b""), "cbf29ce484222325");
        assert_eq!(fnv64(b"foobar"), "85944171f73967e8");
    }

    #[test]
    fn only_the_kernel_sides_crates_count() {
        let lock = "version = 4\n\n[[package]]\nname = \"aya\"\nversion = \"1\"\n\n[[package]]\n\
                    name = \"aya-ebpf-cty\"\nversion = \"2\"\n\n[[package]]\nname = \"serde\"\nversion = \"3\"\n";
        assert_eq!(kernel_side_crates(lock), "[[package]]\nname = \"aya-ebpf-cty\"\nversion = \"2\"");
    }

    #[test]
    fn the_checked_in_object_fits_its_note_and_its_sources() {
        let workspace = workspace().unwrap();
        let note: Value = serde_json::from_slice(&read(&workspace.join(NOTE)).unwrap()).unwrap();
        assert_eq!(note["object_fnv64"], fnv64(&read(&workspace.join(OBJECT)).unwrap()));
        assert_eq!(note["sources_fnv64"], sources_hash(&workspace).unwrap());
    }
}
