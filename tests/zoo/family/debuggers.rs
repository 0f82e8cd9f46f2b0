//! ptrace: a debugger kills, dies, puts a signal in another's place, swallows one, or merely watches.

use std::sync::atomic::Ordering;

use killtrace::model::report::{Confidence, Kind, Mechanism};
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::Family;
use crate::Case;
use crate::acts::{Args, LAST_CHILD, fork_and};
use crate::stage::{Actor, Person, Stage};

pub(crate) const DEBUGGERS: Family = Family {
    cases: &[
        Case::new("ptkill", "PTRACE_KILL by its tracer", ptrace_kill).late(),
        Case::new("ptexitkill", "its tracer exits, PTRACE_O_EXITKILL", exit_kill).late(),
        Case::new("ptexitkilled", "its tracer is killed, PTRACE_O_EXITKILL", exit_kill_by_a_kill).late(),
        Case::new("ptexitcrash", "its tracer crashes, PTRACE_O_EXITKILL", exit_kill_by_a_crash).late(),
        Case::new("ptexitmany", "the tracer of three is killed, PTRACE_O_EXITKILL", exit_kill_of_many),
        Case::new("ptinject", "its tracer makes a SIGKILL of a SIGUSR1", injected).late(),
        Case::new("ptinjectterm", "its tracer makes a SIGTERM of a SIGUSR1", injected_term).late(),
        Case::new("ptinjectheld", "the same; it stopped before its late watch began", injected_held).late(),
        Case::new("ptdetach", "its tracer detaches with SIGTERM", detached_with_a_signal).late(),
        Case::new("ptsyscall", "its tracer has it go on from a system call with SIGTERM", |stage| {
            injected_in_a_system_call(stage, "TERM", libc::SIGTERM);
        })
        .late(),
        Case::new("ptsyscallsegv", "its tracer has it go on from a system call with SIGSEGV", |stage| {
            injected_in_a_system_call(stage, "SEGV", libc::SIGSEGV);
        })
        .late(),
        Case::new("ptsteal", "a SIGTERM is swallowed, a SIGUSR1 becomes one", stolen_and_injected),
        Case::new("pteat", "its tracer swallows a SIGTERM, and it exits later", swallowed).late(),
        Case::new(
            "pteatkill",
            "its tracer swallows a SIGTERM, and another's SIGKILL comes",
            swallowed_then_killed,
        )
        .late(),
        Case::new("ptpass", "its tracer lets a SIGTERM pass", passed).late(),
        Case::new("ptcaught", "its tracer lets a SIGTERM pass to its handler", passed_to_a_handler).late(),
        Case::new("ptstopped", "kill -9 while a tracer holds it", killed_while_held).late(),
        Case::new("ptdies", "its tracer is killed, and it lives on", tracer_dies).late(),
        Case::new("ptlook", "a debugger comes and goes; then a SIGTERM", looked_at),
        Case::new("ptown", "its tracer uses kill(2)", killed_by_tracer).late(),
        Case::new("ptexit", "it waits at its exit for its tracer, and another SIGKILL comes", held_at_exit)
            .late(),
        Case::new("ptparent", "its parent traces it, and passes the exec's SIGTRAP to it", exec_trap),
    ],
    acts: &[
        ("attach", |args| {
            ptrace::attach(pid(args)).expect("PTRACE_ATTACH");
            until_stopped(args);
        }),
        ("seize", seize),
        ("interrupt", |args| {
            ptrace::interrupt(pid(args)).expect("PTRACE_INTERRUPT");
            until_stopped(args);
        }),
        ("until-stopped", until_stopped),
        ("continue", |args| ptrace::cont(pid(args), signal(args)).expect("PTRACE_CONT")),
        ("continue-to-syscall", |args| {
            ptrace::syscall(pid(args), signal(args)).expect("PTRACE_SYSCALL");
            until_stopped(args);
        }),
        ("detach", |args| ptrace::detach(pid(args), signal(args)).expect("PTRACE_DETACH")),
        ("ptrace-kill", |args| ptrace::kill(pid(args)).expect("PTRACE_KILL")),
        ("traced", traced),
        ("traceme", |_| ptrace::traceme().expect("PTRACE_TRACEME")),
    ],
};

