//! Small programs that die in known ways.
//!
//! `victim WAY [ARGS]`. Those that wait print `ready` first; all of them end by themselves
//! after a minute, so that a test that fails leaves nothing behind.

#![allow(clippy::print_stdout, reason = "how a victim tells its test that it is ready")]

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{self, SaFlags, SigAction, SigHandler, SigSet, Signal};
use nix::sys::wait::wait;

const LIFETIME: Duration = Duration::from_secs(60);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    // std handles them to recognise stack overflows, and shrugs off those that are sent; most programs do not.
    for signal in [Signal::SIGSEGV, Signal::SIGBUS] {
        handle(signal, SigHandler::SigDfl);
    }
    match *args.as_slice() {
        ["wait"] => wait_for_the_end(),
        ["exit-on-term", code] => exit_on_term(number(code)),
        ["handle-usr1"] => handle_usr1(),
        ["hold", mib] => hold(number(mib)),
        ["eat", step_mib] => eat(number(step_mib)),
        ["reap"] => reap(),
        ["in-cgroup", procs, program, ..] => in_cgroup(procs, program, &args[3..]),
        _ => {
            println!("unknown way to die: {args:?}");
            std::process::exit(2);
        }
    }
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("not a number: {text}"))
}

fn ready() {
    println!("ready");
}

fn handle(signal: Signal, handler: SigHandler) {
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: the handlers here do nothing.
    unsafe { signal::sigaction(signal, &action) }
        .unwrap_or_else(|error| panic!("cannot handle {signal}: {error}"));
}

fn wait_for_input_to_close() {
    let mut rest = Vec::new();
    std::io::stdin().read_to_end(&mut rest).expect("cannot read standard input");
}

fn wait_for_the_end() {
    ready();
    std::thread::sleep(LIFETIME);
}

static NOTED: AtomicBool = AtomicBool::new(false);

extern "C" fn noted(_: libc::c_int) {
    NOTED.store(true, Ordering::Relaxed);
}

/// Handles SIGTERM and exits with `code` in its own time.
fn exit_on_term(code: i32) {
    handle(Signal::SIGTERM, SigHandler::Handler(noted));
    ready();
    // Not `pause`: the signal may have come already.
    let start = std::time::Instant::now();
    while !NOTED.load(Ordering::Relaxed) && start.elapsed() < LIFETIME {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(30));
    std::process::exit(code);
}

/// Handles every SIGUSR1, for as long as it lives.
fn handle_usr1() {
    handle(Signal::SIGUSR1, SigHandler::Handler(noted));
    ready();
    let start = std::time::Instant::now();
    while start.elapsed() < LIFETIME {
        // SAFETY: no arguments, no memory.
        unsafe { libc::pause() };
    }
}

/// Keeps some memory, and does nothing with it.
fn hold(mib: usize) {
    let held = vec![1_u8; mib << 20];
    wait_for_the_end();
    drop(held);
}

/// Once its standard input closes, takes memory and keeps it, `step_mib` at a time, until somebody stops it.
fn eat(step_mib: usize) {
    ready();
    wait_for_input_to_close();
    let mut eaten = Vec::new();
    loop {
        // Written, because pages that are only reserved are not charged to anybody.
        eaten.push(vec![1_u8; step_mib << 20]);
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The init of a PID namespace: reaps what is handed to it, for ever.
fn reap() {
    ready();
    std::io::stdout().flush().expect("cannot write to standard output");
    loop {
        if wait() == Err(Errno::ECHILD) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Joins a cgroup, then becomes `program`.
fn in_cgroup(procs: &str, program: &str, args: &[&str]) {
    std::fs::write(procs, "0").unwrap_or_else(|error| panic!("cannot join {procs}: {error}"));
    let error = Command::new(program).args(args).exec();
    panic!("cannot run {program}: {error}");
}
