//! Resource limits, and timers.

use killtrace::model::report::{Confidence, Kind, Mechanism};
use nix::sys::resource::{Resource, setrlimit};

use super::Family;
use crate::Case;
use crate::acts::{Args, check, send};
use crate::stage::{Actor, Stage};

pub(crate) const LIMITS: Family = Family {
    cases: &[
        Case::new("cpusoft", "it uses more CPU time than its soft limit", cpu_soft).late(),
        Case::new("cpuhard", "it handles SIGXCPU, and goes on to its hard limit", |stage| {
            cpu_hard(stage, "catch:XCPU,return");
        }),
        Case::new("cpuhardig", "it ignores SIGXCPU, and goes on to its hard limit", |stage| {
            cpu_hard(stage, "ignore:XCPU");
        }),
        Case::new("cpuequal", "its soft and hard limit of CPU time are one, as ulimit sets them", cpu_equal)
            .late(),
        Case::new("rttime", "it computes longer in real time than it may without a pause", real_time)
            .needs(real_time_scheduling),
        Case::new("rthard", "it ignores SIGXCPU in real time", real_time_hard).needs(real_time_scheduling),
        Case::new("fsize", "it writes more to a file than it may", |stage| file_size(stage, "grow")).late(),
        Case::new("fsizetr", "it lengthens a file more than it may", |stage| file_size(stage, "lengthen"))
            .late(),
        Case::new("fsizeig", "it ignores SIGXFSZ, and exits with 1", file_size_ignored).late(),
        Case::new("aslimit", "it aborts because there is no memory for it", no_memory),
        Case::new("alarm", "its ITIMER_REAL ends", |stage| {
            timer(stage, "itimer:real", libc::SIGALRM, "itimer_real");
        })
        .late(),
        Case::new("vtalarm", "its ITIMER_VIRTUAL ends", |stage| {
            timer(stage, "itimer:virtual", libc::SIGVTALRM, "itimer_virtual");
        })
        .late(),
        Case::new("profalrm", "its ITIMER_PROF ends", |stage| {
            timer(stage, "itimer:prof", libc::SIGPROF, "itimer_prof");
        })
        .late(),
        Case::new("tmrterm", "its timer sends SIGTERM", |stage| {
            posix_timer(stage, "timer:TERM", libc::SIGTERM)
        })
        .late(),
        Case::new("tmrkill", "its timer sends SIGKILL", |stage| {
            posix_timer(stage, "timer:KILL", libc::SIGKILL)
        })
        .late(),
        Case::new("tmrthr", "its timer sends SIGUSR1 to one thread", |stage| {
            posix_timer(stage, "timer:USR1,thread", libc::SIGUSR1);
        }),
        Case::new("tmrcpu", "its timer of CPU time sends SIGTERM", |stage| {
            posix_timer(stage, "timer:TERM,cpu", libc::SIGTERM);
        }),
        Case::new("tmrblk", "its timer sends a SIGTERM that it blocks, and unblocks later", blocked_timer)
            .late(),
        Case::new("tmrdecoy", "its timer ends while others call kill all the time", timer_under_fire).late(),
        Case::new("almdecoy", "its ITIMER_REAL ends while others call kill all the time", alarm_under_fire)
            .late(),
        Case::new("almexit", "its handler of SIGALRM exits with 1", alarm_exits).late(),
    ],
    acts: &[
        ("limit", limit),
        ("burn", |_| burn()),
        ("fifo", |_| assert!(go_real_time(), "sched_setscheduler")),
        ("grow", grow),
        ("lengthen", lengthen),
        ("devour", |_| devour()),
        ("itimer", itimer),
        ("timer", posix),
        ("pester", pester),
    ],
};

fn real_time_scheduling() -> Option<String> {
    // SAFETY: the child ends at once; it must not be this process that becomes a real-time one.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        crate::acts::exit_now(i32::from(!go_real_time()));
    }
    let mut status = 0;
    // SAFETY: `status` is ours to write to.
    unsafe { libc::waitpid(pid, &raw mut status, 0) };
    (status != 0).then(|| "no process may run in real time (SCHED_FIFO)".to_owned())
}

fn told(stage: &mut Stage, acts: &[&str]) -> Actor {
    let victim = stage.victim(acts);
    stage.curtain();
    victim
}

fn cpu_soft(stage: &mut Stage) {
    let mut victim = told(stage, &["limit:cpu,1,9", "ready", "obey"]);
    victim.order("burn");
    stage
        .death_of(&mut victim, Kind::Rlimit)
        .by_signal(libc::SIGXCPU)
        .mechanism(Mechanism::Kernel)
        .detail("cpu_time")
        .no_killer()
        .chain(&["limit", "was killed by SIGXCPU"])
        .summary(&["died of SIGXCPU", "CPU time"])
        .without_btf(Kind::Rlimit, Confidence::Certain);
}

