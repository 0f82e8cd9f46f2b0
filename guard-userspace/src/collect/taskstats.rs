//! Exit statuses from taskstats, for kernels whose structures cannot be read (no BTF).
//!
//! A generic netlink socket gets one record for every thread that ends (kernel/taskstats.c, `taskstats_exit`),
//! just before `sched:sched_process_exit`. Needs CONFIG_TASKSTATS, CAP_NET_ADMIN and the initial namespaces.
//! One socket and two kinds of message do not justify a netlink crate.

mod wire;

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, setsockopt, sockopt,
};

use super::host::boottime_ns;
use super::procfs::event;
use super::{CollectError, Source};
use crate::model::header::Capabilities;
use crate::model::{Event, Fact};

/// Listens to the ends of all threads of the machine.
#[derive(Debug)]
pub struct TaskstatsSource {
    socket: OwnedFd,
    family: u16,
    buffer: Vec<u8>,
}

impl TaskstatsSource {
    /// Room for what arrives while nobody reads: about ten thousand exits. The kernel takes the memory only when
    /// it is needed.
    const SOCKET_BUFFER: usize = 8 << 20;

    /// Starts to listen on every CPU that may come online.
    ///
    /// # Errors
    /// When the kernel has no taskstats (`NotFound`) or refuses (CAP_NET_ADMIN).
    pub fn open() -> Result<Self, CollectError> {
        Self::connect().map_err(|source| CollectError::Listen { what: "exit statuses (taskstats)", source })
    }

    fn connect() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket =
            socket::socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkGeneric)?;
        socket::bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        // Without CAP_NET_ADMIN the default size must do; registering will fail with a clear error anyway.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &Self::SOCKET_BUFFER);
        let mut source = Self { socket, family: 0, buffer: vec![0; 16 << 10] };
        source.family = source.find_family()?;
        source.register()?;
        Ok(source)
    }

    /// Asks for the family's number, which the kernel hands out at boot.
    fn find_family(&mut self) -> io::Result<u16> {
        self.send(&wire::get_family("TASKSTATS"))?;
        let reply = self.reply()?;
        wire::family_id(reply).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn register(&mut self) -> io::Result<()> {
        let cpus = fs::read_to_string("/sys/devices/system/cpu/possible")?;
        self.send(&wire::register_cpus(self.family, cpus.trim()))?;
        self.reply().map(drop)
    }

    fn send(&self, message: &[u8]) -> io::Result<()> {
        socket::send(self.socket.as_raw_fd(), message, MsgFlags::empty())?;
        Ok(())
    }

    /// The answer to a request. The kernel gives it within the `send`, so it is there already.
    fn reply(&mut self) -> io::Result<&[u8]> {
        let len = socket::recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty())?;
        let reply = self.buffer.get(..len).unwrap_or_default();
        for message in wire::messages(reply) {
            if let Some(errno) = wire::error(&message).filter(|&errno| errno != 0) {
                return Err(io::Error::from_raw_os_error(errno));
            }
        }
        Ok(reply)
    }
}

impl Source for TaskstatsSource {
    fn name(&self) -> &'static str {
        "taskstats"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { taskstats: true, ..Capabilities::default() }
    }

    fn degraded(&self) -> &[String] {
        &[]
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// It sends a task's end a moment before the tracepoint (kernel/exit.c, `do_exit`), and is read a while after.
    fn follows_backend(&self) -> bool {
        true
    }

    fn drain(&mut self, out: &mut Vec<Event>) -> Result<(), CollectError> {
        let lost = |count| Fact::Lost { probe: "taskstats".to_owned(), count };
        loop {
            match socket::recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Ok(0) | Err(Errno::EAGAIN) => return Ok(()),
                Ok(len) => {
                    let t_ns = boottime_ns();
                    let datagram = self.buffer.get(..len).unwrap_or_default();
                    for message in wire::messages(datagram).filter(|message| message.kind == self.family) {
                        let fact = wire::exit(&message).map_or_else(|| lost(1), Fact::Taskstats);
                        out.push(event(t_ns, fact));
                    }
                }
                Err(Errno::EINTR) => {}
                // The socket buffer was full. The kernel does not count what it dropped: at least one.
                Err(Errno::ENOBUFS) => out.push(event(boottime_ns(), lost(1))),
                Err(errno) => {
                    return Err(CollectError::Listen {
                        what: "exit statuses (taskstats)",
                        source: errno.into(),
                    });
                }
            }
        }
    }
}
