//! Something for a tracer to do: does one thing over and over on one processor, and says what it costs.
//!
//! `load LOAD` prints nanoseconds per operation: the median of several stretches of time, so that a moment in
//! which somebody else had the processor does not count. `load sleepers N` prints how many processes it has
//! started that do nothing, and keeps them until its standard input closes.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "how it tells what it measured")]

use std::io::Read;
use std::process::exit;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, raise, sigaction};
use nix::sys::wait::{WaitStatus, wait, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getppid, pause};

/// As many stretches, each so long that what a tracer does every now and then falls into it.
const STRETCHES: usize = 15;
const STRETCH: Duration = Duration::from_millis(20);
const SLEEPER_STACK: usize = 4096;

/// A load: what it is called, how often it is done between two looks at the clock, and one round of it.
struct Load {
    name: &'static str,
    batch: u32,
    prepare: fn() -> Box<dyn FnMut()>,
}

const LOADS: [Load; 8] = [
    Load { name: "null-call", batch: 1000, prepare: null_call },
    Load { name: "ignored-signal", batch: 100, prepare: ignored_signal },
    Load { name: "handled-signal", batch: 100, prepare: handled_signal },
    Load { name: "fork-exit", batch: 1, prepare: || Box::new(|| fork_and_wait(|| exit_now(0))) },
    Load { name: "spawn", batch: 1, prepare: || Box::new(spawn) },
    Load { name: "thread", batch: 4, prepare: || Box::new(thread) },
    Load { name: "fork-kill", batch: 1, prepare: || Box::new(fork_and_kill) },
    // Nothing that any tracer sees: what it moves by is the machine's noise.
    Load { name: "arithmetic", batch: 1, prepare: || Box::new(arithmetic) },
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match *args.as_slice() {
        ["deaths", per_second, seconds] => deaths(number(per_second), number(seconds)),
        ["sleepers", count] => sleepers(number(count)),
        [name] => match LOADS.iter().find(|load| load.name == name) {
            Some(load) => println!("{:.1}", measure(load)),
            None => wrong(&args),
        },
        _ => wrong(&args),
    }
}

fn wrong(args: &[&str]) {
    let names: Vec<&str> = LOADS.iter().map(|load| load.name).collect();
    println!("unknown load: {args:?}; known: {}", names.join(" "));
    exit(2);
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("not a number: {text}"))
}

/// Nanoseconds per operation.
fn measure(load: &Load) -> f64 {
    stay_here();
    let mut once = (load.prepare)();
    // The first ones find cold caches.
    for _ in 0..load.batch {
        once();
    }
    let mut stretches: Vec<f64> = (0..STRETCHES)
        .map(|_| {
            let (start, mut done) = (Instant::now(), 0_u32);
            loop {
                for _ in 0..load.batch {
                    once();
                }
                done += load.batch;
                let took = start.elapsed();
                if took >= STRETCH {
                    return took.as_secs_f64() * 1e9 / f64::from(done);
                }
            }
        })
        .collect();
    stretches.sort_by(f64::total_cmp);
    stretches[STRETCHES / 2]
}

/// Stays on the last processor that it may use, and so do its children: moving costs more than a signal.
fn stay_here() {
    let allowed = sched_getaffinity(Pid::from_raw(0)).expect("cannot tell the processors");
    let last = (0..CpuSet::count()).rfind(|&cpu| allowed.is_set(cpu).unwrap_or(false));
    let mut only = CpuSet::new();
    only.set(last.expect("it runs somewhere")).expect("a processor's number");
    sched_setaffinity(Pid::from_raw(0), &only).expect("cannot stay on a processor");
}

fn null_call() -> Box<dyn FnMut()> {
    Box::new(|| {
        std::hint::black_box(getppid());
    })
}

extern "C" fn noted(_: libc::c_int) {}

fn handle(signal: Signal, handler: SigHandler) {
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: the handlers here do nothing.
    unsafe { sigaction(signal, &action) }.expect("cannot handle a signal");
}

