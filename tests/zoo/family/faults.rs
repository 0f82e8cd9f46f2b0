//! Its own instruction goes wrong.

use killtrace::model::report::{Confidence, Kind, Mechanism};

use super::Family;
use crate::Case;
use crate::acts::{Args, action, check};
use crate::stage::{Stage, eventually};

pub(crate) const FAULTS: Family = Family {
    cases: &[
        Case::new("segv", "it reads where nothing is mapped", |stage| {
            faults(stage, "maperr", libc::SIGSEGV, "SEGV_MAPERR");
        })
        .late(),
        Case::new("segvacc", "it writes to memory that is read-only", |stage| {
            faults(stage, "accerr", libc::SIGSEGV, "SEGV_ACCERR");
        })
        .late(),
        Case::new("segvstk", "its stack overflows", |stage| {
            faults(stage, "overflow", libc::SIGSEGV, "SEGV_MAPERR");
        }),
        Case::new("segvstkt", "the stack of a thread overflows", overflow_in_thread),
        Case::new(
            "segvnohd",
            "its stack overflows, and its handler finds no room either",
            handler_without_room,
        ),
        Case::new(
            "segvalt",
            "its stack overflows, and a handler on another stack exits",
            handler_exits_elsewhere,
        ),
        Case::new("segvgp", "it uses an address that cannot exist", general_protection).needs(x86).late(),
        Case::new("badframe", "it returns from a handler that is none", bad_frame).late(),
        Case::new("bus", "it reads a mapped file beyond its end", |stage| {
            faults(stage, "bus", libc::SIGBUS, "BUS_ADRERR");
        })
        .late(),
        Case::new("uffdbus", "it touches memory of a userfaultfd that answers with SIGBUS", |stage| {
            faults(stage, "uffd", libc::SIGBUS, "BUS_ADRERR");
        })
        .needs(userfaultfd),
        Case::new("fpe", "it divides an integer by zero", |stage| {
            faults(stage, "divide", libc::SIGFPE, "FPE_INTDIV");
        })
        .needs(x86)
        .late(),
        Case::new("ill", "it runs an instruction that does not exist", |stage| {
            let detail = if cfg!(target_arch = "x86_64") { "ILL_ILLOPN" } else { "ILL_ILLOPC" };
            faults(stage, "illegal", libc::SIGILL, detail);
        })
        .late(),
        Case::new("trap", "it runs a breakpoint without a debugger", |stage| {
            faults(stage, "breakpoint", libc::SIGTRAP, "TRAP_BRKPT");
        })
        .late(),
        Case::new("segvblk", "it faults while it blocks SIGSEGV", |stage| shielded(stage, "block:SEGV"))
            .late(),
        Case::new("segvign", "it faults while it ignores SIGSEGV", |stage| shielded(stage, "ignore:SEGV"))
            .late(),
        Case::new("segvpend", "it faults while a SIGTERM that it blocks waits", with_decoy).late(),
        Case::new("segvthr", "a thread faults, and takes all with it", in_thread).late(),
        Case::new("segvhnd", "it faults in the handler of a signal", in_handler).late(),
        Case::new("segvexit", "its handler of a fault exits with 3", handler_exits).late(),
        Case::new("crashrep", "its handler of a fault raises it again", reporter).late(),
        Case::new("crashrep2", "its handler of a fault passes the siginfo on to itself", reporter_with_info)
            .late(),
        Case::new("segvback", "its handler of a fault returns to where it faults", handler_returns).late(),
        Case::new("segvok", "it handles a fault, goes on, and exits with 1 later", survived_fault).late(),
        Case::new("core", "it faults and dumps core", core_dump).needs(core_file).late(),
        Case::new("corekill", "it is killed while it dumps core", killed_in_dump).needs(core_file),
    ],
    acts: &[
        ("fault", fault),
        ("dump", dump),
        ("hoard", hoard),
        ("onstack", on_stack),
        ("repair", repair),
        ("faulty", faulty),
        ("pass", pass),
    ],
};

fn x86() -> Option<String> {
    (!cfg!(target_arch = "x86_64")).then(|| "this fault is x86's".to_owned())
}

fn userfaultfd() -> Option<String> {
    (new_userfaultfd() < 0).then(|| format!("no userfaultfd: {}", std::io::Error::last_os_error()))
}

