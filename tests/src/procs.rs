//! Looking at processes through /proc, independently of killtrace.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

/// So many seconds, or more where the machine is slow: `KILLTRACE_PATIENCE` says how many times.
#[must_use]
pub fn patient(seconds: u64) -> Duration {
    let patience = std::env::var("KILLTRACE_PATIENCE").ok().and_then(|times| times.parse().ok());
    Duration::from_secs(seconds * patience.unwrap_or(1))
}

/// Waits until `look` finds something.
///
/// # Panics
/// When it has not after `seconds`, with patience.
pub fn eventually<T>(seconds: u64, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let limit = patient(seconds);
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {} s in vain for {what}", limit.as_secs());
        std::thread::sleep(pause);
        // A machine that is slow to get there must not be kept busy with looking.
        pause = (pause * 5 / 4).min(Duration::from_millis(50));
    }
}

/// A TCP port that nobody listens on.
///
/// # Panics
/// When the loopback interface has none.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("no free port on loopback");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// The arguments of a living process.
#[must_use]
pub fn cmdline(pid: u32) -> Option<Vec<String>> {
    let raw = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let text = raw.strip_suffix(b"\0").unwrap_or(&raw);
    Some(text.split(|&byte| byte == 0).map(|arg| String::from_utf8_lossy(arg).into_owned()).collect())
}

/// The name of a living process.
#[must_use]
pub fn comm(pid: u32) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned())
}

/// The parent of a living process.
#[must_use]
pub fn parent(pid: u32) -> Option<u32> {
    status_field(pid, "PPid:")?.parse().ok()
}

/// The pid a process has in its innermost PID namespace.
#[must_use]
pub fn namespace_pid(pid: u32) -> Option<u32> {
    status_field(pid, "NSpid:")?.split_whitespace().last()?.parse().ok()
}

/// A line of /proc/PID/status, `PPid:`, without its name.
#[must_use]
pub fn status_field(pid: u32, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
}

/// The living children of a process.
#[must_use]
pub fn children(pid: u32) -> Vec<u32> {
    processes().filter(|&other| parent(other) == Some(pid)).collect()
}

/// The process that listens on a TCP port.
#[must_use]
pub fn listener(port: u16) -> Option<u32> {
    let inodes: BTreeSet<String> =
        ["/proc/net/tcp", "/proc/net/tcp6"].iter().flat_map(|table| listening_inodes(table, port)).collect();
    processes().find(|pid| holds_socket(*pid, &inodes))
}

fn listening_inodes(table: &str, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let text = fs::read_to_string(table).unwrap_or_default();
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let local_port = fields.get(1)?.rsplit(':').next()?;
            let listens = *fields.get(3)? == LISTEN && u16::from_str_radix(local_port, 16) == Ok(port);
            listens.then(|| fields.get(9).map(|inode| (*inode).to_owned())).flatten()
        })
        .collect()
}

fn holds_socket(pid: u32, inodes: &BTreeSet<String>) -> bool {
    let Ok(fds) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    fds.flatten().filter_map(|fd| fs::read_link(fd.path()).ok()).any(|target| {
        let target = target.to_string_lossy();
        let inode = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
        inode.is_some_and(|inode| inodes.contains(inode))
    })
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