/// A signal to another process, which ignores it.
fn ignored_signal() -> Box<dyn FnMut()> {
    handle(Signal::SIGUSR1, SigHandler::SigIgn);
    let parent = Pid::this();
    // SAFETY: one thread.
    let target = match unsafe { fork() }.expect("cannot fork") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).expect("it can be had");
            if getppid() == parent {
                loop {
                    pause();
                }
            }
            exit_now(0)
        }
    };
    Box::new(move || kill(target, Signal::SIGUSR1).expect("the target lives"))
}

/// A signal to itself, which handles it.
fn handled_signal() -> Box<dyn FnMut()> {
    handle(Signal::SIGUSR1, SigHandler::Handler(noted));
    Box::new(|| raise(Signal::SIGUSR1).expect("it can be raised"))
}

fn exit_now(code: i32) -> ! {
    // SAFETY: runs nothing of this program's.
    unsafe { libc::_exit(code) }
}

fn fork_and_wait(child: fn() -> !) {
    // SAFETY: one thread.
    match unsafe { fork() }.expect("cannot fork") {
        ForkResult::Parent { child } => drop(waitpid(child, None).expect("it is a child")),
        ForkResult::Child => child(),
    }
}

/// The child dies before it has run.
fn fork_and_kill() {
    // SAFETY: one thread.
    match unsafe { fork() }.expect("cannot fork") {
        ForkResult::Parent { child } => {
            kill(child, Signal::SIGKILL).expect("it is a child");
            let status = waitpid(child, None).expect("it is a child");
            assert!(matches!(status, WaitStatus::Signaled(_, Signal::SIGKILL, _)), "{status:?}");
        }
        ForkResult::Child => loop {
            pause();
        },
    }
}

fn spawn() {
    let status = std::process::Command::new("/bin/true").status().expect("cannot run /bin/true");
    assert!(status.success());
}

fn thread() {
    std::thread::spawn(|| {}).join().expect("it does nothing");
}

fn arithmetic() {
    let mut value = 1_u64;
    for step in 0..100_000_u64 {
        value = std::hint::black_box(value.wrapping_mul(step | 1).rotate_left(7));
    }
}

/// Forks and kills `per_second` children a second, for `seconds`, and prints how many.
fn deaths(per_second: u32, seconds: u32) {
    let start = Instant::now();
    let total = u64::from(per_second) * u64::from(seconds);
    let mut done = 0_u64;
    while done < total && start.elapsed() < Duration::from_secs(seconds.into()) {
        let due = u128::from(per_second) * start.elapsed().as_micros() / 1_000_000;
        while u128::from(done) < due && done < total {
            fork_and_kill();
            done += 1;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    println!("killed {done} in {} ms", start.elapsed().as_millis());
}

/// Processes that share this one's memory, so that each costs the kernel some ten kilobytes only.
fn sleepers(count: usize) {
    extern "C" fn sleep(_: *mut libc::c_void) -> libc::c_int {
        // It ends with its parent.
        // SAFETY: plain system calls; nothing of this program's memory is written.
        unsafe {
            libc::syscall(libc::SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
            loop {
                libc::syscall(libc::SYS_ppoll, 0, 0, 0, 0, 0);
            }
        }
    }
    let mut stacks = vec![0_u8; (count + 1) * SLEEPER_STACK];
    let mut started = Vec::with_capacity(count);
    for stack in stacks.chunks_exact_mut(SLEEPER_STACK).take(count) {
        let end = stack.as_mut_ptr_range().end;
        // SAFETY: aligned down to 16 bytes, still inside of a stack that lives as long as the children do.
        let top = unsafe { end.sub(end.addr() % 16) };
        let flags = libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::SIGCHLD;
        // SAFETY: the stack is the child's own, and what it runs writes nothing else.
        let pid = unsafe { libc::clone(sleep, top.cast(), flags, std::ptr::null_mut()) };
        if pid < 0 {
            eprintln!("no more than {} processes: {}", started.len(), Errno::last());
            break;
        }
        started.push(Pid::from_raw(pid));
    }
    println!("started {}", started.len());
    let mut rest = Vec::new();
    std::io::stdin().read_to_end(&mut rest).expect("cannot read standard input");
    for pid in started {
        kill(pid, Signal::SIGKILL).expect("they end with this one");
    }
    while wait().is_ok() {}
}
