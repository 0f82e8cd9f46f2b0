//! Nobody else does anything: it exits, or sends itself the fatal signal.

use killtrace::model::report::{Confidence, Kind, Mechanism};

use super::Family;
use crate::Case;
use crate::acts::{Args, check};
use crate::stage::{Actor, Stage};

pub(crate) const SELF_INFLICTED: Family = Family {
    cases: &[
        Case::new("exit", "it exits with code 3", |stage| exits(stage, 3)).late(),
        Case::new("exit0", "it returns from main", returns),
        Case::new("exit137", "it exits with the code that SIGKILL looks like", |stage| exits(stage, 137))
            .late(),
        Case::new("exit143", "it exits with the code that SIGTERM looks like", |stage| exits(stage, 143))
            .late(),
        Case::new("exitpend", "it exits while a SIGTERM that it blocks waits", exits_with_pending),
        Case::new("abort", "it calls abort()", abort).late(),
        Case::new("v8abort", "it complains, and a thread of it aborts", abort_in_thread).late(),
        Case::new("aborthnd", "it aborts, and its handler of SIGABRT returns", abort_with_handler),
        Case::new("raise", "it raises SIGTERM", |stage| {
            raises(stage, "raise:TERM", libc::SIGTERM, Mechanism::Tgkill);
        })
        .late(),
        Case::new("raise9", "it raises SIGKILL", |stage| {
            raises(stage, "raise:KILL", libc::SIGKILL, Mechanism::Tgkill);
        })
        .late(),
        Case::new("selfkill", "it sends SIGUSR1 to its own pid", |stage| {
            raises(stage, "kill:me,USR1", libc::SIGUSR1, Mechanism::Kill);
        })
        .late(),
        Case::new("selfsegv", "it sends SIGSEGV to its own pid", |stage| {
            raises(stage, "kill:me,SEGV", libc::SIGSEGV, Mechanism::Kill);
        }),
        Case::new("selfrt", "it sends itself a real-time signal with sigqueue", |stage| {
            raises(stage, "queue:37,-1", 37, Mechanism::Sigqueue);
        }),
        Case::new("fakesegv", "it sends itself a SIGSEGV that says SEGV_MAPERR", |stage| {
            raises(stage, "queue:SEGV,1", libc::SIGSEGV, Mechanism::Sigqueue);
        }),
        Case::new("faketmr", "it sends itself a SIGALRM that says it is a timer's", fake_timer),
        Case::new("fakeseg2", "it forges a fault for its own thread", fake_fault),
        Case::new(
            "raiseblk",
            "it raises the SIGTERM that another one waits for behind its mask",
            raise_behind_mask,
        ),
        Case::new("raiselate", "it raises a SIGTERM that it blocks, and unblocks it later", raise_later),
    ],
    acts: &[("raise", raise), ("queue", queue), ("abort", |_| std::process::abort()), ("say", say)],
};

fn obedient(stage: &mut Stage) -> Actor {
    let victim = stage.victim(&["ready", "obey"]);
    stage.curtain();
    victim
}

fn exits(stage: &mut Stage, code: i32) {
    let mut victim = obedient(stage);
    victim.order(&format!("exit:{code}"));
    let death = stage.death_of(&mut victim, Kind::Exited).by_exit(code);
    let death = death.mechanism(Mechanism::None).no_killer().no_actor();
    let death = death.chain(&[&format!("exited with code {code}")]);
    match code {
        137 => death.summary(&["exited by itself with code 137", "no SIGKILL ended it"]),
        143 => death.summary(&["exited by itself with code 143", "no SIGTERM ended it"]),
        _ => death.summary(&[&format!("exited by itself with code {code}.")]),
    };
}

fn returns(stage: &mut Stage) {
    let mut victim = stage.victim(&[]);
    stage.death_of(&mut victim, Kind::Exited).by_exit(0).no_killer();
}

fn exits_with_pending(stage: &mut Stage) {
    let mut victim = stage.victim(&["block:TERM", "ready", "obey"]);
    let decoy = stage.strike("kz-decoy", victim.pid(), "TERM");
    victim.order("exit:143");
    stage
        .death_of(&mut victim, Kind::Exited)
        .by_exit(143)
        .no_killer()
        .innocent(decoy.pid)
        .other_signal("SIGTERM")
        // That it did not wait for the signal cannot be seen then.
        .without_btf(Kind::Exited, Confidence::Likely);
}

fn abort(stage: &mut Stage) {
    let mut victim = obedient(stage);
    victim.order("abort");
    stage
        .death_of(&mut victim, Kind::KilledBySelf)
        .by_signal(libc::SIGABRT)
        .detail("abort")
        .no_killer()
        .chain(&["sent SIGABRT to itself", "was killed by SIGABRT"])
        .summary(&["ended itself with SIGABRT: it called abort()"]);
}

