//! Capabilities, and that no program which is started ever has more.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::Context as _;
use caps::{CapSet, Capability, CapsHashSet};
use nix::unistd::geteuid;

use super::Plans;
use crate::collect::{Upkeep, is_paranoid};

/// What reading /proc takes: programs, directories and sockets of other users' processes, and where /proc is mounted with
/// `hidepid`, that they are there at all (fs/proc/base.c, `proc_pid_readlink` and `has_pid_permissions`).
const READ_PROCESSES: [Capability; 2] = [Capability::CAP_SYS_PTRACE, Capability::CAP_DAC_READ_SEARCH];

/// What these plans take.
pub(super) fn needed(plans: &Plans) -> CapsHashSet {
    let mut needed = CapsHashSet::from(READ_PROCESSES);
    for upkeep in &plans.upkeep {
        let (narrow, more): (_, &[_]) = match upkeep {
            Upkeep::None => continue,
            Upkeep::ReadMaps => (Capability::CAP_BPF, &[]),
            Upkeep::OpenEvents => (Capability::CAP_PERFMON, &[Capability::CAP_IPC_LOCK]),
        };
        // The narrow one is of Linux 5.8; whoever was given only the broad one goes on with that.
        let held = caps::has_cap(None, CapSet::Permitted, narrow).unwrap_or(false);
        // Nor does the narrow one open events on some kernels, for a CPU that comes back.
        let is_enough = held && (*upkeep != Upkeep::OpenEvents || !is_paranoid());
        needed.insert(if is_enough { narrow } else { Capability::CAP_SYS_ADMIN });
        needed.extend(more);
    }
    if !plans.writes.iter().all(|place| may_write(place)) {
        // The second is for a file of somebody else in a directory where each may replace only his own.
        needed.extend([Capability::CAP_DAC_OVERRIDE, Capability::CAP_FOWNER]);
    }
    if plans.signals_command {
        needed.insert(Capability::CAP_KILL);
    }
    needed
}

/// It can be written to for what it is, without any capability.
fn may_write(place: &Path) -> bool {
    let Ok(metadata) = fs::metadata(place) else { return false };
    let (mode, own) = (metadata.permissions().mode(), metadata.uid() == geteuid().as_raw());
    let needed = if metadata.is_dir() { 0o3 } else { 0o2 };
    // Root's home belongs to root, which may still not be allowed to write there as such.
    if own { mode >> 6 & needed == needed } else { mode & needed == needed && mode & 0o1000 == 0 }
}

/// Gives up all others, for good: in every set, and for every program that is started.
pub(super) fn keep_only(needed: &CapsHashSet) -> anyhow::Result<()> {
    // Also what a setuid program would get.
    nix::sys::prctl::set_no_new_privs().context("no_new_privs was refused")?;
    let bounding = caps::read(None, CapSet::Bounding).unwrap_or_default();
    for &capability in bounding.difference(needed) {
        // Takes CAP_SETPCAP, which only root has: with no_new_privs nothing is lost without.
        if caps::drop(None, CapSet::Bounding, capability).is_err() {
            break;
        }
    }
    // The ambient ones follow the inheritable ones down.
    for set in [CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        let held = caps::read(None, set).context("it is not known which there are")?;
        let kept: CapsHashSet = held.intersection(needed).copied().collect();
        if kept != held {
            caps::set(None, set, &kept).context("the kernel refused")?;
        }
    }
    Ok(())
}

/// For people.
pub(super) fn names(capabilities: &CapsHashSet) -> String {
    let mut names: Vec<String> = capabilities.iter().map(ToString::to_string).collect();
    names.sort_unstable();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    fn plans(upkeep: Upkeep) -> Plans {
        Plans { upkeep: vec![upkeep, Upkeep::None], ..Plans::default() }
    }

    #[test]
    fn each_plan_takes_what_it_takes_and_nothing_else() {
        let quiet = needed(&plans(Upkeep::None));
        assert_eq!(quiet, READ_PROCESSES.into());
        let of = |plans: &Plans| -> Vec<String> {
            let more = needed(plans).difference(&quiet).copied().collect();
            names(&more).split(", ").map(str::to_owned).collect()
        };
        // Whoever runs the tests may have none of them.
        assert!(["CAP_BPF", "CAP_SYS_ADMIN"].contains(&of(&plans(Upkeep::ReadMaps))[0].as_str()));
        assert_eq!(of(&plans(Upkeep::OpenEvents))[0], "CAP_IPC_LOCK");
        assert_eq!(of(&Plans { signals_command: true, ..Plans::default() }), ["CAP_KILL"]);
        let nowhere = Plans { writes: vec!["/no/such/place".into()], ..Plans::default() };
        assert_eq!(of(&nowhere), ["CAP_DAC_OVERRIDE", "CAP_FOWNER"]);
    }

    #[test]
    fn a_directory_of_ones_own_needs_no_capability_unless_it_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        assert!(may_write(directory.path()));
        fs::set_permissions(directory.path(), Permissions::from_mode(0o500)).unwrap();
        assert!(!may_write(directory.path()), "as /root is on some systems");
        if geteuid().is_root() {
            fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
            std::os::unix::fs::chown(directory.path(), Some(65534), None).unwrap();
            assert!(may_write(directory.path()));
            fs::set_permissions(directory.path(), Permissions::from_mode(0o1777)).unwrap();
            assert!(!may_write(directory.path()), "another's file could not be replaced");
            fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
            assert!(!may_write(directory.path()));
        }
    }

    // Of a thread of its own: the test's other threads keep what they have.
    #[test]
    fn what_is_given_up_is_gone() {
        std::thread::spawn(|| {
            let kept = CapsHashSet::from([Capability::CAP_KILL]);
            keep_only(&kept).unwrap();
            let status = fs::read_to_string("/proc/thread-self/status").unwrap();
            let of = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
                u64::from_str_radix(line.trim(), 16).unwrap()
            };
            for name in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
                assert_eq!(of(name) & !Capability::CAP_KILL.bitmask(), 0, "{name}");
            }
            assert_eq!(of("NoNewPrivs:"), 1);
            if geteuid().is_root() {
                assert!(caps::raise(None, CapSet::Permitted, Capability::CAP_CHOWN).is_err());
            }
        })
        .join()
        .unwrap();
    }
}
