//! What processes do with terminals.

use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicI32, Ordering, fence};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::unistd::{Pid, getpid, setpgid, setsid};

use crate::acts::{self, Act, Args, check};

pub(super) const ACTS: &[Act] = &[
    ("newpty", |_| std::mem::forget(new_pty())),
    ("ctty", |_| take_terminal(SLAVE.load(Ordering::Relaxed)).expect("a terminal of my own")),
    ("pty", |args| start_on_pty(args.rest())),
    ("job", |args| job(args.rest(), true)),
    ("bgjob", |args| job(args.rest(), false)),
    ("foreground", |_| foreground(getpid()).expect("I have a terminal")),
    ("close", |_| drop(master())),
    ("uringclose", |_| uring_close(master())),
    ("gcclose", |_| close_by_collector(master())),
    ("type", |args| check(args, type_at(args.number(0)))),
    ("read", |_| read_to_the_end()),
    ("passhup", |_| acts::action(libc::SIGHUP, pass_on as *const () as usize)),
    // SAFETY: plain system call.
    ("vhangup", |args| check(args, i64::from(unsafe { libc::vhangup() }))),
    ("tiocvhangup", |args| check(args, ioctl(terminal_of(args.number(0)).as_raw_fd(), libc::TIOCVHANGUP, 0))),
    ("tiocnotty", |args| check(args, ioctl(TTY, libc::TIOCNOTTY, 0))),
    ("tiocsti", put_into_input),
    ("tiocsig", |args| check(args, ioctl(MASTER.load(Ordering::Relaxed), TIOCSIG, args.signo(0)))),
];

/// Where everybody on a terminal has it open.
const TTY: RawFd = 9;
/// `_IOW('T', 0x36, int)`, the same on x86_64 and aarch64 (include/uapi/asm-generic/ioctls.h).
const TIOCSIG: libc::Ioctl = 0x4004_5436;

static MASTER: AtomicI32 = AtomicI32::new(-1);
static SLAVE: AtomicI32 = AtomicI32::new(-1);

/// Opens a pseudo-terminal, and keeps its master.
fn new_pty() -> OwnedFd {
    let pty = nix::pty::openpty(None, None).expect("no pseudo-terminal");
    for fd in [&pty.master, &pty.slave] {
        nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC)).expect("fcntl");
    }
    MASTER.store(pty.master.into_raw_fd(), Ordering::Relaxed);
    SLAVE.store(pty.slave.as_raw_fd(), Ordering::Relaxed);
    pty.slave
}

/// The master, to be closed: the caller owns it from now on.
fn master() -> OwnedFd {
    let fd = MASTER.swap(-1, Ordering::Relaxed);
    assert!(fd >= 0, "I have no terminal");
    // SAFETY: it was ours by `into_raw_fd`, and nobody else has it now.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Becomes the leader of a session on this terminal. Async-signal-safe.
fn take_terminal(slave: RawFd) -> nix::Result<()> {
    setsid()?;
    Errno::result(ioctl(slave, libc::TIOCSCTTY, 0))?;
    // SAFETY: both are descriptors of this process alone, and nothing owns TTY.
    Errno::result(unsafe { libc::dup2(slave, TTY) })?;
    let master = MASTER.swap(-1, Ordering::Relaxed);
    if master >= 0 {
        // SAFETY: a fork's copy, that nobody uses; without this it would hold its own terminal.
        unsafe { libc::close(master) };
    }
    Ok(())
}

/// `pty:NAME:ACT+ACT`: a session leader on a new terminal, whose master stays here.
fn start_on_pty(program: &str) {
    let slave = new_pty();
    let fd = slave.as_raw_fd();
    let mut command = acts::other(program);
    // SAFETY: only system calls and atomics between fork and exec.
    unsafe { command.pre_exec(move || Ok(take_terminal(fd)?)) };
    start(command);
    SLAVE.store(-1, Ordering::Relaxed);
}

/// `job:NAME:ACT+ACT`: a child in a process group of its own, in the foreground of the terminal or not.
fn job(program: &str, in_front: bool) {
    let mut command = acts::other(program);
    // The handler that passes signals on must know the job, however fast they come.
    let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK).expect("a set");
    let prepare = move || {
        mask.thread_set_mask()?;
        setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
        if in_front {
            foreground(getpid())?;
        }
        Ok(())
    };
    // SAFETY: only system calls between fork and exec.
    unsafe { command.pre_exec(prepare) };
    JOB.store(start(command), Ordering::Relaxed);
    mask.thread_set_mask().expect("a set");
}

fn start(mut command: Command) -> i32 {
    let pid = command.spawn().expect("the zoo can run itself").id().cast_signed();
    acts::LAST_CHILD.store(pid, Ordering::Relaxed);
    pid
}

static JOB: AtomicI32 = AtomicI32::new(0);

/// Puts a group into the foreground. Async-signal-safe.
fn foreground(group: Pid) -> nix::Result<()> {
    let group = group.as_raw();
    // SAFETY: a signal set on the stack; who is in the background is stopped unless SIGTTOU is blocked.
    unsafe {
        let (mut set, mut old) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTTOU);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, &raw mut old);
        let result = Errno::result(libc::tcsetpgrp(TTY, group));
        libc::sigprocmask(libc::SIG_SETMASK, &raw const old, std::ptr::null_mut());
        result.map(drop)
    }
}

/// What an interactive bash does with a hangup.
extern "C" fn pass_on(signo: i32) {
    acts::send(-JOB.load(Ordering::Relaxed), signo);
    acts::action(signo, libc::SIG_DFL);
    // SAFETY: async-signal-safe; delivered when the handler returns.
    unsafe { libc::raise(signo) };
}

