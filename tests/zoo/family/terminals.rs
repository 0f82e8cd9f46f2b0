//! A terminal goes away, or somebody presses a key at it.
//!
//! In most cases `kz-wrapper` plays tmux, sshd or an xterm: it holds the master of a pseudo-terminal on which a
//! session leader was started. The acts are in `ptys.rs`.

use killtrace::model::report::{Confidence, Kind, Mechanism, Role};

use super::Family;
use super::ptys::{ACTS, sti_possible, uring_possible};
use crate::Case;
use crate::stage::{Actor, Person, Stage};

pub(crate) const TERMINALS: Family = Family {
    cases: &[
        Case::new("ptyclose", "the master of its terminal is closed by a process that lives on", close)
            .late(),
        Case::new("ptyexit", "the wrapper that holds the master exits", wrapper_exits).late(),
        Case::new("ptykill", "the wrapper that holds the master is killed", wrapper_killed).late(),
        Case::new("crashpty", "the wrapper that holds the master crashes", wrapper_crashes).late(),
        Case::new("oomdpty", "earlyoom stops the wrapper that holds the master", earlyoom).late(),
        Case::new("ptyshared", "the wrapper is killed, but another process holds the master too", shared)
            .late(),
        Case::new("ptyinherit", "a child inherited the master and outlives the killed wrapper", inherited)
            .late(),
        Case::new("ptyuring", "the master is closed through io_uring, by a worker thread", uring)
            .needs(uring_possible)
            .late(),
        Case::new("ptygc", "the master was in flight over a socket and is garbage collected", collected)
            .late(),
        Case::new("ptyfork", "the session leader is a fork that never called execve", forked).late(),
        Case::new("ptyfg", "the leader dies of the hangup, and its foreground job after it", foreground)
            .late(),
        Case::new("ptybg", "the leader dies of the hangup; a background job does not", background).late(),
        Case::new("bashhup", "the leader passes its hangup on to its job", passed_on).late(),
        Case::new(
            "bashhupexit",
            "the leader passes its hangup on, and its wrapper was killed",
            passed_on_killed,
        )
        .late(),
        Case::new("eiojob", "the leader ignores the hangup; its job reads no more and exits", end_of_input)
            .late(),
        Case::new("nohup", "it ignores the hangup and lives on", nohup).late(),
        Case::new("vhangup", "its terminal is hung up by vhangup(2)", vhangup).late(),
        Case::new("tiocvhangup", "its terminal is hung up by an ioctl", tiocvhangup).late(),
        Case::new("tiocnotty", "the leader gives up the terminal; the foreground job dies", gives_up).late(),
        Case::new("hupdecoy", "a SIGHUP that it handles, and then the hangup that kills it", decoy).late(),
        Case::new("huppending", "a blocked SIGHUP by kill, the hangup after it, then it unblocks", pending),
        Case::new(
            "hangupfirst",
            "a blocked hangup, a SIGHUP by kill after it, then it unblocks",
            hangup_first,
        ),
        Case::new("hupcaught", "it catches the hangup and exits with code 0", caught).late(),
        Case::new("hup129", "it catches the hangup and exits with code 129", caught_129).late(),
        Case::new("huprace", "SIGTERM by kill just before the hangup", term_first).late(),
        Case::new("hupkill", "kill -HUP at a process whose terminal lives", hup_by_kill).late(),
        Case::new("ctrlc", "Ctrl-C is typed at its terminal", ctrl_c).late(),
        Case::new("ctrlbackslash", "Ctrl-\\ is typed at its terminal", ctrl_backslash).late(),
        Case::new("ctrlccaught", "it catches Ctrl-C and exits in its own time", ctrl_c_caught).late(),
        Case::new("ctrlcignored", "it ignores Ctrl-C and lives on", ctrl_c_ignored).late(),
        Case::new("ctrlcgroup", "Ctrl-C ends a whole foreground job", ctrl_c_group).late(),
        Case::new("tiocsti", "another process puts Ctrl-C into its input queue", tiocsti)
            .needs(sti_possible)
            .late(),
        Case::new("tiocsig", "the holder of the master sends SIGINT by an ioctl", tiocsig).late(),
    ],
    acts: ACTS,
};