fn pid(args: &Args<'_>) -> Pid {
    Pid::from_raw(args.number(0))
}

/// The signal to go on with, if any.
fn signal(args: &Args<'_>) -> Option<Signal> {
    args.has(1).then(|| Signal::try_from(args.signo(1)).expect("a signal"))
}

/// `seize:PID`, `seize:PID,EXITKILL`, `seize:PID,EXIT`
fn seize(args: &Args<'_>) {
    let options = match args.has(1).then(|| args.text(1)) {
        None => ptrace::Options::empty(),
        Some("EXITKILL") => ptrace::Options::PTRACE_O_EXITKILL,
        Some("EXIT") => ptrace::Options::PTRACE_O_TRACEEXIT,
        Some(other) => panic!("no option is called {other}"),
    };
    ptrace::seize(pid(args), options).expect("PTRACE_SEIZE");
}

fn until_stopped(args: &Args<'_>) {
    let status = waitpid(pid(args), Some(WaitPidFlag::__WALL)).expect("it is traced");
    assert!(
        matches!(
            status,
            WaitStatus::Stopped(..) | WaitStatus::PtraceEvent(..) | WaitStatus::PtraceSyscall(_)
        ),
        "{status:?}"
    );
}

/// `traced:NAME`: starts itself under another name, traced; its first stop, after the exec, is passed on as the
/// SIGTRAP it is.
fn traced(args: &Args<'_>) {
    fork_and(&format!("traceme+(exec:{}:pause)", args.text(0)));
    let child = LAST_CHILD.load(Ordering::Relaxed);
    let child = Pid::from_raw(child);
    let status = waitpid(child, None).expect("it is traced");
    assert_eq!(status, WaitStatus::Stopped(child, Signal::SIGTRAP));
    ptrace::cont(child, Some(Signal::SIGTRAP)).expect("PTRACE_CONT");
    crate::acts::ready(&[child.as_raw().cast_unsigned()]);
    let status = waitpid(child, None).expect("it is a child");
    assert!(matches!(status, WaitStatus::Signaled(_, Signal::SIGTRAP, _)), "{status:?}");
}

/// A victim, and a tracer that does as it is told.
fn pair(stage: &mut Stage, victim: &[&str]) -> (Actor, Actor) {
    let victim = stage.victim(victim);
    let tracer = stage.start("kz-tracer", &["ready", "obey"]);
    (victim, tracer)
}

/// Has a tracer end: only then does its victim's real parent learn of the end. Who it was.
fn let_go(mut tracer: Actor) -> Person {
    tracer.order("exit:0");
    assert_eq!(tracer.wait(), 0);
    tracer.who().clone()
}

fn ptrace_kill(stage: &mut Stage) {
    let (mut victim, mut tracer) = pair(stage, &["ready", "pause"]);
    tracer.tell(&format!("attach:{}", victim.pid()));
    stage.curtain();
    tracer.tell(&format!("ptrace-kill:{}", victim.pid()));
    let who = let_go(tracer);
    stage
        .death_of(&mut victim, Kind::Debugger)
        .by_signal(libc::SIGKILL)
        .mechanism(Mechanism::Ptrace)
        .killer(&who)
        .actor(&who)
        .chain(&["killed kz-victim", "was killed by SIGKILL"])
        .summary(&["was killed through ptrace by kz-tracer"])
        .without_btf(Kind::Debugger, Confidence::Likely);
}

fn exit_kill(stage: &mut Stage) {
    let (mut victim, mut tracer) = pair(stage, &["ready", "pause"]);
    tracer.tell(&format!("seize:{},EXITKILL", victim.pid()));
    stage.curtain();
    let who = let_go(tracer);
    stage
        .death_of(&mut victim, Kind::Debugger)
        .by_signal(libc::SIGKILL)
        .mechanism(Mechanism::Ptrace)
        .detail("exit_kill")
        .killer(&who)
        .chain(&["exited with code 0", "had been tracing kz-victim", "was killed by SIGKILL"])
        .summary(&["its tracer kz-tracer", "exited with code 0"]);
}

