//! Parents that end, and the signal that a child asked for at that end (`PR_SET_PDEATHSIG`).

use killtrace::model::report::{Confidence, Kind, Mechanism, Role};

use super::Family;
use crate::Case;
use crate::acts::{self, Act, check, fact, ready};
use crate::stage::{Actor, Person, Stage};

pub(crate) const PARENTS: Family = Family {
    cases: &[
        Case::new("pdeath", "its parent exits, and it had asked for SIGTERM then", parent_exits).late(),
        Case::new("pdeathkill", "its parent is killed, and it had asked for SIGTERM then", parent_killed)
            .late(),
        Case::new("pdeath9", "its parent is killed, and it had asked for SIGKILL then", parent_killed_9)
            .late(),
        Case::new("pdeathcrash", "its parent crashes", parent_crashes).late(),
        Case::new("pdeathown", "its parent ends itself in the middle of kill(2)", parent_kills_itself).late(),
        Case::new("pdeathabort", "its parent aborts", parent_aborts).late(),
        Case::new("pdeatht", "the thread that started it ends, and the process lives on", thread_exits)
            .late(),
        Case::new(
            "pdeathtsoon",
            "the thread that started it ends, the process a moment later",
            thread_exits_first,
        ),
        Case::new("pdeathtall", "the thread that started it ends with its whole process", all_threads_exit)
            .late(),
        Case::new("pdeathcaught", "it catches the signal that it had asked for, and exits", caught).late(),
        Case::new("pdeathignored", "it ignores the signal that it had asked for", ignored).late(),
        Case::new("pdeathsub", "the subreaper that adopted it ends, after its parent", subreaper).late(),
        Case::new("pdeathdecoy", "its parent asks it to stop, in vain, and then exits", decoy).late(),
        Case::new("parentkill", "its parent kills it, and then exits", parent_kills).late(),
        Case::new("parentgone", "its parent is killed, and it had asked for nothing", orphan_lives).late(),
        Case::new("childkill", "its child kills it", child_kills).late(),
        Case::new("vforkk", "a parent in vfork is killed, and its child lives on", vfork).late(),
        Case::new("pdeathchain", "three generations, each of which dies of the one before", generations)
            .watch(&["--comm", "kz-victim", "--comm", "kz-middle"])
            .late(),
    ],
    acts: ACTS,
};

const ACTS: &[Act] = &[
    (
        "pdeathsig",
        // SAFETY: takes one integer.
        |args| check(args, unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, args.signo(0)) }.into()),
    ),
    (
        "subreaper",
        // SAFETY: takes one integer.
        |args| check(args, unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) }.into()),
    ),
    ("vfork", |_| vfork_and_wait()),
];

/// A child that shares its parent's memory, and holds its parent up until it ends (`CLONE_VFORK`).
fn vfork_and_wait() {
    extern "C" fn child(_: *mut libc::c_void) -> libc::c_int {
        ready(&[fact("me")]);
        acts::pause()
    }
    let stack = vec![0_u8; 1 << 16].leak();
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the child has a stack of its own and never returns; its parent does nothing meanwhile.
    let pid = unsafe { libc::clone(child, stack.as_mut_ptr_range().end.cast(), flags, std::ptr::null_mut()) };
    assert!(pid > 0, "clone: {}", std::io::Error::last_os_error());
}

/// `kz-parent`, which obeys, and its child `kz-victim`, which has asked for a signal.
fn family(stage: &mut Stage, acts: &str) -> (Actor, Person) {
    stage.adopt_orphans();
    let parent = stage.start("kz-parent", &[&format!("spawn:kz-victim:{acts}+ready:me+pause"), "obey"]);
    let victim = Person::of(parent.facts[0]);
    stage.clean_up(victim.pid);
    (parent, victim)
}

