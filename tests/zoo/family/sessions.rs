//! The leader of a terminal session ends, or the last one who could continue a stopped job.
//!
//! `kz-wrapper` holds the master and lives on; `kz-leader` plays the shell on the terminal and obeys.

use killtrace::model::report::{Confidence, Kind};

use super::Family;
use crate::Case;
use crate::acts::send;
use crate::stage::{Actor, Death, Person, Stage};

pub(crate) const SESSIONS: Family = Family {
    cases: &[
        Case::new("sessexit", "the session leader exits, and its foreground job dies", leader_exits).late(),
        Case::new("sesskill", "the session leader is killed, and its foreground job dies", leader_killed)
            .late(),
        Case::new("sesscrash", "the session leader crashes, and its foreground job dies", leader_crashes)
            .late(),
        Case::new("sesscaught", "the foreground job catches the SIGHUP of its leader's end", job_catches)
            .late(),
        Case::new("sessbg", "the session leader exits; a background job lives on", background_lives).late(),
        Case::new("sessself", "a session leader exits: its SIGHUP to itself is noise", leader_itself)
            .watch(&["--comm", "kz-leader"])
            .late(),
        Case::new(
            "sessgroup",
            "the leader's end takes a job of two, and both followed from it",
            group_of_two,
        )
        .watch(&["--comm", "kz-victim", "--comm", "kz-leader"])
        .late(),
        Case::new("orphpg", "a stopped job is orphaned by its shell's exit", orphaned).late(),
        Case::new("orphkill", "a stopped job is orphaned because its shell was killed", orphaned_by_kill)
            .late(),
        Case::new(
            "orphmember",
            "one of an orphaned group was stopped, and the other dies too",
            orphaned_member,
        )
        .late(),
        Case::new(
            "orphnotty",
            "a stopped job is orphaned, and no terminal is near",
            orphaned_without_terminal,
        )
        .late(),
        Case::new("orphrunning", "a running job is orphaned: nothing is sent", orphaned_running).late(),
        Case::new("orphcontinued", "a job that was stopped and continued is orphaned", orphaned_continued)
            .late(),
        Case::new("ctrlzorph", "Ctrl-Z stops the job, and its shell then exits", ctrl_z).late(),
        Case::new("ctrlzfg", "a stopped job still in the foreground when its leader exits", stopped_in_front)
            .late(),
        Case::new(
            "stopcont",
            "a stopped process gets SIGTERM, and later SIGCONT by another",
            stopped_then_continued,
        )
        .late(),
    ],
    acts: &[],
};

/// A wrapper that holds the master, a leader that obeys what the wrapper is told, and `kz-victim` as a job of it.
fn session(stage: &mut Stage, job: &str, acts: &str) -> (Actor, Person, Person) {
    stage.adopt_orphans();
    let leader = format!("pty:kz-leader:({job}:kz-victim:{acts})+obey");
    let wrapper = stage.start("kz-wrapper", &[&leader, "sleep:60000"]);
    let victim = Person::of(wrapper.facts[0]);
    let leader = Person::of(victim.parent());
    stage.clean_up(victim.pid);
    stage.clean_up(leader.pid);
    (wrapper, leader, victim)
}

/// Of the foreground job, which was hung up because its leader ended.
fn hung_up<'a>(stage: &'a mut Stage, victim: &Person) -> Death<'a> {
    stage.death_of_orphan(victim.pid, Kind::SessionLeaderExit).by_signal(libc::SIGHUP)
}

fn leader_exits(stage: &mut Stage) {
    let (mut leader_stdin, leader, victim) = session(stage, "job", "ready:me+pause");
    stage.curtain();
    leader_stdin.order("exit:3");
    hung_up(stage, &victim)
        .killer(&leader)
        .actor(&leader)
        .action("exited")
        .chain(&[
            "kz-leader",
            "exited with code 3",
            "kernel sent SIGHUP to kz-victim",
            "was killed by SIGHUP",
        ])
        .summary(&["died of SIGHUP", "kz-leader", "the leader of its terminal session, exited with code 3"]);
}

fn leader_killed(stage: &mut Stage) {
    let (_wrapper, leader, victim) = session(stage, "job", "ready:me+pause");
    stage.curtain();
    let killer = stage.strike("kz-killer", leader.pid, "KILL");
    hung_up(stage, &victim)
        .killer(&killer)
        .actor(&killer)
        .innocent(leader.pid)
        .chain(&[
            "kz-killer",
            "sent SIGKILL to kz-leader",
            "was killed by SIGKILL",
            "sent SIGHUP to kz-victim",
        ])
        .summary(&["leader of its terminal session", "because kz-killer", "sent SIGKILL to kz-leader"]);
}