fn exit_kill_by_a_kill(stage: &mut Stage) {
    let (mut victim, mut tracer) = pair(stage, &["ready", "pause"]);
    tracer.tell(&format!("seize:{},EXITKILL", victim.pid()));
    stage.curtain();
    let killer = stage.strike("kz-killer", tracer.pid(), "TERM");
    tracer.wait();
    stage
        .death_of(&mut victim, Kind::Debugger)
        .by_signal(libc::SIGKILL)
        .detail("exit_kill")
        .killer(&killer)
        .actor(&killer)
        .innocent(tracer.pid())
        .chain(&[
            "sent SIGTERM to kz-tracer",
            "was killed by SIGTERM",
            "had been tracing",
            "was killed by SIGKILL",
        ])
        .summary(&["its tracer kz-tracer", "because kz-killer"]);
}

fn exit_kill_by_a_crash(stage: &mut Stage) {
    let (mut victim, mut tracer) = pair(stage, &["ready", "pause"]);
    tracer.tell(&format!("seize:{},EXITKILL", victim.pid()));
    stage.curtain();
    tracer.order(&format!("kill:{},ABRT", tracer.pid()));
    tracer.wait();
    stage.death_of(&mut victim, Kind::Debugger).by_signal(libc::SIGKILL).detail("exit_kill").chain(&[
        "sent SIGABRT to itself",
        "was killed by SIGABRT",
        "was killed by SIGKILL",
    ]);
}

fn exit_kill_of_many(stage: &mut Stage) {
    let (mut first, mut tracer) = pair(stage, &["ready", "pause"]);
    let mut second = stage.victim(&["ready", "pause"]);
    let mut bystander = stage.victim(&["ready", "obey"]);
    tracer.tell(&format!("seize:{},EXITKILL", first.pid()));
    tracer.tell(&format!("seize:{},EXITKILL", second.pid()));
    tracer.tell(&format!("seize:{}", bystander.pid()));
    let killer = stage.strike("kz-killer", tracer.pid(), "KILL");
    tracer.wait();
    let (one, other) = (first.pid(), second.pid());
    stage.death_of(&mut first, Kind::Debugger).detail("exit_kill").killer(&killer).also_died(other, None);
    stage.death_of(&mut second, Kind::Debugger).detail("exit_kill").killer(&killer).also_died(one, None);
    bystander.order("exit:4");
    stage.death_of(&mut bystander, Kind::Exited).by_exit(4).no_killer();
}

fn injected(stage: &mut Stage) {
    inject(stage, "KILL", libc::SIGKILL);
}

fn injected_term(stage: &mut Stage) {
    inject(stage, "TERM", libc::SIGTERM);
}

fn inject(stage: &mut Stage, name: &str, signo: i32) {
    let (mut victim, mut tracer) = pair(stage, &["ready", "pause"]);
    tracer.tell(&format!("seize:{}", victim.pid()));
    stage.curtain();
    let decoy = stage.strike("kz-decoy", victim.pid(), "USR1");
    tracer.tell(&format!("until-stopped:{}", victim.pid()));
    tracer.tell(&format!("continue:{},{name}", victim.pid()));
    let who = let_go(tracer);
    stage
        .death_of(&mut victim, Kind::Debugger)
        .by_signal(signo)
        .mechanism(Mechanism::Ptrace)
        .detail("injected")
        .killer(&who)
        .actor(&who)
        .innocent(decoy.pid)
        .other_signal("SIGUSR1")
        .chain(&[&format!("kz-tracer ({}) was tracing", who.pid), "was killed by"])
        .summary(&[&format!("SIG{name}"), "kz-tracer"]);
}

fn injected_held(stage: &mut Stage) {
    let (mut victim, mut tracer) = pair(stage, &["ready", "pause"]);
    tracer.tell(&format!("seize:{}", victim.pid()));
    let decoy = stage.strike("kz-decoy", victim.pid(), "USR1");
    tracer.tell(&format!("until-stopped:{}", victim.pid()));
    stage.curtain();
    tracer.tell(&format!("continue:{},TERM", victim.pid()));
    let who = let_go(tracer);
    let late = stage.is_late();
    let death = stage.death_of(&mut victim, Kind::Debugger);
    // The signal that it stopped for may have been a SIGTERM of somebody else.
    let death = if late { death.likely() } else { death };
    death.by_signal(libc::SIGTERM).detail("injected").killer(&who).innocent(decoy.pid);
}