fn cpu_hard(stage: &mut Stage, shield: &str) {
    let mut victim = stage.victim(&[shield, "limit:cpu,1,2", "ready", "obey"]);
    victim.order("burn");
    stage
        .death_of(&mut victim, Kind::Rlimit)
        .by_signal(libc::SIGKILL)
        .detail("hard_limit")
        .no_killer()
        .other_signal("SIGXCPU")
        .summary(&["died of SIGKILL", "CPU time"]);
}

/// The hard limit is looked at first, so there is no SIGXCPU (kernel/time/posix-cpu-timers.c).
fn cpu_equal(stage: &mut Stage) {
    let mut victim = told(stage, &["limit:cpu,1,1", "ready", "obey"]);
    victim.order("burn");
    stage
        .death_of(&mut victim, Kind::Rlimit)
        .by_signal(libc::SIGKILL)
        .detail("hard_limit")
        .no_killer()
        .without_btf(Kind::Rlimit, Confidence::Likely);
}

fn real_time(stage: &mut Stage) {
    let mut victim = stage.victim(&["limit:rttime,30000,900000", "fifo", "ready", "obey"]);
    victim.order("burn");
    let death = stage.death_of(&mut victim, Kind::Rlimit).by_signal(libc::SIGXCPU).no_killer();
    death.detail("real_time").without_btf(Kind::Rlimit, Confidence::Certain);
}

fn real_time_hard(stage: &mut Stage) {
    let mut victim = stage.victim(&["ignore:XCPU", "limit:rttime,20000,60000", "fifo", "ready", "obey"]);
    victim.order("burn");
    let death = stage.death_of(&mut victim, Kind::Rlimit).by_signal(libc::SIGKILL).no_killer();
    death.detail("hard_limit").other_signal("SIGXCPU");
}

fn file_size(stage: &mut Stage, act: &str) {
    let file = stage.dir().join("large");
    let mut victim = told(stage, &["limit:fsize,4096,8192", "ready", "obey"]);
    victim.order(&format!("{act}:{}", file.display()));
    stage
        .death_of(&mut victim, Kind::Rlimit)
        .by_signal(libc::SIGXFSZ)
        .detail("file_size")
        .no_killer()
        .summary(&["file size limit"]);
}

fn file_size_ignored(stage: &mut Stage) {
    let file = stage.dir().join("large");
    let mut victim = told(stage, &["ignore:XFSZ", "limit:fsize,4096,8192", "ready", "obey"]);
    victim.tell(&format!("grow:{}", file.display()));
    victim.order("exit:1");
    stage.death_of(&mut victim, Kind::Exited).by_exit(1).no_killer().other_signal("SIGXFSZ");
}

/// The kernel kills nobody for RLIMIT_AS: the program does.
fn no_memory(stage: &mut Stage) {
    let mut victim = stage.victim(&["limit:as,268435456,268435456", "ready", "obey"]);
    victim.order("devour");
    stage.death_of(&mut victim, Kind::KilledBySelf).by_signal(libc::SIGABRT).detail("abort").no_killer();
}

fn timer(stage: &mut Stage, act: &str, signo: i32, detail: &str) {
    let mut victim = told(stage, &["ready", "obey"]);
    victim.order(act);
    victim.order("burn");
    stage
        .death_of(&mut victim, Kind::Timer)
        .by_signal(signo)
        .detail(detail)
        .no_killer()
        .no_actor()
        .chain(&["a timer of kz-victim", "was killed by"])
        .summary(&["timer"]);
}

fn posix_timer(stage: &mut Stage, act: &str, signo: i32) {
    let mut victim = told(stage, &["ready", "obey"]);
    victim.order(act);
    victim.order("burn");
    stage
        .death_of(&mut victim, Kind::Timer)
        .by_signal(signo)
        .detail("timer_create")
        .no_killer()
        .without_btf(Kind::Timer, Confidence::Likely);
}

fn blocked_timer(stage: &mut Stage) {
    let mut victim = told(stage, &["block:TERM", "ready", "obey"]);
    victim.tell("timer:TERM");
    victim.tell("sleep:60");
    let decoy = stage.strike("kz-decoy", victim.pid(), "TERM");
    victim.order("unblock:TERM");
    stage
        .death_of(&mut victim, Kind::Timer)
        .by_signal(libc::SIGTERM)
        .detail("timer_create")
        .no_killer()
        .innocent(decoy.pid)
        .other_signal("SIGTERM")
        .without_btf(Kind::Timer, Confidence::Likely);
}

/// Two for two processors: whoever runs when the timer ends is in kill(2) then.
fn pesterers(stage: &mut Stage, victim: &Actor) -> [Actor; 2] {
    let act = format!("pester:{}", victim.pid());
    [(); 2].map(|()| stage.start("kz-decoy", &["ready", &act]))
}

