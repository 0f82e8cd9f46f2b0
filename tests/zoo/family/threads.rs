//! Which thread does what: leaves first, ends them all, execs.

use killtrace::model::report::{Confidence, Kind, Mechanism};

use super::Family;
use crate::Case;
use crate::acts::{Args, check};
use crate::stage::{Actor, Stage, eventually};

pub(crate) const THREADS: Family = Family {
    cases: &[
        Case::new("pthexit", "its leader leaves with 3, its last thread with 0", last_thread_leaves),
        Case::new("leadexit", "its leader leaves, then a thread exits with 5", leader_left_exit).late(),
        Case::new("ldead", "its leader leaves, then it is killed", leader_left_killed).late(),
        Case::new("ldabort", "its leader leaves, then a thread aborts", leader_left_abort).late(),
        Case::new(
            "sibexit",
            "a thread exits with 4 for all of them while the main thread waits",
            sibling_exit,
        )
        .late(),
        Case::new(
            "sibexit0",
            "a thread exits with 0 for all of them while the main thread waits",
            sibling_exit0,
        )
        .late(),
        Case::new("sibterm", "a thread takes SIGTERM and exits for all of them", sibling_asked).late(),
        Case::new("exitthr", "its main thread exits with 4 for all of them", main_exit).late(),
        Case::new("thrkill", "it sends SIGTERM to another of its threads", own_thread).late(),
        Case::new("thrends", "a thread of it ends, and it lives", thread_ends).late(),
        Case::new("mtexec", "a thread of it execs, which ends the others, and it lives", exec_lives).late(),
        Case::new("mtexkill", "a thread of it execs, and it is killed later", exec_killed).late(),
        Case::new("execfail", "its execve fails past the point of no return", exec_fails).late(),
        Case::new("execfthr", "a thread's execve fails past the point of no return", exec_fails_in_thread)
            .late(),
        Case::new("execnoent", "its execve finds nothing, and it lives", exec_finds_nothing).late(),
    ],
    acts: &[("leave", leave), ("strike", strike), ("execute", execute)],
};

/// A victim whose main thread waits, and whose other thread does what it is told.
fn with_worker(stage: &mut Stage) -> Actor {
    let victim = stage.victim(&["thread:name:kz-worker+ready+obey", "pause"]);
    stage.curtain();
    victim
}

/// A victim whose main thread has left.
fn without_leader(stage: &mut Stage) -> Actor {
    let victim = stage.victim(&["thread:name:kz-worker+ready+obey", "leave:0"]);
    stage.until_state(victim.pid(), 'Z');
    stage.curtain();
    victim
}

fn last_thread_leaves(stage: &mut Stage) {
    let mut victim = stage.victim(&["thread:ready+obey", "leave:3"]);
    stage.until_state(victim.pid(), 'Z');
    victim.order("leave:0");
    // The code is the last thread's since Linux 6.0 (`synchronize_group_exit`), the leader's before.
    stage.death_of(&mut victim, Kind::Exited).mechanism(Mechanism::None).no_killer();
}

fn leader_left_exit(stage: &mut Stage) {
    let mut victim = without_leader(stage);
    victim.order("exit:5");
    stage.death_of(&mut victim, Kind::Exited).by_exit(5).no_killer();
}

/// SIGCHLD says "exited" then, up to 6.12.
fn leader_left_killed(stage: &mut Stage) {
    let mut victim = without_leader(stage);
    let killer = stage.strike("kz-killer", victim.pid(), "TERM");
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .mechanism(Mechanism::Kill)
        .killer(&killer);
}

fn leader_left_abort(stage: &mut Stage) {
    let mut victim = without_leader(stage);
    victim.order("abort");
    stage.death_of(&mut victim, Kind::KilledBySelf).by_signal(libc::SIGABRT).detail("abort").no_killer();
}

fn sibling_exit(stage: &mut Stage) {
    let mut victim = with_worker(stage);
    victim.order("exit:4");
    stage
        .death_of(&mut victim, Kind::SiblingThreadExit)
        .by_exit(4)
        .mechanism(Mechanism::None)
        .no_killer()
        .chain(&["exited with code 4: its thread kz-worker"])
        .summary(&["kz-worker", "code 4", "main thread"]);
}

/// Nothing that needs saying: many programs end so.
fn sibling_exit0(stage: &mut Stage) {
    let mut victim = with_worker(stage);
    victim.order("exit:0");
    stage.death_of(&mut victim, Kind::Exited).by_exit(0).no_killer();
}

/// It was asked to stop, and that it is another thread that obeys does not matter.
fn sibling_asked(stage: &mut Stage) {
    let mut victim = stage.victim(&["catch:TERM,exit,143", "thread:pause", "block:TERM", "ready", "pause"]);
    stage.curtain();
    let killer = stage.strike("kz-killer", victim.pid(), "TERM");
    stage.death_of(&mut victim, Kind::KilledByProcess).by_exit(143).graceful().killer(&killer);
}

fn main_exit(stage: &mut Stage) {
    let mut victim = stage.victim(&["thread:pause", "thread:pause", "thread:pause", "ready", "obey"]);
    stage.curtain();
    victim.order("exit:4");
    stage.death_of(&mut victim, Kind::Exited).by_exit(4).no_killer();
}

