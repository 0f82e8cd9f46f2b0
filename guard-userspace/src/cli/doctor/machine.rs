//! What is switched on around the kernel: evidence that killtrace uses when it is there.

use std::fs;
use std::io;
use std::path::Path;

use super::{About, Check, Lack};
use crate::collect::taskstats::TaskstatsSource;
use crate::collect::{is_paranoid, kmsg};

/// How to give the kernel a parameter.
macro_rules! boot_with {
    ($parameter:literal) => {
        concat!(
            "boot with ",
            $parameter,
            ". Raspberry Pi OS, and Kali or Ubuntu on a Raspberry Pi: add it to the line in \
             /boot/firmware/cmdline.txt. Debian, Kali, Ubuntu: add it to GRUB_CMDLINE_LINUX in /etc/default/grub and \
             run update-grub"
        )
    };
}

pub(super) fn checks() -> Vec<Check> {
    vec![taskstats(), kernel_log(), pressure(), memory_cgroup(), paranoia(), lockdown(), seccomp()]
}

fn taskstats() -> Check {
    let about = About {
        name: "taskstats",
        required: false,
        lost: "without BTF, and with the perf backend, exit codes of processes that end by themselves",
        kernel_option: Some("CONFIG_TASKSTATS and CONFIG_TASK_XACCT"),
        fix: "the kernels of Raspberry Pi OS, Debian, Kali and Ubuntu have it; not needed by the ebpf backend with BTF",
    };
    about.tried(TaskstatsSource::open().map(|_| "can be listened to".to_owned()).map_err(|error| {
        let error = anyhow::Error::new(error);
        match error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()) {
            Some(error) => Lack::io("the kernel", error),
            None => Lack::Absent(format!("{error:#}")),
        }
    }))
}

fn kernel_log() -> Check {
    let about = About {
        name: "kernel log",
        required: false,
        lost: "the limit that an OOM kill hit, the instruction that crashed",
        kernel_option: Some("CONFIG_PRINTK"),
        fix: "a kernel with this option, or /dev/kmsg in this container",
    };
    let tried = kmsg::available().map(|()| "/dev/kmsg can be read".to_owned());
    about.tried(tried.map_err(|error| Lack::io("/dev/kmsg", &error)))
}

fn pressure() -> Check {
    let about = About {
        name: "memory pressure",
        required: false,
        lost: "how long tasks waited for memory when a process died",
        kernel_option: Some("CONFIG_PSI"),
        fix: boot_with!("psi=1"),
    };
    let path = "/proc/pressure/memory";
    // With CONFIG_PSI_DEFAULT_DISABLED the file may exist and refuse to be read (EOPNOTSUPP).
    about.tried(match fs::read_to_string(path) {
        Ok(_) => Ok(path.to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Lack::Absent("it is off".to_owned())),
        Err(error) => Err(Lack::io(path, &error)),
    })
}

fn memory_cgroup() -> Check {
    let about = About {
        name: "memory cgroups",
        required: false,
        lost: "limits of cgroups; without them a cgroup cannot run out of memory either",
        kernel_option: Some("CONFIG_MEMCG"),
        fix: boot_with!("cgroup_enable=memory"),
    };
    let v2 = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").ok();
    let v1 = fs::read_to_string("/proc/cgroups").ok();
    about.tried(memory_controller(v2.as_deref(), v1.as_deref()).map(str::to_owned))
}

/// From the root's `cgroup.controllers` and /proc/cgroups, which a kernel with v2 alone may lack.
fn memory_controller(v2: Option<&str>, v1: Option<&str>) -> Result<&'static str, Lack> {
    if v2.is_some_and(|controllers| controllers.split_whitespace().any(|name| name == "memory")) {
        return Ok("on (cgroup v2)");
    }
    let enabled = |line: &str| {
        let mut columns = line.split_whitespace();
        (columns.next() == Some("memory")).then(|| columns.nth(2) == Some("1"))
    };
    match v1.and_then(|table| table.lines().find_map(enabled)) {
        Some(true) => Ok("on"),
        Some(false) => Err(Lack::Absent("switched off by the kernel's command line".to_owned())),
        None => Err(Lack::Absent("this kernel has none".to_owned())),
    }
}

