//! The machine itself: what it is, what time it is, who its users are.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};

use crate::model::header::Host;

/// What this machine is, as far as it tells.
#[must_use]
pub fn host() -> Host {
    let (hostname, kernel, arch) = match nix::sys::utsname::uname() {
        Ok(uname) => (
            uname.nodename().to_string_lossy().into_owned(),
            uname.release().to_string_lossy().into_owned(),
            uname.machine().to_string_lossy().into_owned(),
        ),
        Err(_) => (String::new(), String::new(), String::new()),
    };
    Host {
        hostname,
        kernel,
        arch,
        page_size: page_size(),
        boot_id: fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|id| id.trim().to_owned()),
        cpus: fs::read_to_string("/sys/devices/system/cpu/online")
            .ok()
            .and_then(|list| count_cpus(&list))
            .unwrap_or(1),
        memory_bytes: fs::read_to_string("/proc/meminfo").ok().and_then(|text| kb_field(&text, "MemTotal:")),
    }
}

/// CLOCK_BOOTTIME, in nanoseconds: the clock of every event.
#[must_use]
pub fn boottime_ns() -> u64 {
    u64::try_from(clock_ns(ClockId::CLOCK_BOOTTIME)).unwrap_or(0)
}

/// CLOCK_MONOTONIC, and CLOCK_BOOTTIME minus it, in nanoseconds.
pub(super) fn monotonic_and_offset_ns() -> (u64, i64) {
    let mono = clock_ns(ClockId::CLOCK_MONOTONIC);
    (u64::try_from(mono).unwrap_or(0), -minus_boottime_ns(ClockId::CLOCK_MONOTONIC))
}

/// CLOCK_REALTIME minus CLOCK_BOOTTIME, in nanoseconds.
#[must_use]
pub fn wall_minus_boottime_ns() -> i64 {
    minus_boottime_ns(ClockId::CLOCK_REALTIME)
}

/// A clock minus CLOCK_BOOTTIME, in nanoseconds.
///
/// It is read between two readings of the other one; of three tries the one with the smallest window counts, so that
/// being scheduled away in between does not shift every time in the report, or look like a suspension.
fn minus_boottime_ns(clock: ClockId) -> i64 {
    (0..3)
        .map(|_| {
            let before = clock_ns(ClockId::CLOCK_BOOTTIME);
            let time = clock_ns(clock);
            let after = clock_ns(ClockId::CLOCK_BOOTTIME);
            (after - before, time - (before + (after - before) / 2))
        })
        .min()
        .map_or(0, |(_, offset)| offset)
}

/// Both clocks exist on every Linux since 2.6.39, so a failure is not worth an error type; it reads as 0.
fn clock_ns(clock: ClockId) -> i64 {
    clock_gettime(clock).map_or(0, |time| i64::try_from(Duration::from(time).as_nanos()).unwrap_or(i64::MAX))
}

/// Size of a memory page, in bytes: 4096, or 16384 on a Raspberry Pi 5.
#[must_use]
pub fn page_size() -> u64 {
    sysconf_u64(SysconfVar::PAGE_SIZE).unwrap_or(4096)
}

/// Clock ticks per second, in which /proc/PID/stat counts.
pub(super) fn ticks_per_second() -> u64 {
    sysconf_u64(SysconfVar::CLK_TCK).filter(|&ticks| ticks > 0).unwrap_or(100)
}

fn sysconf_u64(variable: SysconfVar) -> Option<u64> {
    sysconf(variable).ok().flatten().and_then(|value| u64::try_from(value).ok())
}

