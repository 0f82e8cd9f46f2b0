//! What /proc tells of processes, with few system calls and one buffer.
//!
//! Every read of one process goes through a handle on its directory, so that all facts are of the same
//! process even when its pid is reused in between: once it has gone, the handle answers ESRCH.

mod memory;
mod parse;
mod ports;
mod tasks;

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{OFlag, open, openat, readlinkat};
use nix::sys::stat::Mode;

pub use memory::{CgroupDetail, cgroup_memory, machine_memory};
pub use ports::{listeners, listening};

use super::host::{self, Users};
use crate::model::event::ProcessFacts;
use crate::model::{Event, Fact};

/// How much to read about a process. Each is chosen so that a caller pays only for what it asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// What the process table needs of everybody: identity, arguments, cgroup, user, signal masks, threads.
    Seed,
    /// The same with listening ports, which cost a look at every descriptor: only when somebody selects by port.
    SeedWithPorts,
    /// Everything, for a process that matters: also cwd, oom_score_adj, memory and listening ports.
    Full,
    /// Memory figures only, for a process that is dying.
    Memory,
    /// Who its parent is now, and the ports it holds.
    Survivor,
}

/// A reader of /proc that reuses its buffer.
#[derive(Debug)]
pub struct Procfs {
    buffer: Vec<u8>,
    users: Users,
    ticks_per_second: u64,
}

impl Default for Procfs {
    fn default() -> Self {
        Self::new()
    }
}

impl Procfs {
    #[must_use]
    pub fn new() -> Self {
        Self {
            buffer: Vec::with_capacity(8192),
            users: Users::default(),
            ticks_per_second: host::ticks_per_second(),
        }
    }

    /// What is known of one process now.
    ///
    /// What cannot be read (it belongs to another user, it is dying) is `None`. A kernel thread has an empty
    /// `cmdline`; a dying process, whose arguments are gone already, has `None`.
    ///
    /// # Errors
    /// `NotFound` when there is no such process, or it went away meanwhile.
    pub fn facts(&mut self, tgid: u32, detail: Detail) -> io::Result<ProcessFacts> {
        self.users.refresh();
        self.facts_with(tgid, detail, &mut ports::Sockets::default())
    }