fn core_file() -> Option<String> {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    let relative = !pattern.starts_with(['|', '/', '@']) && !pattern.trim().is_empty();
    (!relative).then(|| format!("core dumps go elsewhere: {}", pattern.trim()))
}

fn faults(stage: &mut Stage, fault: &str, signo: i32, detail: &str) {
    let mut victim = stage.victim(&["ready", "obey"]);
    stage.curtain();
    victim.order(&format!("fault:{fault}"));
    stage
        .death_of(&mut victim, Kind::Crashed)
        .by_signal(signo)
        .mechanism(Mechanism::Kernel)
        .detail(detail)
        .no_killer()
        .no_actor()
        .chain(&["crashed:", "was killed by"])
        .summary(&["crashed with SIG"]);
}

fn general_protection(stage: &mut Stage) {
    let mut victim = stage.victim(&["ready", "obey"]);
    stage.curtain();
    victim.order("fault:noncanonical");
    stage
        .death_of(&mut victim, Kind::Crashed)
        .by_signal(libc::SIGSEGV)
        .detail("general_protection")
        .no_killer()
        .without_btf(Kind::Crashed, Confidence::Likely);
}

fn overflow_in_thread(stage: &mut Stage) {
    let mut victim = stage.victim(&["thread:pause", "thread:ready+obey", "pause"]);
    victim.order("fault:overflow");
    stage.death_of(&mut victim, Kind::Crashed).by_signal(libc::SIGSEGV).detail("SEGV_ACCERR").no_killer();
}

/// The kernel raises a second SIGSEGV for the frame that it cannot write (kernel/signal.c, `force_sigsegv`).
fn handler_without_room(stage: &mut Stage) {
    let mut victim = stage.victim(&["catch:SEGV,exit,3", "ready", "obey"]);
    victim.order("fault:overflow");
    stage
        .death_of(&mut victim, Kind::Crashed)
        .by_signal(libc::SIGSEGV)
        .detail("SEGV_MAPERR")
        .no_killer()
        .without_btf(Kind::Crashed, Confidence::Likely);
}

fn handler_exits_elsewhere(stage: &mut Stage) {
    let mut victim = stage.victim(&["onstack:SEGV,3", "ready", "obey"]);
    victim.order("fault:overflow");
    stage
        .death_of(&mut victim, Kind::Crashed)
        .by_exit(3)
        .detail("SEGV_MAPERR")
        .no_killer()
        .without_btf(Kind::Crashed, Confidence::Likely);
}

fn bad_frame(stage: &mut Stage) {
    let mut victim = stage.victim(&["ready", "obey"]);
    stage.curtain();
    victim.order("fault:sigreturn");
    // arm64 says of it what it says of any address that has memory above it (arch/arm64/kernel/traps.c,
    // `arm64_notify_segfault`).
    let detail = if cfg!(target_arch = "aarch64") { "SEGV_ACCERR" } else { "signal_frame" };
    stage
        .death_of(&mut victim, Kind::Crashed)
        .by_signal(libc::SIGSEGV)
        .no_killer()
        .detail(detail)
        .without_btf(Kind::Crashed, Confidence::Likely);
}

fn shielded(stage: &mut Stage, shield: &str) {
    let mut victim = stage.victim(&[shield, "ready", "obey"]);
    stage.curtain();
    victim.order("fault:maperr");
    stage.death_of(&mut victim, Kind::Crashed).by_signal(libc::SIGSEGV).detail("SEGV_MAPERR").no_killer();
}

fn with_decoy(stage: &mut Stage) {
    let mut victim = stage.victim(&["block:TERM", "block:SEGV", "ready", "obey"]);
    stage.curtain();
    let decoy = stage.strike("kz-decoy", victim.pid(), "TERM");
    let other = stage.strike("kz-decoy", victim.pid(), "WINCH");
    victim.order("fault:maperr");
    stage
        .death_of(&mut victim, Kind::Crashed)
        .by_signal(libc::SIGSEGV)
        .detail("SEGV_MAPERR")
        .no_killer()
        .innocent(decoy.pid)
        .innocent(other.pid)
        .other_signal("SIGTERM")
        .other_signal("SIGWINCH");
}

