//! What the processes of a case can do. An act is one word with arguments, `kill:4021,TERM`; a process performs
//! those of its command line one after the other, and ends with code 0 after the last.

use std::io::{BufRead, Write};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::{SigSet, SigmaskHow};
use nix::unistd::Pid;

use crate::family;

/// An act: its name and what it does with its arguments.
pub(crate) type Act = (&'static str, fn(&Args));

/// An act's arguments.
pub(crate) struct Args<'a> {
    act: &'a str,
    args: Vec<&'a str>,
}

/// Nothing that a case starts outlives this, whatever goes wrong.
const LIFETIME: Duration = Duration::from_secs(60);

/// What everybody can do.
const ACTS: &[Act] = &[
    ("ready", |args| ready(&args.all().map(fact).collect::<Vec<_>>())),
    ("pause", |_| pause()),
    ("obey", |_| obey()),
    ("sleep", |args| std::thread::sleep(Duration::from_millis(args.number(0)))),
    ("exit", |args| exit_now(args.number(0))),
    ("default", |args| action(args.signo(0), libc::SIG_DFL)),
    ("ignore", |args| action(args.signo(0), libc::SIG_IGN)),
    ("catch", catch),
    ("block", |args| mask(libc::SIG_BLOCK, args)),
    ("unblock", |args| mask(libc::SIG_UNBLOCK, args)),
    ("kill", |args| check(args, send(args.pid(0), args.signo(1)))),
    ("name", |args| name(args.text(0))),
    ("setsid", |_| _ = nix::unistd::setsid().expect("setsid")),
    ("setpgid", |_| nix::unistd::setpgid(Pid::this(), Pid::this()).expect("setpgid")),
    ("setuid", |args| nix::unistd::setuid(args.number::<u32>(0).into()).expect("setuid")),
    ("fork", |args| fork_and(args.rest())),
    ("spawn", |args| spawn(args.rest())),
    ("exec", |args| exec(args.rest())),
    ("wait", wait),
    ("listen", |_| listen()),
    ("thread", |args| thread(args.rest())),
    ("pidns", |args| pid_namespace(args.rest())),
];

/// Performs the acts of a command line: those after `--`, where what stands before is for show, as in
/// `npm run dev -- pause`.
pub(crate) fn perform(acts: &[&str]) {
    let shown = acts.iter().position(|act| *act == "--").map_or(0, |dashes| dashes + 1);
    for act in &acts[shown..] {
        one(act);
    }
}

fn one(act: &str) {
    let (name, args) = act.split_once(':').unwrap_or((act, ""));
    let args = Args { act, args: args.split(',').filter(|arg| !arg.is_empty()).collect() };
    let known = ACTS.iter().chain(family::ALL.iter().flat_map(|family| family.acts));
    let Some((_, run)) = known.into_iter().find(|(known, _)| *known == name) else {
        panic!("nobody knows how to {act}");
    };
    run(&args);
}

impl<'a> Args<'a> {
    pub(crate) fn text(&self, n: usize) -> &'a str {
        self.args.get(n).unwrap_or_else(|| panic!("{} needs more arguments", self.act))
    }

    pub(crate) fn has(&self, n: usize) -> bool {
        self.args.len() > n
    }

    pub(crate) fn number<T: std::str::FromStr>(&self, n: usize) -> T {
        self.text(n).parse().unwrap_or_else(|_| panic!("{}: {} is no number", self.act, self.text(n)))
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &'a str> {
        self.args.iter().copied()
    }

    /// What kill(2) takes, and `me`, `parent` or `child`: the last one that this process started.
    pub(crate) fn pid(&self, n: usize) -> i32 {
        match self.text(n) {
            "me" => nix::unistd::getpid().as_raw(),
            "parent" => nix::unistd::getppid().as_raw(),
            "child" => LAST_CHILD.load(Ordering::Relaxed),
            _ => self.number(n),
        }
    }

    /// A signal's name without `SIG`, or its number.
    pub(crate) fn signo(&self, n: usize) -> i32 {
        signo(self.text(n))
    }

    /// All of them, as acts for another process: `fork:block:TERM+ready+pause`. Parentheses keep acts together that
    /// are yet another's: `fork:(fork:ready+pause)+wait`.
    pub(crate) fn rest(&self) -> &'a str {
        self.act.split_once(':').map_or("", |(_, rest)| rest)
    }
}

/// A signal by its name without `SIG`, or its number.
pub(crate) fn signo(name: &str) -> i32 {
    if let Ok(number) = name.parse() {
        return number;
    }
    let signal = format!("SIG{name}").parse::<nix::sys::signal::Signal>();
    signal.unwrap_or_else(|_| panic!("no signal is called {name}")) as i32
}