fn parent_exits(stage: &mut Stage) {
    let (mut parent, victim) = family(stage, "pdeathsig:TERM");
    stage.curtain();
    parent.order("exit:0");
    parent.wait();
    stage
        .death_of_orphan(victim.pid, Kind::ParentDeathSignal)
        .by_signal(libc::SIGTERM)
        .mechanism(Mechanism::Kernel)
        .killer(parent.who())
        .actor(parent.who())
        .role(Role::Parent)
        .action("exited with code 0")
        .chain(&["kz-parent", "exited with code 0", "had asked for SIGTERM", "was killed by SIGTERM"])
        .summary(&[
            "died of SIGTERM",
            "asked for that when its parent ends",
            "kz-parent",
            "exited with code 0",
        ]);
}

fn parent_killed(stage: &mut Stage) {
    let (mut parent, victim) = family(stage, "pdeathsig:TERM");
    stage.curtain();
    let killer = stage.strike("kz-killer", parent.pid(), "KILL");
    parent.wait();
    stage
        .death_of_orphan(victim.pid, Kind::ParentDeathSignal)
        .by_signal(libc::SIGTERM)
        .killer(&killer)
        .actor(&killer)
        .innocent(parent.pid())
        .chain(&[
            "sent SIGKILL to kz-parent",
            "was killed by SIGKILL",
            "had asked for SIGTERM",
            "killed by SIGTERM",
        ])
        .summary(&["because kz-killer", "sent SIGKILL to kz-parent"]);
}

fn parent_killed_9(stage: &mut Stage) {
    let (mut parent, victim) = family(stage, "pdeathsig:KILL");
    stage.curtain();
    let killer = stage.strike("kz-killer", parent.pid(), "TERM");
    parent.wait();
    stage
        .death_of_orphan(victim.pid, Kind::ParentDeathSignal)
        .by_signal(libc::SIGKILL)
        .killer(&killer)
        .innocent(parent.pid())
        .chain(&["sent SIGTERM to kz-parent", "was killed by SIGTERM", "had asked for SIGKILL"]);
}

fn parent_crashes(stage: &mut Stage) {
    let (mut parent, victim) = family(stage, "pdeathsig:TERM");
    stage.curtain();
    parent.order("fault:maperr");
    parent.wait();
    stage
        .death_of_orphan(victim.pid, Kind::ParentDeathSignal)
        .by_signal(libc::SIGTERM)
        .no_killer()
        .actor(parent.who())
        .role(Role::Parent)
        .action("crashed with SIGSEGV")
        .chain(&["kz-parent", "crashed", "had asked for SIGTERM", "was killed by SIGTERM"])
        .summary(&["kz-parent", "crashed with SIGSEGV"]);
}

/// Its saved registers still say kill(2) when the kernel sends the child's signal.
fn parent_kills_itself(stage: &mut Stage) {
    let (mut parent, victim) = family(stage, "pdeathsig:TERM");
    stage.curtain();
    parent.order("kill:me,KILL");
    parent.wait();
    stage
        .death_of_orphan(victim.pid, Kind::ParentDeathSignal)
        .by_signal(libc::SIGTERM)
        .killer(parent.who())
        .action("SIGKILL to itself")
        .chain(&["kz-parent", "sent SIGKILL to itself", "had asked for SIGTERM", "was killed by SIGTERM"]);
}

fn parent_aborts(stage: &mut Stage) {
    let (mut parent, victim) = family(stage, "pdeathsig:TERM");
    stage.curtain();
    parent.order("abort");
    parent.wait();
    stage
        .death_of_orphan(victim.pid, Kind::ParentDeathSignal)
        .by_signal(libc::SIGTERM)
        .killer(parent.who())
        .chain(&["kz-parent", "sent SIGABRT to itself", "had asked for SIGTERM", "was killed by SIGTERM"])
        .summary(&["kz-parent", "SIGABRT"]);
}

/// A parent whose other thread starts the victim, does something, and ends.
fn started_by_thread(stage: &mut Stage, thread: &str, parent: &[&str]) -> (Actor, Person) {
    stage.adopt_orphans();
    let thread = format!("thread:(spawn:kz-victim:pdeathsig:TERM+ready:me+pause)+{thread}");
    let acts: Vec<&str> = std::iter::once(thread.as_str()).chain(parent.iter().copied()).collect();
    let parent = stage.start("kz-parent", &acts);
    let victim = Person::of(parent.facts[0]);
    stage.clean_up(victim.pid);
    (parent, victim)
}

