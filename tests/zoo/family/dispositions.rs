//! What a victim makes of a signal: caught, ignored, blocked, pending, stopped. And which of several it died of.

use killtrace::model::report::{Kind, Mechanism};

use super::Family;
use crate::Case;
use crate::acts::Args;
use crate::stage::{Actor, Stage};

pub(crate) const DISPOSITIONS: Family = Family {
    cases: &[
        Case::new("ignexit", "it ignores SIGTERM and later exits by itself", ignored_then_exit).late(),
        Case::new("ignkill", "it ignores SIGTERM and dies of another's SIGKILL", |stage| {
            outlived(stage, "ignore:TERM");
        })
        .late(),
        Case::new("caughtkill", "it handles SIGTERM and dies of another's SIGKILL", |stage| {
            outlived(stage, "catch:TERM,return");
        })
        .late(),
        Case::new("blkkill", "it blocks SIGTERM and dies of another's SIGKILL", |stage| {
            outlived(stage, "block:TERM");
        })
        .late(),
        Case::new("blockint", "a SIGINT that is blocked for ever kills nobody", blocked_for_ever).late(),
        Case::new("blkexit", "it blocks SIGTERM and later exits by itself", blocked_then_exit),
        Case::new("blkunblk", "a blocked SIGTERM kills when it is let through", blocked_then_not).late(),
        Case::new("blkprior", "it sits a SIGTERM out and dies of the next one", waited_then_blocked).late(),
        Case::new("dblpend", "two send it SIGTERM while it is blocked: the first one killed", twice_pending)
            .late(),
        Case::new("twoblk", "SIGINT and SIGTERM wait: the lower number goes first", two_pending).late(),
        Case::new("stopcont", "stopped, then SIGTERM by one and SIGCONT by another", stopped_then_continued)
            .late(),
        Case::new("stopterm", "stopped, then SIGTERM by one and SIGKILL by another", stopped_then_killed)
            .late(),
        Case::new("race2", "SIGTERM and SIGKILL within a microsecond: the first one killed", race).late(),
        Case::new("impatnt", "it handles SIGTERM slowly, and another loses patience", impatient).late(),
        Case::new("decoys", "what it catches, ignores and blocks right before the end", decoys).late(),
        Case::new("decoy1k", "a thousand handled signals right before the end", thousand_decoys).late(),
        Case::new("decoyrt", "forty different blocked signals right before the end", many_kinds).late(),
        Case::new("rtqueue", "queued real-time signals: the first in the queue killed", queued).late(),
        Case::new("zombie", "killed again when it is dead already", zombie).late(),
        Case::new("ldeadk", "its leader thread has ended, and it is killed", leaderless).late(),
        Case::new("execkill", "it becomes another program between signal and death", exec_between).late(),
        Case::new("coreterm", "SIGKILL right after a signal that dumps core", core_then_kill).late(),
    ],
    acts: &[("sigwait", sigwait), ("flood", flood), ("leave", |_| leave())],
};

/// An act of one process towards another.
fn towards(victim: &Actor, act: &str, signal: &str) -> String {
    format!("{act}:{},{signal}", victim.pid())
}

fn ignored_then_exit(stage: &mut Stage) {
    let mut victim = stage.victim(&["ignore:TERM", "ready", "obey"]);
    stage.curtain();
    let decoy = stage.strike("kz-decoy", victim.pid(), "TERM");
    victim.order("exit:3");
    stage
        .death_of(&mut victim, Kind::Exited)
        .by_exit(3)
        .no_killer()
        .innocent(decoy.pid)
        .other_signal("SIGTERM");
}

/// A SIGTERM that it outlives, and a SIGKILL that it does not.
fn outlived(stage: &mut Stage, disposition: &str) {
    let mut victim = stage.victim(&[disposition, "ready", "pause"]);
    stage.curtain();
    let decoy = stage.strike("kz-decoy", victim.pid(), "TERM");
    let killer = stage.strike("kz-killer", victim.pid(), "KILL");
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGKILL)
        .mechanism(Mechanism::Kill)
        .killer(&killer)
        .actor(&killer)
        .innocent(decoy.pid)
        .other_signal("SIGTERM")
        .chain(&["kz-killer (", "was killed by SIGKILL"]);
}

fn blocked_for_ever(stage: &mut Stage) {
    let victim = stage.victim(&["block:INT", "ready", "pause"]);
    stage.curtain();
    stage.strike("kz-decoy", victim.pid(), "INT");
    stage.lives(&victim);
}