fn in_thread(stage: &mut Stage) {
    let mut victim =
        stage.victim(&["thread:pause", "thread:name:kz-worker+ready+obey", "thread:pause", "pause"]);
    stage.curtain();
    victim.order("fault:maperr");
    stage.death_of(&mut victim, Kind::Crashed).by_signal(libc::SIGSEGV).detail("SEGV_MAPERR").no_killer();
}

fn in_handler(stage: &mut Stage) {
    let mut victim = stage.victim(&["faulty:USR1", "ready", "pause"]);
    stage.curtain();
    let decoy = stage.strike("kz-decoy", victim.pid(), "USR1");
    stage
        .death_of(&mut victim, Kind::Crashed)
        .by_signal(libc::SIGSEGV)
        .detail("SEGV_MAPERR")
        .no_killer()
        .innocent(decoy.pid)
        .other_signal("SIGUSR1");
}

/// The fault is still blocked when it exits: it never left its handler.
fn handler_exits(stage: &mut Stage) {
    let mut victim = stage.victim(&["catch:SEGV,exit,3", "ready", "obey"]);
    stage.curtain();
    victim.order("fault:maperr");
    stage
        .death_of(&mut victim, Kind::Crashed)
        .by_exit(3)
        .detail("SEGV_MAPERR")
        .no_killer()
        .chain(&["crashed:", "exited with code 3"])
        .summary(&["SIGSEGV", "handler", "exited with code 3"])
        .without_btf(Kind::Crashed, Confidence::Likely);
}

fn reporter(stage: &mut Stage) {
    let mut victim = stage.victim(&["catch:SEGV,reraise", "ready", "obey"]);
    stage.curtain();
    victim.order("fault:maperr");
    stage
        .death_of(&mut victim, Kind::Crashed)
        .by_signal(libc::SIGSEGV)
        .detail("SEGV_MAPERR")
        .no_killer()
        .chain(&["crashed:", "sent itself SIGSEGV", "was killed by SIGSEGV"]);
}

fn reporter_with_info(stage: &mut Stage) {
    let mut victim = stage.victim(&["pass:SEGV", "ready", "obey"]);
    stage.curtain();
    victim.order("fault:accerr");
    stage
        .death_of(&mut victim, Kind::Crashed)
        .by_signal(libc::SIGSEGV)
        .detail("SEGV_ACCERR")
        .no_killer()
        .chain(&["crashed:", "was killed by SIGSEGV"]);
}

fn handler_returns(stage: &mut Stage) {
    let mut victim = stage.victim(&["repair:SEGV,default", "ready", "obey"]);
    stage.curtain();
    victim.order("fault:maperr");
    stage.death_of(&mut victim, Kind::Crashed).by_signal(libc::SIGSEGV).detail("SEGV_MAPERR").no_killer();
}

/// As a Java or Go runtime does all the time.
fn survived_fault(stage: &mut Stage) {
    let mut victim = stage.victim(&["repair:SEGV,map", "ready", "obey"]);
    stage.curtain();
    victim.tell("fault:accerr");
    victim.order("exit:1");
    stage
        .death_of(&mut victim, Kind::Exited)
        .by_exit(1)
        .no_killer()
        .other_signal("SIGSEGV")
        .without_btf(Kind::Crashed, Confidence::Likely);
}

fn core_dump(stage: &mut Stage) {
    let dir = stage.dir().display().to_string();
    let mut victim = stage.victim(&[&format!("dump:{dir}"), "ready", "obey"]);
    stage.curtain();
    victim.order("fault:maperr");
    stage
        .death_of(&mut victim, Kind::Crashed)
        .by_signal(libc::SIGSEGV)
        .detail("SEGV_MAPERR")
        .no_killer()
        .with_core();
}

/// A process that dumps core is dying; SIGKILL ends the dump, and since Linux 5.18 changes the status.
fn killed_in_dump(stage: &mut Stage) {
    let dir = stage.dir().to_owned();
    let mut victim = stage.victim(&[&format!("dump:{}", dir.display()), "hoard:256", "ready", "obey"]);
    victim.order("abort");
    let dumping = || {
        let files = std::fs::read_dir(&dir).into_iter().flatten().flatten();
        files
            .map(|file| file.file_name())
            .any(|name| name.to_string_lossy().starts_with("core"))
            .then_some(())
    };
    eventually("the core dump to begin", dumping);
    let decoy = stage.strike("kz-decoy", victim.pid(), "KILL");
    stage
        .death_of(&mut victim, Kind::KilledBySelf)
        .detail("abort")
        .no_killer()
        .innocent(decoy.pid)
        .chain(&["sent SIGABRT to itself", "dumping core"])
        .summary(&["called abort()"])
        .other_signal("SIGKILL");
}

