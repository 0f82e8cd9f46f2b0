//! Memory runs out: the kernel's OOM killer in a cgroup and on the machine, and daemons that are faster than it.

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use killtrace::model::report::{Confidence, Kind, Mechanism, OomScope, Role};
use killtrace_tests::MemoryCgroup;
use killtrace_tests::zoo::Memory;

use super::Family;
use super::cgroups::{Group, freezer_v1};
use super::namespaces::{MEMBER, start_init};
use crate::Case;
use crate::acts::{Args, LAST_CHILD, exit_now, list, perform};
use crate::stage::{Person, Stage, alive, eventually, vm_only};

const MIB: u64 = 1 << 20;

pub(crate) const MEMORY: Family = Family {
    cases: &[
        Case::new("memcgself", "it asks for more than its memory cgroup may have", alone)
            .needs(memory)
            .late(),
        Case::new("memcgother", "another in its memory cgroup asks, and it is chosen", bystander)
            .needs(memory)
            .late(),
        Case::new("memcgabove", "the limit is that of the cgroup above its own", limited_above)
            .needs(memory)
            .late(),
        Case::new("memcgvm", "two share one memory, and both are killed", shared_memory).needs(memory),
        // Not late: which of the two the kernel marks is chance, and only births tell that they share.
        Case::new("memcgvfork", "its vfork child shares its memory, and both are killed", vforked)
            .needs(memory),
        Case::new("memcgpty", "its terminal's program is chosen, and it is hung up", wrapper_on_a_terminal)
            .needs(memory)
            .late(),
        Case::new("memcgdying", "it was killed already when the OOM killer chose it", dying)
            .needs(memory_and_freezer),
        Case::new("memcgkill", "kill -9 from a process right after an OOM kill beside it", killed_beside)
            .needs(memory)
            .late(),
        Case::new("memcgchild", "its child outlives it", child_survives).needs(memory),
        Case::new("memcgagain", "one after the other in the same cgroup", twice).needs(memory),
        Case::new("memcgleft", "an OOM kill beside it, and later it exits with 137", exit_137).needs(memory),
        Case::new("memcggrp", "memory.oom.group takes all along", group).needs(oom_group),
        Case::new("memcginit", "its PID namespace's init is chosen", init_chosen).needs(memory),
        Case::new("oomd", "earlyoom sends SIGTERM", daemon).late(),
        Case::new("mrelease", "an OOM daemon kills through a pidfd and frees the memory itself", release)
            .late(),
        Case::new("vforkk", "killed while it waits for its vfork child, which lives on", killed_in_vfork)
            .late(),
        Case::new("oomglobal", "the machine runs out of memory, and the largest is chosen", global)
            .needs(vm_only),
        Case::new("oomalloc", "the machine runs out, and whoever asks is chosen", allocating_task)
            .needs(vm_only),
    ],
    acts: &[
        ("eat", |args| eat(args.number(0))),
        ("adjust", |args| fs::write("/proc/self/oom_score_adj", args.text(0)).expect("root may")),
        ("share", |_| share()),
        ("vfork", |args| vfork_and(args.rest())),
        ("pidfd-kill-and-release", kill_and_release),
    ],
};

/// `eat:MIB`: takes memory and keeps it.
fn eat(mib: u64) {
    for _ in 0..mib {
        let mut piece = vec![0u8; 1 << 20];
        // One byte of each page makes it real.
        piece.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        std::mem::forget(piece);
    }
}

/// A child that shares this process's memory and does nothing in it (`clone` with CLONE_VM alone).
fn share() {
    extern "C" fn wait(_: *mut libc::c_void) -> i32 {
        // SAFETY: system calls that touch no memory; a minute at most.
        unsafe {
            libc::poll(std::ptr::null_mut(), 0, 60_000);
            libc::_exit(0)
        }
    }
    let pid = clone_onto_new_stack(wait, libc::CLONE_VM | libc::SIGCHLD, std::ptr::null_mut());
    LAST_CHILD.store(pid, std::sync::atomic::Ordering::Relaxed);
}

