//! Another process sends the signal: every system call that can, and every signal that looks like something else.

use killtrace::model::report::{Confidence, Kind, Mechanism};
use killtrace_tests::comm;

use super::Family;
use crate::Case;
use crate::acts::{Args, check};
use crate::stage::{Person, Stage};

pub(crate) const KILLS: Family = Family {
    cases: &[
        Case::new("kill", "SIGTERM by kill(2) from another process", kill).late(),
        Case::new("kill9", "SIGKILL by kill(2) from another process", |stage| plain(stage, "KILL")).late(),
        Case::new("kpg", "SIGTERM to a process group", group).late(),
        Case::new("kpg0", "SIGKILL to the killer's own group, itself included", own_group).watch(&[
            "--comm",
            "kz-victim",
            "--comm",
            "kz-killer",
        ]),
        Case::new("kall", "SIGKILL to everybody in a PID namespace", everybody),
        Case::new("tkill", "SIGTERM by tkill(2)", |stage| {
            by(stage, "tkill:PID,TERM", libc::SIGTERM, Mechanism::Tkill);
        })
        .late(),
        Case::new("tgkill", "SIGKILL by tgkill(2)", |stage| {
            by(stage, "tgkill:PID,PID,KILL", libc::SIGKILL, Mechanism::Tgkill);
        })
        .late(),
        Case::new("sigqueue", "SIGTERM by sigqueue(3)", |stage| {
            by(stage, "sigqueue:PID,TERM", libc::SIGTERM, Mechanism::Sigqueue);
        })
        .late(),
        Case::new("tgsigq", "SIGKILL by rt_tgsigqueueinfo(2)", |stage| {
            by(stage, "tgsigqueue:PID,PID,KILL", libc::SIGKILL, Mechanism::Tgsigqueue);
        })
        .late(),
        Case::new("pidfd", "SIGTERM by pidfd_send_signal(2)", |stage| {
            by(stage, "pidfd:PID,TERM", libc::SIGTERM, Mechanism::PidfdSendSignal);
        })
        .late(),
        Case::new("pidfdinf", "SIGKILL by pidfd_send_signal(2) with a siginfo", |stage| {
            by(stage, "pidfd:PID,KILL,info", libc::SIGKILL, Mechanism::PidfdSendSignal);
        })
        .late(),
        Case::new("pidfdthr", "SIGTERM to one thread by pidfd_send_signal(2)", |stage| {
            by(stage, "pidfd:PID,TERM,thread", libc::SIGTERM, Mechanism::PidfdSendSignal);
        })
        .needs(no_pidfd_flags)
        .late(),
        Case::new("pidfdpg", "SIGTERM to a process group by pidfd_send_signal(2)", pidfd_group)
            .needs(no_pidfd_flags)
            .late(),
        Case::new("tidkill", "SIGTERM by kill(2) with the number of a thread", |stage| {
            thread(stage, "kill:TID,TERM", Mechanism::Kill);
        })
        .late(),
        Case::new("tgtid", "SIGTERM to a thread that does not lead", |stage| {
            thread(stage, "tgkill:PID,TID,TERM", Mechanism::Tgkill);
        })
        .late(),
        Case::new("khup", "a sent SIGHUP is no hangup", |stage| plain(stage, "HUP")).late(),
        Case::new("kint", "a sent SIGINT is no Ctrl-C", |stage| plain(stage, "INT")).late(),
        Case::new("kquit", "a sent SIGQUIT is no Ctrl-\\", |stage| plain(stage, "QUIT")).late(),
        Case::new("ksegv", "a sent SIGSEGV is no crash", |stage| plain(stage, "SEGV")).late(),
        Case::new("kbus", "a sent SIGBUS is no crash", |stage| plain(stage, "BUS")).late(),
        Case::new("ktrap", "a sent SIGTRAP is no breakpoint", |stage| plain(stage, "TRAP")).late(),
        Case::new("kabrt", "a sent SIGABRT is no abort()", |stage| plain(stage, "ABRT")).late(),
        Case::new("kpipe", "a sent SIGPIPE is no broken pipe", |stage| plain(stage, "PIPE")).late(),
        Case::new("kalrm", "a sent SIGALRM is no timer", |stage| plain(stage, "ALRM")).late(),
        Case::new("kprof", "a sent SIGPROF is no timer", |stage| plain(stage, "PROF")).late(),
        Case::new("kxcpu", "a sent SIGXCPU is no limit", |stage| plain(stage, "XCPU")).late(),
        Case::new("kxfsz", "a sent SIGXFSZ is no limit", |stage| plain(stage, "XFSZ")).late(),
        Case::new("ksys", "a sent SIGSYS is no seccomp", |stage| plain(stage, "SYS")).late(),
        Case::new("kio", "a sent SIGIO is no notification", |stage| plain(stage, "IO")).late(),
        Case::new("krt", "a real-time signal", |stage| plain(stage, "37")).late(),
        Case::new("ksegvthr", "a SIGSEGV sent to one thread is no crash", |stage| {
            by(stage, "tgkill:PID,PID,SEGV", libc::SIGSEGV, Mechanism::Tgkill);
        })
        .late(),
        Case::new("kpipethr", "a SIGPIPE sent to one thread is no broken pipe", |stage| {
            by(stage, "tgkill:PID,PID,PIPE", libc::SIGPIPE, Mechanism::Tgkill);
        })
        .late(),
        Case::new("forgetmr", "a sigqueue that says it is a timer's is none", |stage| forged(stage, -2))
            .late(),
        Case::new("forgemq", "a sigqueue that says it is a message queue's is none", |stage| {
            forged(stage, -3);
        })
        .late(),
        Case::new("forgesio", "a sigqueue that says it is a notification's is none", |stage| {
            forged(stage, -5);
        })
        .late(),
        Case::new("forgeany", "a sigqueue with a code that means nothing", |stage| forged(stage, -1000))
            .late(),
        Case::new("eperm", "whoever may not send signals, and signal 0, leave nothing", eperm).late(),
    ],
    acts: &[
        ("tkill", |args| check(args, sent(libc::SYS_tkill, &[args.number(0), args.signo(1).into()]))),
        ("tgkill", |args| {
            let (pid, tid) = (args.number(0), args.number(1));
            check(args, sent(libc::SYS_tgkill, &[pid, tid, args.signo(2).into()]));
        }),
        ("sigqueue", sigqueue),
        ("tgsigqueue", tgsigqueue),
        ("pidfd", pidfd),
        ("kill_in_vain", |args| {
            assert_eq!(crate::acts::send(args.pid(0), args.signo(1)), -1, "it may send signals");
        }),
    ],
};

