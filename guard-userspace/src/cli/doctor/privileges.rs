//! What this process may do.

use std::fs;

use super::{About, Check, Lack, State};
use crate::cli::failure::how_to_get_privileges;

/// The two ways to get privileges.
pub(super) const HOW_TO_GET: &str = how_to_get_privileges!(" ");

/// A capability (include/uapi/linux/capability.h), and another one that includes it.
struct Capability {
    about: About,
    bit: u32,
    /// The broader capability that did its work before Linux 5.8, and still does.
    or: u32,
}

const CAP_DAC_OVERRIDE: u32 = 1;
const CAP_SYS_ADMIN: u32 = 21;

const fn capability(bit: u32, or: u32, name: &'static str, required: bool, lost: &'static str) -> Capability {
    Capability { about: About { name, required, lost, kernel_option: None, fix: HOW_TO_GET }, bit, or }
}

const CAPABILITIES: [Capability; 6] = [
    // The perf backend does without.
    capability(39, CAP_SYS_ADMIN, "CAP_BPF", false, "no eBPF program can be loaded"),
    capability(38, CAP_SYS_ADMIN, "CAP_PERFMON", true, "no probe can be attached"),
    capability(
        2,
        CAP_DAC_OVERRIDE,
        "CAP_DAC_READ_SEARCH",
        // tracefs itself is tried: it may be open to a group.
        false,
        "tracefs, where the kernel says what its probes record, cannot be read",
    ),
    capability(
        19,
        CAP_SYS_ADMIN,
        "CAP_SYS_PTRACE",
        false,
        "the program, directory and sockets of other users' processes stay unknown",
    ),
    capability(
        34,
        CAP_SYS_ADMIN,
        "CAP_SYSLOG",
        false,
        "the kernel log, which names a cgroup's limit, stays closed",
    ),
    capability(
        12,
        12,
        "CAP_NET_ADMIN",
        false,
        "taskstats stays closed: without BTF, and with the perf backend, some exit codes stay unknown",
    ),
];

/// Inode numbers of the initial namespaces (include/linux/proc_ns.h).
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";
const INITIAL_USER_NAMESPACE: &str = "user:[4026531837]";

pub(super) fn checks() -> Vec<Check> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = effective(&status);
    let mut checks: Vec<_> =
        CAPABILITIES.iter().map(|capability| capability.about.tried(held(effective, capability))).collect();
    checks.push(user_namespace());
    checks.push(pid_namespace());
    checks
}

/// The capabilities that every watch needs and this process lacks.
pub(crate) fn missing() -> Vec<String> {
    let checks = checks().into_iter().filter(|check| check.required && check.state == State::NoPrivileges);
    checks.map(|check| check.name).collect()
}

/// `CapEff` of /proc/self/status.
fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn held(effective: Option<u64>, capability: &Capability) -> Result<String, Lack> {
    let Some(effective) = effective else {
        return Err(Lack::Absent("/proc/self/status does not say; is /proc mounted?".to_owned()));
    };
    let has = |bit: u32| effective & (1 << bit) != 0;
    if has(capability.bit) {
        Ok("held".to_owned())
    } else if has(capability.or) {
        Ok("held as part of a broader capability".to_owned())
    } else {
        Err(Lack::Privileges("not held".to_owned()))
    }
}

fn user_namespace() -> Check {
    let about = About {
        name: "user namespace",
        required: true,
        lost: "the kernel does not honour capabilities that only count inside a container",
        kernel_option: None,
        fix: "run it on the host, or in a container without a user namespace of its own (--privileged \
              --userns=host)",
    };
    about.tried(namespace("/proc/self/ns/user", INITIAL_USER_NAMESPACE))
}

fn pid_namespace() -> Check {
    let about = About {
        name: "PID namespace",
        required: true,
        lost: "the kernel's events carry pids of the host, which cannot be looked up here",
        kernel_option: None,
        fix: "run it on the host, or in a container with --pid=host",
    };
    about.tried(namespace("/proc/self/ns/pid", INITIAL_PID_NAMESPACE))
}

fn namespace(link: &str, initial: &str) -> Result<String, Lack> {
    match fs::read_link(link) {
        Ok(name) if name.as_os_str() == initial => Ok("the machine's own".to_owned()),
        Ok(_) => Err(Lack::Absent("a container's".to_owned())),
        // A kernel without namespaces has one, which is everybody's.
        Err(_) => Ok("the only one".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effective_capabilities_are_read() {
        assert_eq!(effective("Name:\tx\nCapEff:\t000001ffffffffff\nCapBnd:\t0\n"), Some(0x1ff_ffff_ffff));
        assert_eq!(effective("Name:\tx\n"), None);
    }

    #[test]
    fn root_holds_everything_and_nobody_nothing() {
        for capability in &CAPABILITIES {
            assert!(held(Some(u64::MAX), capability).is_ok());
            assert_eq!(held(Some(0), capability), Err(Lack::Privileges("not held".to_owned())));
            assert!(held(None, capability).is_err());
        }
    }

    #[test]
    fn the_old_capability_includes_the_new_ones() {
        let admin = 1 << CAP_SYS_ADMIN;
        assert!(held(Some(admin), &CAPABILITIES[0]).is_ok());
        assert!(held(Some(admin), &CAPABILITIES[2]).is_err());
    }

    #[test]
    fn a_missing_capability_says_how_to_get_it() {
        let check = CAPABILITIES[0].about.tried(held(Some(0), &CAPABILITIES[0]));
        assert!(check.fix.unwrap().contains("setcap cap_bpf"));
        assert_eq!(check.lost.as_deref(), Some("no eBPF program can be loaded"));
    }
}