/// A wrapper that obeys, with a session leader `kz-victim` on its terminal.
fn on_terminal(stage: &mut Stage, acts: &str) -> (Actor, Person) {
    let wrapper = stage.start("kz-wrapper", &[&format!("pty:kz-victim:{acts}"), "obey"]);
    let victim = Person::of(wrapper.facts[0]);
    stage.clean_up(victim.pid);
    (wrapper, victim)
}

/// The same with a shell as leader, and `kz-victim` as a job of it, started by `job` or `bgjob`.
fn job_on_terminal(stage: &mut Stage, leader: &str, job: &str) -> (Actor, Person, Person) {
    let acts = format!("pty:kz-leader:{leader}+({job})+pause");
    let wrapper = stage.start("kz-wrapper", &[&acts, "obey"]);
    let victim = Person::of(wrapper.facts[0]);
    let leader = Person::of(victim.parent());
    stage.clean_up(victim.pid);
    stage.clean_up(leader.pid);
    (wrapper, leader, victim)
}

/// The wait status of the only child of an actor that obeys.
pub(super) fn child_status(actor: &mut Actor) -> Option<i32> {
    actor.order("wait:tell");
    let status = actor.hear()[0].cast_signed();
    actor.hear();
    Some(status)
}

fn close(stage: &mut Stage) {
    let (mut wrapper, victim) = on_terminal(stage, "ready:me+pause");
    stage.curtain();
    wrapper.tell("close");
    let status = child_status(&mut wrapper);
    stage
        .died(victim.pid, status, Kind::TtyHangup)
        .by_signal(libc::SIGHUP)
        .mechanism(Mechanism::None)
        .killer(wrapper.who())
        .actor(wrapper.who())
        .chain(&["kz-wrapper", "closed the terminal", "was killed by SIGHUP"])
        .summary(&["kz-victim", "died of SIGHUP", "terminal was closed by kz-wrapper"]);
}

fn wrapper_exits(stage: &mut Stage) {
    stage.adopt_orphans();
    let (mut wrapper, victim) = on_terminal(stage, "ready:me+pause");
    stage.curtain();
    wrapper.order("exit:0");
    wrapper.wait();
    stage
        .death_of_orphan(victim.pid, Kind::TtyHangup)
        .by_signal(libc::SIGHUP)
        .killer(wrapper.who())
        .actor(wrapper.who())
        .chain(&["kz-wrapper", "exited with code 0", "hung up", "was killed by SIGHUP"])
        .summary(&["its terminal hung up", "kz-wrapper"]);
}

fn wrapper_killed(stage: &mut Stage) {
    stage.adopt_orphans();
    let (mut wrapper, victim) = on_terminal(stage, "ready:me+pause");
    stage.curtain();
    let killer = stage.strike("kz-killer", wrapper.pid(), "KILL");
    wrapper.wait();
    stage
        .death_of_orphan(victim.pid, Kind::TtyHangup)
        .by_signal(libc::SIGHUP)
        .killer(&killer)
        .actor(&killer)
        .ancestry(&[Person::director().pid])
        .innocent(wrapper.pid())
        .chain(&[
            "kz-killer",
            "sent SIGKILL to kz-wrapper",
            "was killed by SIGKILL",
            "hung up",
            "was killed by SIGHUP",
        ])
        .summary(&["its terminal hung up", "because kz-killer", "SIGKILL to kz-wrapper"]);
}

fn wrapper_crashes(stage: &mut Stage) {
    stage.adopt_orphans();
    let (mut wrapper, victim) = on_terminal(stage, "ready:me+pause");
    stage.curtain();
    wrapper.order("fault:maperr");
    wrapper.wait();
    stage
        .death_of_orphan(victim.pid, Kind::TtyHangup)
        .by_signal(libc::SIGHUP)
        .no_killer()
        .actor(wrapper.who())
        .chain(&["kz-wrapper", "crashed", "was killed by SIGSEGV", "hung up", "was killed by SIGHUP"])
        .summary(&["its terminal hung up", "because kz-wrapper", "crashed"]);
}

