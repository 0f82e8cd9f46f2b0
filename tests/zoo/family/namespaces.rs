//! PID namespaces: whoever is in one dies with its init, and its init dies of what comes from outside.

use std::fs::File;

use killtrace::model::report::{Confidence, Kind, Mechanism, Role};
use killtrace_tests::namespace_pid;
use nix::sched::{CloneFlags, setns, unshare};

use super::Family;
use crate::Case;
use crate::acts::Args;
use crate::stage::{Actor, Stage, alive, eventually};

pub(crate) const NAMESPACES: Family = Family {
    cases: &[
        Case::new("nsinit", "its namespace's init is killed from outside", init_killed).late(),
        Case::new("nsexit", "its namespace's init exits", init_exits).late(),
        Case::new("nscrash", "its namespace's init aborts", init_aborts).late(),
        Case::new("nsgraceful", "its namespace's init is asked to stop, and does", init_stops).late(),
        Case::new("nsguest", "it came from outside, its parent lives there; init is killed", guest).late(),
        Case::new("nsorphan", "its parent in the namespace has gone; init is killed", orphan).late(),
        Case::new("nsmany", "three in a namespace, whose init is killed", many),
        Case::new("nsnested", "the init of the namespace above its own is killed", nested).late(),
        Case::new("nsinner", "the inner of two inits is killed, and the outer lives", inner).late(),
        Case::new("nsign", "SIGTERM to an init that has no handler, from outside", init_ignores).late(),
        Case::new("nsignkill", "the same, and SIGKILL after it", init_ignores_then_killed).late(),
        Case::new("nsinside", "init kills a member", init_kills).late(),
        Case::new("nsmutiny", "a member sends SIGKILL to init, which cannot die of it", member_kills_init)
            .late(),
        Case::new("nsoutside", "a member is killed from outside", member_killed_from_outside).late(),
        Case::new("nsself", "the init kills itself with SIGABRT: ignored, it lives", init_cannot_kill_itself),
        Case::new("nsreboot", "reboot(2) in a namespace kills its init with SIGHUP", reboot).late(),
        Case::new("nshalt", "and halts it with SIGINT, and takes a member along", halt).late(),
        Case::new("nsdocker", "docker stop: SIGTERM is ignored, SIGKILL follows, all go", docker_stop),
        Case::new("nsgroup", "init kills everybody with kill(-1)", init_kills_all),
    ],
    acts: &[
        ("new-pidns", |_| unshare(CloneFlags::CLONE_NEWPID).expect("unshare")),
        ("reboot", reboot_namespace),
    ],
};

/// Starts a member, which says its pid as the director knows it.
pub(super) const MEMBER: &str = "spawn:kz-victim:ready:me+pause";

/// The pid that the /proc mounted here, the machine's, shows.
fn here() -> u32 {
    let link = std::fs::read_link("/proc/self").expect("/proc");
    link.to_str().and_then(|pid| pid.parse().ok()).expect("a pid")
}

/// `reboot:restart`, `reboot:halt`: in a namespace of one's own they end its init (kernel/pid_namespace.c,
/// `reboot_pid_ns`). Never where it would be the machine's.
fn reboot_namespace(args: &Args<'_>) {
    assert!(namespace_pid(here()) != Some(here()), "this is no namespace of its own");
    let command = match args.text(0) {
        "restart" => libc::RB_AUTOBOOT,
        _ => libc::RB_HALT_SYSTEM,
    };
    // SAFETY: takes one integer; the caller is in a PID namespace of its own, checked above.
    unsafe { libc::reboot(command) };
}

/// Starts an actor as the init of a new PID namespace; it stays the director's child.
pub(super) fn start_init(stage: &mut Stage, name: &str, acts: &[&str]) -> Actor {
    let home = File::open("/proc/self/ns/pid").expect("/proc");
    unshare(CloneFlags::CLONE_NEWPID).expect("unshare");
    let actor = stage.start(name, acts);
    setns(home, CloneFlags::CLONE_NEWPID).expect("back to one's own namespace");
    actor
}

/// Starts an actor in a namespace that exists; it stays the director's child.
fn start_inside(stage: &mut Stage, init: &Actor, name: &str, acts: &[&str]) -> Actor {
    let home = File::open("/proc/self/ns/pid").expect("/proc");
    let there = File::open(format!("/proc/{}/ns/pid", init.pid())).expect("init is alive");
    setns(there, CloneFlags::CLONE_NEWPID).expect("setns");
    let actor = stage.start(name, acts);
    setns(home, CloneFlags::CLONE_NEWPID).expect("back to one's own namespace");
    actor
}