/// `fault:maperr` and the like.
fn fault(args: &Args<'_>) {
    match args.text(0) {
        "maperr" => read(8),
        "accerr" => write(forbidden_page()),
        "overflow" => _ = overflow(0),
        "noncanonical" => read(0x8000_0000_0000_0000),
        "bus" => read(truncated_file() as usize),
        "uffd" => read(answered_with_sigbus() as usize),
        "divide" => divide(),
        "illegal" => illegal(),
        "breakpoint" => breakpoint(),
        "sigreturn" => sigreturn(),
        other => panic!("no fault is called {other}"),
    }
}

fn read(address: usize) {
    // SAFETY: none: the fault is the purpose.
    unsafe { std::ptr::read_volatile(std::ptr::with_exposed_provenance::<u8>(address)) };
}

fn write(address: *mut u8) {
    // SAFETY: a page that may not be written, or a handler makes it writable first.
    unsafe { std::ptr::write_volatile(address, 1) };
}

/// As large as the pages of any machine.
const PAGE: usize = 1 << 16;

/// Memory of its own that may be read and not written: one page, at an address that is a multiple of its size.
fn forbidden_page() -> *mut u8 {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping.
    let two = unsafe { libc::mmap(std::ptr::null_mut(), 2 * PAGE, libc::PROT_READ, flags, -1, 0) };
    assert_ne!(two, libc::MAP_FAILED);
    two.map_addr(|address| address.next_multiple_of(PAGE)).cast()
}

#[allow(unconditional_recursion, reason = "the purpose")]
#[inline(never)]
fn overflow(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    overflow(depth + 1) + frame[5]
}

fn truncated_file() -> *mut libc::c_void {
    use std::os::fd::AsRawFd;
    let file = tempfile::tempfile().expect("there is room");
    // SAFETY: a new mapping of an empty file.
    let page = unsafe {
        libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0)
    };
    assert_ne!(page, libc::MAP_FAILED);
    page
}

#[cfg(target_arch = "x86_64")]
fn divide() {
    // SAFETY: none: the fault is the purpose. Rust's own division checks first.
    unsafe { std::arch::asm!("div {0}", in(reg) 0_u64, inout("rax") 1_u64 => _, inout("rdx") 0_u64 => _) };
}

#[cfg(not(target_arch = "x86_64"))]
fn divide() {
    panic!("only x86 minds");
}

fn illegal() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: none: the fault is the purpose.
    unsafe {
        std::arch::asm!("ud2")
    };
    #[cfg(target_arch = "aarch64")]
    // SAFETY: none: the fault is the purpose.
    unsafe {
        std::arch::asm!("udf #0")
    };
}

fn breakpoint() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: none: the fault is the purpose.
    unsafe {
        std::arch::asm!("int3")
    };
    #[cfg(target_arch = "aarch64")]
    // SAFETY: none: the fault is the purpose.
    unsafe {
        std::arch::asm!("brk #0")
    };
}

/// rt_sigreturn(2) with a stack that is nowhere.
fn sigreturn() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: none: the kernel ends the process for it.
    unsafe {
        std::arch::asm!("mov rsp, 4096", "mov eax, 15", "syscall", options(noreturn))
    };
    #[cfg(target_arch = "aarch64")]
    // SAFETY: none: the kernel ends the process for it.
    unsafe {
        std::arch::asm!("mov x9, #4096", "mov sp, x9", "mov x8, #139", "svc #0", options(noreturn))
    };
}

fn new_userfaultfd() -> i32 {
    // SAFETY: plain system call.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) };
    i32::try_from(fd).unwrap_or(-1)
}

