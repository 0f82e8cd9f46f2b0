//! Memory figures of the machine and of memory cgroups, v1 and v2.

use std::fs;
use std::path::{Path, PathBuf};

use super::host::kb_field;
use super::tasks;
use crate::model::event::{CgroupMemory, Cgroups, MachineMemory};

/// The machine's memory now.
#[must_use]
pub fn machine_memory() -> MachineMemory {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    // Reading it is refused (EOPNOTSUPP) where PSI is compiled in and switched off.
    let pressure = fs::read_to_string("/proc/pressure/memory").ok();
    MachineMemory {
        available_bytes: kb_field(&meminfo, "MemAvailable:"),
        swap_free_bytes: kb_field(&meminfo, "SwapFree:"),
        psi_some_avg10: pressure.as_deref().and_then(some_avg10),
    }
}

/// `some avg10=1.53 avg60=...`
fn some_avg10(pressure: &str) -> Option<f64> {
    let some = pressure.lines().find_map(|line| line.strip_prefix("some "))?;
    some.split_ascii_whitespace().find_map(|field| field.strip_prefix("avg10="))?.parse().ok()
}

/// How much to read about a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupDetail {
    Figures,
    /// Also who holds most of what is limited.
    Tasks,
}

/// The figures of a process's memory cgroup, and of the nearest cgroup above it that has a limit.
///
/// Empty when the memory controller is off, or when all of them have been removed.
#[must_use]
pub fn cgroup_memory(cgroups: &Cgroups, detail: CgroupDetail) -> Vec<CgroupMemory> {
    let Ok(mountinfo) = fs::read_to_string("/proc/self/mountinfo") else { return Vec::new() };
    // A line for `memory` in /proc/PID/cgroup means that v1 has the controller; v2 cannot have it then.
    let (version, path) = match (&cgroups.memory, &cgroups.v2) {
        (Some(path), _) => (Version::V1, path),
        (None, Some(path)) => (Version::V2, path),
        (None, None) => return Vec::new(),
    };
    mounts(&mountinfo, version).iter().find_map(|mount| mount.figures(path, detail)).unwrap_or_default()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// Where a hierarchy with memory figures is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    version: Version,
    /// Path inside the hierarchy that the mount shows: not `/` in a container.
    root: String,
    point: PathBuf,
}

/// The mounts of the v2 hierarchy, or of the v1 hierarchy with the memory controller (proc(5), mountinfo).
fn mounts(mountinfo: &str, version: Version) -> Vec<Mount> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (mount, filesystem) = line.split_once(" - ")?;
            let mut mount = mount.split(' ').skip(3);
            let (root, point) = (mount.next()?, mount.next()?);
            let mut filesystem = filesystem.split(' ');
            let (kind, options) = (filesystem.next()?, filesystem.nth(1)?);
            let wanted = match version {
                Version::V2 => kind == "cgroup2",
                Version::V1 => kind == "cgroup" && options.split(',').any(|option| option == "memory"),
            };
            wanted.then(|| Mount { version, root: unescape(root), point: PathBuf::from(unescape(point)) })
        })
        .collect()
}

/// Undoes the octal escapes of mountinfo: space, tab, newline, backslash.
fn unescape(text: &str) -> String {
    ["\\040 ", "\\011\t", "\\012\n", "\\134\\"]
        .iter()
        .fold(text.to_owned(), |text, escape| text.replace(&escape[..4], &escape[4..]))
}

impl Mount {
    /// The cgroup itself and its nearest limited ancestor; `None` when this mount does not show the path.
    fn figures(&self, path: &str, detail: CgroupDetail) -> Option<Vec<CgroupMemory>> {
        self.directory(path)?;
        let mut found = Vec::new();
        found.extend(self.read(path));
        let limited_ancestor =
            ancestors(path).filter_map(|path| self.read(path)).find(|figures| figures.limit_bytes.is_some());
        found.extend(limited_ancestor);
        // The nearest limit is nearly always the one that was hit.
        let limited = found.iter_mut().find(|figures| figures.limit_bytes.is_some());
        if let Some(limited) = limited.filter(|_| detail == CgroupDetail::Tasks) {
            limited.largest =
                self.directory(&limited.path).map(|dir| tasks::largest_in(&dir)).unwrap_or_default();
        }
        Some(found)
    }

    /// The directory that stands for a path of the hierarchy.
    fn directory(&self, path: &str) -> Option<PathBuf> {
        let below = path.strip_prefix(self.root.trim_end_matches('/'))?;
        if !(below.is_empty() || below.starts_with('/')) || path.split('/').any(|part| part == "..") {
            return None;
        }
        Some(self.point.join(below.trim_start_matches('/')))
    }

    /// `None` when the cgroup does not exist or has no memory controller.
    fn read(&self, path: &str) -> Option<CgroupMemory> {
        let directory = self.directory(path)?;
        let (limit, usage, peak, events) = match self.version {
            Version::V2 => ("memory.max", "memory.current", "memory.peak", "memory.events"),
            Version::V1 => (
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "memory.max_usage_in_bytes",
                "memory.oom_control",
            ),
        };
        // The v2 root has no such files.
        let usage_bytes = number(&directory.join(usage))?;
        Some(CgroupMemory {
            path: path.to_owned(),
            limit_bytes: number(&directory.join(limit)).filter(|&limit| limit < UNLIMITED),
            usage_bytes: Some(usage_bytes),
            peak_bytes: number(&directory.join(peak)),
            oom_kills: fs::read_to_string(directory.join(events)).ok().and_then(|text| oom_kills(&text)),
            largest: Vec::new(),
        })
    }
}

