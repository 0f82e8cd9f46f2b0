//! Who killed: killers that are gone, became something else, hide behind others, or live in another namespace.

use killtrace::model::report::{Confidence, Kind, Mechanism, Role};

use super::Family;
use crate::Case;
use crate::acts::{self, fork_and, list, perform};
use crate::stage::{Actor, Death, Person, Stage};

pub(crate) const KILLERS: Family = Family {
    cases: &[
        Case::new("shortk", "a killer that is forked, kills and is gone", short).late(),
        Case::new("execk", "a killer that becomes another program right after", exec_after).late(),
        Case::new("renamek", "a killer that takes another name right after", rename_after).late(),
        Case::new("renameb", "a killer that took another name right before", rename_before).late(),
        Case::new("daemonk", "a killer that two forks have cut off from who started it", daemon),
        Case::new("deadk", "a killer that is killed itself right after", dead_killer).late(),
        Case::new("threadk", "a killer's thread strikes", thread_kills).late(),
        Case::new("setuidk", "a killer that has become another user", setuid).late(),
        Case::new("sudok", "sudo runs the killer", sudo).late(),
        Case::new("helperk", "sudo runs kill(1), for somebody", helpers).late(),
        Case::new("orphank", "a killer whose parent has died", orphan).late(),
        Case::new("parentk", "its parent kills it", parent).late(),
        Case::new("childk", "its child kills it", child).late(),
        Case::new("siblingk", "a forked child of another worker kills it", sibling).late(),
        Case::new("pidnsin", "victim and killer share a PID namespace", inside).late(),
        Case::new("pidnsout", "the victim is in a PID namespace, the killer is not", outside).late(),
        Case::new("fastfork", "forty children that die before they are anything else", fast_forks),
        Case::new("pidreuse", "its pid was another's a moment ago, and that one's killer is innocent", reuse),
        Case::new(
            "pidreusek",
            "the killer's pid is another's by the time that its victim ends",
            reused_killer,
        ),
    ],
    acts: &[
        ("daemon", |args| daemon_and(args.rest())),
        ("clone", |args| clone_as(args.number(0), args.rest())),
    ],
};

/// The end of a victim of SIGTERM.
fn terminated<'a>(stage: &'a mut Stage, victim: &mut Actor, killer: &Person) -> Death<'a> {
    stage
        .death_of(victim, Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .mechanism(Mechanism::Kill)
        .killer(killer)
        .actor(killer)
        .summary(&[&format!("from {} (pid {})", killer.comm.as_deref().unwrap_or_default(), killer.pid)])
}

fn short(stage: &mut Stage) {
    let mut victim = stage.victim(&["ready", "pause"]);
    let mut forker = stage.start("kz-forker", &["ready", "obey"]);
    stage.curtain();
    forker.order(&format!("fork:kill:{},TERM", victim.pid()));
    forker.hear();
    let killer = forker.tell("ready:child")[0];
    // A fork that never became another program is still its parent's double.
    let person = Person { pid: killer, ..forker.who().clone() };
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .killer(&person)
        .ancestry(&[forker.pid(), Person::director().pid]);
}

fn exec_after(stage: &mut Stage) {
    let mut victim = stage.victim(&["ready", "pause"]);
    stage.curtain();
    let kill = format!("kill:{},TERM", victim.pid());
    let mut killer = stage.start("kz-killer", &[&kill, "exec:kz-other:ready"]);
    killer.wait();
    let person = killer.who().clone();
    terminated(stage, &mut victim, &person);
}

fn rename_after(stage: &mut Stage) {
    let mut victim = stage.victim(&["ready", "pause"]);
    stage.curtain();
    let killer = stage.perform("kz-killer", &[&format!("kill:{},TERM", victim.pid()), "name:kz-after"]);
    terminated(stage, &mut victim, &killer);
}

fn rename_before(stage: &mut Stage) {
    let mut victim = stage.victim(&["ready", "pause"]);
    stage.curtain();
    let killer = stage.perform("kz-killer", &["name:kz-before", &format!("kill:{},TERM", victim.pid())]);
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .killer(&killer.called("kz-before"))
        .innocent(Person::director().pid);
}

fn daemon(stage: &mut Stage) {
    let mut victim = stage.victim(&["ready", "pause"]);
    let mut starter = stage.start("kz-starter", &["daemon:ready:me+obey", "ready:child"]);
    let mut pids = [starter.facts[0], starter.hear()[0]];
    pids.sort_unstable();
    let [between, killer] = pids;
    stage.clean_up(killer);
    starter.wait();
    stage.until_gone(between);
    starter.order(&format!("kill:{},TERM", victim.pid()));
    let person = Person { pid: killer, ..starter.who().clone() };
    terminated(stage, &mut victim, &person)
        .ancestry(&[between, starter.pid(), Person::director().pid])
        .innocent(1);
}