fn thread_exits(stage: &mut Stage) {
    let (mut parent, victim) = started_by_thread(stage, "obey", &["sleep:50", "wait:tell", "pause"]);
    stage.curtain();
    // The thread reads the end of its orders, and is done.
    parent.dismiss();
    let status = parent.hear()[0].cast_signed();
    stage.lives(&parent);
    stage
        .died(victim.pid, Some(status), Kind::ParentDeathSignal)
        .by_signal(libc::SIGTERM)
        .detail("parent_thread_exit")
        .killer(parent.who())
        // Which call a thread was in when it ended is not seen there.
        .without_btf(Kind::ParentDeathSignal, Confidence::Likely)
        .role(Role::Parent)
        .action("ended the thread that had started kz-victim")
        .chain(&["kz-victim", "had asked for SIGTERM", "thread", "was killed by SIGTERM"])
        .summary(&["when the thread that started it ends", "kz-parent", "lives on"]);
}

/// The process ends so soon after that the answer is given when it is dead.
fn thread_exits_first(stage: &mut Stage) {
    let (mut parent, victim) = started_by_thread(stage, "obey", &["sleep:300", "wait", "exit:0"]);
    parent.dismiss();
    parent.wait();
    stage
        .died(victim.pid, Some(libc::SIGTERM), Kind::ParentDeathSignal)
        .detail("parent_thread_exit")
        .killer(parent.who())
        // Which call a thread was in when it ended is not seen there.
        .without_btf(Kind::ParentDeathSignal, Confidence::Likely);
}

/// The thread ends because all do: that is the process's end, and whoever ended it is to blame.
fn all_threads_exit(stage: &mut Stage) {
    let (mut parent, victim) = started_by_thread(stage, "sleep:60000", &["sleep:60000"]);
    stage.curtain();
    let killer = stage.strike("kz-killer", parent.pid(), "TERM");
    parent.wait();
    stage
        .death_of_orphan(victim.pid, Kind::ParentDeathSignal)
        .by_signal(libc::SIGTERM)
        .without_btf(Kind::ParentDeathSignal, Confidence::Likely)
        .killer(&killer)
        .innocent(parent.pid())
        .chain(&["sent SIGTERM to kz-parent", "had asked for SIGTERM", "was killed by SIGTERM"]);
}

fn caught(stage: &mut Stage) {
    let (mut parent, victim) = family(stage, "catch:TERM,exit,143+pdeathsig:TERM");
    stage.curtain();
    parent.order("exit:0");
    parent.wait();
    stage
        .death_of_orphan(victim.pid, Kind::ParentDeathSignal)
        .by_exit(143)
        .graceful()
        .killer(parent.who())
        .chain(&["kz-parent", "exited with code 0", "had asked for SIGTERM", "exited with code 143"]);
}

fn ignored(stage: &mut Stage) {
    let (mut parent, victim) = family(stage, "ignore:TERM+pdeathsig:TERM");
    stage.curtain();
    parent.order("exit:0");
    parent.wait();
    stage.rest(20);
    stage.lives_on(victim.pid);
}

/// The parent's end is survived; that of the subreaper which adopted it is not.
fn subreaper(stage: &mut Stage) {
    stage.adopt_orphans();
    let acts = "spawn:kz-parent:(spawn:kz-victim:catch:TERM,default+pdeathsig:TERM+ready:me+pause)+pause";
    let mut reaper = stage.start("kz-reaper", &["subreaper", acts, "obey"]);
    let victim = Person::of(reaper.facts[0]);
    let parent = victim.parent();
    stage.clean_up(victim.pid);
    stage.clean_up(parent);
    stage.curtain();
    let innocent = stage.strike("kz-other", parent, "KILL");
    stage.until_default(victim.pid, libc::SIGTERM);
    reaper.order("exit:4");
    reaper.wait();
    stage
        .death_of_orphan(victim.pid, Kind::ParentDeathSignal)
        .by_signal(libc::SIGTERM)
        .killer(reaper.who())
        .innocent(parent)
        .innocent(innocent.pid)
        .other_signal("SIGTERM")
        .chain(&["kz-reaper", "exited with code 4", "had asked for SIGTERM", "was killed by SIGTERM"]);
}