/// An init with one member, `kz-victim`, whose pid is returned. Nobody outside learns the member's status.
fn family(stage: &mut Stage, rest: &[&str]) -> (Actor, u32) {
    let init = start_init(stage, "kz-init", &[&[MEMBER], rest].concat());
    let member = init.facts[0];
    (init, member)
}

fn init_killed(stage: &mut Stage) {
    let (mut init, member) = family(stage, &["pause"]);
    let inner = namespace_pid(member).expect("it is alive");
    stage.curtain();
    let killer = stage.strike("kz-killer", init.pid(), "KILL");
    assert_eq!(init.wait(), libc::SIGKILL);
    stage
        .died(member, None, Kind::PidNamespaceTeardown)
        .without_btf(Kind::PidNamespaceTeardown, Confidence::Likely)
        .mechanism(Mechanism::Kernel)
        .killer(&killer)
        .actor(&killer)
        .innocent(init.pid())
        .pid_in_namespace(inner)
        .chain(&[
            "sent SIGKILL to kz-init",
            "was killed by SIGKILL",
            "was init of the PID namespace",
            "was killed by SIGKILL",
        ])
        .summary(&["the init of its PID namespace", "because kz-killer"]);
}

fn init_exits(stage: &mut Stage) {
    let (mut init, member) = family(stage, &["obey"]);
    stage.curtain();
    init.order("exit:0");
    assert_eq!(init.wait(), 0);
    stage
        .died(member, None, Kind::PidNamespaceTeardown)
        .without_btf(Kind::PidNamespaceTeardown, Confidence::Likely)
        .killer(init.who())
        .chain(&["exited with code 0", "was init of the PID namespace", "was killed by SIGKILL"])
        .summary(&["the init of its PID namespace, exited with code 0 and took all with it."]);
}

fn init_aborts(stage: &mut Stage) {
    let (mut init, member) = family(stage, &["obey"]);
    stage.curtain();
    // A fault, for it cannot send itself what would kill it.
    init.order("fault:illegal");
    let status = init.wait();
    assert!([libc::SIGILL, libc::SIGTRAP, libc::SIGSEGV].contains(&(status & 0x7f)), "{status:#x}");
    stage
        .died(member, None, Kind::PidNamespaceTeardown)
        .without_btf(Kind::PidNamespaceTeardown, Confidence::Likely)
        .no_killer()
        .actor(init.who())
        .chain(&["crashed", "was init of the PID namespace"])
        .summary(&["the init of its PID namespace, crashed with SIG"]);
}

fn init_stops(stage: &mut Stage) {
    let mut init = start_init(stage, "kz-init", &["catch:TERM,exit,0", MEMBER, "pause"]);
    let member = init.facts[0];
    stage.curtain();
    let killer = stage.strike("kz-killer", init.pid(), "TERM");
    assert_eq!(init.wait(), 0);
    // That it stopped because it was asked to is most likely, and no more.
    stage
        .died(member, None, Kind::PidNamespaceTeardown)
        .likely()
        .killer(&killer)
        .chain(&["sent SIGTERM to kz-init", "exited with code 0", "was init of the PID namespace"])
        .summary(&["ended and took all with it, because kz-killer"]);
}

fn guest(stage: &mut Stage) {
    let mut init = start_init(stage, "kz-init", &["ready", "pause"]);
    let mut victim = start_inside(stage, &init, "kz-victim", &["ready", "pause"]);
    let inner = namespace_pid(victim.pid()).expect("it is alive");
    stage.curtain();
    let killer = stage.strike("kz-killer", init.pid(), "KILL");
    stage
        .death_of(&mut victim, Kind::PidNamespaceTeardown)
        .without_btf(Kind::PidNamespaceTeardown, Confidence::Likely)
        .by_signal(libc::SIGKILL)
        .killer(&killer)
        .pid_in_namespace(inner)
        .innocent(init.pid());
    assert_eq!(init.wait(), libc::SIGKILL);
}