fn paranoia() -> Check {
    let about = About {
        name: "perf_event_paranoid",
        required: false,
        lost: "",
        kernel_option: None,
        fix: "nothing to do for root; whoever else is to watch needs CAP_SYS_ADMIN as well, or a level of 2",
    };
    let path = "/proc/sys/kernel/perf_event_paranoid";
    // Above 2, kernels of Debian and Ubuntu take CAP_PERFMON for nothing.
    let spared = if is_paranoid() { "root or CAP_SYS_ADMIN" } else { "root or CAP_PERFMON" };
    about.tried(match fs::read_to_string(path) {
        Ok(level) => Ok(format!("{}; it does not bind {spared}", level.trim())),
        Err(error) => Err(Lack::io(path, &error)),
    })
}

fn lockdown() -> Check {
    let about = About {
        name: "lockdown",
        required: true,
        lost: "the kernel shows nothing of what it does",
        kernel_option: Some("CONFIG_SECURITY_LOCKDOWN_LSM"),
        fix: "boot with lockdown=integrity or lower (with Secure Boot, some kernels insist on more)",
    };
    let path = Path::new("/sys/kernel/security/lockdown");
    about.tried(lockdown_level(fs::read_to_string(path).ok().as_deref()))
}

/// `none [integrity] confidentiality`: the brackets are around the level in force.
fn lockdown_level(text: Option<&str>) -> Result<String, Lack> {
    let level = text.and_then(|text| text.split_once('[')?.1.split_once(']')).map(|(level, _)| level);
    match level {
        None => Ok("none".to_owned()),
        Some("confidentiality") => Err(Lack::Absent("confidentiality".to_owned())),
        Some(level) => Ok(level.to_owned()),
    }
}

fn seccomp() -> Check {
    let about = About {
        name: "seccomp",
        required: false,
        lost: "no answer; but once armed, killtrace cannot give up the system calls that it does not need any more",
        kernel_option: Some("CONFIG_SECCOMP_FILTER"),
        fix: "a kernel with this option, as those of all distributions are",
    };
    // Only a kernel with filters has it (kernel/seccomp.c).
    let path = "/proc/sys/kernel/seccomp/actions_avail";
    about.tried(match fs::read_to_string(path) {
        Ok(_) => Ok("system calls can be given up".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Lack::Absent("this kernel has no filters for system calls".to_owned()))
        }
        Err(error) => Err(Lack::io(path, &error)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_strictest_lockdown_forbids_reading() {
        assert_eq!(lockdown_level(Some("[none] integrity confidentiality\n")), Ok("none".to_owned()));
        assert_eq!(lockdown_level(Some("none [integrity] confidentiality\n")), Ok("integrity".to_owned()));
        assert!(lockdown_level(Some("none integrity [confidentiality]\n")).is_err());
        assert_eq!(lockdown_level(None), Ok("none".to_owned()));
    }

    #[test]
    fn a_memory_controller_is_found_in_either_hierarchy() {
        let table = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t1\t1\nmemory\t4\t12\t1\n";
        assert_eq!(memory_controller(Some("cpu memory pids\n"), None), Ok("on (cgroup v2)"));
        assert_eq!(memory_controller(Some("cpu\n"), Some(table)), Ok("on"));
        let off = memory_controller(None, Some(&table.replace("12\t1", "12\t0"))).unwrap_err();
        assert_eq!(off, Lack::Absent("switched off by the kernel's command line".to_owned()));
        assert!(memory_controller(None, Some("cpu\t1\t1\t1\n")).is_err());
        assert!(memory_controller(None, None).is_err());
    }
}