fn timer_under_fire(stage: &mut Stage) {
    let mut victim = told(stage, &["ready", "obey"]);
    let decoys = pesterers(stage, &victim);
    victim.order("timer:KILL");
    let death = stage.death_of(&mut victim, Kind::Timer).by_signal(libc::SIGKILL).no_killer();
    let death = death.innocent(decoys[0].pid()).innocent(decoys[1].pid());
    death.without_btf(Kind::Timer, Confidence::Likely);
}

fn alarm_under_fire(stage: &mut Stage) {
    let mut victim = told(stage, &["ready", "obey"]);
    let decoys = pesterers(stage, &victim);
    victim.order("itimer:real");
    let death = stage.death_of(&mut victim, Kind::Timer).by_signal(libc::SIGALRM).no_killer();
    death.innocent(decoys[0].pid()).innocent(decoys[1].pid());
}

/// As programs do that limit their own time: they end themselves.
fn alarm_exits(stage: &mut Stage) {
    let mut victim = told(stage, &["catch:ALRM,exit,1", "ready", "obey"]);
    victim.order("itimer:real");
    stage.death_of(&mut victim, Kind::Exited).by_exit(1).no_killer().other_signal("SIGALRM");
}

/// `limit:cpu,SOFT,HARD`
fn limit(args: &Args<'_>) {
    let resource = match args.text(0) {
        "cpu" => Resource::RLIMIT_CPU,
        "rttime" => Resource::RLIMIT_RTTIME,
        "fsize" => Resource::RLIMIT_FSIZE,
        "as" => Resource::RLIMIT_AS,
        other => panic!("no limit is called {other}"),
    };
    setrlimit(resource, args.number(1), args.number(2)).expect("setrlimit");
}

/// Computes, for as long as it may.
fn burn() {
    let start = std::time::Instant::now();
    while start.elapsed() < std::time::Duration::from_secs(30) {
        std::hint::black_box((0..10_000_u64).sum::<u64>());
    }
}

fn go_real_time() -> bool {
    // SAFETY: a structure on the stack.
    unsafe {
        let mut param: libc::sched_param = std::mem::zeroed();
        param.sched_priority = 1;
        libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const param) == 0
    }
}

/// `grow:FILE`: writes until it cannot.
fn grow(args: &Args<'_>) {
    use std::io::Write;
    let mut file = std::fs::File::create(args.text(0)).expect("the stage's directory is there");
    while file.write_all(&[0; 1000]).is_ok() {}
}

fn lengthen(args: &Args<'_>) {
    let file = std::fs::File::create(args.text(0)).expect("the stage's directory is there");
    let _ = file.set_len(1 << 20);
}

/// Takes memory until there is none; Rust's allocator aborts then.
fn devour() {
    loop {
        std::mem::forget(std::hint::black_box(vec![1_u8; 64 << 20]));
    }
}

/// `itimer:real`: in 30 ms.
fn itimer(args: &Args<'_>) {
    let which = match args.text(0) {
        "real" => libc::ITIMER_REAL,
        "virtual" => libc::ITIMER_VIRTUAL,
        _ => libc::ITIMER_PROF,
    };
    let soon = libc::timeval { tv_sec: 0, tv_usec: 30_000 };
    let value = libc::itimerval { it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 }, it_value: soon };
    // SAFETY: a structure on the stack.
    let result = unsafe { libc::syscall(libc::SYS_setitimer, which, &raw const value, 0) };
    check(args, result);
}

/// `timer:TERM`: timer_create(2), in 30 ms. `thread`: for the calling thread. `cpu`: of CPU time.
fn posix(args: &Args<'_>) {
    let how = if args.has(1) { args.text(1) } else { "" };
    let clock = if how == "cpu" { libc::CLOCK_PROCESS_CPUTIME_ID } else { libc::CLOCK_MONOTONIC };
    // SAFETY: structures on the stack; zeroes are valid in them.
    unsafe {
        let mut event: libc::sigevent = std::mem::zeroed();
        event.sigev_signo = args.signo(0);
        event.sigev_notify = if how == "thread" { libc::SIGEV_THREAD_ID } else { libc::SIGEV_SIGNAL };
        event.sigev_notify_thread_id = nix::unistd::gettid().as_raw();
        let mut timer = 0_i32;
        check(args, libc::syscall(libc::SYS_timer_create, clock, &raw const event, &raw mut timer));
        let mut value: libc::itimerspec = std::mem::zeroed();
        value.it_value.tv_nsec = 30_000_000;
        check(args, libc::syscall(libc::SYS_timer_settime, timer, 0, &raw const value, 0));
    }
}

/// `pester:PID`: asks all the time whether a process is there, and harms nobody.
fn pester(args: &Args<'_>) {
    let start = std::time::Instant::now();
    while start.elapsed() < std::time::Duration::from_secs(5) && send(args.number(0), 0) == 0 {}
}