fn own_thread(stage: &mut Stage) {
    let mut victim = stage.victim(&["thread:pause", "ready:thread", "obey"]);
    let tid = victim.facts[0];
    stage.curtain();
    victim.order(&format!("strike:{tid},TERM"));
    stage
        .death_of(&mut victim, Kind::KilledBySelf)
        .by_signal(libc::SIGTERM)
        .mechanism(Mechanism::Tgkill)
        .no_killer();
}

fn thread_ends(stage: &mut Stage) {
    let mut victim = stage.victim(&["thread:ready+obey", "pause"]);
    stage.curtain();
    victim.order("leave:7");
    until_threads(victim.pid(), 1);
    stage.lives(&victim);
}

fn exec_lives(stage: &mut Stage) {
    let program = stage.program("kz-victim");
    let mut victim = stage.victim(&["thread:pause", "thread:ready+obey", "pause"]);
    stage.curtain();
    victim.order(&format!("execute:{},ready,pause", program.display()));
    victim.hear();
    stage.lives(&victim);
}

fn exec_killed(stage: &mut Stage) {
    let program = stage.program("kz-victim");
    let mut victim = stage.victim(&["thread:pause", "thread:ready+obey", "pause"]);
    stage.curtain();
    victim.order(&format!("execute:{},thread:pause,ready,pause", program.display()));
    victim.hear();
    let killer = stage.strike("kz-killer", victim.pid(), "KILL");
    stage.death_of(&mut victim, Kind::KilledByProcess).by_signal(libc::SIGKILL).killer(&killer);
}

fn exec_fails(stage: &mut Stage) {
    let program = broken_program(stage);
    let mut victim = stage.victim(&["ready", "obey"]);
    stage.curtain();
    victim.order(&format!("execute:{program}"));
    no_way_back(stage, &mut victim);
}

fn exec_fails_in_thread(stage: &mut Stage) {
    let program = broken_program(stage);
    let mut victim = with_worker(stage);
    victim.order(&format!("execute:{program}"));
    no_way_back(stage, &mut victim);
}

fn no_way_back(stage: &mut Stage, victim: &mut Actor) {
    stage
        .death_of(victim, Kind::ExecFailed)
        .by_signal(libc::SIGSEGV)
        .no_killer()
        .chain(&["could not finish execve", "was killed by SIGSEGV"])
        .without_btf(Kind::ExecFailed, Confidence::Likely);
}

fn exec_finds_nothing(stage: &mut Stage) {
    let mut victim = stage.victim(&["ready", "obey", "pause"]);
    stage.curtain();
    victim.tell("execute:/nowhere/at/all");
    victim.tell(&format!("execute:{}", stage.dir().display()));
    stage.lives(&victim);
}

/// Waits until a process has so many threads.
pub(crate) fn until_threads(pid: u32, threads: usize) {
    let count = || std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    eventually("its threads to end", || (count() == threads).then_some(()));
}

/// A program that the kernel accepts, and cannot map: its only segment lies above what a process may have
/// (fs/binfmt_elf.c, `load_elf_binary`, after `begin_new_exec`).
fn broken_program(stage: &Stage) -> String {
    use std::os::unix::fs::PermissionsExt;
    let machine: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    let address: u64 = 0xffff_8000_0000_0000;
    let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    // e_type ET_EXEC, e_machine, e_version
    elf.extend(2_u16.to_le_bytes());
    elf.extend(machine.to_le_bytes());
    elf.extend(1_u32.to_le_bytes());
    // e_entry, e_phoff, e_shoff, e_flags
    elf.extend(address.to_le_bytes());
    elf.extend(64_u64.to_le_bytes());
    elf.extend([0; 12]);
    // e_ehsize, e_phentsize, e_phnum, and no sections
    for half in [64_u16, 56, 1, 0, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    // p_type PT_LOAD, p_flags R+X, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align
    elf.extend(1_u32.to_le_bytes());
    elf.extend(5_u32.to_le_bytes());
    for word in [0, address, address, 120, 120, 0x1_0000] {
        elf.extend(word.to_le_bytes());
    }
    let path = stage.dir().join("kz-broken");
    std::fs::write(&path, elf).expect("there is room");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    path.display().to_string()
}

/// `leave:3`: exit(2), the end of the calling thread alone.
fn leave(args: &Args<'_>) {
    // SAFETY: ends the thread; nothing that it borrowed is used by others.
    unsafe { libc::syscall(libc::SYS_exit, args.number::<i32>(0)) };
}

/// `strike:TID,TERM`: tgkill(2) at a thread of its own.
fn strike(args: &Args<'_>) {
    let pid = nix::unistd::getpid().as_raw();
    // SAFETY: plain system call.
    check(args, unsafe { libc::syscall(libc::SYS_tgkill, pid, args.number::<i32>(0), args.signo(1)) });
}

/// `execute:PROGRAM,ACT,ACT`: execve(2), and goes on when that fails.
fn execute(args: &Args<'_>) {
    use std::os::unix::process::CommandExt;
    let _ = std::process::Command::new(args.text(0)).args(args.all().skip(1)).exec();
}