fn ioctl(fd: RawFd, request: libc::Ioctl, argument: i32) -> i64 {
    // SAFETY: the requests used take a number or nothing.
    i64::from(unsafe { libc::ioctl(fd, request, libc::c_long::from(argument)) })
}

/// The terminal of a process, opened without making it one's own.
fn terminal_of(pid: u32) -> OwnedFd {
    let flags = nix::fcntl::OFlag::O_RDWR | nix::fcntl::OFlag::O_NOCTTY;
    nix::fcntl::open(format!("/proc/{pid}/fd/{TTY}").as_str(), flags, nix::sys::stat::Mode::empty())
        .expect("it has a terminal")
}

/// `tiocsti:PID,BYTE`
fn put_into_input(args: &Args<'_>) {
    let terminal = terminal_of(args.number(0));
    let byte: u8 = args.number(1);
    // SAFETY: the request reads one byte.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSTI, &raw const byte) };
    check(args, result.into());
}

fn type_at(byte: u8) -> i64 {
    // SAFETY: one byte, from the stack.
    unsafe { libc::write(MASTER.load(Ordering::Relaxed), (&raw const byte).cast(), 1) as i64 }
}

/// Reads from the terminal until there is no more of it.
fn read_to_the_end() {
    let mut byte = 0_u8;
    // SAFETY: one byte, on the stack.
    while unsafe { libc::read(TTY, (&raw mut byte).cast(), 1) } > 0 {}
}

/// Whether anybody may put bytes into a terminal's input (`CONFIG_LEGACY_TIOCSTI`).
pub(super) fn sti_possible() -> Option<String> {
    let allowed = std::fs::read_to_string("/proc/sys/dev/tty/legacy_tiocsti");
    // Kernels before 6.2 have no such setting, and always allow it.
    let forbidden = allowed.is_ok_and(|value| value.trim() != "1");
    forbidden.then(|| "TIOCSTI is off (dev.tty.legacy_tiocsti)".to_owned())
}

pub(super) fn uring_possible() -> Option<String> {
    Ring::new().err().map(|error| format!("no io_uring: {error}"))
}

/// An io_uring with room for one request.
struct Ring {
    fd: OwnedFd,
    /// `struct io_uring_params`, as words.
    params: [u32; 30],
}

impl Ring {
    /// `struct io_sqring_offsets`: `tail` and `array`.
    const TAIL: usize = 11;
    const ARRAY: usize = 16;
    /// `IORING_OFF_SQES`
    const REQUESTS: libc::off_t = 0x1000_0000;

    fn new() -> std::io::Result<Self> {
        let mut params = [0_u32; 30];
        // SAFETY: the structure has 120 bytes and is ours.
        let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, params.as_mut_ptr()) };
        let fd = Errno::result(RawFd::try_from(fd).unwrap_or(-1))?;
        // SAFETY: a new descriptor.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) }, params })
    }

    fn map(&self, offset: libc::off_t) -> *mut u8 {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping; a page is more than what is used of it.
        let address = unsafe {
            libc::mmap(std::ptr::null_mut(), 4096, protection, libc::MAP_SHARED, self.fd.as_raw_fd(), offset)
        };
        assert!(address != libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
        address.cast()
    }
}

/// Closes a descriptor by a worker thread of an io_uring.
fn uring_close(fd: OwnedFd) {
    const IORING_OP_CLOSE: u8 = 19;
    const IOSQE_ASYNC: u8 = 1 << 4;
    const IORING_ENTER_GETEVENTS: u32 = 1;
    let ring = Ring::new().expect("an io_uring");
    let (queue, request) = (ring.map(0), ring.map(Ring::REQUESTS));
    // SAFETY: a request of 64 bytes at the start of its page, and words of the queue where the kernel said.
    let done = unsafe {
        request.write(IORING_OP_CLOSE);
        request.add(1).write(IOSQE_ASYNC);
        request.add(4).cast::<i32>().write(fd.into_raw_fd());
        queue.add(ring.params[Ring::ARRAY] as usize).cast::<u32>().write(0);
        fence(Ordering::Release);
        queue.add(ring.params[Ring::TAIL] as usize).cast::<u32>().write_volatile(1);
        let (submit, wait) = (1, 1);
        libc::syscall(
            libc::SYS_io_uring_enter,
            ring.fd.as_raw_fd(),
            submit,
            wait,
            IORING_ENTER_GETEVENTS,
            std::ptr::null::<u8>(),
            0,
        )
    };
    assert_eq!(done, 1, "io_uring_enter: {}", std::io::Error::last_os_error());
}

/// Leaves a descriptor in flight in a socket that only itself refers to, so that the garbage collector of unix
/// sockets closes it (net/unix/garbage.c).
fn close_by_collector(fd: OwnedFd) {
    let (near, far) = UnixDatagram::pair().expect("socketpair");
    send_descriptors(near.as_raw_fd(), [fd.as_raw_fd(), far.as_raw_fd()]);
    drop(fd);
    drop(far);
    // The last one closed sets the collector to work.
    drop(near);
}

/// One message that carries descriptors.
fn send_descriptors(socket: RawFd, fds: [RawFd; 2]) {
    let mut byte = 0_u8;
    // SAFETY: everything that the message points to is on this stack, and large enough.
    let sent = unsafe {
        let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        let mut control = [0_u64; 8];
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(8) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(8) as _;
        libc::CMSG_DATA(header).cast::<[RawFd; 2]>().write_unaligned(fds);
        libc::sendmsg(socket, &raw const message, 0)
    };
    assert_eq!(sent, 1, "sendmsg: {}", std::io::Error::last_os_error());
}