fn leader_crashes(stage: &mut Stage) {
    let (mut leader_stdin, leader, victim) = session(stage, "job", "ready:me+pause");
    stage.curtain();
    leader_stdin.order("fault:maperr");
    hung_up(stage, &victim)
        .no_killer()
        .actor(&leader)
        .action("crashed with SIGSEGV")
        .chain(&["kz-leader", "crashed", "was killed by SIGSEGV", "sent SIGHUP to kz-victim"])
        .summary(&["kz-leader", "the leader of its terminal session, crashed with SIGSEGV"]);
}

fn job_catches(stage: &mut Stage) {
    let (mut leader_stdin, leader, victim) = session(stage, "job", "catch:HUP,exit,129+ready:me+pause");
    stage.curtain();
    leader_stdin.order("exit:0");
    stage
        .death_of_orphan(victim.pid, Kind::SessionLeaderExit)
        .by_exit(129)
        .graceful()
        .killer(&leader)
        .chain(&["kz-leader", "exited with code 0", "sent SIGHUP to kz-victim", "exited with code 129"]);
}

fn background_lives(stage: &mut Stage) {
    let (mut leader_stdin, leader, victim) = session(stage, "bgjob", "ready:me+pause");
    stage.curtain();
    leader_stdin.order("exit:0");
    stage.until_state(leader.pid, 'Z');
    stage.rest(20);
    stage.lives_on(victim.pid);
}

/// The leader is watched too, and ended by itself. It sends SIGHUP to its own group on its way, itself included.
fn leader_itself(stage: &mut Stage) {
    let mut wrapper = stage.start("kz-wrapper", &["pty:kz-leader:ready:me+obey", "wait:tell"]);
    let leader = wrapper.facts[0];
    stage.curtain();
    wrapper.order("exit:0");
    // Its own answer to the order never comes; the wrapper's does.
    let status = wrapper.hear()[0].cast_signed();
    stage.died(leader, Some(status), Kind::Exited).by_exit(0).no_killer().no_actor().alone();
}

fn group_of_two(stage: &mut Stage) {
    stage.adopt_orphans();
    let acts = "pty:kz-leader:(job:kz-victim:(spawn:kz-child:ready:me+pause)+pause)+obey";
    let mut wrapper = stage.start("kz-wrapper", &[acts, "sleep:60000"]);
    let child = Person::of(wrapper.facts[0]);
    let victim = Person::of(child.parent());
    let leader = Person::of(victim.parent());
    for pid in [child.pid, victim.pid, leader.pid] {
        stage.clean_up(pid);
    }
    stage.curtain();
    wrapper.order("exit:0");
    let status = stage.reap(victim.pid);
    stage.reap(child.pid);
    stage
        .died(leader.pid, Some(0), Kind::Exited)
        .no_killer()
        .also_died(victim.pid, Some(leader.pid))
        .also_died(child.pid, Some(leader.pid));
    stage
        .died(victim.pid, Some(status), Kind::SessionLeaderExit)
        .by_signal(libc::SIGHUP)
        .killer(&leader)
        .also_died(child.pid, None);
    stage.died(child.pid, Some(libc::SIGHUP), Kind::SessionLeaderExit).killer(&leader);
}

/// Stops a process, and waits until it is.
fn stop(stage: &Stage, pid: u32, signo: i32) {
    assert_eq!(send(pid.cast_signed(), signo), 0);
    stage.until_state(pid, 'T');
}

fn orphaned(stage: &mut Stage) {
    let (mut leader_stdin, leader, victim) = session(stage, "bgjob", "ready:me+pause");
    stop(stage, victim.pid, libc::SIGSTOP);
    stage.curtain();
    leader_stdin.order("exit:0");
    stage
        .death_of_orphan(victim.pid, Kind::OrphanedProcessGroup)
        .by_signal(libc::SIGHUP)
        .killer(&leader)
        .actor(&leader)
        // Whether its leader had it in the foreground is not seen there.
        .without_btf(Kind::OrphanedProcessGroup, Confidence::Likely)
        .chain(&[
            "kz-leader",
            "exited with code 0",
            "stopped group of kz-victim",
            "was orphaned",
            "killed by SIGHUP",
        ])
        .summary(&["its process group was stopped", "kz-leader", "exited with code 0"]);
}

fn orphaned_by_kill(stage: &mut Stage) {
    let (_wrapper, leader, victim) = session(stage, "bgjob", "ready:me+pause");
    stop(stage, victim.pid, libc::SIGTSTP);
    stage.curtain();
    let killer = stage.strike("kz-killer", leader.pid, "KILL");
    stage
        .death_of_orphan(victim.pid, Kind::OrphanedProcessGroup)
        .by_signal(libc::SIGHUP)
        .killer(&killer)
        .innocent(leader.pid)
        .without_btf(Kind::OrphanedProcessGroup, Confidence::Likely)
        .chain(&[
            "sent SIGKILL to kz-leader",
            "was killed by SIGKILL",
            "was orphaned",
            "was killed by SIGHUP",
        ])
        .summary(&["because kz-killer", "sent SIGKILL to kz-leader"]);
}