fn kill(stage: &mut Stage) {
    let mut victim = stage.victim(&["ready", "pause"]);
    stage.curtain();
    let killer = stage.strike("kz-killer", victim.pid(), "TERM");
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .mechanism(Mechanism::Kill)
        .killer(&killer)
        .actor(&killer)
        .ancestry(&[Person::director().pid])
        .chain(&["sent SIGTERM to kz-victim", "was killed by SIGTERM"])
        .summary(&["was killed by SIGTERM from kz-killer (pid "]);
}

/// kill(2) with a signal that the kernel also sends for reasons of its own.
fn plain(stage: &mut Stage, signal: &str) {
    by(stage, &format!("kill:PID,{signal}"), crate::acts::signo(signal), Mechanism::Kill);
}

/// One process dies of what another does to it; `PID` stands for the victim's.
fn by(stage: &mut Stage, act: &str, signo: i32, mechanism: Mechanism) {
    let mut victim = stage.victim(&["ready", "pause"]);
    stage.curtain();
    let killer = stage.perform("kz-killer", &[&act.replace("PID", &victim.id())]);
    let signal = killtrace::model::signal::Signo(signo).to_string();
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(signo)
        .mechanism(mechanism)
        .killer(&killer)
        .actor(&killer)
        .chain(&[&format!("sent {signal} to kz-victim"), &format!("was killed by {signal}")])
        .summary(&[&format!("{signal} from kz-killer (pid {})", killer.pid)]);
}