/// How many CPUs a kernel CPU list names, `0-3,6` being five.
///
/// Read from /sys instead of asking libc, whose musl version counts only those this process may run on.
fn count_cpus(list: &str) -> Option<u32> {
    list.trim().split(',').try_fold(0u32, |count, range| {
        let (first, last) = cpu_range(range)?;
        count.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}

/// The CPUs that are online now, in ascending order.
pub(super) fn online_cpus() -> io::Result<Vec<u32>> {
    let list = fs::read_to_string("/sys/devices/system/cpu/online")?;
    let ranges: Option<Vec<_>> = list.trim().split(',').map(cpu_range).collect();
    let ranges = ranges.ok_or_else(|| io::Error::other("the list of online CPUs is damaged"))?;
    Ok(ranges.into_iter().flat_map(|(first, last)| first..=last).collect())
}

fn cpu_range(range: &str) -> Option<(u32, u32)> {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    Some((first.parse().ok()?, last.parse().ok()?))
}

/// A `Name:   123 kB` line of /proc/meminfo or /proc/PID/status, in bytes.
pub(super) fn kb_field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The machine's user names, from /etc/passwd.
///
/// Not from NSS: a static binary cannot load its modules. Users of a directory service show as numbers.
#[derive(Debug)]
pub struct Users {
    path: PathBuf,
    modified: Option<SystemTime>,
    names: HashMap<u32, String>,
}

impl Default for Users {
    fn default() -> Self {
        Self::from_file("/etc/passwd")
    }
}

impl Users {
    fn from_file(path: impl Into<PathBuf>) -> Self {
        let mut users = Self { path: path.into(), modified: None, names: HashMap::new() };
        users.refresh();
        users
    }

    /// Reads the file again if it changed since. One `stat`, so call it per look-up in /proc, not per name.
    pub fn refresh(&mut self) {
        let modified = fs::metadata(&self.path).and_then(|meta| meta.modified()).ok();
        if modified.is_some() && modified == self.modified {
            return;
        }
        // A file that is being replaced just now must not empty the table.
        if let Ok(text) = fs::read(&self.path) {
            self.names = parse_passwd(&String::from_utf8_lossy(&text)).collect();
            self.modified = modified;
        }
    }

    #[must_use]
    pub fn name(&self, uid: u32) -> Option<&str> {
        self.names.get(&uid).map(String::as_str)
    }
}

/// The name of a user, `None` when /etc/passwd does not have it.
#[must_use]
pub fn user_name(uid: u32) -> Option<String> {
    Users::default().names.remove(&uid)
}

/// The number of a user given by name or number. A number need not belong to a known user: containers and
/// `DynamicUser=` services run as such.
///
/// # Errors
/// When /etc/passwd cannot be read; `Ok(None)` when it has no such user.
pub fn user_id(name_or_number: &str) -> io::Result<Option<u32>> {
    let text = fs::read("/etc/passwd");
    let by_name = match &text {
        Ok(text) => parse_passwd(&String::from_utf8_lossy(text))
            .find(|(_, name)| name == name_or_number)
            .map(|(uid, _)| uid),
        Err(_) => None,
    };
    match (by_name.or_else(|| name_or_number.parse().ok()), text) {
        (Some(uid), _) => Ok(Some(uid)),
        (None, Ok(_)) => Ok(None),
        (None, Err(error)) => Err(error),
    }
}

/// `(uid, name)` of every well-formed line; the first line of a uid wins, as in libc.
fn parse_passwd(text: &str) -> impl Iterator<Item = (u32, String)> {
    let mut seen = std::collections::HashSet::new();
    text.lines().filter_map(move |line| {
        let mut fields = line.split(':');
        let (name, uid) = (fields.next()?, fields.nth(1)?.parse().ok()?);
        // `+` and `-` lines are NIS includes, not users.
        (!name.is_empty() && !name.starts_with(['+', '-', '#']) && seen.insert(uid))
            .then(|| (uid, name.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn cpu_lists_are_counted() {
        assert_eq!(count_cpus("0\n"), Some(1));
        assert_eq!(count_cpus("0-3\n"), Some(4));
        assert_eq!(count_cpus("0-3,6,8-9"), Some(7));
        assert_eq!(count_cpus(""), None);
        assert_eq!(count_cpus("3-1"), None);
    }

    #[test]
    fn kb_fields_are_bytes() {
        let text = "MemTotal:        8049384 kB\nMemFree:  1 kB\n";
        assert_eq!(kb_field(text, "MemTotal:"), Some(8_049_384 * 1024));
        assert_eq!(kb_field(text, "MemAvailable:"), None);
    }

    #[test]
    fn passwd_lines_give_names() {
        let text =
            "root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:\n+nis:x:7::\nbroken\nkali:x:1000:1000::/:/bin/zsh";
        let users: Vec<_> = parse_passwd(text).collect();
        assert_eq!(users, [(0, "root".to_owned()), (1000, "kali".to_owned())]);
    }

    #[test]
    fn a_changed_passwd_file_is_read_again() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"a:x:1:1:::\n").unwrap();
        let mut users = Users::from_file(file.path());
        assert_eq!((users.name(1), users.name(2)), (Some("a"), None));
        file.write_all(b"b:x:2:2:::\n").unwrap();
        file.as_file().set_modified(SystemTime::now() + Duration::from_secs(5)).unwrap();
        users.refresh();
        assert_eq!((users.name(1), users.name(2)), (Some("a"), Some("b")));
    }

    #[test]
    fn a_number_is_a_user_without_an_entry() {
        assert_eq!(user_id("3999999").unwrap(), Some(3_999_999));
        assert_eq!(user_id("no such user").unwrap(), None);
        assert_eq!(user_id("root").unwrap(), Some(0));
    }

    #[test]
    fn the_two_clocks_agree_with_the_offset() {
        let wall = clock_ns(ClockId::CLOCK_REALTIME);
        let ours = wall_minus_boottime_ns() + i64::try_from(boottime_ns()).unwrap();
        assert!((ours - wall).abs() < 1_000_000_000, "{ours} and {wall} are over a second apart");
    }

    #[test]
    fn this_machine_describes_itself() {
        let host = host();
        assert!(!host.kernel.is_empty() && !host.arch.is_empty());
        assert!(host.cpus >= 1 && host.page_size >= 4096);
        assert!(host.memory_bytes.is_some_and(|bytes| bytes > 1 << 20));
        assert!(host.boot_id.is_some_and(|id| id.len() == 36));
    }
}