fn orphan(stage: &mut Stage) {
    let mut init =
        start_init(stage, "kz-init", &["spawn:kz-member:(spawn:kz-victim:ready:me+pause)", "wait", "pause"]);
    let member = init.facts[0];
    eventually("its parent to go", || (killtrace_tests::parent(member) == Some(init.pid())).then_some(()));
    stage.curtain();
    let killer = stage.strike("kz-killer", init.pid(), "KILL");
    assert_eq!(init.wait(), libc::SIGKILL);
    stage
        .died(member, None, Kind::PidNamespaceTeardown)
        .without_btf(Kind::PidNamespaceTeardown, Confidence::Likely)
        .killer(&killer)
        .innocent(init.pid());
}

fn many(stage: &mut Stage) {
    let mut init = start_init(stage, "kz-init", &[MEMBER, MEMBER, MEMBER, "pause"]);
    let (first, second, third) = (init.facts[0], init.hear()[0], init.hear()[0]);
    let killer = stage.strike("kz-killer", init.pid(), "KILL");
    assert_eq!(init.wait(), libc::SIGKILL);
    for (member, other) in [(first, second), (second, third), (third, first)] {
        stage
            .died(member, None, Kind::PidNamespaceTeardown)
            .without_btf(Kind::PidNamespaceTeardown, Confidence::Likely)
            .killer(&killer)
            .also_died(other, None);
    }
}

/// An init, and inside its namespace another with a member. The inner one's pid, and the member's.
fn two_deep(stage: &mut Stage) -> (Actor, u32, u32) {
    let mut outer = start_init(
        stage,
        "kz-outer",
        &["new-pidns", "spawn:kz-inner:ready:me+(spawn:kz-victim:ready:me+pause)+pause", "pause"],
    );
    let inner = outer.facts[0];
    let member = outer.hear()[0];
    assert_eq!(namespace_pid(inner), Some(1));
    (outer, inner, member)
}

fn nested(stage: &mut Stage) {
    let (mut outer, inner, member) = two_deep(stage);
    let number = namespace_pid(member).expect("it is alive");
    stage.curtain();
    let killer = stage.strike("kz-killer", outer.pid(), "KILL");
    assert_eq!(outer.wait(), libc::SIGKILL);
    stage
        .died(member, None, Kind::PidNamespaceTeardown)
        .without_btf(Kind::PidNamespaceTeardown, Confidence::Likely)
        .killer(&killer)
        .innocent(inner)
        .innocent(outer.pid())
        .pid_in_namespace(number)
        .chain(&["sent SIGKILL to kz-outer", "kz-victim"]);
}

fn inner(stage: &mut Stage) {
    let (outer, inner, member) = two_deep(stage);
    stage.curtain();
    let killer = stage.strike("kz-killer", inner, "KILL");
    stage.until_gone(member);
    assert!(alive(outer.pid()));
    stage
        .died(member, None, Kind::PidNamespaceTeardown)
        .without_btf(Kind::PidNamespaceTeardown, Confidence::Likely)
        .killer(&killer)
        .innocent(inner)
        .chain(&["sent SIGKILL to kz-inner", "was init of the PID namespace"]);
}

fn init_ignores(stage: &mut Stage) {
    let victim = start_init(stage, "kz-victim", &["ready", "pause"]);
    stage.curtain();
    stage.strike("kz-decoy", victim.pid(), "TERM");
    stage.strike("kz-decoy", victim.pid(), "ABRT");
    stage.rest(20);
    stage.lives(&victim);
}

fn init_ignores_then_killed(stage: &mut Stage) {
    let mut victim = start_init(stage, "kz-victim", &["ready", "pause"]);
    stage.curtain();
    let decoy = stage.strike("kz-decoy", victim.pid(), "TERM");
    let killer = stage.strike("kz-killer", victim.pid(), "KILL");
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGKILL)
        .mechanism(Mechanism::Kill)
        .killer(&killer)
        .innocent(decoy.pid)
        .pid_in_namespace(1)
        .other_signal("SIGTERM");
}

fn init_kills(stage: &mut Stage) {
    let (mut init, member) = family(stage, &["obey"]);
    let inner = namespace_pid(member).expect("it is alive");
    stage.curtain();
    init.tell(&format!("kill:{inner},TERM"));
    stage.until_state(member, 'Z');
    // The pid it was called by is another one than the machine's.
    stage
        .died(member, Some(libc::SIGTERM), Kind::KilledByProcess)
        .mechanism(Mechanism::Kill)
        .killer(init.who())
        .pid_in_namespace(inner);
}

