//! The kill zoo: one program that makes processes die in every way that Linux knows, and tells the truth about it.
//!
//! `zoo list` names the cases, `zoo run NAME` plays one and prints what happened as JSON. It needs nothing but
//! itself, so it also runs in small test machines. The processes of a case are this program again, called
//! `kz-victim`, `kz-killer` and the like, doing the acts in their arguments: `kz-killer kill:4021,TERM`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the truth is told on stdout")]

mod acts;
mod family;
mod stage;

use std::process::ExitCode;

use killtrace_tests::zoo::Truth;
use serde_json::json;

use stage::Stage;

/// A way to die.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// One line: what dies of what.
    pub(crate) about: &'static str,
    /// What it needs of the machine, beyond root: the reason why it cannot happen here, if so.
    pub(crate) impossible: fn() -> Option<String>,
    /// Also to be watched from after [`Stage::curtain`] on only.
    pub(crate) late: bool,
    /// killtrace's selectors; all that is called `kz-victim` where there are none.
    pub(crate) watch: &'static [&'static str],
    pub(crate) play: fn(&mut Stage),
}

impl Case {
    pub(crate) const fn new(name: &'static str, about: &'static str, play: fn(&mut Stage)) -> Self {
        Self { name, about, impossible: || None, late: false, watch: &["--comm", "kz-victim"], play }
    }

    pub(crate) const fn needs(self, impossible: fn() -> Option<String>) -> Self {
        Self { impossible, ..self }
    }

    /// Its director calls [`Stage::curtain`] when all is set up, before anything happens.
    pub(crate) const fn late(self) -> Self {
        Self { late: true, ..self }
    }

    pub(crate) const fn watch(self, watch: &'static [&'static str]) -> Self {
        Self { watch, ..self }
    }
}

/// Every case.
fn cases() -> impl Iterator<Item = &'static Case> {
    family::ALL.iter().flat_map(|family| family.cases)
}

fn main() -> ExitCode {
    // Rust's runtime ignores SIGPIPE and catches faults; programs do not.
    for signo in [libc::SIGPIPE, libc::SIGSEGV, libc::SIGBUS] {
        acts::action(signo, libc::SIG_DFL);
    }
    let args: Vec<String> = std::env::args().collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let called = args.first().map_or("zoo", |path| path.rsplit('/').next().unwrap_or(path));
    match args[1..] {
        _ if !called.starts_with("zoo") => {
            acts::perform(&args[1..]);
            ExitCode::SUCCESS
        }
        ["list"] => {
            list();
            ExitCode::SUCCESS
        }
        ["run", ref options @ .., name] if options.iter().all(|option| OPTIONS.contains(option)) => {
            run(name, options.contains(&"--curtain"), options.contains(&"--hold"))
        }
        _ => {
            eprintln!("usage: zoo list | zoo run [--curtain] [--hold] NAME");
            ExitCode::from(2)
        }
    }
}

/// One case per line, as JSON.
fn list() {
    for case in cases() {
        let impossible = (case.impossible)();
        println!(
            "{}",
            json!({"name": case.name, "about": case.about, "impossible": impossible, "late": case.late, "watch": case.watch})
        );
    }
}

/// `--curtain`: say `curtain` when all is set up, and wait for a line. `--hold`: leave alive what lives until stdin
/// ends.
const OPTIONS: [&str; 2] = ["--curtain", "--hold"];

fn run(name: &str, curtain: bool, hold: bool) -> ExitCode {
    let Some(case) = cases().find(|case| case.name == name) else {
        eprintln!("no case is called {name}; `zoo list` names them");
        return ExitCode::from(2);
    };
    let mut stage = Stage::new(case.name, curtain);
    (case.play)(&mut stage);
    let truth: Truth = stage.truth();
    println!("{}", json!(truth));
    if hold {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    }
    ExitCode::SUCCESS
}