fn earlyoom(stage: &mut Stage) {
    stage.adopt_orphans();
    let (mut wrapper, victim) = on_terminal(stage, "ready:me+pause");
    let mut daemon = stage.start("earlyoom", &["ready", "obey"]);
    stage.curtain();
    daemon.tell(&format!("kill:{},TERM", wrapper.pid()));
    wrapper.wait();
    stage
        .death_of_orphan(victim.pid, Kind::TtyHangup)
        .by_signal(libc::SIGHUP)
        .killer(daemon.who())
        .actor(daemon.who())
        .role(Role::OomDaemon)
        .chain(&["earlyoom", "sent SIGTERM to kz-wrapper", "hung up", "was killed by SIGHUP"])
        .summary(&["its terminal hung up", "because earlyoom", "sent SIGTERM to kz-wrapper"]);
}

/// A wrapper and another process, `kz-holder`, that hold the same master.
fn two_holders(stage: &mut Stage) -> (Actor, u32, Person) {
    let mut wrapper = stage
        .start("kz-wrapper", &["pty:kz-victim:ready:me+pause", "fork:name:kz-holder+ready:me+pause", "obey"]);
    let said = [wrapper.facts[0], wrapper.hear()[0]];
    let is_victim = |pid: &u32| Person::of(*pid).comm.as_deref() == Some("kz-victim");
    let victim = said.into_iter().find(is_victim).expect("the victim speaks");
    let holder = said.into_iter().find(|pid| *pid != victim).expect("the holder speaks");
    stage.clean_up(victim);
    stage.clean_up(holder);
    (wrapper, holder, Person::of(victim))
}

fn shared(stage: &mut Stage) {
    stage.adopt_orphans();
    let (mut wrapper, _, victim) = two_holders(stage);
    stage.curtain();
    stage.strike("kz-killer", wrapper.pid(), "KILL");
    wrapper.wait();
    stage.lives_on(victim.pid);
}

fn inherited(stage: &mut Stage) {
    stage.adopt_orphans();
    let (mut wrapper, holder, victim) = two_holders(stage);
    stage.curtain();
    let innocent = stage.strike("kz-killer", wrapper.pid(), "KILL");
    wrapper.wait();
    stage.rest(20);
    let killer = stage.strike("kz-other", holder, "TERM");
    stage.reap(holder);
    stage
        .death_of_orphan(victim.pid, Kind::TtyHangup)
        .by_signal(libc::SIGHUP)
        .killer(&killer)
        .innocent(innocent.pid)
        .innocent(wrapper.pid())
        .chain(&["kz-other", "sent SIGTERM to kz-holder", "was killed by SIGTERM", "hung up"]);
}

fn uring(stage: &mut Stage) {
    let (mut wrapper, victim) = on_terminal(stage, "ready:me+pause");
    stage.curtain();
    wrapper.tell("uringclose");
    let status = child_status(&mut wrapper);
    stage.died(victim.pid, status, Kind::TtyHangup).by_signal(libc::SIGHUP).killer(wrapper.who()).chain(&[
        "kz-wrapper",
        "closed the terminal",
        "was killed by SIGHUP",
    ]);
}

/// Since Linux 6.10 a worker of the kernel does it; before, the process that closed the socket.
fn collected(stage: &mut Stage) {
    let (mut wrapper, victim) = on_terminal(stage, "ready:me+pause");
    stage.curtain();
    wrapper.tell("gcclose");
    let status = child_status(&mut wrapper);
    stage.died(victim.pid, status, Kind::TtyHangup).by_signal(libc::SIGHUP).chain(&["was killed by SIGHUP"]);
}