/// The victim runs; another member of its group is stopped.
fn orphaned_member(stage: &mut Stage) {
    stage.adopt_orphans();
    let acts = "pty:kz-leader:(bgjob:kz-victim:(spawn:kz-stopped:ready:me+pause)+pause)+obey";
    let mut wrapper = stage.start("kz-wrapper", &[acts, "sleep:60000"]);
    let stopped = Person::of(wrapper.facts[0]);
    let victim = Person::of(stopped.parent());
    let leader = Person::of(victim.parent());
    for pid in [stopped.pid, victim.pid, leader.pid] {
        stage.clean_up(pid);
    }
    stop(stage, stopped.pid, libc::SIGSTOP);
    stage.curtain();
    wrapper.order("exit:0");
    stage
        .death_of_orphan(victim.pid, Kind::OrphanedProcessGroup)
        .by_signal(libc::SIGHUP)
        .killer(&leader)
        .also_died(stopped.pid, None)
        .without_btf(Kind::OrphanedProcessGroup, Confidence::Likely)
        .chain(&["kz-leader", "exited with code 0", "was orphaned", "was killed by SIGHUP"]);
    stage.reap(stopped.pid);
}

fn orphaned_without_terminal(stage: &mut Stage) {
    stage.adopt_orphans();
    let mut shell = stage.start("kz-shell", &["setsid", "spawn:kz-victim:setpgid+ready:me+pause", "obey"]);
    let victim = Person::of(shell.facts[0]);
    stage.clean_up(victim.pid);
    stop(stage, victim.pid, libc::SIGSTOP);
    stage.curtain();
    shell.order("exit:0");
    shell.wait();
    stage
        .death_of_orphan(victim.pid, Kind::OrphanedProcessGroup)
        .by_signal(libc::SIGHUP)
        .killer(shell.who())
        .without_btf(Kind::OrphanedProcessGroup, Confidence::Likely)
        .chain(&["kz-shell", "exited with code 0", "was orphaned", "was killed by SIGHUP"]);
}

fn orphaned_running(stage: &mut Stage) {
    stage.adopt_orphans();
    let mut shell = stage.start("kz-shell", &["setsid", "spawn:kz-victim:setpgid+ready:me+pause", "obey"]);
    let victim = shell.facts[0];
    stage.clean_up(victim);
    stage.curtain();
    shell.order("exit:0");
    shell.wait();
    stage.rest(20);
    stage.lives_on(victim);
}

fn orphaned_continued(stage: &mut Stage) {
    stage.adopt_orphans();
    let mut shell = stage.start("kz-shell", &["setsid", "spawn:kz-victim:setpgid+ready:me+pause", "obey"]);
    let victim = shell.facts[0];
    stage.clean_up(victim);
    stop(stage, victim, libc::SIGSTOP);
    stage.curtain();
    assert_eq!(send(victim.cast_signed(), libc::SIGCONT), 0);
    stage.until_state(victim, 'S');
    shell.order("exit:0");
    shell.wait();
    stage.rest(20);
    stage.lives_on(victim);
}

/// As it is at a prompt: Ctrl-Z, the shell takes the terminal back, and is then left.
fn ctrl_z(stage: &mut Stage) {
    stage.adopt_orphans();
    let acts = "pty:kz-leader:(job:kz-victim:ready:me+pause)+obey";
    // Typed too early, it would find the leader in the foreground.
    let mut wrapper = stage.start("kz-wrapper", &[acts, "sleep:1000", "type:26", "sleep:60000"]);
    let victim = Person::of(wrapper.facts[0]);
    let leader = Person::of(victim.parent());
    stage.clean_up(victim.pid);
    stage.clean_up(leader.pid);
    stage.until_state(victim.pid, 'T');
    wrapper.tell("foreground");
    stage.curtain();
    wrapper.order("exit:0");
    stage
        .death_of_orphan(victim.pid, Kind::OrphanedProcessGroup)
        .by_signal(libc::SIGHUP)
        .killer(&leader)
        .without_btf(Kind::OrphanedProcessGroup, Confidence::Likely)
        .other_signal("SIGCONT");
}

/// The leader's SIGHUP for the foreground waits in the stopped job, and the orphaned group's SIGCONT lets it in.
fn stopped_in_front(stage: &mut Stage) {
    let (mut leader_stdin, leader, victim) = session(stage, "job", "ready:me+pause");
    stop(stage, victim.pid, libc::SIGSTOP);
    stage.curtain();
    leader_stdin.order("exit:0");
    hung_up(stage, &victim).killer(&leader).other_signal("SIGHUP");
}

fn stopped_then_continued(stage: &mut Stage) {
    let mut victim = stage.victim(&["ready", "pause"]);
    stop(stage, victim.pid(), libc::SIGSTOP);
    stage.curtain();
    let killer = stage.strike("kz-killer", victim.pid(), "TERM");
    let innocent = stage.strike("kz-continuer", victim.pid(), "CONT");
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .killer(&killer)
        .innocent(innocent.pid)
        .other_signal("SIGCONT");
}