fn detached_with_a_signal(stage: &mut Stage) {
    let (mut victim, mut tracer) = pair(stage, &["ready", "pause"]);
    stage.curtain();
    tracer.tell(&format!("attach:{}", victim.pid()));
    tracer.tell(&format!("detach:{},TERM", victim.pid()));
    stage
        .death_of(&mut victim, Kind::Debugger)
        .by_signal(libc::SIGTERM)
        .detail("injected")
        .killer(tracer.who());
}

/// From a system call's stop a signal is sent with `send_sig(.., 1)` (include/linux/ptrace.h,
/// `ptrace_report_syscall`): like the kernel's own to itself.
fn injected_in_a_system_call(stage: &mut Stage, name: &str, signo: i32) {
    let (mut victim, mut tracer) = pair(stage, &["ready", "pause"]);
    stage.curtain();
    tracer.tell(&format!("attach:{}", victim.pid()));
    tracer.tell(&format!("continue-to-syscall:{}", victim.pid()));
    // The signal is generated when it goes on, and it stops for that.
    tracer.tell(&format!("continue-to-syscall:{},{name}", victim.pid()));
    tracer.tell(&format!("continue:{},{name}", victim.pid()));
    let who = let_go(tracer);
    let death = stage.death_of(&mut victim, Kind::Debugger);
    // A signal frame that cannot be written looks the same.
    let death = if signo == libc::SIGSEGV {
        death.likely().without_btf(Kind::Crashed, Confidence::Likely)
    } else {
        death
    };
    death.by_signal(signo).detail("injected").killer(&who);
}

fn stolen_and_injected(stage: &mut Stage) {
    let (mut victim, mut tracer) = pair(stage, &["ready", "pause"]);
    tracer.tell(&format!("seize:{}", victim.pid()));
    let decoy = stage.strike("kz-decoy", victim.pid(), "TERM");
    tracer.tell(&format!("until-stopped:{}", victim.pid()));
    tracer.tell(&format!("continue:{}", victim.pid()));
    let other = stage.strike("kz-other", victim.pid(), "USR1");
    tracer.tell(&format!("until-stopped:{}", victim.pid()));
    tracer.tell(&format!("continue:{},TERM", victim.pid()));
    let who = let_go(tracer);
    stage
        .death_of(&mut victim, Kind::Debugger)
        .by_signal(libc::SIGTERM)
        .likely()
        .detail("injected")
        .killer(&who)
        .innocent(decoy.pid)
        .innocent(other.pid);
}

fn swallowed(stage: &mut Stage) {
    let (mut victim, mut tracer) = pair(stage, &["ready", "obey"]);
    tracer.tell(&format!("seize:{}", victim.pid()));
    stage.curtain();
    let decoy = stage.strike("kz-decoy", victim.pid(), "TERM");
    tracer.tell(&format!("until-stopped:{}", victim.pid()));
    tracer.tell(&format!("continue:{}", victim.pid()));
    victim.order("exit:3");
    let who = let_go(tracer);
    // It could as well have waited for the signal itself.
    stage
        .death_of(&mut victim, Kind::Exited)
        .by_exit(3)
        .likely()
        .no_killer()
        .innocent(decoy.pid)
        .innocent(who.pid)
        .other_signal("SIGTERM");
}

fn swallowed_then_killed(stage: &mut Stage) {
    let (mut victim, mut tracer) = pair(stage, &["ready", "pause"]);
    tracer.tell(&format!("seize:{}", victim.pid()));
    stage.curtain();
    let decoy = stage.strike("kz-decoy", victim.pid(), "TERM");
    tracer.tell(&format!("until-stopped:{}", victim.pid()));
    tracer.tell(&format!("continue:{}", victim.pid()));
    let killer = stage.strike("kz-killer", victim.pid(), "KILL");
    let who = let_go(tracer);
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGKILL)
        .killer(&killer)
        .innocent(decoy.pid)
        .innocent(who.pid)
        .other_signal("SIGTERM");
}