/// sigqueue lets its caller choose any code below zero (kernel/signal.c, `do_rt_sigqueueinfo`).
fn forged(stage: &mut Stage, code: i32) {
    let mut victim = stage.victim(&["ready", "pause"]);
    stage.curtain();
    let killer = stage.perform("kz-killer", &[&format!("sigqueue:{},TERM,{code}", victim.pid())]);
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .mechanism(Mechanism::Sigqueue)
        .killer(&killer)
        .actor(&killer)
        .summary(&["SIGTERM from kz-killer"])
        // Only the system call betrays it.
        .without_btf(
            match code {
                -2 => Kind::Timer,
                -3 | -5 => Kind::AsyncNotification,
                _ => Kind::Unknown,
            },
            if code == -1000 { Confidence::Unknown } else { Confidence::Likely },
        );
}

fn group(stage: &mut Stage) {
    let mut leader = stage.victim(&["setpgid", "fork:ready:me+pause", "pause"]);
    let child = leader.facts[0];
    stage.adopt_orphans();
    stage.curtain();
    let killer = stage.perform("kz-killer", &[&format!("kill:-{},TERM", leader.pid())]);
    let ended = (leader.wait(), stage.reap(child));
    for (pid, other, status) in [(leader.pid(), child, ended.0), (child, leader.pid(), ended.1)] {
        stage
            .died(pid, Some(status), Kind::KilledByProcess)
            .by_signal(libc::SIGTERM)
            .mechanism(Mechanism::KillGroup)
            .killer(&killer)
            .also_died(other, None)
            .chain(&["to its whole process group (1 more process)"])
            .summary(&["was killed: kz-killer (pid ", "sent SIGTERM to its whole process group"]);
    }
}

fn own_group(stage: &mut Stage) {
    let mut killer = stage.start("kz-killer", &["setpgid", "spawn:kz-victim:ready:me+pause", "obey"]);
    let victim = killer.facts[0];
    stage.adopt_orphans();
    stage.curtain();
    killer.order("kill:0,KILL");
    let person = killer.who().clone();
    stage
        .death_of(&mut killer, Kind::KilledBySelf)
        .by_signal(libc::SIGKILL)
        .mechanism(Mechanism::KillGroup)
        .no_killer()
        .also_died(victim, None)
        .summary(&["ended itself: it sent SIGKILL to its whole process group"]);
    stage
        .death_of_orphan(victim, Kind::KilledByProcess)
        .by_signal(libc::SIGKILL)
        .mechanism(Mechanism::KillGroup)
        .killer(&person)
        .also_died(person.pid, None);
}

fn everybody(stage: &mut Stage) {
    let victim = "(spawn:kz-victim:ready:me+pause)";
    let acts = format!("pidns:{victim}+{victim}+(spawn:kz-killer:ready:me+obey)+wait+pause");
    let mut init = stage.start("kz-init", &[&acts, "wait"]);
    let mut victims = vec![init.facts[0], init.hear()[0], init.hear()[0]];
    let killer = victims.iter().position(|pid| comm(*pid).as_deref() == Some("kz-killer")).expect("a killer");
    let killer = victims.remove(killer);
    stage.curtain();
    init.order("kill:-1,KILL");
    for (victim, other) in [(victims[0], victims[1]), (victims[1], victims[0])] {
        stage.until_gone(victim);
        stage
            .died(victim, None, Kind::KilledByProcess)
            .mechanism(Mechanism::KillAll)
            .killer(&Person::pid(killer).called("kz-killer"))
            .also_died(other, None)
            .summary(&["sent SIGKILL to every process it could reach"]);
    }
    stage.clean_up(killer);
}

fn pidfd_group(stage: &mut Stage) {
    let mut victim = stage.victim(&["setpgid", "ready", "pause"]);
    stage.curtain();
    let killer = stage.perform("kz-killer", &[&format!("pidfd:{},TERM,group", victim.pid())]);
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .mechanism(Mechanism::PidfdSendSignal)
        .killer(&killer);
}

fn thread(stage: &mut Stage, act: &str, mechanism: Mechanism) {
    let mut victim = stage.victim(&["thread:pause", "ready:thread", "pause"]);
    stage.curtain();
    let act = act.replace("PID", &victim.id()).replace("TID", &victim.facts[0].to_string());
    let killer = stage.perform("kz-killer", &[&act]);
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .mechanism(mechanism)
        .killer(&killer)
        .actor(&killer);
}