fn member_kills_init(stage: &mut Stage) {
    let victim = start_init(stage, "kz-victim", &["ready", "pause"]);
    let mut member = start_inside(stage, &victim, "kz-member", &["ready", "obey"]);
    stage.curtain();
    member.tell("kill:1,KILL");
    member.tell("kill:1,TERM");
    stage.rest(20);
    stage.lives(&victim);
}

fn member_killed_from_outside(stage: &mut Stage) {
    let init = start_init(stage, "kz-init", &["ready", "pause"]);
    let mut victim = start_inside(stage, &init, "kz-victim", &["ready", "pause"]);
    let inner = namespace_pid(victim.pid()).expect("it is alive");
    stage.curtain();
    let killer = stage.strike("kz-killer", victim.pid(), "KILL");
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGKILL)
        .mechanism(Mechanism::Kill)
        .killer(&killer)
        .innocent(init.pid())
        .pid_in_namespace(inner);
}

fn init_cannot_kill_itself(stage: &mut Stage) {
    let mut victim = start_init(stage, "kz-victim", &["ready", "obey"]);
    victim.tell("kill:1,ABRT");
    victim.tell("kill:1,KILL");
    victim.order("exit:6");
    stage.death_of(&mut victim, Kind::Exited).by_exit(6).no_killer().pid_in_namespace(1);
}

fn reboot(stage: &mut Stage) {
    let mut victim = start_init(stage, "kz-victim", &["ready", "pause"]);
    let mut member = start_inside(stage, &victim, "kz-member", &["ready", "obey"]);
    stage.curtain();
    member.order("reboot:restart");
    member.wait();
    stage
        .death_of(&mut victim, Kind::PidNamespaceTeardown)
        .without_btf(Kind::PidNamespaceTeardown, Confidence::Likely)
        .by_signal(libc::SIGHUP)
        .mechanism(Mechanism::Reboot)
        .detail("namespace_reboot")
        .killer(member.who())
        .pid_in_namespace(1)
        .summary(&["called reboot inside the PID namespace"]);
}

fn halt(stage: &mut Stage) {
    let mut init = start_init(stage, "kz-init", &["ready", "pause"]);
    let mut caller = start_inside(stage, &init, "kz-caller", &["ready", "obey"]);
    let mut victim = start_inside(stage, &init, "kz-victim", &["ready", "pause"]);
    stage.curtain();
    caller.order("reboot:halt");
    caller.wait();
    stage
        .death_of(&mut victim, Kind::PidNamespaceTeardown)
        .without_btf(Kind::PidNamespaceTeardown, Confidence::Likely)
        .by_signal(libc::SIGKILL)
        .mechanism(Mechanism::Kernel)
        .killer(caller.who())
        .innocent(init.pid())
        .chain(&["called reboot", "was init of the PID namespace", "kz-victim"]);
    assert_eq!(init.wait(), libc::SIGINT);
}

fn docker_stop(stage: &mut Stage) {
    let (mut init, member) = family(stage, &["pause"]);
    let mut shim = stage.start("kz-shim", &["name:containerd-shim", "ready", "obey"]);
    shim.tell(&format!("kill:{},TERM", init.pid()));
    stage.rest(30);
    assert!(alive(init.pid()), "an init without a handler ignores SIGTERM");
    shim.tell(&format!("kill:{},KILL", init.pid()));
    assert_eq!(init.wait(), libc::SIGKILL);
    let who = shim.who().called("containerd-shim");
    stage
        .died(member, None, Kind::PidNamespaceTeardown)
        .without_btf(Kind::PidNamespaceTeardown, Confidence::Likely)
        .killer(&who)
        .actor(&who)
        .role(Role::ContainerRuntime)
        .chain(&["sent SIGKILL to kz-init", "was killed by SIGKILL", "was init of the PID namespace"]);
}

fn init_kills_all(stage: &mut Stage) {
    let mut init = start_init(stage, "kz-init", &[MEMBER, MEMBER, "obey"]);
    let (first, second) = (init.facts[0], init.hear()[0]);
    init.tell("kill:-1,TERM");
    for member in [first, second] {
        stage.until_state(member, 'Z');
    }
    for (member, other) in [(first, second), (second, first)] {
        stage
            .died(member, Some(libc::SIGTERM), Kind::KilledByProcess)
            .mechanism(Mechanism::KillAll)
            .killer(init.who())
            .also_died(other, None)
            .without_btf(Kind::KilledByProcess, Confidence::Certain);
    }
}