    /// Like [`Self::facts`] for several processes of one question, whose socket tables are read once.
    ///
    /// With each comes the time before it was read: what happens to the process while it is read is then later
    /// in the stream, and is not undone by facts that are a moment older.
    pub(super) fn facts_of<'a>(
        &'a mut self,
        tgids: &'a [u32],
        detail: Detail,
    ) -> impl Iterator<Item = (u32, u64, io::Result<ProcessFacts>)> + 'a {
        self.users.refresh();
        let mut sockets = ports::Sockets::default();
        tgids.iter().map(move |&tgid| {
            let t_ns = host::boottime_ns();
            (tgid, t_ns, self.facts_with(tgid, detail, &mut sockets))
        })
    }

    /// Appends a `Fact::Process` for every process there is, and `Fact::Seeded` at the end.
    ///
    /// # Errors
    /// When /proc itself cannot be read. Processes that end meanwhile are no error.
    pub fn scan(&mut self, out: &mut Vec<Event>) -> io::Result<()> {
        self.scan_in(Detail::Seed, out)
    }

    /// The same with the ports each process listens on.
    ///
    /// # Errors
    /// As [`Self::scan`].
    pub fn scan_with_ports(&mut self, out: &mut Vec<Event>) -> io::Result<()> {
        self.scan_in(Detail::SeedWithPorts, out)
    }

    fn scan_in(&mut self, detail: Detail, out: &mut Vec<Event>) -> io::Result<()> {
        // An empty directory would pass for a machine without processes.
        fs::metadata("/proc/self/stat")?;
        let tgids: Vec<u32> = ids_in(fs::read_dir("/proc")?).collect();
        let mut processes = 0;
        for (_, t_ns, facts) in self.facts_of(&tgids, detail) {
            if let Ok(mut facts) = facts {
                facts.seeded = true;
                processes += 1;
                out.push(event(t_ns, Fact::Process(Box::new(facts))));
            }
        }
        out.push(event(host::boottime_ns(), Fact::Seeded { processes }));
        Ok(())
    }

    /// The arguments of a process now, `None` when they cannot be read.
    pub fn cmdline(&mut self, tgid: u32) -> Option<Vec<String>> {
        let directory = process_directory(tgid).ok()?;
        self.read_cmdline(directory.as_fd())
    }

    /// What an exec event does not say of the program that has just started: its arguments and its real user.
    pub(super) fn started(&mut self, tgid: u32) -> (Option<Vec<String>>, Option<u32>) {
        let Ok(directory) = process_directory(tgid) else { return (None, None) };
        let args = self.read_cmdline(directory.as_fd());
        (args, self.read(directory.as_fd(), "status").ok().and_then(|text| parse::status(text).uid))
    }

    fn facts_with(
        &mut self,
        tgid: u32,
        detail: Detail,
        sockets: &mut ports::Sockets,
    ) -> io::Result<ProcessFacts> {
        let directory = process_directory(tgid).map_err(gone)?;
        let directory = directory.as_fd();
        let mut facts = ProcessFacts { tgid, ..ProcessFacts::default() };
        if detail == Detail::Memory {
            let status = parse::status(self.read(directory, "status")?);
            facts.rss_bytes = status.rss_bytes;
            facts.peak_rss_bytes = status.peak_rss_bytes;
            return Ok(facts);
        }
        let stat = parse::stat(self.read(directory, "stat")?)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unknown format of stat"))?;
        facts.stopped = stat.stopped();
        if stat.threads > 1 {
            facts.threads = threads(tgid);
        }
        // By the number that came with the state: a thread may have ended since, and tells so itself.
        facts.zombie = stat.zombie();
        facts.leaderless = stat.leaderless();
        facts.ppid = Some(stat.ppid);
        facts.comm = Some(stat.comm);
        facts.start_boottime_ns = Some(self.ticks_to_ns(stat.start_ticks));
        if detail == Detail::Survivor {
            facts.listening = sockets.of(tgid);
            return Ok(facts);
        }
        if stat.kernel_thread() {
            facts.cmdline = Some(Vec::new());
            return Ok(facts);
        }
        facts.pgid = Some(stat.pgid);
        facts.sid = Some(stat.sid);
        facts.tty = parse::tty(stat.tty_nr).or_else(|| tty_from_sysfs(stat.tty_nr));
        let status = parse::status(self.read(directory, "status")?);
        facts.uid = status.uid;
        facts.user = status.uid.and_then(|uid| self.users.name(uid)).map(str::to_owned);
        facts.ns_tgid = status.ns_tgid;
        facts.tracer = status.tracer;
        facts.signals = status.signals;
        facts.cgroups = self.read(directory, "cgroup").ok().map(parse::cgroups);
        if !stat.exiting() {
            facts.cmdline = self.read_cmdline(directory);
            facts.exe = link(directory, "exe").map(strip_deleted);
        } else if let Some(&tid) = facts.threads.first().filter(|_| facts.leaderless) {
            // The dead leader has given its memory away; a thread that lives still has it.
            let directory = process_directory(tid).map_err(gone)?;
            facts.cmdline = self.read_cmdline(directory.as_fd());
            facts.exe = link(directory.as_fd(), "exe").map(strip_deleted);
        }
        if detail == Detail::Full {
            facts.rss_bytes = status.rss_bytes;
            facts.peak_rss_bytes = status.peak_rss_bytes;
            facts.cwd = link(directory, "cwd");
            let environ = self.read(directory, "environ").ok();
            facts.node_options = environ.and_then(parse::node_heap_options);
            facts.oom_score_adj = self
                .read(directory, "oom_score_adj")
                .ok()
                .and_then(|text| std::str::from_utf8(text).ok()?.trim().parse().ok());
        }
        if matches!(detail, Detail::Full | Detail::SeedWithPorts) {
            facts.listening = sockets.of(tgid);
        }
        Ok(facts)
    }

    /// `None` when nothing is there: a process without a single argument cannot be told from one whose memory
    /// went away between two reads, and the kernel has refused to start the former since 5.18.
    fn read_cmdline(&mut self, directory: BorrowedFd<'_>) -> Option<Vec<String>> {
        let arguments = parse::cmdline(self.read(directory, "cmdline").ok()?);
        (!arguments.is_empty()).then_some(arguments)
    }

    /// Reads a file of a process into the buffer, at most [`Self::LIMIT`] bytes of it.
    fn read(&mut self, directory: BorrowedFd<'_>, name: &str) -> io::Result<&[u8]> {
        let fd = openat(directory, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map_err(gone)?;
        self.buffer.clear();
        File::from(fd).take(Self::LIMIT).read_to_end(&mut self.buffer).map_err(|error| {
            if error.raw_os_error() == Some(libc::ESRCH) { io::ErrorKind::NotFound.into() } else { error }
        })?;
        Ok(&self.buffer)
    }

    /// Arguments may take megabytes; a table of them must not.
    const LIMIT: u64 = 64 * 1024;

    fn ticks_to_ns(&self, ticks: u64) -> u64 {
        ticks.saturating_mul(1_000_000_000 / self.ticks_per_second)
    }
}

/// An event that no kernel record stands behind.
pub(super) fn event(t_ns: u64, fact: Fact) -> Event {
    Event { id: 0, t_ns, cpu: None, current: None, fact }
}