fn blocked_then_exit(stage: &mut Stage) {
    let mut victim = stage.victim(&["block:TERM", "ready", "obey"]);
    stage.curtain();
    let decoy = stage.strike("kz-decoy", victim.pid(), "TERM");
    victim.order("exit:143");
    stage
        .death_of(&mut victim, Kind::Exited)
        .by_exit(143)
        .no_killer()
        .innocent(decoy.pid)
        .other_signal("SIGTERM")
        // Whether it waited for the signal itself cannot be seen then.
        .without_btf(Kind::Exited, killtrace::model::report::Confidence::Likely);
}

fn blocked_then_not(stage: &mut Stage) {
    let mut victim = stage.victim(&["block:TERM", "ready", "obey"]);
    stage.curtain();
    let killer = stage.strike("kz-killer", victim.pid(), "TERM");
    victim.order("unblock:TERM");
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .mechanism(Mechanism::Kill)
        .killer(&killer)
        .actor(&killer);
}

fn waited_then_blocked(stage: &mut Stage) {
    let mut victim = stage.victim(&["block:TERM", "ready", "sigwait:TERM", "ready", "obey"]);
    stage.curtain();
    let decoy = stage.strike("kz-decoy", victim.pid(), "TERM");
    victim.hear();
    let killer = stage.strike("kz-killer", victim.pid(), "TERM");
    victim.order("unblock:TERM");
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .killer(&killer)
        .innocent(decoy.pid);
}

fn twice_pending(stage: &mut Stage) {
    let mut victim = stage.victim(&["block:TERM", "ready", "obey"]);
    stage.curtain();
    let killer = stage.strike("kz-killer", victim.pid(), "TERM");
    let second = stage.strike("kz-second", victim.pid(), "TERM");
    victim.order("unblock:TERM");
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .killer(&killer)
        .innocent(second.pid)
        .other_signal("SIGTERM");
}

fn two_pending(stage: &mut Stage) {
    let mut victim = stage.victim(&["block:INT", "block:TERM", "ready", "obey"]);
    stage.curtain();
    let first = stage.strike("kz-first", victim.pid(), "TERM");
    let killer = stage.strike("kz-killer", victim.pid(), "INT");
    victim.order("unblock:INT,TERM");
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGINT)
        .killer(&killer)
        .innocent(first.pid)
        .other_signal("SIGTERM");
}

fn stopped_then_continued(stage: &mut Stage) {
    let mut victim = stage.victim(&["ready", "pause"]);
    stage.strike("kz-stopper", victim.pid(), "STOP");
    stage.until_state(victim.pid(), 'T');
    stage.curtain();
    let killer = stage.strike("kz-killer", victim.pid(), "TERM");
    stage.until_state(victim.pid(), 'T');
    let innocent = stage.strike("kz-helper", victim.pid(), "CONT");
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .killer(&killer)
        .actor(&killer)
        .innocent(innocent.pid)
        .other_signal("SIGCONT");
}

fn stopped_then_killed(stage: &mut Stage) {
    let mut victim = stage.victim(&["ready", "pause"]);
    stage.strike("kz-stopper", victim.pid(), "STOP");
    stage.until_state(victim.pid(), 'T');
    stage.curtain();
    let first = stage.strike("kz-first", victim.pid(), "TERM");
    let killer = stage.strike("kz-killer", victim.pid(), "KILL");
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGKILL)
        .killer(&killer)
        .innocent(first.pid)
        .other_signal("SIGTERM");
}

fn race(stage: &mut Stage) {
    let mut victim = stage.victim(&["ready", "pause"]);
    stage.curtain();
    let acts = [towards(&victim, "kill", "TERM"), towards(&victim, "kill", "KILL")];
    let killer = stage.perform("kz-killer", &[&acts[0], &acts[1]]);
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .killer(&killer)
        .chain(&["sent SIGTERM to kz-victim", "was killed by SIGTERM"])
        .other_signal("SIGKILL");
}

fn impatient(stage: &mut Stage) {
    let mut victim = stage.victim(&["catch:TERM,slow,30000,0", "ready", "pause"]);
    stage.curtain();
    let asking = stage.strike("kz-asking", victim.pid(), "TERM");
    stage.rest(100);
    let killer = stage.strike("kz-killer", victim.pid(), "KILL");
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGKILL)
        .killer(&killer)
        .actor(&killer)
        .innocent(asking.pid)
        .other_signal("SIGTERM");
}

fn decoys(stage: &mut Stage) {
    let mut victim = stage.victim(&[
        "catch:USR1,return",
        "ignore:USR2",
        "block:HUP",
        "catch:INT,return",
        "ready",
        "pause",
    ]);
    stage.curtain();
    let acts = ["USR1", "USR2", "HUP", "INT", "WINCH", "CONT"].map(|signal| towards(&victim, "kill", signal));
    let decoy = stage.perform("kz-decoy", &acts.each_ref().map(String::as_str));
    let blows = ["KILL", "TERM"].map(|signal| towards(&victim, "kill", signal));
    let killer = stage.perform("kz-killer", &blows.each_ref().map(String::as_str));
    let decoy_again = stage.strike("kz-decoy", victim.pid(), "TERM");
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGKILL)
        .killer(&killer)
        .innocent(decoy.pid)
        .innocent(decoy_again.pid)
        .other_signal("SIGUSR1")
        .other_signal("SIGUSR2")
        .other_signal("SIGHUP")
        .other_signal("SIGINT")
        .other_signal("SIGTERM");
}

