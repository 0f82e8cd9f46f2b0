//! Signals that come of reading and writing: whoever writes at the other end has done nothing.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use killtrace::model::report::{Confidence, Kind, Mechanism};

use super::Family;
use crate::Case;
use crate::acts::{Args, check};
use crate::stage::Stage;

pub(crate) const IO: Family = Family {
    cases: &[
        Case::new("sigpipe", "it writes to a pipe that nobody reads", |stage| broken(stage, "pipe")).late(),
        Case::new("unixpipe", "it writes to a socket whose other end is closed", |stage| {
            broken(stage, "unix")
        })
        .late(),
        Case::new("tcppipe", "it writes to a TCP connection that was reset", |stage| broken(stage, "tcp"))
            .late(),
        Case::new("sigpipe2", "it writes to a pipe whose reader has ended", reader_ended).late(),
        Case::new("pipethr", "a thread writes to a pipe that nobody reads", broken_in_thread).late(),
        Case::new("pipeig", "it ignores SIGPIPE, and exits with 1", ignored).late(),
        Case::new(
            "pipedecoy",
            "it writes to a broken pipe right after a SIGPIPE that it handles",
            handled_before,
        )
        .late(),
        Case::new("sigio", "it asked for SIGIO, and a peer writes", |stage| notified(stage, "IO")).late(),
        Case::new("sigiort", "it asked for a real-time signal when a peer writes", |stage| {
            notified(stage, "36")
        })
        .late(),
        Case::new("sigioterm", "it asked for SIGTERM when a peer writes", |stage| notified(stage, "TERM"))
            .late(),
        Case::new("sigiobus", "it asked for SIGBUS when a peer writes", |stage| notified(stage, "BUS"))
            .late(),
        Case::new("sigiokill", "somebody asked for it to get SIGKILL when a peer writes", weapon).late(),
        Case::new("mqnotify", "it asked for SIGUSR1 when a message comes", message)
            .needs(message_queues)
            .late(),
    ],
    acts: &[
        ("broken", broken_pipe),
        ("send_to", send_to),
        ("read_from", read_from),
        ("watch", watch),
        ("mqwatch", mq_watch),
        ("mqsend", mq_send),
    ],
};

fn message_queues() -> Option<String> {
    let name = c"/kz-probe";
    let flags = libc::O_CREAT | libc::O_RDWR;
    // SAFETY: a NUL-terminated string; the queue is removed again.
    let queue = unsafe { libc::mq_open(name.as_ptr(), flags, 0o600, std::ptr::null_mut::<libc::mq_attr>()) };
    if queue < 0 {
        return Some(format!("no message queues: {}", std::io::Error::last_os_error()));
    }
    // SAFETY: as above.
    unsafe {
        libc::mq_close(queue);
        libc::mq_unlink(name.as_ptr());
    }
    None
}

fn broken(stage: &mut Stage, what: &str) {
    let mut victim = stage.victim(&["ready", "obey"]);
    stage.curtain();
    victim.order(&format!("broken:{what}"));
    stage
        .death_of(&mut victim, Kind::BrokenPipe)
        .by_signal(libc::SIGPIPE)
        .mechanism(Mechanism::Kernel)
        .no_killer()
        .no_actor()
        .chain(&["nobody reads", "was killed by SIGPIPE"])
        .summary(&["died of SIGPIPE", "nobody reads any more"]);
}

fn reader_ended(stage: &mut Stage) {
    let fifo = fifo(stage);
    let mut victim = stage.victim(&["ready", &format!("send_to:{fifo}")]);
    stage.curtain();
    let reader = stage.perform("kz-reader", &[&format!("read_from:{fifo}")]);
    stage.death_of(&mut victim, Kind::BrokenPipe).by_signal(libc::SIGPIPE).no_killer().innocent(reader.pid);
}

fn broken_in_thread(stage: &mut Stage) {
    let mut victim = stage.victim(&["thread:pause", "thread:ready+obey", "pause"]);
    stage.curtain();
    victim.order("broken:pipe");
    stage.death_of(&mut victim, Kind::BrokenPipe).by_signal(libc::SIGPIPE).no_killer();
}

fn ignored(stage: &mut Stage) {
    let mut victim = stage.victim(&["ignore:PIPE", "ready", "obey"]);
    stage.curtain();
    victim.tell("broken:pipe");
    victim.order("exit:1");
    stage.death_of(&mut victim, Kind::Exited).by_exit(1).no_killer().other_signal("SIGPIPE");
}

fn handled_before(stage: &mut Stage) {
    let mut victim = stage.victim(&["catch:PIPE,return", "ready", "obey"]);
    stage.curtain();
    let decoy = stage.strike("kz-decoy", victim.pid(), "PIPE");
    victim.tell("default:PIPE");
    victim.order("broken:pipe");
    stage
        .death_of(&mut victim, Kind::BrokenPipe)
        .by_signal(libc::SIGPIPE)
        .no_killer()
        .innocent(decoy.pid)
        .other_signal("SIGPIPE");
}

fn notified(stage: &mut Stage, signal: &str) {
    // SI_SIGIO, which others can say too.
    let blind = if signal == "BUS" { Confidence::Likely } else { Confidence::Certain };
    let fifo = fifo(stage);
    let mut victim = stage.victim(&[&format!("watch:{fifo},me,{signal}"), "ready", "pause"]);
    stage.curtain();
    let peer = stage.perform("kz-peer", &[&format!("send_to:{fifo},once")]);
    stage
        .death_of(&mut victim, Kind::AsyncNotification)
        .by_signal(crate::acts::signo(signal))
        .detail("sigio")
        .no_killer()
        .no_actor()
        .innocent(peer.pid)
        .chain(&["notified", "was killed by"])
        .without_btf(Kind::AsyncNotification, blind);
}