/// What v1 shows when no limit is set: LONG_MAX rounded down to pages, of at most 64 KiB (mm/page_counter.c).
const UNLIMITED: u64 = 0x7fff_ffff_ffff_0000;

/// A file holding one number; `None` also for v2's `max`.
fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The `oom_kill` line of v2's `memory.events` and of v1's `memory.oom_control`.
fn oom_kills(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

/// The paths above a path, nearest first, `/` last.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(parent(path), |path| parent(path))
}

fn parent(path: &str) -> Option<&str> {
    let (above, _) = path.rsplit_once('/')?;
    match (above, path) {
        (_, "/") => None,
        ("", _) => Some("/"),
        (above, _) => Some(above),
    }
}

#[cfg(fuzzing)]
pub(super) fn read_as_anything(text: &str) {
    let _ = (some_avg10(text), oom_kills(text), unescape(text), kb_field(text, "MemTotal:"));
    let mounts = [mounts(text, Version::V1), mounts(text, Version::V2)];
    let _ = mounts.iter().flatten().filter_map(|mount| mount.directory(text)).count();
    assert!(ancestors(text).count() <= text.len() + 1, "a path has no end");
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
        36 31 0:33 / /sys/fs/cgroup/devices rw,relatime shared:9 - cgroup cgroup rw,devices\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

    #[test]
    fn hybrid_mounts_are_told_apart() {
        let v1 = mounts(HYBRID, Version::V1);
        assert_eq!(v1.len(), 1);
        assert_eq!(v1[0].point, Path::new("/sys/fs/cgroup/memory"));
        assert_eq!(mounts(HYBRID, Version::V2)[0].point, Path::new("/sys/fs/cgroup/unified"));
    }

    #[test]
    fn a_container_sees_its_part_of_the_hierarchy() {
        let info = "900 1 0:28 /docker/abc /sys/fs/cg\\040roup ro master:4 - cgroup2 cgroup rw\n";
        let mounts = mounts(info, Version::V2);
        let directory = |path| mounts[0].directory(path);
        assert_eq!(directory("/docker/abc").unwrap(), Path::new("/sys/fs/cg roup/"));
        assert_eq!(directory("/docker/abc/x").unwrap(), Path::new("/sys/fs/cg roup/x"));
        assert_eq!(directory("/docker/abcd"), None);
        assert_eq!(directory("/docker/abc/../x"), None);
        assert_eq!(directory("/"), None);
    }

    #[test]
    fn ancestors_end_at_the_root() {
        assert_eq!(ancestors("/a/b/c").collect::<Vec<_>>(), ["/a/b", "/a", "/"]);
        assert_eq!(ancestors("/").count(), 0);
    }

    /// A directory that looks like a hierarchy.
    fn tree(version: Version, files: &[(&str, &str)]) -> (tempfile::TempDir, Mount) {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let mount = Mount { version, root: "/".to_owned(), point: directory.path().to_owned() };
        (directory, mount)
    }

    #[test]
    fn v2_reports_the_cgroup_and_its_nearest_limited_ancestor() {
        let (_directory, mount) = tree(
            Version::V2,
            &[
                ("a/memory.max", "536870912\n"),
                ("a/memory.current", "536866816\n"),
                ("a/memory.events", "low 0\noom 4\noom_kill 3\noom_group_kill 0\n"),
                ("a/b/memory.max", "max\n"),
                ("a/b/memory.current", "1\n"),
                ("a/b/c/memory.max", "max\n"),
                ("a/b/c/memory.current", "4096\n"),
                ("a/b/c/memory.peak", "8192\n"),
            ],
        );
        let figures = mount.figures("/a/b/c", CgroupDetail::Figures).unwrap();
        let [own, limited] = figures.as_slice() else { panic!("{figures:?}") };
        assert_eq!((own.path.as_str(), own.limit_bytes, own.usage_bytes), ("/a/b/c", None, Some(4096)));
        assert_eq!((own.peak_bytes, own.oom_kills), (Some(8192), None));
        assert_eq!((limited.path.as_str(), limited.limit_bytes), ("/a", Some(536_870_912)));
        assert_eq!(limited.oom_kills, Some(3));
    }

    #[test]
    fn v1_without_a_limit_has_none() {
        let (_directory, mount) = tree(
            Version::V1,
            &[
                ("a/memory.limit_in_bytes", "9223372036854771712\n"),
                ("a/memory.usage_in_bytes", "77\n"),
                ("a/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n"),
            ],
        );
        let figures = mount.figures("/a", CgroupDetail::Figures).unwrap();
        assert_eq!(figures.len(), 1);
        assert_eq!((figures[0].limit_bytes, figures[0].oom_kills), (None, Some(5)));
    }

    #[test]
    fn a_removed_cgroup_leaves_its_ancestor() {
        let (_directory, mount) =
            tree(Version::V2, &[("a/memory.max", "4096\n"), ("a/memory.current", "1\n")]);
        let figures = mount.figures("/a/gone", CgroupDetail::Figures).unwrap();
        assert_eq!(figures.iter().map(|figures| figures.path.as_str()).collect::<Vec<_>>(), ["/a"]);
    }

    #[test]
    fn pressure_and_machine_memory_are_read() {
        assert_eq!(some_avg10("some avg10=1.53 avg60=0.1 avg300=0 total=9\nfull avg10=0.5\n"), Some(1.53));
        assert_eq!(some_avg10(""), None);
        assert!(machine_memory().available_bytes.is_some_and(|bytes| bytes > 0));
    }
}