/// A child that performs acts while this process waits for its end (vfork).
fn vfork_and(acts: &str) {
    extern "C" fn child(acts: *mut libc::c_void) -> i32 {
        // SAFETY: points to a string on the stack of the parent, which waits.
        let acts = unsafe { *acts.cast::<&str>() };
        perform(&list(acts));
        exit_now(0)
    }
    let mut acts = acts;
    let argument = (&raw mut acts).cast();
    clone_onto_new_stack(child, libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD, argument);
}

fn clone_onto_new_stack(
    child: extern "C" fn(*mut libc::c_void) -> i32,
    flags: i32,
    argument: *mut libc::c_void,
) -> i32 {
    let stack = vec![0u128; 1 << 14].leak().as_mut_ptr_range().end;
    // SAFETY: the stack is as large as the child needs and is never freed; `child` is made for what it shares.
    let pid = unsafe { libc::clone(child, stack.cast(), flags, argument) };
    assert!(pid > 0, "clone: {}", std::io::Error::last_os_error());
    pid
}

/// `pidfd-kill-and-release:PID`: SIGKILL, and its memory freed at once (process_mrelease), as oomd does.
fn kill_and_release(args: &Args<'_>) {
    // SAFETY: system calls that take integers and a null pointer.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, args.number::<i32>(0), 0);
        crate::acts::check(args, fd);
        let killed = libc::syscall(libc::SYS_pidfd_send_signal, fd, libc::SIGKILL, std::ptr::null::<u8>(), 0);
        crate::acts::check(args, killed);
        // It may be gone already.
        libc::syscall(libc::SYS_process_mrelease, fd, 0);
    }
}

fn memory() -> Option<String> {
    MemoryCgroup::new("probe", 64 * MIB).err()
}

fn memory_and_freezer() -> Option<String> {
    memory().or_else(freezer_v1)
}

fn oom_group() -> Option<String> {
    match MemoryCgroup::new("probe", 64 * MIB) {
        Err(reason) => Some(reason),
        Ok(cgroup) => (!directory(&cgroup).join("memory.oom.group").exists())
            .then(|| "memory.oom.group needs the memory controller in cgroup v2".to_owned()),
    }
}

/// It stays until the report was written: killtrace reads its limit.
fn cgroup(stage: &mut Stage, mib: u64) -> Rc<MemoryCgroup> {
    let cgroup = Rc::new(MemoryCgroup::new("zoo", mib * MIB).expect("checked"));
    stage.hold(cgroup.clone());
    cgroup
}

/// Somebody else asks for memory until the OOM killer has to choose. It may be chosen itself before the first
/// victim's memory is free.
fn eat_beside(stage: &mut Stage, cgroup: &MemoryCgroup) -> Person {
    let mut eater = stage.start("kz-eater", &[&join(cgroup), "eat:36"]);
    eater.wait();
    eater.who().clone()
}

fn directory(cgroup: &MemoryCgroup) -> PathBuf {
    cgroup.procs().parent().map(Path::to_owned).expect("a file has a directory")
}

fn join(cgroup: &MemoryCgroup) -> String {
    format!("join-cgroup:{}", directory(cgroup).display())
}

/// A cgroup in another, removed when dropped.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        eventually("an empty cgroup", || fs::remove_dir(&self.0).ok());
    }
}

/// Its limit was hit.
fn limit_of(cgroup: &MemoryCgroup, allocating: Option<u32>) -> Memory {
    Memory {
        scope: OomScope::Memcg,
        cgroup: Some(cgroup.path.clone()),
        limit_bytes: Some(cgroup.limit_bytes),
        allocating,
    }
}

fn alone(stage: &mut Stage) {
    let cgroup = cgroup(stage, 32);
    let mut victim = stage.victim(&[&join(&cgroup), "ready", "obey"]);
    stage.curtain();
    victim.order("eat:64");
    let pid = victim.pid();
    stage
        .death_of(&mut victim, Kind::OomKill)
        .by_signal(libc::SIGKILL)
        .mechanism(Mechanism::Kernel)
        .no_killer()
        .no_actor()
        .oom(limit_of(&cgroup, Some(pid)))
        .chain(&["the kernel's OOM killer chose kz-victim", "was killed by SIGKILL"])
        .summary(&["OOM killer", &cgroup.path, "32 MiB"]);
}