/// Who called fcntl(F_SETOWN) is to blame, and cannot be seen; whoever writes is not.
fn weapon(stage: &mut Stage) {
    let fifo = fifo(stage);
    let mut victim = stage.victim(&["ready", "pause"]);
    let aim = format!("watch:{fifo},{},KILL", victim.pid());
    let weapon = stage.start("kz-weapon", &[&aim, "ready", "pause"]);
    stage.curtain();
    let peer = stage.perform("kz-peer", &[&format!("send_to:{fifo},once")]);
    stage
        .death_of(&mut victim, Kind::AsyncNotification)
        .by_signal(libc::SIGKILL)
        .detail("sigio")
        .no_killer()
        .innocent(peer.pid);
    stage.lives(&weapon);
}

fn message(stage: &mut Stage) {
    let queue = format!("/kz-{}", std::process::id());
    let mut victim = stage.victim(&[&format!("mqwatch:{queue},USR1"), "ready", "pause"]);
    stage.curtain();
    let peer = stage.perform("kz-peer", &[&format!("mqsend:{queue}")]);
    stage
        .death_of(&mut victim, Kind::AsyncNotification)
        .by_signal(libc::SIGUSR1)
        .detail("mq_notify")
        .no_killer()
        .innocent(peer.pid)
        .without_btf(Kind::AsyncNotification, Confidence::Likely);
}

fn fifo(stage: &Stage) -> String {
    let path = stage.dir().join("fifo");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
    path.display().to_string()
}

/// `broken:pipe`: writes where nobody reads any more.
fn broken_pipe(args: &Args<'_>) {
    match args.text(0) {
        "pipe" => {
            let (reader, mut writer) = std::io::pipe().expect("pipe");
            drop(reader);
            let _ = writer.write_all(b"hello?");
        }
        "unix" => {
            let (mine, theirs) = UnixStream::pair().expect("socketpair");
            drop(theirs);
            // std would have MSG_NOSIGNAL.
            write_raw(mine.as_raw_fd());
        }
        _ => {
            let server = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
            let mine = std::net::TcpStream::connect(server.local_addr().expect("bound")).expect("connect");
            drop(server.accept().expect("accept"));
            // The first write is answered with a reset, the next one finds that.
            for _ in 0..100 {
                write_raw(mine.as_raw_fd());
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        }
    }
}

/// write(2), whatever it says.
fn write_raw(fd: i32) {
    // SAFETY: a string of that length.
    unsafe { libc::write(fd, b"hello?".as_ptr().cast(), 6) };
}

/// `send_to:FIFO`: writes until that ends it. `once`: one word.
fn send_to(args: &Args<'_>) {
    let mut fifo = std::fs::OpenOptions::new().write(true).open(args.text(0)).expect("it was made");
    while fifo.write_all(b"hello?").is_ok() && !args.has(1) {}
}

/// `read_from:FIFO`: one word, and no more.
fn read_from(args: &Args<'_>) {
    use std::io::Read;
    let mut fifo = std::fs::File::open(args.text(0)).expect("it was made");
    fifo.read_exact(&mut [0; 6]).expect("somebody writes");
}

/// `watch:FIFO,PID,SIGNAL`: fcntl(F_SETOWN, F_SETSIG) and O_ASYNC: a signal to a process when there is something to read.
fn watch(args: &Args<'_>) {
    let fifo = std::fs::OpenOptions::new().read(true).write(true).open(args.text(0)).expect("it was made");
    let fd = fifo.as_raw_fd();
    /// Not in the libc crate on every target.
    const F_SETSIG: i32 = 10;
    let signo = args.signo(2);
    // SAFETY: plain system calls.
    unsafe {
        check(args, libc::fcntl(fd, libc::F_SETOWN, args.pid(1)).into());
        if signo != libc::SIGIO {
            check(args, libc::fcntl(fd, F_SETSIG, signo).into());
        }
        check(args, libc::fcntl(fd, libc::F_SETFL, libc::O_ASYNC | libc::O_NONBLOCK).into());
    }
    std::mem::forget(fifo);
}

/// `mqwatch:/QUEUE,USR1`: mq_notify(3). The queue's name is gone when the sender has opened it, or with the machine.
fn mq_watch(args: &Args<'_>) {
    let queue = open_queue(args);
    // SAFETY: a structure on the stack; zeroes are valid in it.
    unsafe {
        let mut event: libc::sigevent = std::mem::zeroed();
        event.sigev_notify = libc::SIGEV_SIGNAL;
        event.sigev_signo = args.signo(1);
        check(args, libc::syscall(libc::SYS_mq_notify, queue, &raw const event));
    }
}

fn mq_send(args: &Args<'_>) {
    let queue = open_queue(args);
    let name = queue_name(args);
    // SAFETY: a string of that length, and a NUL-terminated name.
    unsafe {
        libc::mq_unlink(name.as_ptr());
        check(args, libc::mq_send(queue, c"hello".as_ptr(), 5, 0).into());
    }
}

fn open_queue(args: &Args<'_>) -> libc::mqd_t {
    let name = queue_name(args);
    let flags = libc::O_CREAT | libc::O_RDWR;
    // SAFETY: a NUL-terminated string.
    let queue = unsafe { libc::mq_open(name.as_ptr(), flags, 0o600, std::ptr::null_mut::<libc::mq_attr>()) };
    check(args, queue.into());
    queue
}

fn queue_name(args: &Args<'_>) -> std::ffi::CString {
    std::ffi::CString::new(args.text(0)).expect("no NUL in a name")
}