/// V8 out of heap, a failed assertion in a worker: a message that the kernel does not see, then SIGABRT.
fn abort_in_thread(stage: &mut Stage) {
    let mut victim = stage.victim(&["thread:pause", "thread:name:V8Worker+ready+obey", "pause"]);
    stage.curtain();
    victim.order("say:FATAL ERROR: Reached heap limit");
    victim.hear();
    victim.order("abort");
    stage.death_of(&mut victim, Kind::KilledBySelf).by_signal(libc::SIGABRT).detail("abort").no_killer();
}

/// glibc raises it again with the default action.
fn abort_with_handler(stage: &mut Stage) {
    let mut victim = stage.victim(&["catch:ABRT,return", "ready", "obey"]);
    stage.curtain();
    victim.order("abort");
    stage.death_of(&mut victim, Kind::KilledBySelf).by_signal(libc::SIGABRT).detail("abort").no_killer();
}

fn raises(stage: &mut Stage, act: &str, signal: i32, mechanism: Mechanism) {
    let mut victim = obedient(stage);
    victim.order(act);
    stage
        .death_of(&mut victim, Kind::KilledBySelf)
        .by_signal(signal)
        .mechanism(mechanism)
        .no_killer()
        .chain(&["to itself", "was killed by"])
        .summary(&["ended itself"]);
}

fn fake_timer(stage: &mut Stage) {
    let mut victim = obedient(stage);
    victim.order("queue:ALRM,-2");
    stage
        .death_of(&mut victim, Kind::KilledBySelf)
        .by_signal(libc::SIGALRM)
        .no_killer()
        .without_btf(Kind::Timer, Confidence::Likely);
}

/// Only the call betrays it, so a kernel that does not show that is taken in.
fn fake_fault(stage: &mut Stage) {
    let mut victim = obedient(stage);
    victim.order("queue:SEGV,1,thread");
    stage
        .death_of(&mut victim, Kind::KilledBySelf)
        .by_signal(libc::SIGSEGV)
        .mechanism(Mechanism::Tgsigqueue)
        .no_killer()
        .without_btf(Kind::Crashed, Confidence::Certain);
}

/// Its own is for the thread, and `dequeue_signal` takes that first.
fn raise_behind_mask(stage: &mut Stage) {
    let mut victim = stage.victim(&["block:TERM", "ready", "obey"]);
    stage.curtain();
    let decoy = stage.strike("kz-decoy", victim.pid(), "TERM");
    victim.tell("raise:TERM");
    victim.order("unblock:TERM");
    stage
        .death_of(&mut victim, Kind::KilledBySelf)
        .by_signal(libc::SIGTERM)
        .mechanism(Mechanism::Tgkill)
        .no_killer()
        .innocent(decoy.pid);
}

fn raise_later(stage: &mut Stage) {
    let mut victim = stage.victim(&["block:TERM", "ready", "obey"]);
    stage.curtain();
    victim.tell("raise:TERM");
    let decoy = stage.strike("kz-decoy", victim.pid(), "CONT");
    victim.order("unblock:TERM");
    stage.death_of(&mut victim, Kind::KilledBySelf).by_signal(libc::SIGTERM).no_killer().innocent(decoy.pid);
}

/// `raise:TERM`: tgkill(2) at the calling thread.
fn raise(args: &Args<'_>) {
    let (pid, tid) = (nix::unistd::getpid().as_raw(), nix::unistd::gettid().as_raw());
    // SAFETY: plain system call.
    check(args, unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, args.signo(0)) });
}

/// `queue:SEGV,1`: a signal to itself with a code of one's choice; `thread`: to the calling thread.
fn queue(args: &Args<'_>) {
    // SAFETY: zeroes are a siginfo.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    info.si_signo = args.signo(0);
    info.si_code = args.number(1);
    let (pid, tid) = (nix::unistd::getpid().as_raw(), nix::unistd::gettid().as_raw());
    // SAFETY: plain system calls that read a siginfo on the stack.
    check(args, unsafe {
        if args.has(2) {
            libc::syscall(libc::SYS_rt_tgsigqueueinfo, pid, tid, info.si_signo, &raw const info)
        } else {
            libc::syscall(libc::SYS_rt_sigqueueinfo, pid, info.si_signo, &raw const info)
        }
    });
}

/// `say:WORDS`, on stderr.
#[allow(clippy::print_stderr, reason = "what a program says before it aborts")]
fn say(args: &Args<'_>) {
    eprintln!("{}", args.rest());
}
