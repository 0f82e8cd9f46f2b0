//! System calls that it had forbidden itself.

use killtrace::model::report::{Confidence, Kind, Mechanism};

use super::Family;
use super::threads::until_threads;
use crate::Case;
use crate::acts::{Args, check};
use crate::stage::{Actor, Stage};

pub(crate) const SECCOMP: Family = Family {
    cases: &[
        Case::new("seckillp", "its seccomp filter says KILL_PROCESS", |stage| {
            forbidden(stage, "kill_process")
        })
        .late(),
        Case::new("seckillt", "its seccomp filter says KILL_THREAD, and it has one", |stage| {
            forbidden(stage, "kill_thread");
        })
        .late(),
        Case::new("sectrap", "its seccomp filter says TRAP, and it has no handler", |stage| {
            forbidden(stage, "trap")
        })
        .late(),
        Case::new("seckillm", "its seccomp filter says KILL_PROCESS to one of its threads", kill_all_threads)
            .late(),
        Case::new("secthr", "its seccomp filter kills one of its threads, and it lives", thread_lives).late(),
        Case::new(
            "secthrex",
            "its seccomp filter kills one of its threads, and it exits later",
            thread_exits,
        )
        .late(),
        Case::new("sectraph", "its handler of SIGSYS exits with 3", trap_exits).late(),
        Case::new("sectraps", "its handler of SIGSYS lets it live", trap_lives).late(),
        Case::new("secstrict", "strict seccomp forbids what it calls", strict).late(),
        Case::new("secdecoy", "its seccomp filter kills it while a SIGTERM that it blocks waits", with_decoy)
            .late(),
        Case::new("secerrno", "its seccomp filter refuses a call, and it exits with 1", refused).late(),
    ],
    acts: &[("seccomp", seccomp), ("forbidden", |_| call_forbidden())],
};

fn told_to(stage: &mut Stage, acts: &[&str]) -> Actor {
    let victim = stage.victim(acts);
    stage.curtain();
    victim
}

fn forbidden(stage: &mut Stage, action: &str) {
    let mut victim = told_to(stage, &[&format!("seccomp:{action}"), "ready", "obey"]);
    victim.order("forbidden");
    stage
        .death_of(&mut victim, Kind::Seccomp)
        .by_signal(libc::SIGSYS)
        .mechanism(Mechanism::Kernel)
        .no_killer()
        .no_actor()
        .chain(&["seccomp", "was killed by SIGSYS"])
        .summary(&["seccomp"]);
}

fn kill_all_threads(stage: &mut Stage) {
    let acts = ["thread:pause", "thread:seccomp:kill_process+ready+obey", "pause"];
    let mut victim = told_to(stage, &acts);
    victim.order("forbidden");
    stage.death_of(&mut victim, Kind::Seccomp).by_signal(libc::SIGSYS).no_killer();
}

fn loses_thread(stage: &mut Stage) -> Actor {
    let mut victim =
        told_to(stage, &["thread:seccomp:kill_thread+sleep:50+forbidden", "ready", "obey", "pause"]);
    until_threads(victim.pid(), 1);
    victim.tell("sleep:1");
    victim
}

fn thread_lives(stage: &mut Stage) {
    let victim = loses_thread(stage);
    stage.lives(&victim);
}

fn thread_exits(stage: &mut Stage) {
    let mut victim = loses_thread(stage);
    victim.order("exit:0");
    stage.death_of(&mut victim, Kind::Exited).by_exit(0).no_killer();
}

fn trap_exits(stage: &mut Stage) {
    let mut victim = told_to(stage, &["catch:SYS,exit,3", "seccomp:trap", "ready", "obey"]);
    victim.order("forbidden");
    stage
        .death_of(&mut victim, Kind::Seccomp)
        .by_exit(3)
        .no_killer()
        .summary(&["seccomp", "handler", "exited with code 3"])
        .without_btf(Kind::Seccomp, Confidence::Likely);
}

fn trap_lives(stage: &mut Stage) {
    let mut victim = told_to(stage, &["catch:SYS,return", "seccomp:trap", "ready", "obey", "pause"]);
    victim.tell("forbidden");
    stage.lives(&victim);
}

/// No signal is made: the kernel ends the task itself (kernel/seccomp.c, `__secure_computing_strict`).
fn strict(stage: &mut Stage) {
    let mut victim = told_to(stage, &["ready", "obey"]);
    victim.order("seccomp:strict");
    stage
        .death_of(&mut victim, Kind::Seccomp)
        .by_signal(libc::SIGKILL)
        .detail("strict")
        .no_killer()
        .chain(&["seccomp", "was killed by SIGKILL"])
        .summary(&["seccomp", "strict"])
        .without_btf(Kind::Unknown, Confidence::Unknown);
}

fn with_decoy(stage: &mut Stage) {
    let mut victim = told_to(stage, &["block:TERM", "block:SYS", "seccomp:kill_process", "ready", "obey"]);
    let decoy = stage.strike("kz-decoy", victim.pid(), "TERM");
    victim.order("forbidden");
    stage
        .death_of(&mut victim, Kind::Seccomp)
        .by_signal(libc::SIGSYS)
        .no_killer()
        .innocent(decoy.pid)
        .other_signal("SIGTERM");
}

fn refused(stage: &mut Stage) {
    let mut victim = told_to(stage, &["seccomp:errno", "ready", "obey"]);
    victim.tell("forbidden");
    victim.order("exit:1");
    stage.death_of(&mut victim, Kind::Exited).by_exit(1).no_killer();
}

/// `seccomp:kill_process`: from now on this happens at [`call_forbidden`], to the calling thread. `strict`: all but
/// read, write, exit and sigreturn is forbidden, and one is called that is not among them.
fn seccomp(args: &Args<'_>) {
    let action = match args.text(0) {
        "kill_process" => libc::SECCOMP_RET_KILL_PROCESS,
        "kill_thread" => libc::SECCOMP_RET_KILL_THREAD,
        "trap" => libc::SECCOMP_RET_TRAP,
        "errno" => libc::SECCOMP_RET_ERRNO | 1,
        "strict" => {
            // SAFETY: plain system calls.
            unsafe {
                libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT, 0, 0, 0);
            }
            return call_forbidden();
        }
        other => panic!("seccomp cannot do {other}"),
    };
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: narrow(code), jt, jf, k };
    let mut filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, narrow(libc::SYS_getppid)),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, action),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: narrow(filter.len()), filter: filter.as_mut_ptr() };
    // SAFETY: plain system calls with a filter on the stack.
    unsafe {
        check(args, libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).into());
        check(args, libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program).into());
    }
}

fn narrow<T, N: TryFrom<T>>(number: T) -> N {
    N::try_from(number).ok().expect("it is small")
}

fn call_forbidden() {
    // SAFETY: no arguments.
    unsafe { libc::syscall(libc::SYS_getppid) };
}