/// Fails the actor, visibly, when a system call failed.
pub(crate) fn check(args: &Args<'_>, result: i64) {
    assert!(result >= 0, "{}: {}", args.act, std::io::Error::last_os_error());
}

/// Says `ready` and some numbers to the director.
pub(crate) fn ready(facts: &[u32]) {
    let facts: Vec<String> = facts.iter().map(u32::to_string).collect();
    let line = format!("ready {}\n", facts.join(" "));
    // One write, so that lines of several processes do not mix.
    std::io::stdout().write_all(line.as_bytes()).expect("the director listens");
    std::io::stdout().flush().expect("the director listens");
}

/// Waits to be killed.
pub(crate) fn pause() -> ! {
    let deadline = std::time::Instant::now() + LIFETIME;
    while std::time::Instant::now() < deadline {
        // SAFETY: waits for a signal, or for half a second; no timer of ours can be seen.
        unsafe { libc::poll(std::ptr::null_mut(), 0, 500) };
    }
    exit_now(99)
}

/// Performs acts as they come on stdin, and answers `ready` after each.
fn obey() {
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        one(line.trim_end());
        ready(&[]);
    }
}

/// `_exit`: nothing is run on the way.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(code) }
}

/// kill(2).
pub(crate) fn send(pid: i32, signo: i32) -> i64 {
    // SAFETY: plain system call.
    i64::from(unsafe { libc::kill(pid, signo) })
}

pub(crate) fn action(signo: i32, handler: usize) {
    // SAFETY: the handlers passed are SIG_DFL, SIG_IGN or async-signal-safe functions of this file.
    unsafe { libc::signal(signo, handler) };
}

/// `block:TERM,INT`: all of them at once.
fn mask(how: i32, args: &Args<'_>) {
    // SAFETY: a signal set on the stack.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in args.all() {
            libc::sigaddset(&raw mut set, signo(signal));
        }
        libc::sigprocmask(how, &raw const set, std::ptr::null_mut());
    }
}

static HANDLER_CODE: AtomicI32 = AtomicI32::new(0);
static HANDLER_MS: AtomicI32 = AtomicI32::new(0);

/// `catch:TERM,return`, `catch:TERM,exit,3`, `catch:TERM,slow,MS,3` (it exits after a while), `catch:TERM,told,3` (it
/// exits when the director says something), `catch:TERM,reraise`, `catch:TERM,kill9`, `catch:TERM,default` (once), `catch:TERM,forward,INT` (it sends a signal to the last child that it started)
fn catch(args: &Args<'_>) {
    extern "C" fn back(_: i32) {}
    extern "C" fn exit(_: i32) {
        exit_now(HANDLER_CODE.load(Ordering::Relaxed))
    }
    extern "C" fn slow(_: i32) {
        // SAFETY: async-signal-safe.
        unsafe { libc::poll(std::ptr::null_mut(), 0, HANDLER_MS.load(Ordering::Relaxed)) };
        exit_now(HANDLER_CODE.load(Ordering::Relaxed))
    }
    extern "C" fn told(_: i32) {
        let mut word = [0u8; 64];
        // SAFETY: async-signal-safe; the buffer is as long as it says.
        unsafe { libc::read(libc::STDIN_FILENO, word.as_mut_ptr().cast(), word.len()) };
        exit_now(HANDLER_CODE.load(Ordering::Relaxed))
    }
    extern "C" fn forward(_: i32) {
        let child = LAST_CHILD.load(Ordering::Relaxed);
        // Zero would be its own group, itself included, for ever.
        if child > 0 {
            send(child, HANDLER_CODE.load(Ordering::Relaxed));
        }
    }
    extern "C" fn once(signo: i32) {
        action(signo, libc::SIG_DFL);
    }
    extern "C" fn reraise(signo: i32) {
        action(signo, libc::SIG_DFL);
        // SAFETY: async-signal-safe; delivered when the handler returns and unblocks it.
        unsafe { libc::raise(signo) };
    }
    extern "C" fn kill9(_: i32) {
        // SAFETY: async-signal-safe.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
    let handler: extern "C" fn(i32) = match args.text(1) {
        "return" => back,
        "exit" => {
            HANDLER_CODE.store(args.number(2), Ordering::Relaxed);
            exit
        }
        "slow" => {
            HANDLER_MS.store(args.number(2), Ordering::Relaxed);
            HANDLER_CODE.store(args.number(3), Ordering::Relaxed);
            slow
        }
        "told" => {
            HANDLER_CODE.store(args.number(2), Ordering::Relaxed);
            told
        }
        "forward" => {
            HANDLER_CODE.store(args.signo(2), Ordering::Relaxed);
            forward
        }
        "reraise" => reraise,
        "kill9" => kill9,
        "default" => once,
        other => panic!("no handler does {other}"),
    };
    action(args.signo(0), handler as *const () as usize);
}

fn name(comm: &str) {
    let comm = std::ffi::CString::new(comm).expect("no NUL in a name");
    // SAFETY: a NUL-terminated string.
    unsafe { libc::prctl(libc::PR_SET_NAME, comm.as_ptr()) };
}

/// A number for the director: `me`, the pid that the director knows this process by; `thread`, the last one started.
pub(crate) fn fact(what: &str) -> u32 {
    match what {
        // In a PID namespace of its own, getpid says something else.
        "me" => std::fs::read_link("/proc/self")
            .ok()
            .and_then(|pid| pid.to_str()?.parse().ok())
            .expect("/proc is mounted"),
        "thread" => LAST_THREAD.load(Ordering::Acquire),
        "child" => LAST_CHILD.load(Ordering::Relaxed).cast_unsigned(),
        other => panic!("nobody knows {other}"),
    }
}

pub(crate) static LAST_CHILD: AtomicI32 = AtomicI32::new(0);
static LAST_THREAD: AtomicU32 = AtomicU32::new(0);

/// The acts of a list, `ACT+ACT+(ACT+ACT)`.
pub(crate) fn list(acts: &str) -> Vec<&str> {
    let mut depth = 0;
    let parts = acts.split(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == '+' && depth == 0
    });
    parts.map(|part| part.strip_prefix('(').and_then(|part| part.strip_suffix(')')).unwrap_or(part)).collect()
}

