//! `cargo xtask bench`: what killtrace costs on this machine, beside other tracers and against the bars of the project.

mod agent;
mod compare;
mod scale;
mod session;
mod sleepers;
mod stats;
mod table;
mod tracers;
mod work;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use self::tracers::Tracer;
use self::work::Work;
use crate::dist::{self, Arch};
use crate::shell::{as_root, is_root, output, run as run_to_end};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Small loads under each tracer
    Tracers,
    /// Real builds under each tracer
    Builds,
    /// killtrace itself: start, verdict, memory, floods, replay
    Agent,
    /// Cost per event against the number of processes and of events
    Scale,
}

#[derive(clap::Args)]
pub(crate) struct Options {
    /// What to measure; everything when nothing is said
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Only loads whose name contains this (repeatable)
    #[arg(long)]
    load: Vec<String>,
    /// Only these tracers (repeatable)
    #[arg(long, value_enum)]
    tracer: Vec<Tracer>,
    /// How often each load is run under each tracer
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Fewer rounds: to see whether it works, not to quote
    #[arg(long)]
    quick: bool,
    /// How the measured killtrace listens, where it is not compared: auto, ebpf, perf
    #[arg(long, default_value = "auto")]
    backend: String,
    /// The programs are built already (how it calls itself as root)
    #[arg(long, hide = true)]
    built: Option<PathBuf>,
}

/// The programs of a release build, static as they are given to people.
pub(crate) struct Programs {
    killtrace: PathBuf,
    victim: PathBuf,
    striker: PathBuf,
    load: PathBuf,
    /// For `killtrace watch --backend`.
    backend: String,
}

/// A build takes seconds: the few rounds that there is time for.
const BUILD_ROUNDS: usize = 3;

/// Measures, and prints tables.
///
/// # Errors
/// When something cannot be measured, or misses its bar.
pub(crate) fn run(options: &Options) -> Result<()> {
    let Some(built) = &options.built else {
        let directory = build()?;
        crate::setup::setup_bench()?;
        if is_root()? {
            return measure(options, &Programs::in_directory(&directory, &options.backend));
        }
        // Built as the user, measured as root, so that no file in target/ is root's.
        let xtask = std::env::current_exe().context("cannot find this program")?;
        let mut again = as_root(xtask)?;
        again.args(std::env::args_os().skip(1)).arg("--built").arg(directory);
        return run_to_end(&mut again);
    };
    measure(options, &Programs::in_directory(built, &options.backend))
}

fn measure(options: &Options, programs: &Programs) -> Result<()> {
    let wanted = |part| options.parts.is_empty() || options.parts.contains(&part);
    let rounds = if options.quick { 2 } else { options.rounds };
    print_machine()?;
    let mut missed = Vec::new();
    if wanted(Part::Tracers) {
        let all = Tracer::value_variants();
        let tracers = if options.tracer.is_empty() { all } else { &options.tracer };
        missed.extend(compare::compare(programs, &only(Work::loads(), &options.load), tracers, rounds)?);
    }
    if wanted(Part::Builds) {
        crate::setup::setup_vite()?;
        let all = [Tracer::Ebpf, Tracer::Perf];
        let tracers = if options.tracer.is_empty() { &all } else { &options.tracer[..] };
        let rounds = rounds.min(BUILD_ROUNDS);
        missed.extend(compare::compare(programs, &only(Work::builds(), &options.load), tracers, rounds)?);
    }
    if wanted(Part::Agent) {
        missed.extend(agent::figures(programs));
    }
    if wanted(Part::Scale) {
        missed.extend(scale::curves(programs)?);
    }
    if !missed.is_empty() {
        println!("\nMISSED:");
        missed.iter().for_each(|missed| println!("  {missed}"));
        bail!("{} bars are missed", missed.len());
    }
    Ok(())
}

fn only(works: Vec<Work>, names: &[String]) -> Vec<Work> {
    let is_wanted = |work: &Work| names.is_empty() || names.iter().any(|name| work.name().contains(name));
    works.into_iter().filter(is_wanted).collect()
}

/// On what it was measured: a figure means nothing without it.
fn print_machine() -> Result<()> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = output(Command::new("uname").arg("-rm"))?;
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("unknown");
    println!("{cpus} processors, Linux {}; load before: {load}", kernel.trim());
    Ok(())
}

/// Builds what is measured; returns where it is.
fn build() -> Result<PathBuf> {
    let arch = Arch::native().context("no static programs are built for this processor")?;
    let built = dist::build(
        arch,
        &["--release", "--package=guard-userspace", "--package=killtrace-tests", "--bins"],
    )?;
    let killtrace = built.find("killtrace")?;
    Ok(killtrace.parent().context("a program is in a directory")?.to_owned())
}

impl Programs {
    fn in_directory(directory: &std::path::Path, backend: &str) -> Self {
        let program = |name: &str| directory.join(name);
        Self {
            killtrace: program("killtrace"),
            victim: program("victim"),
            striker: program("striker"),
            load: program("load"),
            backend: backend.to_owned(),
        }
    }

    fn victim(&self, args: &[&str]) -> Command {
        with_args(&self.victim, args)
    }

    fn striker(&self, args: &[&str]) -> Command {
        with_args(&self.striker, args)
    }

    fn load(&self, args: &[&str]) -> Command {
        with_args(&self.load, args)
    }
}

fn with_args(program: &std::path::Path, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    command
}

#[allow(clippy::cast_precision_loss, reason = "figures far below 2^53")]
fn as_f64(count: u64) -> f64 {
    count as f64
}
