//! Which process listens on which TCP port.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;

use nix::fcntl::{OFlag, open, readlinkat};
use nix::sys::stat::Mode;

/// Listening sockets by inode, of each network namespace that was looked at.
///
/// A snapshot: make a new one for each question.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    by_namespace: HashMap<String, HashMap<u64, u16>>,
}

impl Sockets {
    /// The ports a process listens on, sorted; `None` when its descriptors cannot be read.
    pub(super) fn of(&mut self, tgid: u32) -> Option<Vec<u16>> {
        let namespace = fs::read_link(format!("/proc/{tgid}/ns/net")).ok()?.to_string_lossy().into_owned();
        let ports = self.by_namespace.entry(namespace).or_insert_with(|| read_tables(tgid));
        if ports.is_empty() {
            return Some(Vec::new());
        }
        // A directory handle pins the process: a reused pid cannot answer for it.
        let path = format!("/proc/{tgid}/fd");
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = open(path.as_str(), flags, Mode::empty()).ok()?;
        let mut found = BTreeSet::new();
        for entry in fs::read_dir(&path).ok()?.flatten() {
            let Ok(link) = readlinkat(directory.as_fd(), entry.file_name().as_os_str()) else { continue };
            if let Some(port) = link.to_str().and_then(socket_inode).and_then(|inode| ports.get(&inode)) {
                found.insert(*port);
            }
        }
        Some(found.into_iter().collect())
    }
}

/// The ports of every process that listens on one.
#[must_use]
pub fn listeners() -> HashMap<u32, Vec<u16>> {
    let mut sockets = Sockets::default();
    super::processes()
        .filter_map(|tgid| sockets.of(tgid).filter(|ports| !ports.is_empty()).map(|ports| (tgid, ports)))
        .collect()
}

/// The TCP ports one process listens on, in its own network namespace.
///
/// `None` when its descriptors cannot be read: it has gone, or killtrace may not look.
#[must_use]
pub fn listening(tgid: u32) -> Option<Vec<u16>> {
    Sockets::default().of(tgid)
}

fn read_tables(tgid: u32) -> HashMap<u64, u16> {
    let mut ports = HashMap::new();
    for table in ["tcp", "tcp6"] {
        if let Ok(file) = File::open(format!("/proc/{tgid}/net/{table}")) {
            listening_sockets(BufReader::new(file), &mut ports);
        }
    }
    ports
}

/// Reads a /proc/net/tcp table up to the first socket that does not listen.
///
/// The kernel walks the listening sockets first (net/ipv4/tcp_ipv4.c, `tcp_get_idx`), so that a server with
/// a hundred thousand connections costs no more than an idle one.
fn listening_sockets(table: impl BufRead, ports: &mut HashMap<u64, u16>) {
    const TCP_LISTEN: &str = "0A";
    for line in table.lines().map_while(Result::ok).skip(1) {
        let mut fields = line.split_ascii_whitespace();
        let (Some(local), Some(state)) = (fields.nth(1), fields.nth(1)) else { return };
        if state != TCP_LISTEN {
            return;
        }
        let port = local.rsplit_once(':').and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
        let inode = fields.nth(5).and_then(|inode| inode.parse().ok());
        if let (Some(port), Some(inode)) = (port, inode) {
            ports.insert(inode, port);
        }
    }
}

/// The inode of `socket:[123]`.
fn socket_inode(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(fuzzing)]
pub(super) fn read_as_table(bytes: &[u8]) {
    listening_sockets(bytes, &mut HashMap::new());
    let _ = socket_inode(&String::from_utf8_lossy(bytes));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_sockets_come_first_and_the_rest_is_not_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:1451 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 48213 1 0 100 0 0 10 0\n   \
            1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 22 1 0 100 0 0 10 0\n   \
            2: 0100007F:1451 0100007F:D431 01 00000000:00000000 00:00000000 00000000  1000        0 999 1 0 20 4 30 10 -1\n   \
            3: 0100007F:9999 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1 1 0 100 0 0 10 0\n";
        let mut ports = HashMap::new();
        listening_sockets(table.as_bytes(), &mut ports);
        assert_eq!(ports, HashMap::from([(48213, 5201), (22, 22)]));
    }

    #[test]
    fn ipv6_rows_have_the_port_after_the_last_colon() {
        let table = "header\n   0: 00000000000000000000000001000000:1435 00000000000000000000000000000000:0000 0A \
            00000000:00000000 00:00000000 00000000  1000        0 77 1 0 100 0 0 10 0\n";
        let mut ports = HashMap::new();
        listening_sockets(table.as_bytes(), &mut ports);
        assert_eq!(ports, HashMap::from([(77, 5173)]));
    }

    #[test]
    fn only_sockets_have_a_socket_inode() {
        assert_eq!(socket_inode("socket:[48213]"), Some(48213));
        assert_eq!(socket_inode("pipe:[48213]"), None);
        assert_eq!(socket_inode("/tmp/socket:[1]"), None);
    }
}