fn bystander(stage: &mut Stage) {
    let cgroup = cgroup(stage, 48);
    let mut victim = stage.victim(&[&join(&cgroup), "eat:16", "adjust:1000", "ready", "pause"]);
    stage.curtain();
    let eater = eat_beside(stage, &cgroup);
    stage
        .death_of(&mut victim, Kind::OomKill)
        .by_signal(libc::SIGKILL)
        .no_killer()
        .no_actor()
        .innocent(eater.pid)
        .oom(limit_of(&cgroup, Some(eater.pid)))
        .summary(&["kz-eater", "is not to blame"]);
}

fn limited_above(stage: &mut Stage) {
    let cgroup = cgroup(stage, 32);
    let below = directory(&cgroup).join("below");
    fs::create_dir(&below).expect("root may make cgroups");
    stage.hold(Rc::new(Directory(below.clone())));
    let mut victim = stage.victim(&[&format!("join-cgroup:{}", below.display()), "ready", "obey"]);
    stage.curtain();
    victim.order("eat:64");
    stage.death_of(&mut victim, Kind::OomKill).no_killer().oom(limit_of(&cgroup, None));
}

fn shared_memory(stage: &mut Stage) {
    let cgroup = cgroup(stage, 48);
    stage.adopt_orphans();
    let mut victim =
        stage.victim(&[&join(&cgroup), "eat:16", "share", "adjust:1000", "ready:child", "pause"]);
    let sharer = victim.facts[0];
    let eater = eat_beside(stage, &cgroup);
    let status = stage.reap_after(&mut victim, sharer);
    let pid = victim.pid();
    for (dead, status, other) in [(pid, status.0, sharer), (sharer, status.1, pid)] {
        // Either of them may be the one that is chosen.
        stage
            .died(dead, Some(status), Kind::OomKill)
            .by_signal(libc::SIGKILL)
            .no_killer()
            .no_actor()
            .innocent(other)
            .innocent(eater.pid)
            .oom(limit_of(&cgroup, Some(eater.pid)));
    }
}

fn vforked(stage: &mut Stage) {
    let cgroup = cgroup(stage, 48);
    stage.adopt_orphans();
    let mut victim = stage.victim(&[&join(&cgroup), "eat:16", "adjust:1000", "vfork:ready:me+pause"]);
    let child = victim.facts[0];
    stage.curtain();
    let eater = eat_beside(stage, &cgroup);
    let status = stage.reap_after(&mut victim, child);
    let late = stage.is_late();
    for (dead, status) in [(victim.pid(), status.0), (child, status.1)] {
        let death = stage.died(dead, Some(status), Kind::OomKill);
        // Who shares memory with whom cannot be seen afterwards.
        let death = if late && dead == child { death.likely() } else { death };
        death
            .by_signal(libc::SIGKILL)
            .no_killer()
            .innocent(eater.pid)
            .oom(limit_of(&cgroup, Some(eater.pid)));
    }
}

fn wrapper_on_a_terminal(stage: &mut Stage) {
    let cgroup = cgroup(stage, 32);
    stage.adopt_orphans();
    let mut wrapper = stage.start("kz-wrapper", &["pty:kz-victim:ready:me+pause", &join(&cgroup), "obey"]);
    let victim = wrapper.facts[0];
    stage.curtain();
    wrapper.order("eat:64");
    assert_eq!(wrapper.wait(), libc::SIGKILL);
    stage
        .death_of_orphan(victim, Kind::TtyHangup)
        .by_signal(libc::SIGHUP)
        .no_killer()
        .no_actor()
        .innocent(wrapper.pid())
        .chain(&["OOM killer chose kz-wrapper", "kz-wrapper", "hung up", "was killed by SIGHUP"])
        .summary(&["its terminal hung up, because the kernel's OOM killer ended kz-wrapper"]);
}

