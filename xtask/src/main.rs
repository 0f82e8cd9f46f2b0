//! What a killtrace developer runs: everything that plain cargo cannot do.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool")]

mod bench;
mod build_ebpf;
mod counts;
mod dist;
mod fixture;
mod fuzz;
mod schema;
mod setup;
mod shell;
mod test;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what the tests need (asks the system's package manager, and npm for Vite)
    Setup {
        /// Also what `build-ebpf` needs: a compiler for eBPF and its linker
        #[arg(long)]
        ebpf: bool,
    },
    /// Run all tests: unit, replay, and live ones against the running kernel
    Test {
        /// Only tests whose name contains this
        filter: Option<String>,
    },
    /// Write docs/schema/report-1.json from the report's types
    Schema {
        /// Write nothing; fail when the file is not up to date
        #[arg(long)]
        check: bool,
    },
    /// Compile the eBPF programs into the object that killtrace embeds
    BuildEbpf(build_ebpf::Options),
    /// Make a replay case in tests/replay of a recording (`killtrace watch --events FILE`)
    Fixture {
        /// Name of the case: what died how, on which kernel
        name: String,
        recording: std::path::PathBuf,
    },
    /// Make replay cases in tests/zoo/recordings of what `KILLTRACE_ZOO_KEEP` kept
    ZooFixtures {
        /// The kernel they were recorded on, `6.1-amd64`
        kernel: String,
        kept: std::path::PathBuf,
    },
    /// Build static programs of killtrace for x86_64 and aarch64, in target/dist
    Dist(dist::Options),
    /// Play the kill zoo on other kernels, in emulated machines
    VmTest(vm::Options),
    /// Feed damaged recordings and records to the explainer and the decoder, with cargo-fuzz
    Fuzz {
        /// Only this one: explain, recording or decode
        target: Option<String>,
        /// For so long, all together
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// Another seed looks elsewhere
        #[arg(long, default_value_t = 1)]
        seed: u32,
    },
    /// Measure killtrace on this machine, beside other tracers and against the project's bars
    Bench(bench::Options),
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Setup { ebpf } => setup::setup().and_then(|()| if ebpf { setup::setup_ebpf() } else { Ok(()) }),
        Task::Test { filter } => test::run(filter.as_deref()),
        Task::Schema { check } => schema::run(check),
        Task::BuildEbpf(options) => build_ebpf::run(&options),
        Task::Fixture { name, recording } => fixture::run(&name, &recording),
        Task::ZooFixtures { kernel, kept } => fixture::zoo(&kernel, &kept),
        Task::Dist(options) => dist::run(&options),
        Task::VmTest(options) => vm::run(&options),
        Task::Fuzz { target, seconds, seed } => fuzz::fuzz(target.as_deref(), seconds, seed),
        Task::Bench(options) => bench::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