fn forked(stage: &mut Stage) {
    stage.adopt_orphans();
    let mut wrapper = stage.start("kz-victim", &["newpty", "fork:ctty+ready:me+pause", "obey"]);
    let victim = wrapper.facts[0];
    stage.clean_up(victim);
    stage.curtain();
    let killer = stage.strike("kz-killer", wrapper.pid(), "KILL");
    wrapper.wait();
    stage
        .death_of_orphan(victim, Kind::TtyHangup)
        .by_signal(libc::SIGHUP)
        .killer(&killer)
        // Whether it leads a session is not seen there, and /proc is read too early.
        .without_btf(Kind::TtyHangup, Confidence::Likely)
        .chain(&["sent SIGKILL to kz-victim", "hung up", "was killed by SIGHUP"]);
}

fn foreground(stage: &mut Stage) {
    stage.adopt_orphans();
    let (mut wrapper, leader, victim) = job_on_terminal(stage, "sleep:0", "job:kz-victim:ready:me+pause");
    stage.curtain();
    wrapper.tell("close");
    child_status(&mut wrapper);
    stage
        .death_of_orphan(victim.pid, Kind::TtyHangup)
        .by_signal(libc::SIGHUP)
        .killer(wrapper.who())
        .innocent(leader.pid)
        .chain(&[
            "kz-wrapper",
            "closed the terminal",
            "kz-leader",
            "was killed by SIGHUP",
            "kz-victim",
            "was killed by SIGHUP",
        ])
        .summary(&["its terminal hung up", "kz-wrapper", "closed the terminal of kz-leader"]);
}

fn background(stage: &mut Stage) {
    stage.adopt_orphans();
    let (mut wrapper, _, victim) = job_on_terminal(stage, "sleep:0", "bgjob:kz-victim:ready:me+pause");
    stage.curtain();
    wrapper.tell("close");
    child_status(&mut wrapper);
    stage.lives_on(victim.pid);
}

/// As bash does: SIGHUP to the job's group from the handler, then the same to itself.
fn passed_on(stage: &mut Stage) {
    stage.adopt_orphans();
    let (mut wrapper, leader, victim) = job_on_terminal(stage, "passhup", "job:kz-victim:ready:me+pause");
    stage.curtain();
    wrapper.tell("close");
    child_status(&mut wrapper);
    stage
        .death_of_orphan(victim.pid, Kind::TtyHangup)
        .by_signal(libc::SIGHUP)
        .killer(wrapper.who())
        .innocent(leader.pid)
        .chain(&[
            "kz-wrapper",
            "closed the terminal",
            "SIGHUP to kz-leader",
            "kz-leader",
            "sent SIGHUP to kz-victim",
            "kz-victim",
            "was killed by SIGHUP",
        ])
        .summary(&["kz-victim", "terminal", "kz-wrapper"]);
}

fn passed_on_killed(stage: &mut Stage) {
    stage.adopt_orphans();
    let (mut wrapper, leader, victim) = job_on_terminal(stage, "passhup", "job:kz-victim:ready:me+pause");
    stage.curtain();
    let killer = stage.strike("kz-killer", wrapper.pid(), "TERM");
    wrapper.wait();
    stage.reap(leader.pid);
    stage
        .death_of_orphan(victim.pid, Kind::TtyHangup)
        .by_signal(libc::SIGHUP)
        .without_btf(Kind::TtyHangup, Confidence::Likely)
        .killer(&killer)
        .innocent(leader.pid)
        .innocent(wrapper.pid())
        .chain(&[
            "sent SIGTERM to kz-wrapper",
            "was killed by SIGTERM",
            "hung up",
            "sent SIGHUP to kz-victim",
            "was killed by SIGHUP",
        ])
        .summary(&["kz-victim", "its terminal hung up", "because kz-killer"]);
}

