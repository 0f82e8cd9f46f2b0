//! Asked to stop, and it stopped: handlers, sigwait, signalfd, signals sent on by wrappers. And what only looks so.

use killtrace::model::report::{Confidence, Kind, Mechanism, Role};

use super::Family;
use crate::Case;
use crate::acts::Args;
use crate::stage::{Death, Person, Stage};

pub(crate) const GRACEFUL: Family = Family {
    cases: &[
        Case::new("term0", "its SIGTERM handler exits with 0", |stage| handler_exits(stage, 0)).late(),
        Case::new("term1", "its SIGTERM handler exits with 1", |stage| handler_exits(stage, 1)).late(),
        Case::new("term130", "its SIGTERM handler exits with 130", |stage| handler_exits(stage, 130)).late(),
        Case::new("term143", "its SIGTERM handler exits with 143", |stage| handler_exits(stage, 143)).late(),
        Case::new("slowstop", "its SIGTERM handler takes a while", slow_stop).late(),
        Case::new("sigwterm", "it takes SIGTERM with sigwait and exits", |stage| consumer(stage, "sigwait"))
            .late(),
        Case::new("sfdterm", "it takes SIGTERM with a signalfd and exits", |stage| {
            consumer(stage, "signalfd");
        })
        .late(),
        Case::new("ign143", "it ignores SIGTERM and later exits with 143 by itself", ignored_143).late(),
        Case::new("reraise", "its SIGTERM handler sends SIGTERM to itself again", reraise).late(),
        Case::new("termself9", "its SIGTERM handler sends SIGKILL to itself", handler_kills).late(),
        Case::new("exitdcy", "it exits with 143 after a handled SIGUSR1", exit_with_decoy).late(),
        Case::new("twoask", "two ask it to stop, the first one first", two_ask).late(),
        Case::new("npmfwd", "a wrapper sends SIGTERM on to it", |stage| forwarder(stage, "TERM")).late(),
        Case::new("mapfwd", "a wrapper is sent SIGTERM and sends it SIGINT", |stage| forwarder(stage, "INT"))
            .late(),
        Case::new("mapkill", "a wrapper is sent SIGTERM and sends it SIGKILL", |stage| {
            forwarder(stage, "KILL");
        })
        .late(),
        Case::new("waitfwd", "a wrapper takes SIGTERM with sigwait and sends it on", waiting_forwarder)
            .late(),
        Case::new("twofwd", "a wrapper's wrapper sends SIGTERM on", two_forwarders).late(),
        Case::new(
            "grpfwd",
            "the whole group is sent SIGTERM, and its wrapper sends it on",
            group_and_forward,
        )
        .late(),
        Case::new("gracefwd", "a wrapper sends SIGTERM on, and it exits with 0", graceful_forward).late(),
        Case::new("ownkill", "a wrapper was sent SIGUSR1, and kills for its own reasons", |stage| {
            wrapper_decides(stage, "catch:USR1,return", "USR1");
        })
        .late(),
        Case::new(
            "ownblk",
            "a wrapper blocks the SIGTERM it was sent, and kills for its own reasons",
            |stage| {
                wrapper_decides(stage, "block:TERM", "TERM");
            },
        ),
        Case::new("timeout", "timeout(1) runs out", timeout),
    ],
    acts: &[("signalfd", signalfd)],
};

/// SIGTERM from `kz-killer`, and the victim's end.
fn asked<'a>(stage: &'a mut Stage, acts: &[&str]) -> (Death<'a>, Person) {
    let mut victim = stage.victim(acts);
    stage.curtain();
    let killer = stage.strike("kz-killer", victim.pid(), "TERM");
    let death = stage.death_of(&mut victim, Kind::KilledByProcess);
    (death.mechanism(Mechanism::Kill).graceful().killer(&killer).actor(&killer), killer)
}

fn handler_exits(stage: &mut Stage, code: i32) {
    let (death, killer) = asked(stage, &[&format!("catch:TERM,exit,{code}"), "ready", "pause"]);
    // 128 + 15 says so itself; of any other code it is only plain that it followed.
    let death = if code == 143 { death } else { death.likely() };
    death.by_exit(code).chain(&["kz-killer (", &format!("exited with code {code}, ")]).summary(&[
        &format!("was asked to stop with SIGTERM by kz-killer (pid {})", killer.pid),
        &format!("and exited with code {code}"),
    ]);
}

fn slow_stop(stage: &mut Stage) {
    let (death, _) = asked(stage, &["catch:TERM,slow,300,0", "ready", "pause"]);
    death.likely().by_exit(0).summary(&["was asked to stop", "ms later"]);
}