fn passed(stage: &mut Stage) {
    let (mut victim, mut tracer) = pair(stage, &["ready", "pause"]);
    tracer.tell(&format!("seize:{}", victim.pid()));
    stage.curtain();
    let killer = stage.strike("kz-killer", victim.pid(), "TERM");
    tracer.tell(&format!("until-stopped:{}", victim.pid()));
    tracer.tell(&format!("continue:{},TERM", victim.pid()));
    let who = let_go(tracer);
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .mechanism(Mechanism::Kill)
        .killer(&killer)
        .innocent(who.pid);
}

fn passed_to_a_handler(stage: &mut Stage) {
    let (mut victim, mut tracer) = pair(stage, &["catch:TERM,exit,143", "ready", "pause"]);
    tracer.tell(&format!("seize:{}", victim.pid()));
    stage.curtain();
    let killer = stage.strike("kz-killer", victim.pid(), "TERM");
    tracer.tell(&format!("until-stopped:{}", victim.pid()));
    tracer.tell(&format!("continue:{},TERM", victim.pid()));
    let who = let_go(tracer);
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_exit(143)
        .graceful()
        .killer(&killer)
        .innocent(who.pid);
}

fn killed_while_held(stage: &mut Stage) {
    let (mut victim, mut tracer) = pair(stage, &["ready", "pause"]);
    tracer.tell(&format!("attach:{}", victim.pid()));
    stage.curtain();
    let killer = stage.strike("kz-killer", victim.pid(), "KILL");
    stage.until_state(victim.pid(), 'Z');
    let who = let_go(tracer);
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGKILL)
        .mechanism(Mechanism::Kill)
        .killer(&killer)
        .innocent(who.pid);
}

fn tracer_dies(stage: &mut Stage) {
    let (victim, mut tracer) = pair(stage, &["ready", "pause"]);
    tracer.tell(&format!("seize:{}", victim.pid()));
    tracer.tell(&format!("interrupt:{}", victim.pid()));
    stage.curtain();
    stage.strike("kz-killer", tracer.pid(), "KILL");
    tracer.wait();
    stage.until_state(victim.pid(), 'S');
    stage.lives(&victim);
}

fn looked_at(stage: &mut Stage) {
    let (mut victim, mut tracer) = pair(stage, &["ready", "pause"]);
    tracer.tell(&format!("attach:{}", victim.pid()));
    tracer.tell(&format!("detach:{}", victim.pid()));
    stage.until_state(victim.pid(), 'S');
    let killer = stage.strike("kz-killer", victim.pid(), "TERM");
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .killer(&killer)
        .innocent(tracer.pid())
        .other_signal("SIGSTOP");
}

fn killed_by_tracer(stage: &mut Stage) {
    let (mut victim, mut tracer) = pair(stage, &["ready", "pause"]);
    tracer.tell(&format!("seize:{}", victim.pid()));
    stage.curtain();
    tracer.tell(&format!("kill:{},KILL", victim.pid()));
    let who = let_go(tracer);
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGKILL)
        .mechanism(Mechanism::Kill)
        .killer(&who);
}

fn held_at_exit(stage: &mut Stage) {
    let (mut victim, mut tracer) = pair(stage, &["ready", "pause"]);
    tracer.tell(&format!("seize:{},EXIT", victim.pid()));
    stage.curtain();
    let killer = stage.strike("kz-killer", victim.pid(), "TERM");
    tracer.tell(&format!("until-stopped:{}", victim.pid()));
    tracer.tell(&format!("continue:{},TERM", victim.pid()));
    tracer.tell(&format!("until-stopped:{}", victim.pid()));
    let late_one = stage.strike("kz-decoy", victim.pid(), "KILL");
    let who = let_go(tracer);
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .killer(&killer)
        .innocent(late_one.pid)
        .innocent(who.pid);
}

/// The first stop of a program that is started to be traced is a SIGTRAP that the kernel sends it at its exec
/// (include/linux/ptrace.h, `ptrace_event`). Who passes it on kills.
fn exec_trap(stage: &mut Stage) {
    let mut tracer = stage.start("kz-tracer", &["traced:kz-victim", "ready"]);
    let victim = tracer.facts[0];
    assert_eq!(tracer.wait(), 0);
    stage.died(victim, Some(libc::SIGTRAP), Kind::Debugger).detail("exec_trap").killer(tracer.who());
}