fn eperm(stage: &mut Stage) {
    let mut victim = stage.victim(&["ready", "obey"]);
    stage.curtain();
    let act = |how: &str, signal: &str| format!("{how}:{},{signal}", victim.pid());
    let weak = stage
        .perform("kz-weak", &["setuid:65534", &act("kill_in_vain", "TERM"), &act("kill_in_vain", "KILL")]);
    let asking = stage.perform("kz-asking", &[&act("kill", "0")]);
    victim.order("exit:143");
    stage
        .death_of(&mut victim, Kind::Exited)
        .by_exit(143)
        .no_killer()
        .no_actor()
        .innocent(weak.pid)
        .innocent(asking.pid)
        .summary(&["exited by itself with code 143", "no SIGTERM ended it"]);
}

/// A system call with numbers.
fn sent(call: i64, args: &[i64]) -> i64 {
    let arg = |n: usize| args.get(n).copied().unwrap_or(0);
    // SAFETY: the calls of this file that go through here take numbers only.
    unsafe { libc::syscall(call, arg(0), arg(1), arg(2), arg(3)) }
}

/// A siginfo as its sender fills it: any code that is not the kernel's passes to others, and any at all to itself.
fn siginfo(signo: i32, code: i32) -> libc::siginfo_t {
    // SAFETY: all zeroes is a siginfo.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    (info.si_signo, info.si_code) = (signo, code);
    info
}

/// An act's optional siginfo code, SI_QUEUE where there is none.
fn code(args: &Args<'_>, n: usize) -> i32 {
    if args.has(n) { args.number(n) } else { libc::SI_QUEUE }
}

/// `sigqueue:PID,SIGNAL[,CODE]`
fn sigqueue(args: &Args<'_>) {
    let info = siginfo(args.signo(1), code(args, 2));
    // SAFETY: `info` outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_rt_sigqueueinfo, args.pid(0), args.signo(1), &raw const info) };
    check(args, result);
}

/// `tgsigqueue:PID,TID,SIGNAL[,CODE]`
fn tgsigqueue(args: &Args<'_>) {
    let info = siginfo(args.signo(2), code(args, 3));
    let (pid, tid) = (args.pid(0), args.pid(1));
    // SAFETY: `info` outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_rt_tgsigqueueinfo, pid, tid, args.signo(2), &raw const info) };
    check(args, result);
}

/// `PIDFD_SIGNAL_THREAD` and `PIDFD_SIGNAL_PROCESS_GROUP` (include/uapi/linux/pidfd.h).
const TO_THREAD: u32 = 1;
const TO_GROUP: u32 = 4;
/// `PIDFD_THREAD`: the descriptor is a thread's.
const OF_THREAD: i32 = libc::O_EXCL;

/// `pidfd:PID,SIGNAL[,info|thread|group[,CODE]]`
fn pidfd(args: &Args<'_>) {
    let how = if args.has(2) { args.text(2) } else { "" };
    let kind = if how == "thread" { OF_THREAD } else { 0 };
    // SAFETY: numbers only.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, args.pid(0), kind) };
    check(args, fd);
    let info = siginfo(args.signo(1), code(args, 3));
    let info = if how == "info" || args.has(3) { &raw const info } else { std::ptr::null() };
    let flags = match how {
        "thread" => TO_THREAD,
        "group" => TO_GROUP,
        _ => 0,
    };
    // SAFETY: `info` is null or outlives the call.
    check(args, unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, args.signo(1), info, flags) });
}

/// Linux 6.9 brought the flags of pidfd_send_signal.
fn no_pidfd_flags() -> Option<String> {
    // SAFETY: numbers only.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, std::process::id(), OF_THREAD) };
    if fd < 0 {
        return Some("this kernel's pidfd_send_signal takes no flags".to_owned());
    }
    // SAFETY: the descriptor was just opened and is nobody else's.
    unsafe { libc::close(i32::try_from(fd).expect("descriptors are small")) };
    None
}
