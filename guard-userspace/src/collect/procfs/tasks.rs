//! Who holds the memory of a cgroup.

use std::fs;
use std::path::{Path, PathBuf};

use crate::collect::host::page_size;
use crate::model::event::TaskMemory;
use crate::model::text::Comm;

/// So many are worth a name.
const NAMED: usize = 8;
/// So many are looked at, and so many directories: an answer must not take longer than what it is about.
const TASKS: usize = 2_000;
const DIRECTORIES: usize = 200;

/// The processes that hold most, in a cgroup and those below it, the largest first.
#[must_use]
pub(super) fn largest_in(cgroup: &Path) -> Vec<TaskMemory> {
    let mut tasks: Vec<(u64, u32)> = members(cgroup)
        .into_iter()
        .take(TASKS)
        .filter_map(|tgid| Some((rss_bytes(&fs::read_to_string(format!("/proc/{tgid}/statm")).ok()?)?, tgid)))
        .filter(|(rss_bytes, _)| *rss_bytes > 0)
        .collect();
    tasks.sort_unstable_by(|one, other| other.cmp(one));
    let named = tasks.into_iter().filter_map(|(rss_bytes, tgid)| {
        let comm = fs::read(format!("/proc/{tgid}/comm")).ok()?;
        let comm = Comm::from(comm.strip_suffix(b"\n").unwrap_or(&comm));
        Some(TaskMemory { tgid, comm, rss_bytes })
    });
    named.take(NAMED).collect()
}

fn members(cgroup: &Path) -> Vec<u32> {
    let mut directories: Vec<PathBuf> = vec![cgroup.to_owned()];
    let mut members = Vec::new();
    let mut next = 0;
    while let Some(directory) = directories.get(next).cloned() {
        next += 1;
        // A cgroup of threads refuses; its processes are in the one above.
        let procs = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        members.extend(procs.lines().filter_map(|line| line.parse::<u32>().ok()));
        let below = fs::read_dir(&directory).into_iter().flatten().flatten();
        let below = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let room = DIRECTORIES.saturating_sub(directories.len());
        directories.extend(below.map(|entry| entry.path()).take(room));
    }
    members
}

/// The second figure of statm, in pages (proc(5)).
fn rss_bytes(statm: &str) -> Option<u64> {
    statm.split(' ').nth(1)?.parse::<u64>().ok()?.checked_mul(page_size())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_come_first_from_all_cgroups_below() {
        let own = std::process::id();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let below = directory.path().join("a/b");
        fs::create_dir_all(&below).unwrap();
        fs::write(directory.path().join("cgroup.procs"), format!("{}\n4194305\n", child.id())).unwrap();
        fs::write(below.join("cgroup.procs"), format!("{own}\n")).unwrap();
        let largest = largest_in(directory.path());
        child.kill().unwrap();
        child.wait().unwrap();
        let pids: Vec<u32> = largest.iter().map(|task| task.tgid).collect();
        assert_eq!(pids, [own, child.id()], "{largest:?}");
        assert!(largest[0].rss_bytes > 1 << 20, "{largest:?}");
    }

    #[test]
    fn a_cgroup_that_has_gone_has_nobody() {
        assert_eq!(largest_in(Path::new("/no/such/cgroup")), []);
        assert_eq!((rss_bytes("9 x"), rss_bytes("")), (None, None));
    }
}
