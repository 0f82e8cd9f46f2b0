//! What a killtrace developer runs that plain cargo cannot do.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool talks to its user")]

mod build_ebpf;

use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks of the killtrace workspace")]
enum Task {
    /// Compile the eBPF programs into the object that killtrace embeds
    BuildEbpf(build_ebpf::Options),
}

fn main() -> anyhow::Result<()> {
    match Task::parse() {
        Task::BuildEbpf(options) => build_ebpf::run(&options),
    }
}