fn decoy(stage: &mut Stage) {
    let (mut parent, victim) = family(stage, "catch:TERM,return+pdeathsig:KILL");
    stage.curtain();
    parent.tell("kill:child,TERM");
    parent.order("exit:0");
    parent.wait();
    stage
        .death_of_orphan(victim.pid, Kind::ParentDeathSignal)
        .by_signal(libc::SIGKILL)
        .killer(parent.who())
        .other_signal("SIGTERM");
}

fn parent_kills(stage: &mut Stage) {
    let (mut parent, victim) = family(stage, "pdeathsig:TERM");
    stage.curtain();
    parent.tell("kill:child,TERM");
    parent.order("exit:0");
    parent.wait();
    stage
        .death_of_orphan(victim.pid, Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .mechanism(Mechanism::Kill)
        .killer(parent.who())
        .role(Role::Parent)
        .action("sent SIGTERM to kz-victim");
}

fn orphan_lives(stage: &mut Stage) {
    let (mut parent, victim) = family(stage, "sleep:0");
    stage.curtain();
    stage.strike("kz-killer", parent.pid(), "KILL");
    parent.wait();
    stage.rest(20);
    stage.lives_on(victim.pid);
}

fn child_kills(stage: &mut Stage) {
    stage.adopt_orphans();
    let mut victim = stage.victim(&["spawn:kz-child:ready:me+obey", "pause"]);
    let child = Person::of(victim.facts[0]);
    stage.clean_up(child.pid);
    stage.curtain();
    victim.order("kill:parent,TERM");
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .killer(&child)
        .actor(&child)
        .role(Role::Child);
}

/// The parent waits in the kernel, killable; the child shares its memory, and is not touched.
fn vfork(stage: &mut Stage) {
    stage.adopt_orphans();
    let mut victim = stage.victim(&["vfork", "pause"]);
    // The line says `ready`, which `start` waits for only if it is among the acts.
    let child = victim.hear()[0];
    stage.clean_up(child);
    stage.curtain();
    let killer = stage.strike("kz-killer", victim.pid(), "TERM");
    let director = Person::director().pid;
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .killer(&killer)
        .alone()
        .survivor(child, Some(director), &[]);
    stage.lives_on(child);
}

fn generations(stage: &mut Stage) {
    stage.adopt_orphans();
    let acts = "spawn:kz-middle:pdeathsig:INT+(spawn:kz-victim:pdeathsig:TERM+ready:me+pause)+pause";
    let mut first = stage.start("kz-first", &[acts, "obey"]);
    let victim = Person::of(first.facts[0]);
    let middle = victim.parent();
    stage.clean_up(victim.pid);
    stage.clean_up(middle);
    stage.curtain();
    let killer = stage.strike("kz-killer", first.pid(), "KILL");
    first.wait();
    let (middle_status, status) = (stage.reap(middle), stage.reap(victim.pid));
    stage
        .died(middle, Some(middle_status), Kind::ParentDeathSignal)
        .by_signal(libc::SIGINT)
        .killer(&killer)
        .also_died(victim.pid, Some(middle));
    stage
        .died(victim.pid, Some(status), Kind::ParentDeathSignal)
        .by_signal(libc::SIGTERM)
        .killer(&killer)
        .innocent(middle)
        .innocent(first.pid())
        .chain(&[
            "kz-killer",
            "sent SIGKILL to kz-first",
            "kz-first",
            "was killed by SIGKILL",
            "kz-middle",
            "had asked for SIGINT",
            "was killed by SIGINT",
            "had asked for SIGTERM",
            "was killed by SIGTERM",
        ]);
}