fn dead_killer(stage: &mut Stage) {
    let mut victim = stage.victim(&["block:TERM", "ready", "obey"]);
    stage.curtain();
    let mut killer = stage.start("kz-killer", &[&format!("kill:{},TERM", victim.pid()), "ready", "pause"]);
    let innocent = stage.strike("kz-avenger", killer.pid(), "KILL");
    killer.wait();
    victim.order("unblock:TERM");
    let person = killer.who().clone();
    terminated(stage, &mut victim, &person).innocent(innocent.pid);
}

fn thread_kills(stage: &mut Stage) {
    let mut victim = stage.victim(&["ready", "pause"]);
    stage.curtain();
    let strike = format!("thread:name:kz-thread+kill:{},TERM+ready", victim.pid());
    let mut killer = stage.start("kz-killer", &[&strike, "sleep:50"]);
    killer.wait();
    let person = killer.who().clone();
    terminated(stage, &mut victim, &person);
}

fn setuid(stage: &mut Stage) {
    let mut victim = stage.victim(&["setuid:65534", "ready", "pause"]);
    stage.curtain();
    let killer = stage.perform("kz-killer", &["setuid:65534", &format!("kill:{},TERM", victim.pid())]);
    terminated(stage, &mut victim, &killer).killer_uid(65534);
}

fn sudo(stage: &mut Stage) {
    let mut victim = stage.victim(&["ready", "pause"]);
    stage.curtain();
    let run = format!("spawn:kz-killer:ready:me+kill:{},TERM", victim.pid());
    let mut sudo = stage.start("sudo", &[&run, "wait"]);
    let killer = sudo.facts[0];
    sudo.wait();
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .killer(&Person::pid(killer).called("kz-killer"))
        .actor(&Person::pid(killer).called("kz-killer"))
        .ancestry(&[sudo.pid(), Person::director().pid]);
}

fn helpers(stage: &mut Stage) {
    let mut victim = stage.victim(&["ready", "pause"]);
    stage.curtain();
    let kill = format!("spawn:sudo:(spawn:kill:ready:me+kill:{},TERM)+wait", victim.pid());
    let mut boss = stage.start("kz-boss", &[&kill, "wait"]);
    let killer = boss.facts[0];
    boss.wait();
    let person = boss.who().clone();
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .killer(&Person::pid(killer).called("kill"))
        .actor(&person)
        .chain(&[") started sudo (", ") started kill (", "sent SIGTERM to kz-victim"])
        .summary(&[&format!("from kill (pid {killer}), started by kz-boss (pid {})", boss.pid())]);
}

fn orphan(stage: &mut Stage) {
    let mut victim = stage.victim(&["ready", "pause"]);
    stage.adopt_orphans();
    let mut parent = stage.start("kz-parent", &["spawn:kz-killer:ready:me+obey"]);
    let killer = parent.facts[0];
    parent.wait();
    stage.curtain();
    parent.order(&format!("kill:{},TERM", victim.pid()));
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .killer(&Person::pid(killer).called("kz-killer"))
        .actor(&Person::pid(killer).called("kz-killer"));
    stage.clean_up(killer);
}

fn parent(stage: &mut Stage) {
    let mut parent = stage.start("kz-parent", &["spawn:kz-victim:ready:me+pause", "obey"]);
    let victim = parent.facts[0];
    stage.curtain();
    parent.order("kill:child,KILL");
    parent.hear();
    parent.order("wait:tell");
    let status = parent.hear()[0].cast_signed();
    let person = parent.who().clone();
    stage
        .died(victim, Some(status), Kind::KilledByProcess)
        .by_signal(libc::SIGKILL)
        .killer(&person)
        .actor(&person)
        .role(Role::Parent);
}

fn child(stage: &mut Stage) {
    let mut victim = stage.victim(&["spawn:kz-child:ready:me+obey", "pause"]);
    let child = victim.facts[0];
    stage.clean_up(child);
    stage.curtain();
    victim.order("kill:parent,TERM");
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .killer(&Person::pid(child).called("kz-child"))
        .role(Role::Child);
}

/// The killer has the victim's name: a fork of a fork.
fn sibling(stage: &mut Stage) {
    let mut master = stage.start("kz-victim", &["fork:ready:me+pause", "fork:ready:me+obey", "wait:tell"]);
    let mut workers = [master.facts[0], master.hear()[0]];
    // The one that obeys was forked last.
    workers.sort_unstable();
    stage.curtain();
    master.order(&format!("kill:{},KILL", workers[0]));
    let status = loop {
        let said = master.hear();
        if let Some(&status) = said.first() {
            break status.cast_signed();
        }
    };
    stage
        .died(workers[0], Some(status), Kind::KilledByProcess)
        .by_signal(libc::SIGKILL)
        .killer(&Person { pid: workers[1], ..master.who().clone() })
        .innocent(master.pid());
    stage.clean_up(workers[1]);
}