/// A page whose absence a userfaultfd answers with SIGBUS (UFFD_FEATURE_SIGBUS).
fn answered_with_sigbus() -> *mut libc::c_void {
    const UFFD_API: u64 = 0xaa;
    const UFFD_FEATURE_SIGBUS: u64 = 1 << 7;
    /// `_IOWR(0xaa, 0x3f, struct uffdio_api)`, and for registering, as the numbers of include/uapi/linux/userfaultfd.h.
    const UFFDIO_API: libc::c_ulong = 0xc018_aa3f;
    const UFFDIO_REGISTER: libc::c_ulong = 0xc020_aa00;
    const REGISTER_MODE_MISSING: u64 = 1;
    let fd = new_userfaultfd();
    let (flags, protection) = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, libc::PROT_READ | libc::PROT_WRITE);
    let size = 1 << 16;
    // SAFETY: a new mapping, and two structures that the kernel reads and writes.
    unsafe {
        let page = libc::mmap(std::ptr::null_mut(), size, protection, flags, -1, 0);
        assert_ne!(page, libc::MAP_FAILED);
        let mut api = [UFFD_API, UFFD_FEATURE_SIGBUS, 0];
        assert_eq!(libc::ioctl(fd, UFFDIO_API as _, &raw mut api), 0, "UFFDIO_API");
        let mut range = [page.addr() as u64, size as u64, REGISTER_MODE_MISSING, 0];
        assert_eq!(libc::ioctl(fd, UFFDIO_REGISTER as _, &raw mut range), 0, "UFFDIO_REGISTER");
        page
    }
}

/// `dump:DIR`: lets a core dump be written there.
fn dump(args: &Args<'_>) {
    use nix::sys::resource::{Resource, setrlimit};
    std::env::set_current_dir(args.text(0)).expect("the stage's directory is there");
    setrlimit(Resource::RLIMIT_CORE, nix::libc::RLIM_INFINITY, nix::libc::RLIM_INFINITY).expect("setrlimit");
}

/// `hoard:256`: MiB in use, for good.
fn hoard(args: &Args<'_>) {
    std::mem::forget(std::hint::black_box(vec![1_u8; args.number::<usize>(0) << 20]));
}

/// `onstack:SEGV,3`: a handler on a stack of its own exits with a code.
fn on_stack(args: &Args<'_>) {
    extern "C" fn exit(_: i32) {
        crate::acts::exit_now(CODE.load(std::sync::atomic::Ordering::Relaxed))
    }
    static CODE: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(0);
    CODE.store(args.number(1), std::sync::atomic::Ordering::Relaxed);
    let stack = Box::leak(vec![0_u8; 1 << 16].into_boxed_slice());
    let stack = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: stack.len() };
    // SAFETY: the stack lives for ever, and the handler only calls `_exit`.
    check(args, i64::from(unsafe { libc::sigaltstack(&raw const stack, std::ptr::null_mut()) }));
    handle(args, exit as *const () as usize, libc::SA_ONSTACK);
}

/// `repair:SEGV,default`: its handler gives up, and returns. `repair:SEGV,map`: makes the memory writable.
fn repair(args: &Args<'_>) {
    extern "C" fn give_up(signo: i32) {
        action(signo, libc::SIG_DFL);
    }
    extern "C" fn map(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
        // SAFETY: the kernel passes a siginfo of a fault; the page is the one of `forbidden_page`.
        unsafe {
            let page = (*info).si_addr().map_addr(|address| address & !(PAGE - 1));
            libc::mprotect(page, PAGE, libc::PROT_READ | libc::PROT_WRITE);
        }
    }
    match args.text(1) {
        "map" => handle(args, map as *const () as usize, libc::SA_SIGINFO),
        _ => handle(args, give_up as *const () as usize, 0),
    }
}

/// `faulty:USR1`: a handler that faults.
fn faulty(args: &Args<'_>) {
    extern "C" fn fault(_: i32) {
        read(8);
    }
    handle(args, fault as *const () as usize, 0);
}

/// `pass:SEGV`: a handler that sends its own thread the same siginfo again, as crash reporters do.
fn pass(args: &Args<'_>) {
    extern "C" fn pass(signo: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
        action(signo, libc::SIG_DFL);
        // SAFETY: plain system calls with what the kernel passed.
        unsafe { libc::syscall(libc::SYS_rt_tgsigqueueinfo, libc::getpid(), libc::gettid(), signo, info) };
    }
    handle(args, pass as *const () as usize, libc::SA_SIGINFO);
}

fn handle(args: &Args<'_>, handler: usize, flags: i32) {
    // SAFETY: the handlers here call nothing but what is async-signal-safe; zeroes are an empty mask.
    check(args, unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        i64::from(libc::sigaction(args.signo(0), &raw const action, std::ptr::null_mut()))
    });
}
