//! `cargo xtask fuzz`: runs the fuzz targets for a while, from the inputs that are kept in `fuzz/corpus` and from every
//! recording of the tests.
//!
//! What is found on the way stays in `fuzz/target/corpus`, for the next run here. `cargo fuzz cmin TARGET` makes little of
//! it, to be kept.
//!
//! cargo-fuzz does the work. Without a sanitizer it needs no nightly compiler: what is looked for is panics and broken
//! promises, in a program that has hardly any `unsafe`.

use std::fs;
use std::mem::{offset_of, size_of};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use guard_ebpf::Probe;
use guard_ebpf::record::{Header, ProcessExec};

use crate::setup::install_with_cargo;
use crate::shell::{cargo, root, run};

/// What is fuzzed, where its first inputs come from, and its share of the time.
struct Target {
    name: &'static str,
    seed: fn(&Path) -> Result<usize>,
    share: u64,
}

const TARGETS: [Target; 8] = [
    Target { name: "explain", seed: recordings, share: 6 },
    Target { name: "recording", seed: recordings, share: 2 },
    Target { name: "decode", seed: records, share: 2 },
    Target { name: "procfs", seed: nothing, share: 1 },
    Target { name: "kernel_log", seed: nothing, share: 1 },
    Target { name: "journal", seed: nothing, share: 1 },
    Target { name: "tracefs", seed: nothing, share: 1 },
    Target { name: "config", seed: nothing, share: 1 },
];

/// Runs the targets, or one of them, for so many seconds together.
///
/// # Errors
/// When one of them finds something, or cannot be built.
pub(crate) fn fuzz(only: Option<&str>, seconds: u64, seed: u32) -> Result<()> {
    let targets: Vec<&Target> =
        TARGETS.iter().filter(|target| only.is_none_or(|only| only == target.name)).collect();
    if targets.is_empty() {
        let names = TARGETS.map(|target| target.name).join(", ");
        bail!("there is no fuzz target {:?}\n  help: there are {names}", only.unwrap_or_default());
    }
    install_with_cargo("cargo-fuzz", "builds and runs fuzz targets")?;
    let shares: u64 = targets.iter().map(|target| target.share).sum();
    for target in targets {
        let kept = root().join("fuzz/corpus").join(target.name);
        let found = root().join("fuzz/target/corpus").join(target.name);
        for corpus in [&kept, &found] {
            fs::create_dir_all(corpus).with_context(|| format!("cannot make {}", corpus.display()))?;
        }
        let seeds = (target.seed)(&found)? + fs::read_dir(&kept).map_or(0, Iterator::count);
        let time = (seconds * target.share / shares).max(1);
        println!("\n== {}: {time} s, starting from {seeds} inputs", target.name);
        fuzz_one(target.name, [&found, &kept], time, seed)?;
    }
    Ok(())
}

/// The fuzzer adds to the first corpus, and reads them all.
fn fuzz_one(target: &str, corpora: [&Path; 2], seconds: u64, seed: u32) -> Result<()> {
    let mut command = cargo();
    command.args(["fuzz", "run", target, "--sanitizer", "none"]).args(corpora).arg("--");
    command.arg(format!("-max_total_time={seconds}")).arg(format!("-seed={seed}"));
    // Half a gigabyte is a thousand times what the longest of these inputs takes.
    command.args(["-timeout=20", "-rss_limit_mb=1024", "-print_final_stats=1", "-verbosity=0"]);
    if run(command.stdin(Stdio::null())).is_ok() {
        return Ok(());
    }
    let Some(input) = newest(&root().join("fuzz/artifacts").join(target)) else {
        bail!("the fuzz target {target} could not be built or run");
    };
    bail!(
        "the fuzz target {target} found an input that breaks it: {input}\n  \
         run it again:    cargo fuzz run {target} --sanitizer none {input}\n  \
         make it smaller: cargo fuzz tmin {target} --sanitizer none {input}\n  \
         then keep it as a test: CONTRIBUTING.md says how",
        input = input.display()
    )
}

fn newest(dir: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(dir).ok()?.flatten();
    let newest = files.max_by_key(|file| file.metadata().and_then(|meta| meta.modified()).ok())?;
    let path = newest.path();
    Some(path.strip_prefix(root()).map(Path::to_path_buf).unwrap_or(path))
}

/// Every recording that the tests replay.
fn recordings(corpus: &Path) -> Result<usize> {
    let mut places = vec![root().join("tests/replay"), root().join("tests/zoo/recordings")];
    let mut count = 0;
    while let Some(place) = places.pop() {
        if place.is_dir() {
            let entries = fs::read_dir(&place).with_context(|| format!("cannot list {}", place.display()))?;
            places.extend(entries.flatten().map(|entry| entry.path()));
        } else if place.extension().is_some_and(|extension| extension == "jsonl") {
            count += 1;
            let seed = corpus.join(format!("recording-{count}"));
            fs::copy(&place, &seed).with_context(|| format!("cannot copy {}", place.display()))?;
        }
    }
    Ok(count)
}

/// What is kept is all.
fn nothing(_corpus: &Path) -> Result<usize> {
    Ok(0)
}

/// One record of each probe, all zero but for its kind; the fuzzer fills in the rest.
fn records(corpus: &Path) -> Result<usize> {
    for (index, probe) in Probe::ALL.into_iter().enumerate() {
        let mut record = vec![0; size_of::<ProcessExec>()];
        record[offset_of!(Header, probe)..][..4].copy_from_slice(&(probe as u32).to_ne_bytes());
        let length = u16::try_from(record.len()).context("a record is longer than its length can say")?;
        let input = [&length.to_le_bytes()[..], &record].concat();
        fs::write(corpus.join(format!("record-{index}")), input).context("cannot write an input")?;
    }
    Ok(Probe::ALL.len())
}