fn process_directory(tgid: u32) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(format!("/proc/{tgid}").as_str(), flags, Mode::empty())
}

/// ESRCH is how /proc says "not found" of a process that was there a moment ago.
fn gone(errno: nix::Error) -> io::Error {
    if errno == nix::Error::ESRCH { io::ErrorKind::NotFound.into() } else { errno.into() }
}

/// Ids of all processes, in rising order.
fn processes() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc").into_iter().flat_map(ids_in)
}

fn ids_in(directory: fs::ReadDir) -> impl Iterator<Item = u32> {
    directory.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Thread ids without the leader's.
fn threads(tgid: u32) -> Vec<u32> {
    let Ok(directory) = fs::read_dir(format!("/proc/{tgid}/task")) else { return Vec::new() };
    ids_in(directory).filter(|&tid| tid != tgid).collect()
}

fn link(directory: BorrowedFd<'_>, name: &str) -> Option<String> {
    readlinkat(directory, name).ok().map(|target| target.to_string_lossy().into_owned())
}

/// An executable that was replaced while it runs (an upgrade) is still the same program to its user.
fn strip_deleted(mut path: String) -> String {
    if let Some(stem) = path.strip_suffix(" (deleted)") {
        path.truncate(stem.len());
    }
    path
}

/// Rare terminals, through the device's link under /sys.
fn tty_from_sysfs(tty_nr: u32) -> Option<String> {
    let (major, minor) = parse::device(tty_nr);
    let target = fs::read_link(format!("/sys/dev/char/{major}:{minor}")).ok()?;
    Some(target.file_name()?.to_string_lossy().into_owned())
}

/// Reads bytes as each of the files that are read, for the fuzz targets: a process chooses its name and arguments.
#[cfg(fuzzing)]
pub fn read_as_anything(bytes: &[u8]) {
    if let Some(stat) = parse::stat(bytes) {
        let _ = (stat.zombie(), stat.leaderless(), stat.stopped(), stat.exiting(), stat.kernel_thread());
        let _ = (parse::tty(stat.tty_nr), parse::device(stat.tty_nr));
    }
    let _ = (parse::status(bytes), parse::cgroups(bytes), parse::node_heap_options(bytes));
    let arguments = parse::cmdline(bytes);
    assert!(arguments.len() <= bytes.len(), "more arguments than bytes");
    ports::read_as_table(bytes);
    memory::read_as_anything(&String::from_utf8_lossy(bytes));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::text::Comm;

    #[test]
    fn this_process_has_all_its_facts() {
        let me = std::process::id();
        let facts = Procfs::new().facts(me, Detail::Full).unwrap();
        assert_eq!(facts.tgid, me);
        assert_eq!(facts.ppid, Some(std::os::unix::process::parent_id()));
        assert_eq!(facts.cmdline.unwrap(), std::env::args().collect::<Vec<_>>());
        assert_eq!(facts.exe.unwrap(), std::env::current_exe().unwrap().to_str().unwrap());
        assert_eq!(facts.cwd.unwrap(), std::env::current_dir().unwrap().to_str().unwrap());
        assert!(!facts.zombie && !facts.seeded);
        assert!(facts.rss_bytes.unwrap() > 0 && facts.rss_bytes <= facts.peak_rss_bytes);
        assert!(facts.threads.iter().all(|&tid| tid != me) && !facts.threads.is_empty());
        assert!(facts.start_boottime_ns.unwrap() < host::boottime_ns());
        assert!(facts.signals.is_some() && facts.oom_score_adj.is_some());
    }

    #[test]
    fn memory_detail_reads_nothing_else() {
        let facts = Procfs::new().facts(std::process::id(), Detail::Memory).unwrap();
        let expected = ProcessFacts {
            tgid: std::process::id(),
            rss_bytes: facts.rss_bytes,
            peak_rss_bytes: facts.peak_rss_bytes,
            ..ProcessFacts::default()
        };
        assert!(facts.rss_bytes.is_some());
        assert_eq!(facts, expected);
    }

    #[test]
    fn a_zombie_keeps_its_name_but_has_no_arguments() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let mut procfs = Procfs::new();
        let facts = loop {
            let facts = procfs.facts(child.id(), Detail::Full).unwrap();
            if facts.zombie {
                break facts;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        };
        assert_eq!(facts.comm, Some(Comm::from("true")));
        assert_eq!((facts.cmdline, facts.exe, facts.rss_bytes), (None, None, None));
        child.wait().unwrap();
        let error = procfs.facts(child.id(), Detail::Full).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn an_upgraded_executable_keeps_its_path() {
        assert_eq!(strip_deleted("/usr/bin/node (deleted)".to_owned()), "/usr/bin/node");
        assert_eq!(strip_deleted("/usr/bin/node".to_owned()), "/usr/bin/node");
    }
}