/// `fork:ACT+ACT`: a child that performs acts and ends. The child's pid is said by its own `ready:me`, if at all.
pub(crate) fn fork_and(acts: &str) {
    // A handler that sends signals on to the child must know it, however fast they come.
    let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK).expect("a set");
    // SAFETY: this program has one thread wherever it forks, and the child goes on as this program.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    LAST_CHILD.store(pid, Ordering::Relaxed);
    mask.thread_set_mask().expect("a set");
    if pid == 0 {
        perform(&list(acts));
        exit_now(0);
    }
}

/// `NAME:ACT+ACT` as a command.
pub(crate) fn other(program: &str) -> Command {
    let (name, acts) = program.split_once(':').unwrap_or((program, ""));
    let me = std::env::current_exe().expect("a running program has a path");
    let path = me.with_file_name(name);
    // Another actor may just have made it.
    match std::fs::hard_link(&me, &path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            panic!("the stage's directory can hold links: {error}")
        }
        _ => {}
    }
    let mut command = Command::new(path);
    command.args(list(acts).into_iter().filter(|act| !act.is_empty()));
    command
}

/// `spawn:NAME:ACT+ACT`: a child with another name that performs acts.
fn spawn(program: &str) {
    fork_and(&format!("(exec:{program})"));
}

/// `exec:NAME:ACT+ACT`: goes on as another program.
fn exec(program: &str) {
    panic!("exec: {}", other(program).exec());
}

/// Listens on a TCP port, and says which: `ready PID PORT`.
fn listen() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    std::mem::forget(listener);
    ready(&[fact("me"), port.into()]);
}

/// Waits until all children have ended. `wait:tell`: and says the wait status of each.
fn wait(args: &Args<'_>) {
    loop {
        let mut status = 0;
        // SAFETY: `status` is ours to write to.
        match unsafe { libc::waitpid(-1, &raw mut status, 0) } {
            1.. if args.has(0) => ready(&[status.cast_unsigned()]),
            1.. => {}
            _ if std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted => {}
            _ => return,
        }
    }
}

/// `thread:ACT+ACT`: another thread performs acts, and ends alone. Its tid is the fact `thread`.
fn thread(acts: &str) {
    let acts = acts.to_owned();
    let (said, hear) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let tid = nix::unistd::gettid().as_raw().cast_unsigned();
        said.send(tid).expect("who started it listens");
        perform(&list(&acts));
    });
    LAST_THREAD.store(hear.recv().expect("it says its tid"), Ordering::Release);
}

/// `pidns:ACT+ACT`: a child that is init of a PID namespace, and performs acts there.
fn pid_namespace(acts: &str) {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWPID).expect("unshare");
    fork_and(acts);
}