fn end_of_input(stage: &mut Stage) {
    stage.adopt_orphans();
    let (mut wrapper, _, victim) =
        job_on_terminal(stage, "ignore:HUP", "job:kz-victim:default:HUP+ready:me+read+exit:1");
    stage.curtain();
    let killer = stage.strike("kz-killer", wrapper.pid(), "KILL");
    wrapper.wait();
    stage.until_state(victim.pid, 'Z');
    stage
        .died(victim.pid, Some(1 << 8), Kind::TtyHangup)
        .by_exit(1)
        .likely()
        .detail("terminal_gone")
        .killer(&killer)
        // Before the hangup itself, or after it: both are woken at once.
        .chain(&["sent SIGKILL to kz-wrapper", "kz-wrapper", "exited with code 1"])
        .summary(&["exited with code 1", "terminal had hung up", "because kz-killer"]);
}

fn nohup(stage: &mut Stage) {
    let (mut wrapper, victim) = on_terminal(stage, "ignore:HUP+ready:me+pause");
    stage.curtain();
    wrapper.tell("close");
    stage.rest(20);
    stage.lives_on(victim.pid);
}

fn hung_up_by(stage: &mut Stage, act: &str) {
    let mut wrapper = stage.start("kz-wrapper", &["pty:kz-victim:ready:me+pause", "obey"]);
    let victim = Person::of(wrapper.facts[0]);
    stage.clean_up(victim.pid);
    stage.curtain();
    let culprit = stage.perform("kz-culprit", &[&format!("{act}:{}", victim.pid)]);
    let status = child_status(&mut wrapper);
    stage
        .died(victim.pid, status, Kind::TtyHangup)
        .by_signal(libc::SIGHUP)
        .mechanism(Mechanism::TtyIoctl)
        .killer(&culprit)
        .innocent(wrapper.pid())
        .without_btf(Kind::TtyHangup, Confidence::Certain)
        .chain(&["kz-culprit", "the terminal", "was killed by SIGHUP"])
        .summary(&["its terminal was", "by kz-culprit"]);
}

fn tiocvhangup(stage: &mut Stage) {
    hung_up_by(stage, "tiocvhangup");
}

/// vhangup(2) hangs up the caller's own terminal, so the caller shares it, in the leader's session.
fn vhangup(stage: &mut Stage) {
    stage.adopt_orphans();
    let mut wrapper =
        stage.start("kz-wrapper", &["pty:kz-victim:(bgjob:kz-culprit:ready:me+obey)+pause", "sleep:60000"]);
    let culprit = Person::of(wrapper.facts[0]);
    let victim = Person::of(culprit.parent());
    stage.clean_up(culprit.pid);
    stage.clean_up(victim.pid);
    stage.curtain();
    wrapper.order("vhangup");
    wrapper.hear();
    stage.until_state(victim.pid, 'Z');
    stage
        .died(victim.pid, Some(libc::SIGHUP), Kind::TtyHangup)
        .mechanism(Mechanism::TtyIoctl)
        .killer(&culprit)
        .innocent(wrapper.pid())
        .without_btf(Kind::TtyHangup, Confidence::Certain)
        .chain(&["kz-culprit", "the terminal", "was killed by SIGHUP"]);
}

fn gives_up(stage: &mut Stage) {
    let mut wrapper =
        stage.start("kz-wrapper", &["pty:kz-leader:(job:kz-victim:ready:me+pause)+obey", "sleep:60000"]);
    let victim = Person::of(wrapper.facts[0]);
    let leader = Person::of(victim.parent());
    stage.clean_up(victim.pid);
    stage.clean_up(leader.pid);
    stage.curtain();
    wrapper.tell("tiocnotty");
    let status = child_status(&mut wrapper);
    stage
        .died(victim.pid, status, Kind::TtyHangup)
        .by_signal(libc::SIGHUP)
        .mechanism(Mechanism::TtyIoctl)
        .killer(&leader)
        .role(Role::Parent)
        .innocent(wrapper.pid())
        // Without the system call, it looks like a kill(2) of the group.
        .without_btf(Kind::KilledByProcess, Confidence::Likely)
        .chain(&["kz-leader", "gave up the terminal", "was killed by SIGHUP"])
        .summary(&["died of SIGHUP", "kz-leader", "gave up"]);
}