fn consumer(stage: &mut Stage, how: &str) {
    let (death, _) = asked(stage, &["block:TERM", "ready", &format!("{how}:TERM"), "exit:0"]);
    death
        .likely()
        .by_exit(0)
        .summary(&["was asked to stop with SIGTERM", "and exited with code 0"])
        // That the signal was taken cannot be seen then.
        .without_btf(Kind::Exited, Confidence::Likely);
}

fn ignored_143(stage: &mut Stage) {
    let mut victim = stage.victim(&["ignore:TERM", "ready", "obey"]);
    stage.curtain();
    let decoy = stage.strike("kz-decoy", victim.pid(), "TERM");
    victim.order("exit:143");
    stage
        .death_of(&mut victim, Kind::Exited)
        .by_exit(143)
        .no_killer()
        .innocent(decoy.pid)
        .other_signal("SIGTERM")
        .summary(&["exited by itself with code 143", "no SIGTERM ended it"]);
}

fn reraise(stage: &mut Stage) {
    let (death, _) = asked(stage, &["catch:TERM,reraise", "ready", "pause"]);
    death.by_signal(libc::SIGTERM).chain(&[
        "kz-killer (",
        "handled it and then sent itself SIGTERM",
        "was killed by SIGTERM",
    ]);
}

fn handler_kills(stage: &mut Stage) {
    let (death, _) = asked(stage, &["catch:TERM,kill9", "ready", "pause"]);
    death.by_signal(libc::SIGKILL).chain(&[
        "kz-killer (",
        "handled it and then sent itself SIGKILL",
        "was killed by SIGKILL",
    ]);
}

fn exit_with_decoy(stage: &mut Stage) {
    let mut victim = stage.victim(&["catch:USR1,return", "ready", "obey"]);
    stage.curtain();
    let decoy = stage.strike("kz-decoy", victim.pid(), "USR1");
    victim.order("exit:143");
    stage
        .death_of(&mut victim, Kind::Exited)
        .by_exit(143)
        .no_killer()
        .innocent(decoy.pid)
        .other_signal("SIGUSR1");
}

fn two_ask(stage: &mut Stage) {
    let mut victim = stage.victim(&["catch:TERM,told,0", "ready", "pause"]);
    stage.curtain();
    let killer = stage.strike("kz-killer", victim.pid(), "TERM");
    let second = stage.strike("kz-second", victim.pid(), "TERM");
    victim.order("end");
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_exit(0)
        .likely()
        .graceful()
        .killer(&killer)
        .innocent(second.pid)
        .other_signal("SIGTERM");
}

/// A wrapper that handles SIGTERM and sends its child another signal, or the same.
fn forwarder(stage: &mut Stage, signal: &str) {
    let forward = format!("catch:TERM,forward,{signal}");
    let mut wrapper =
        stage.start("kz-wrapper", &[&forward, "spawn:kz-victim:ready:me+pause", "wait:tell", "exit:143"]);
    let victim = wrapper.facts[0];
    stage.curtain();
    let killer = stage.strike("kz-killer", wrapper.pid(), "TERM");
    let status = wrapper.hear()[0];
    wrapper.wait();
    let death = stage
        .died(victim, Some(status.cast_signed()), Kind::KilledByProcess)
        .by_signal(crate::acts::signo(signal))
        .mechanism(Mechanism::Kill)
        .killer(&killer)
        .actor(&killer)
        .innocent(wrapper.pid())
        .chain(&[
            "kz-killer (",
            &format!("kz-wrapper ({}) sent SIG{signal} to kz-victim", wrapper.pid()),
            &format!("was killed by SIG{signal}"),
        ]);
    // That it stops its child with another signal than its own is a habit, not a rule.
    if signal != "TERM" {
        death.likely();
    }
}

