//! Against the running kernel, each attempt in a process of its own.

#![allow(unsafe_code, reason = "it forks, and tries system calls")]

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use super::*;

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The system call reached the kernel, which may have refused it for reasons of its own.
    Done,
    Unknown,
    Killed,
}

fn attempt(plans: &Plans, call: c_long, arguments: [u64; 6]) -> Outcome {
    let filters = Filters::of(plans).unwrap();
    // SAFETY: the child allocates nothing, and ends without returning.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            if filters.install().is_err() {
                // SAFETY: it always is.
                unsafe { libc::_exit(9) };
            }
            let [a, b, c, d, e, f] = arguments;
            // SAFETY: all pointers that are passed are null or lead nowhere, which the kernel notices.
            unsafe {
                let result = libc::syscall(call, a, b, c, d, e, f);
                let unknown = result == -1 && nix::Error::last() == nix::Error::ENOSYS;
                libc::_exit(i32::from(unknown))
            }
        }
        ForkResult::Parent { child } => match waitpid(child, None).unwrap() {
            WaitStatus::Exited(_, 0) => Outcome::Done,
            WaitStatus::Exited(_, 1) => Outcome::Unknown,
            WaitStatus::Signaled(_, nix::sys::signal::Signal::SIGSYS, _) => Outcome::Killed,
            other => panic!("{call}: {other:?}"),
        },
    }
}

fn plans(upkeep: Upkeep) -> Plans {
    Plans { upkeep: vec![Upkeep::None, upkeep], ..Plans::default() }
}

/// Nothing that could come of it would matter.
const NOTHING: [u64; 6] = [u64::MAX, 0, 0, 0, 0, 0];

fn first(argument: u64) -> [u64; 6] {
    [argument, 0, 0, 0, 0, 0]
}

#[test]
fn a_backend_gets_what_it_asks_of_the_kernel_and_no_more() {
    let maps = plans(Upkeep::ReadMaps);
    assert_eq!(attempt(&maps, libc::SYS_bpf, first(BPF_MAP_LOOKUP_ELEM)), Outcome::Done);
    // BPF_MAP_UPDATE_ELEM, BPF_PROG_LOAD
    for command in [2, 5] {
        assert_eq!(attempt(&maps, libc::SYS_bpf, first(command)), Outcome::Killed);
    }
    assert_eq!(attempt(&maps, libc::SYS_perf_event_open, NOTHING), Outcome::Killed);
    let events = plans(Upkeep::OpenEvents);
    assert_eq!(attempt(&events, libc::SYS_perf_event_open, NOTHING), Outcome::Done);
    assert_eq!(attempt(&events, libc::SYS_bpf, first(BPF_MAP_LOOKUP_ELEM)), Outcome::Killed);
}

#[test]
fn the_flight_recorder_starts_no_program_and_ends_no_process() {
    let record = plans(Upkeep::ReadMaps);
    assert_eq!(attempt(&record, libc::SYS_execve, [0; 6]), Outcome::Killed);
    assert_eq!(attempt(&record, libc::SYS_clone, first(bits(libc::SIGCHLD))), Outcome::Unknown);
    assert_eq!(attempt(&record, libc::SYS_kill, [u64::from(u32::MAX), 0, 0, 0, 0, 0]), Outcome::Unknown);
    let watch = Plans { asks_journal: true, ..plans(Upkeep::ReadMaps) };
    assert_eq!(attempt(&watch, libc::SYS_execve, [0; 6]), Outcome::Done);
    assert_eq!(attempt(&watch, libc::SYS_execveat, [0; 6]), Outcome::Killed);
    assert_eq!(attempt(&watch, libc::SYS_wait4, NOTHING), Outcome::Done);
}

#[test]
fn what_takes_over_machines_ends_it() {
    let plans = Plans { asks_journal: true, signals_command: true, sends: true, ..plans(Upkeep::OpenEvents) };
    for &call in HOSTILE {
        assert_eq!(attempt(&plans, call, NOTHING), Outcome::Killed, "system call {call}");
    }
    assert_eq!(attempt(&plans, libc::SYS_clone3, NOTHING), Outcome::Unknown);
    assert_eq!(attempt(&plans, libc::SYS_clone, first(bits(libc::CLONE_NEWUSER))), Outcome::Unknown);
}

#[test]
fn arguments_count() {
    let plans = plans(Upkeep::None);
    let map = |protection: i32| {
        let kind = bits(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        attempt(&plans, libc::SYS_mmap, [0, 4096, bits(protection), kind, u64::MAX, 0])
    };
    assert_eq!(map(libc::PROT_READ | libc::PROT_WRITE), Outcome::Done);
    assert_eq!(map(libc::PROT_READ | libc::PROT_EXEC), Outcome::Done);
    assert_eq!(map(libc::PROT_WRITE | libc::PROT_EXEC), Outcome::Unknown);
    let protect = |kind| attempt(&plans, libc::SYS_mprotect, [0, 0, bits(kind), 0, 0, 0]);
    assert_eq!(protect(libc::PROT_READ), Outcome::Done);
    assert_eq!(protect(libc::PROT_READ | libc::PROT_EXEC), Outcome::Unknown);
    let control = |request: u64| attempt(&plans, libc::SYS_ioctl, [u64::MAX, request, 0, 0, 0, 0]);
    assert_eq!(control(0x5401), Outcome::Done, "TCGETS");
    assert_eq!(control(0x5412), Outcome::Unknown, "TIOCSTI");
    assert_eq!(control(0x1_0000_5412), Outcome::Unknown, "the kernel looks at 32 bits");
    let socket = |plans: &Plans, family| attempt(plans, libc::SYS_socket, [bits(family), 3, 0, 0, 0, 0]);
    assert_eq!(socket(&plans, libc::AF_UNIX), Outcome::Done);
    assert_eq!(socket(&plans, libc::AF_INET), Outcome::Unknown);
    let sending = Plans { sends: true, ..Plans::default() };
    assert_eq!(socket(&sending, libc::AF_INET6), Outcome::Done);
    assert_eq!(socket(&sending, libc::AF_PACKET), Outcome::Unknown);
    assert_eq!(attempt(&plans, libc::SYS_prlimit64, first(1)), Outcome::Unknown);
    assert_eq!(attempt(&plans, libc::SYS_prlimit64, first(0)), Outcome::Done);
    assert_eq!(attempt(&plans, libc::SYS_tgkill, [1, 1, 0, 0, 0, 0]), Outcome::Unknown);
    assert_eq!(attempt(&plans, libc::SYS_prctl, first(bits(libc::PR_SET_DUMPABLE))), Outcome::Unknown);
}