fn inside(stage: &mut Stage) {
    let acts = "pidns:(spawn:kz-victim:ready:me+pause)+(spawn:kz-killer:ready:me+obey)+wait+pause";
    let mut init = stage.start("kz-init", &[acts, "wait"]);
    let (mut victim, mut killer) = (init.facts[0], init.hear()[0]);
    if killtrace_tests::comm(victim).as_deref() == Some("kz-killer") {
        std::mem::swap(&mut victim, &mut killer);
    }
    stage.curtain();
    // Init is 1, the victim 2, the killer 3.
    init.order("kill:2,TERM");
    stage.until_gone(victim);
    stage
        .died(victim, None, Kind::KilledByProcess)
        .mechanism(Mechanism::Kill)
        .killer(&Person::pid(killer).called("kz-killer"));
    stage.clean_up(killer);
}

fn outside(stage: &mut Stage) {
    let mut init =
        stage.start("kz-init", &["pidns:(spawn:kz-victim:ready:me+pause)+wait:tell+pause", "wait"]);
    let victim = init.facts[0];
    stage.curtain();
    let killer = stage.strike("kz-killer", victim, "TERM");
    let status = init.hear()[0].cast_signed();
    stage
        .died(victim, Some(status), Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .mechanism(Mechanism::Kill)
        .killer(&killer)
        .actor(&killer);
}

fn fast_forks(stage: &mut Stage) {
    let mut victim = stage.victim(&["ready", "obey"]);
    stage.curtain();
    let children: Vec<u32> = (0..40)
        .map(|_| {
            victim.tell("fork:exit:1");
            let child = victim.tell("ready:child")[0];
            victim.hear();
            child
        })
        .collect();
    for child in children {
        stage
            .died(child, None, Kind::Exited)
            .no_killer()
            .no_actor()
            // Gone before anybody could ask for its code.
            .without_btf(Kind::Exited, Confidence::Likely);
    }
    let killer = stage.strike("kz-killer", victim.pid(), "TERM");
    terminated(stage, &mut victim, &killer);
}

fn reuse(stage: &mut Stage) {
    let mut first = stage.victim(&["ready", "pause"]);
    let pid = first.pid();
    let early = stage.strike("kz-early", pid, "TERM");
    terminated(stage, &mut first, &early);
    let again = format!("clone:{pid},(exec:kz-victim:ready:me+pause)");
    let mut parent = stage.start("kz-parent", &[&again, "wait:tell"]);
    assert_eq!(parent.facts[0], pid, "the pid was given again");
    let late = stage.strike("kz-late", pid, "KILL");
    let status = parent.hear()[0].cast_signed();
    stage
        .died(pid, Some(status), Kind::KilledByProcess)
        .by_signal(libc::SIGKILL)
        .killer(&late)
        .innocent(early.pid);
}

fn reused_killer(stage: &mut Stage) {
    let mut victim = stage.victim(&["block:TERM", "ready", "obey"]);
    let killer = stage.strike("kz-killer", victim.pid(), "TERM");
    let again = format!("clone:{},(exec:kz-innocent:ready:me+pause)", killer.pid);
    let parent = stage.start("kz-parent", &[&again, "pause"]);
    assert_eq!(parent.facts[0], killer.pid, "the pid was given again");
    stage.clean_up(killer.pid);
    victim.order("unblock:TERM");
    terminated(stage, &mut victim, &killer);
}

/// `daemon:ACT+ACT`: performs acts as the child of a child that ends at once.
fn daemon_and(acts: &str) {
    // SAFETY: as in `fork`.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid == 0 {
        nix::unistd::setsid().expect("setsid");
        fork_and(acts);
        acts::exit_now(0);
    }
    acts::LAST_CHILD.store(pid, std::sync::atomic::Ordering::Relaxed);
}

/// `struct clone_args` up to `set_tid` (include/uapi/linux/sched.h).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
}

/// `clone:PID,ACT+ACT`: a child with a pid of one's choice.
fn clone_as(pid: i32, acts: &str) {
    let acts = acts.split_once(',').map_or("", |(_, acts)| acts);
    let args = CloneArgs {
        exit_signal: u64::from(libc::SIGCHLD.cast_unsigned()),
        set_tid: (&raw const pid).expose_provenance() as u64,
        set_tid_size: 1,
        ..CloneArgs::default()
    };
    // SAFETY: without CLONE_VM it is a fork; `args` and `pid` outlive the call.
    let child = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    assert!(child >= 0, "clone3: {}", std::io::Error::last_os_error());
    if child == 0 {
        perform(&list(acts));
        acts::exit_now(0);
    }
    acts::LAST_CHILD.store(pid, std::sync::atomic::Ordering::Relaxed);
}