/// A frozen process (v1) does not die of SIGKILL before it is thawed, and the OOM killer thaws what it marks
/// (mm/oom_kill.c, `task_will_free_mem`, `mark_oom_victim`): a mark without a SIGKILL.
fn dying(stage: &mut Stage) {
    let cgroup = cgroup(stage, 48);
    let frozen = Group::freezer_v1("dying");
    let mut victim =
        stage.victim(&[&join(&cgroup), &frozen.join(), "eat:16", "adjust:1000", "ready", "pause"]);
    frozen.freeze_v1();
    let killer = stage.strike("kz-killer", victim.pid(), "KILL");
    stage.rest(30);
    assert!(alive(victim.pid()), "a v1 freezer holds what was killed");
    let eater = eat_beside(stage, &cgroup);
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGKILL)
        .mechanism(Mechanism::Kill)
        .killer(&killer)
        .innocent(eater.pid);
}

fn killed_beside(stage: &mut Stage) {
    let cgroup = cgroup(stage, 48);
    let mut chosen = stage.victim(&[&join(&cgroup), "eat:16", "adjust:1000", "ready", "pause"]);
    let mut victim = stage.victim(&[&join(&cgroup), "ready", "pause"]);
    stage.curtain();
    let eater = eat_beside(stage, &cgroup);
    let killer = stage.strike("kz-killer", victim.pid(), "KILL");
    stage.death_of(&mut chosen, Kind::OomKill).no_killer().innocent(eater.pid).innocent(killer.pid);
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGKILL)
        .mechanism(Mechanism::Kill)
        .killer(&killer);
}

fn child_survives(stage: &mut Stage) {
    let cgroup = cgroup(stage, 32);
    stage.adopt_orphans();
    let mut victim = stage.victim(&["spawn:kz-child:ready:me+pause", &join(&cgroup), "obey"]);
    let child = victim.facts[0];
    stage.clean_up(child);
    victim.order("eat:64");
    stage.death_of(&mut victim, Kind::OomKill).no_killer().survivor(child, Some(std::process::id()), &[]);
    assert!(alive(child));
}

fn twice(stage: &mut Stage) {
    let cgroup = cgroup(stage, 32);
    for _ in 0..2 {
        let mut victim = stage.victim(&[&join(&cgroup), "ready", "eat:64"]);
        stage.death_of(&mut victim, Kind::OomKill).no_killer().oom(limit_of(&cgroup, None));
    }
}

fn exit_137(stage: &mut Stage) {
    let cgroup = cgroup(stage, 48);
    let mut chosen = stage.victim(&[&join(&cgroup), "eat:16", "adjust:1000", "ready", "pause"]);
    let mut victim = stage.victim(&[&join(&cgroup), "ready", "obey"]);
    eat_beside(stage, &cgroup);
    stage.death_of(&mut chosen, Kind::OomKill).no_killer();
    victim.order("exit:137");
    stage
        .death_of(&mut victim, Kind::Exited)
        .by_exit(137)
        .no_killer()
        .summary(&["exited by itself with code 137"]);
}

fn group(stage: &mut Stage) {
    let cgroup = cgroup(stage, 48);
    fs::write(directory(&cgroup).join("memory.oom.group"), "1").expect("a cgroup's file");
    let mut first = stage.victim(&[&join(&cgroup), "eat:16", "ready", "pause"]);
    let mut second = stage.victim(&[&join(&cgroup), "ready", "pause"]);
    let mut eater = stage.start("kz-eater", &[&join(&cgroup), "eat:64"]);
    for (victim, other) in [(0, 1), (1, 0)] {
        let other = [first.pid(), second.pid()][other];
        let victim = [&mut first, &mut second].into_iter().nth(victim).expect("two");
        stage
            .death_of(victim, Kind::OomKill)
            .by_signal(libc::SIGKILL)
            .no_killer()
            .innocent(eater.pid())
            .also_died(other, None)
            .oom(limit_of(&cgroup, Some(eater.pid())));
    }
    assert_eq!(eater.wait(), libc::SIGKILL);
}