fn decoy(stage: &mut Stage) {
    let (mut wrapper, victim) = on_terminal(stage, "catch:HUP,default+ready:me+pause");
    stage.curtain();
    let decoy = stage.strike("kz-decoy", victim.pid, "HUP");
    stage.until_default(victim.pid, libc::SIGHUP);
    wrapper.tell("close");
    let status = child_status(&mut wrapper);
    stage
        .died(victim.pid, status, Kind::TtyHangup)
        .by_signal(libc::SIGHUP)
        .killer(wrapper.who())
        .innocent(decoy.pid)
        .other_signal("SIGHUP");
}

/// The first of two alike owns the pending signal: the decoy is the killer here.
fn pending(stage: &mut Stage) {
    let (mut wrapper, victim) = on_terminal(stage, "block:HUP+ready:me+sleep:150+unblock:HUP+pause");
    let killer = stage.strike("kz-killer", victim.pid, "HUP");
    wrapper.tell("close");
    let status = child_status(&mut wrapper);
    stage
        .died(victim.pid, status, Kind::KilledByProcess)
        .by_signal(libc::SIGHUP)
        .killer(&killer)
        .innocent(wrapper.pid())
        .other_signal("SIGHUP");
}

fn hangup_first(stage: &mut Stage) {
    let (mut wrapper, victim) = on_terminal(stage, "block:HUP+ready:me+sleep:150+unblock:HUP+pause");
    wrapper.tell("close");
    let decoy = stage.strike("kz-decoy", victim.pid, "HUP");
    let status = child_status(&mut wrapper);
    stage
        .died(victim.pid, status, Kind::TtyHangup)
        .by_signal(libc::SIGHUP)
        .killer(wrapper.who())
        .innocent(decoy.pid);
}

fn caught(stage: &mut Stage) {
    let (mut wrapper, victim) = on_terminal(stage, "catch:HUP,exit,0+ready:me+pause");
    stage.curtain();
    wrapper.tell("close");
    let status = child_status(&mut wrapper);
    stage
        .died(victim.pid, status, Kind::TtyHangup)
        .by_exit(0)
        .likely()
        .graceful()
        .killer(wrapper.who())
        .chain(&["closed the terminal", "exited with code 0"])
        .summary(&["exited with code 0", "terminal was closed by kz-wrapper"]);
}

fn caught_129(stage: &mut Stage) {
    let (mut wrapper, victim) = on_terminal(stage, "catch:HUP,exit,129+ready:me+pause");
    stage.curtain();
    wrapper.tell("close");
    let status = child_status(&mut wrapper);
    stage
        .died(victim.pid, status, Kind::TtyHangup)
        .by_exit(129)
        .graceful()
        .killer(wrapper.who())
        .chain(&["closed the terminal", "exited with code 129"]);
}