fn thousand_decoys(stage: &mut Stage) {
    let mut victim = stage.victim(&["catch:TERM,return", "ready", "pause"]);
    stage.curtain();
    let decoy = stage.perform("kz-decoy", &[&towards(&victim, "flood", "TERM,1000")]);
    let killer = stage.strike("kz-killer", victim.pid(), "QUIT");
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGQUIT)
        .killer(&killer)
        .innocent(decoy.pid)
        .other_signal("SIGTERM");
}

fn many_kinds(stage: &mut Stage) {
    let signals: Vec<String> = (34..64).map(|signo| signo.to_string()).collect();
    let blocked = format!("block:{}", signals.join(","));
    let mut victim = stage.victim(&["block:TERM", &blocked, "ready", "obey"]);
    stage.curtain();
    let killer = stage.strike("kz-killer", victim.pid(), "TERM");
    let acts: Vec<String> =
        (0..3).flat_map(|_| &signals).map(|signal| towards(&victim, "kill", signal)).collect();
    let decoy = stage.perform("kz-decoy", &acts.iter().map(String::as_str).collect::<Vec<_>>());
    victim.order("unblock:TERM");
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .killer(&killer)
        .innocent(decoy.pid);
}

fn queued(stage: &mut Stage) {
    let mut victim = stage.victim(&["block:37", "ready", "obey"]);
    stage.curtain();
    let killer = stage.perform("kz-killer", &[&towards(&victim, "sigqueue", "37")]);
    let second = stage.perform("kz-second", &[&towards(&victim, "sigqueue", "37")]);
    victim.order("unblock:37");
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(37)
        .mechanism(Mechanism::Sigqueue)
        .killer(&killer)
        .innocent(second.pid)
        .other_signal("SIGRTMIN+3");
}

fn zombie(stage: &mut Stage) {
    let mut victim = stage.victim(&["ready", "pause"]);
    stage.curtain();
    let killer = stage.strike("kz-killer", victim.pid(), "TERM");
    stage.until_state(victim.pid(), 'Z');
    let late = stage.strike("kz-tardy", victim.pid(), "KILL");
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .killer(&killer)
        .innocent(late.pid);
}

fn leaderless(stage: &mut Stage) {
    let mut victim = stage.victim(&["thread:pause", "ready:thread", "leave"]);
    stage.until_state(victim.pid(), 'Z');
    stage.curtain();
    let killer = stage.strike("kz-killer", victim.pid(), "TERM");
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .mechanism(Mechanism::Kill)
        .killer(&killer);
}

fn exec_between(stage: &mut Stage) {
    let mut victim = stage.victim(&["block:TERM", "ready", "obey"]);
    stage.curtain();
    let killer = stage.strike("kz-killer", victim.pid(), "TERM");
    victim.order("exec:kz-victim2:unblock:TERM");
    stage.death_of(&mut victim, Kind::KilledByProcess).by_signal(libc::SIGTERM).killer(&killer).chain(&[
        "sent SIGTERM to kz-victim (",
        "became kz-victim2",
        "was killed by SIGTERM",
    ]);
}

fn core_then_kill(stage: &mut Stage) {
    let mut victim = stage.victim(&["block:QUIT", "ready", "pause"]);
    stage.curtain();
    let first = stage.strike("kz-first", victim.pid(), "QUIT");
    let killer = stage.strike("kz-killer", victim.pid(), "KILL");
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGKILL)
        .killer(&killer)
        .innocent(first.pid)
        .other_signal("SIGQUIT");
}

/// `sigwait:SIGNAL`: waits for a blocked signal, and goes on.
pub(super) fn sigwait(args: &Args<'_>) {
    let mut set = nix::sys::signal::SigSet::empty();
    set.add(nix::sys::signal::Signal::try_from(args.signo(0)).expect("a signal that nix knows"));
    set.wait().expect("sigwait");
}

/// `flood:PID,SIGNAL,COUNT`
fn flood(args: &Args<'_>) {
    for _ in 0..args.number(2) {
        crate::acts::check(args, crate::acts::send(args.pid(0), args.signo(1)));
        // So that it is taken before the next one comes.
        std::thread::sleep(std::time::Duration::from_micros(20));
    }
}

/// The first thread ends, its process lives on.
fn leave() {
    // SAFETY: ends this thread, without a word to libc.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
}