fn init_chosen(stage: &mut Stage) {
    let cgroup = cgroup(stage, 32);
    let mut init = start_init(stage, "kz-init", &[MEMBER, &join(&cgroup), "obey"]);
    let member = init.facts[0];
    init.order("eat:64");
    assert_eq!(init.wait(), libc::SIGKILL);
    stage
        .died(member, None, Kind::PidNamespaceTeardown)
        .without_btf(Kind::PidNamespaceTeardown, Confidence::Likely)
        .no_killer()
        .no_actor()
        .innocent(init.pid())
        .chain(&["OOM killer chose kz-init", "was init of the PID namespace"])
        .summary(&["the init of its PID namespace", "because the kernel's OOM killer ended kz-init"]);
}

/// An OOM daemon is a process like any other: its kills are never the kernel's.
fn daemon(stage: &mut Stage) {
    let mut victim = stage.victim(&["ready", "pause"]);
    stage.curtain();
    let daemon = stage.perform("kz-daemon", &["name:earlyoom", &format!("kill:{},TERM", victim.pid())]);
    let daemon = daemon.called("earlyoom");
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .killer(&daemon)
        .actor(&daemon)
        .role(Role::OomDaemon);
}

fn release(stage: &mut Stage) {
    let mut victim = stage.victim(&["eat:16", "ready", "pause"]);
    stage.curtain();
    let daemon = stage
        .perform("kz-daemon", &["name:systemd-oomd", &format!("pidfd-kill-and-release:{}", victim.pid())]);
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGKILL)
        .mechanism(Mechanism::PidfdSendSignal)
        .without_btf(Kind::KilledByProcess, Confidence::Certain)
        .killer(&daemon.called("systemd-oomd"))
        .role(Role::OomDaemon);
}

fn killed_in_vfork(stage: &mut Stage) {
    stage.adopt_orphans();
    let mut victim = stage.victim(&["vfork:ready:me+pause"]);
    let child = victim.facts[0];
    stage.clean_up(child);
    stage.curtain();
    let killer = stage.strike("kz-killer", victim.pid(), "TERM");
    stage.death_of(&mut victim, Kind::KilledByProcess).by_signal(libc::SIGTERM).killer(&killer).survivor(
        child,
        Some(std::process::id()),
        &[],
    );
    assert!(alive(child));
}

/// What the machine can still give, in MiB.
fn available() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").expect("/proc");
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:")).expect("it is there");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1024
}

/// Nobody's cgroup: the machine's memory.
const MACHINE: Memory = Memory { scope: OomScope::Global, cgroup: None, limit_bytes: None, allocating: None };

fn global(stage: &mut Stage) {
    let all = available();
    // The largest by far, and the kernel's first choice.
    let mut victim = stage.victim(&[&format!("eat:{}", all * 6 / 10), "adjust:500", "ready", "pause"]);
    let eater = stage.perform("kz-eater", &[&format!("eat:{}", all * 6 / 10)]);
    stage
        .death_of(&mut victim, Kind::OomKill)
        .by_signal(libc::SIGKILL)
        .no_killer()
        .no_actor()
        .innocent(eater.pid)
        .oom(MACHINE)
        .summary(&["the machine had run out of memory"]);
}

/// With `vm.oom_kill_allocating_task`.
fn allocating_task(stage: &mut Stage) {
    const SWITCH: &str = "/proc/sys/vm/oom_kill_allocating_task";
    fs::write(SWITCH, "1").expect("root may");
    let mut victim = stage.victim(&["ready", &format!("eat:{}", available() * 2)]);
    let pid = victim.pid();
    stage
        .death_of(&mut victim, Kind::OomKill)
        .by_signal(libc::SIGKILL)
        .no_killer()
        .oom(Memory { allocating: Some(pid), ..MACHINE });
    fs::write(SWITCH, "0").expect("root may");
}