fn term_first(stage: &mut Stage) {
    let (mut wrapper, victim) = on_terminal(stage, "ready:me+pause");
    stage.curtain();
    let kill = format!("kill:{},TERM", victim.pid);
    let wrapper_pid = wrapper.pid();
    wrapper.tell(&kill);
    wrapper.tell("close");
    let status = child_status(&mut wrapper);
    stage
        .died(victim.pid, status, Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .mechanism(Mechanism::Kill)
        .killer(&Person::pid(wrapper_pid))
        .role(Role::Parent)
        .chain(&["sent SIGTERM to kz-victim", "was killed by SIGTERM"]);
}

fn hup_by_kill(stage: &mut Stage) {
    let (mut wrapper, victim) = on_terminal(stage, "ready:me+pause");
    stage.curtain();
    let killer = stage.strike("kz-killer", victim.pid, "HUP");
    let status = child_status(&mut wrapper);
    stage
        .died(victim.pid, status, Kind::KilledByProcess)
        .by_signal(libc::SIGHUP)
        .killer(&killer)
        .innocent(wrapper.pid())
        .summary(&["was killed by SIGHUP from kz-killer"]);
}

fn ctrl_c(stage: &mut Stage) {
    let (mut wrapper, victim) = on_terminal(stage, "ready:me+pause");
    stage.curtain();
    wrapper.tell("type:3");
    let status = child_status(&mut wrapper);
    stage
        .died(victim.pid, status, Kind::TtyKeyboard)
        .by_signal(libc::SIGINT)
        .mechanism(Mechanism::None)
        .no_killer()
        .no_actor()
        .chain(&["terminal", "was killed by SIGINT"])
        .summary(&["died of SIGINT", "Ctrl-C was typed at its terminal"]);
}

fn ctrl_backslash(stage: &mut Stage) {
    let (mut wrapper, victim) = on_terminal(stage, "ready:me+pause");
    stage.curtain();
    wrapper.tell("type:28");
    let status = child_status(&mut wrapper);
    stage
        .died(victim.pid, status, Kind::TtyKeyboard)
        .by_signal(libc::SIGQUIT)
        .no_killer()
        .summary(&["died of SIGQUIT", "Ctrl-\\ was typed at its terminal"]);
}

fn ctrl_c_caught(stage: &mut Stage) {
    let (mut wrapper, victim) = on_terminal(stage, "catch:INT,exit,130+ready:me+pause");
    stage.curtain();
    wrapper.tell("type:3");
    let status = child_status(&mut wrapper);
    stage
        .died(victim.pid, status, Kind::TtyKeyboard)
        .by_exit(130)
        .graceful()
        .no_killer()
        .summary(&["exited with code 130", "Ctrl-C was typed"]);
}

fn ctrl_c_ignored(stage: &mut Stage) {
    let (mut wrapper, victim) = on_terminal(stage, "ignore:INT+ready:me+pause");
    stage.curtain();
    wrapper.tell("type:3");
    stage.rest(20);
    stage.lives_on(victim.pid);
    stage.keep(wrapper);
}

fn ctrl_c_group(stage: &mut Stage) {
    let mut wrapper = stage.start(
        "kz-wrapper",
        &["pty:kz-leader:(job:kz-victim:(spawn:kz-child:ready:me+pause)+wait)+pause", "obey"],
    );
    let child = Person::of(wrapper.facts[0]);
    let victim = Person::of(child.parent());
    for pid in [child.pid, victim.pid, victim.parent()] {
        stage.clean_up(pid);
    }
    stage.curtain();
    wrapper.tell("type:3");
    stage.until_state(victim.pid, 'Z');
    stage.died(child.pid, None, Kind::TtyKeyboard).no_killer().also_died(victim.pid, None);
    stage
        .died(victim.pid, Some(libc::SIGINT), Kind::TtyKeyboard)
        .no_killer()
        .also_died(child.pid, None)
        .summary(&["Ctrl-C was typed"]);
}

fn tiocsti(stage: &mut Stage) {
    let (mut wrapper, victim) = on_terminal(stage, "ready:me+pause");
    stage.curtain();
    let culprit = stage.perform("kz-culprit", &[&format!("tiocsti:{},3", victim.pid)]);
    let status = child_status(&mut wrapper);
    stage
        .died(victim.pid, status, Kind::TtyKeyboard)
        .by_signal(libc::SIGINT)
        .mechanism(Mechanism::TtyIoctl)
        .killer(&culprit)
        .innocent(wrapper.pid())
        .without_btf(Kind::TtyKeyboard, Confidence::Likely)
        .chain(&["kz-culprit", "typed into the terminal", "was killed by SIGINT"])
        .summary(&["kz-culprit", "put Ctrl-C into its terminal"]);
}

fn tiocsig(stage: &mut Stage) {
    let (mut wrapper, victim) = on_terminal(stage, "ready:me+pause");
    stage.curtain();
    wrapper.tell("tiocsig:INT");
    let status = child_status(&mut wrapper);
    stage
        .died(victim.pid, status, Kind::TtyKeyboard)
        .by_signal(libc::SIGINT)
        .mechanism(Mechanism::TtyIoctl)
        .killer(wrapper.who())
        .without_btf(Kind::TtyKeyboard, Confidence::Likely)
        .chain(&["kz-wrapper", "terminal", "was killed by SIGINT"]);
}