fn waiting_forwarder(stage: &mut Stage) {
    let acts = ["spawn:kz-victim:ready:me+pause", "block:TERM", "ready", "sigwait:TERM", "kill:child,TERM"];
    let mut wrapper = stage.start("kz-wrapper", &[&acts[..], &["wait:tell", "exit:143"]].concat());
    let facts = [wrapper.facts.clone(), wrapper.hear()].concat();
    stage.curtain();
    let killer = stage.strike("kz-killer", wrapper.pid(), "TERM");
    let status = wrapper.hear()[0];
    wrapper.wait();
    stage
        .died(facts[0], Some(status.cast_signed()), Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .killer(&killer)
        // A blocked signal that is gone was taken, but for what?
        .likely()
        .innocent(wrapper.pid());
}

fn two_forwarders(stage: &mut Stage) {
    let inner = "spawn:kz-inner:catch:TERM,forward,TERM+(spawn:kz-victim:ready:me+pause)+wait:tell+exit:143";
    let mut outer = stage.start("kz-outer", &["catch:TERM,forward,TERM", inner, "wait", "exit:143"]);
    let victim = outer.facts[0];
    stage.curtain();
    let killer = stage.strike("kz-killer", outer.pid(), "TERM");
    let status = outer.hear()[0];
    outer.wait();
    stage
        .died(victim, Some(status.cast_signed()), Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .killer(&killer)
        .actor(&killer)
        .innocent(outer.pid())
        .chain(&[
            &format!("kz-killer ({}) sent SIGTERM to kz-outer", killer.pid),
            "sent SIGTERM to kz-inner",
            "sent SIGTERM to kz-victim",
            "was killed by SIGTERM",
        ]);
}

fn group_and_forward(stage: &mut Stage) {
    let acts = ["setpgid", "catch:TERM,forward,TERM", "spawn:kz-victim:catch:TERM,slow,50,0+ready:me+pause"];
    let mut wrapper = stage.start("kz-wrapper", &[&acts[..], &["wait:tell", "exit:143"]].concat());
    let victim = wrapper.facts[0];
    stage.curtain();
    let killer = stage.perform("kz-killer", &[&format!("kill:-{},TERM", wrapper.pid())]);
    let status = wrapper.hear()[0];
    wrapper.wait();
    stage
        .died(victim, Some(status.cast_signed()), Kind::KilledByProcess)
        .by_exit(0)
        .likely()
        .graceful()
        .mechanism(Mechanism::KillGroup)
        .killer(&killer)
        .innocent(wrapper.pid());
}

fn graceful_forward(stage: &mut Stage) {
    let acts = ["catch:TERM,forward,TERM", "spawn:kz-victim:catch:TERM,exit,0+ready:me+pause"];
    let mut wrapper = stage.start("kz-wrapper", &[&acts[..], &["wait:tell", "exit:143"]].concat());
    let victim = wrapper.facts[0];
    stage.curtain();
    let killer = stage.strike("kz-killer", wrapper.pid(), "TERM");
    let status = wrapper.hear()[0];
    wrapper.wait();
    stage
        .died(victim, Some(status.cast_signed()), Kind::KilledByProcess)
        .by_exit(0)
        .likely()
        .graceful()
        .killer(&killer)
        .innocent(wrapper.pid());
}

/// A wrapper is sent something that has nothing to do with what it sends its child.
fn wrapper_decides(stage: &mut Stage, disposition: &str, decoy: &str) {
    let acts = [disposition, "spawn:kz-victim:unblock:TERM+ready:me+pause", "obey"];
    let mut wrapper = stage.start("kz-wrapper", &acts);
    let victim = wrapper.facts[0];
    stage.curtain();
    let innocent = stage.perform("kz-decoy", &[&format!("kill:{},{decoy}", wrapper.pid())]);
    wrapper.order("kill:child,TERM");
    wrapper.hear();
    wrapper.order("wait:tell");
    let status = wrapper.hear()[0];
    let person = wrapper.who().clone();
    stage
        .died(victim, Some(status.cast_signed()), Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .killer(&person)
        .actor(&person)
        .role(Role::Parent)
        .innocent(innocent.pid);
}

/// As coreutils do it: a group of its own, SIGTERM and SIGCONT to the child, then SIGTERM to the group.
fn timeout(stage: &mut Stage) {
    let acts = ["setpgid", "spawn:kz-victim:ready:me+pause", "obey", "kill:child,TERM", "ignore:TERM"];
    let rest = ["kill:0,TERM", "kill:child,CONT", "wait:tell", "exit:124"];
    let mut timeout = stage.start("timeout", &[&acts[..], &rest].concat());
    let victim = timeout.facts[0];
    // Its time is up.
    timeout.dismiss();
    let status = timeout.hear()[0];
    timeout.wait();
    let person = timeout.who().clone();
    stage
        .died(victim, Some(status.cast_signed()), Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .mechanism(Mechanism::Kill)
        .killer(&person)
        .actor(&Person::director())
        .summary(&["was killed by SIGTERM from timeout (pid "]);
}

/// `signalfd:SIGNAL`: reads one from a signalfd, and goes on.
fn signalfd(args: &Args<'_>) {
    let mut set = nix::sys::signal::SigSet::empty();
    set.add(nix::sys::signal::Signal::try_from(args.signo(0)).expect("a signal that nix knows"));
    let fd = nix::sys::signalfd::SignalFd::new(&set).expect("signalfd");
    fd.read_signal().expect("a signal");
}
