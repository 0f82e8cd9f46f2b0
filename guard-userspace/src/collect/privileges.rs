//! Which capabilities an attempt lacked.

use std::error::Error;
use std::io;

use super::CollectError;

/// A capability by name, and the bits of include/uapi/linux/capability.h of which any will do.
pub(super) type Capability = (&'static str, u64);

const CAP_SYS_ADMIN: u64 = 1 << 21;
/// What kernels of Debian and Ubuntu ask of whoever calls `perf_event_open`, in the place of CAP_PERFMON.
const FOR_THE_PARANOID: Capability = ("CAP_SYS_ADMIN", CAP_SYS_ADMIN);
pub(super) const BPF: Capability = ("CAP_BPF", 1 << 39 | CAP_SYS_ADMIN);
pub(super) const PERFMON: Capability = ("CAP_PERFMON", 1 << 38 | CAP_SYS_ADMIN);
/// tracefs belongs to root; CAP_DAC_OVERRIDE opens it as well.
pub(super) const TRACEFS: Capability = ("CAP_DAC_READ_SEARCH", 1 << 2 | 1 << 1);

/// What a backend cannot do without.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needed(pub(super) &'static [Capability]);

impl Needed {
    /// The same error, unless the kernel said "not permitted" and capabilities are missing.
    pub(super) fn or_privileges(self, error: CollectError) -> CollectError {
        let mut source = Some(&error as &(dyn Error + 'static));
        while let Some(reason) = source {
            let io_error = reason.downcast_ref::<io::Error>();
            if io_error.is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied) {
                let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
                let mut missing = self.missing(&status);
                if missing.is_empty() && self.0.contains(&PERFMON) && is_paranoid() {
                    missing = Needed(&[FOR_THE_PARANOID]).missing(&status);
                }
                return if missing.is_empty() { error } else { CollectError::Privileges { missing } };
            }
            source = reason.source();
        }
        error
    }

    /// Those that a process does not have, from its `/proc/PID/status`.
    fn missing(self, status: &str) -> Vec<String> {
        let held = status
            .lines()
            .find_map(|line| line.strip_prefix("CapEff:"))
            .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
            .unwrap_or_default();
        self.0.iter().filter(|(_, any_of)| held & any_of == 0).map(|&(name, _)| name.to_owned()).collect()
    }
}

/// `kernel.perf_event_paranoid` is above what Linux itself knows. Debian's kernels (3, by default) and Ubuntu's (4) have a
/// patch by which `perf_event_open` (kernel/events/core.c, `perf_paranoid_any`) then asks for CAP_SYS_ADMIN.
#[must_use]
pub fn is_paranoid() -> bool {
    const LINUX: i32 = 2;
    let level = std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid");
    level.is_ok_and(|level| level.trim().parse::<i32>().is_ok_and(|level| level > LINUX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_capabilities_are_named() {
        let needed = Needed(&[BPF, PERFMON, TRACEFS]);
        let missing = |bits: &str| needed.missing(&format!("Name:\tx\nCapEff:\t{bits}\n"));
        assert_eq!(missing("000001ffffffffff"), [""; 0]);
        assert_eq!(missing("0000000000000000"), ["CAP_BPF", "CAP_PERFMON", "CAP_DAC_READ_SEARCH"]);
        assert_eq!(missing("0000008000000000"), ["CAP_PERFMON", "CAP_DAC_READ_SEARCH"]);
        assert_eq!(missing("0000000000200004"), [""; 0], "CAP_SYS_ADMIN includes both");
        assert_eq!(needed.missing("nonsense").len(), 3);
        assert_eq!(Needed(&[TRACEFS]).missing("nonsense").len(), 1);
        let paranoid = |bits: &str| Needed(&[FOR_THE_PARANOID]).missing(&format!("CapEff:\t{bits}\n"));
        assert_eq!(
            paranoid("000000c000000004"),
            ["CAP_SYS_ADMIN"],
            "CAP_BPF and CAP_PERFMON do not include it"
        );
    }

    #[test]
    fn permission_denied_with_all_capabilities_stays_what_it_is() {
        let error = CollectError::Tracefs(io::Error::from_raw_os_error(libc::ENOENT));
        assert!(matches!(Needed(&[BPF]).or_privileges(error), CollectError::Tracefs(_)));
    }
}
