//! The OOM killer, and what looks like it.

use super::*;
use crate::model::Fact;
use crate::model::event::{CgroupMemory, Fork, TaskMemory};
use crate::model::text::Comm;

/// The kernel's SIGKILL to a process while `current` writes to a file.
fn killed_in_a_write(scenario: &mut Scenario, current: u32, victim: u32) {
    let current = scenario.current(current);
    scenario.kernel(current, victim, Signo::KILL, Call::Write);
}

#[test]
fn a_cpu_limit_that_is_reached_in_a_write_is_no_sysrq() {
    let mut scenario = vite();
    let own = scenario.current(100);
    scenario.kernel(own, 100, Signo::XCPU, Call::Write);
    killed_in_a_write(&mut scenario, 100, 100);
    let death = scenario.dies(100, Signo::KILL).death(100);
    assert_eq!((death.cause.kind, death.cause.confidence), (Kind::Rlimit, Confidence::Certain));
}

#[test]
fn who_shares_the_memory_of_the_one_that_is_chosen_dies_of_the_same() {
    let mut scenario = vite();
    scenario.spawn(40, 200, &["/usr/bin/eater"]);
    let parent = scenario.current(100);
    let fork = Fork {
        child_tid: 101,
        child_tgid: 101,
        clone_flags: 0x100,
        ppid: Some(100),
        ns_tgid: None,
        start_boottime_ns: None,
    };
    scenario.push(Some(parent), Fact::Fork(fork));
    killed_in_a_write(&mut scenario, 200, 100);
    scenario.oom_mark(200, 100);
    killed_in_a_write(&mut scenario, 200, 101);
    scenario.dies(100, Signo::KILL).dies(101, Signo::KILL);
    let report = scenario.watch(100);
    for death in &report.deaths {
        assert_eq!((death.cause.kind, death.cause.confidence), (Kind::OomKill, Confidence::Certain));
        assert!(death.killer.is_none() && death.cause.oom.is_some(), "{}", death.summary);
    }
    assert_eq!(report.deaths.len(), 2);
}

#[test]
fn who_may_share_the_memory_of_the_one_that_is_chosen_likely_does() {
    let mut scenario = Scenario::new();
    scenario.seed(40, 1, "bash", &["/bin/bash"]).seed(100, 40, "node", VITE).seed(101, 100, "node", VITE);
    scenario.seeded().spawn(40, 200, &["/usr/bin/eater"]);
    killed_in_a_write(&mut scenario, 200, 100);
    scenario.oom_mark(200, 100);
    killed_in_a_write(&mut scenario, 200, 101);
    let death = scenario.dies(100, Signo::KILL).dies(101, Signo::KILL).death(101);
    assert_cause(&death, Kind::OomKill, Mechanism::Kernel, Confidence::Likely);
    assert_eq!(death.cause.detail.as_deref(), Some("shared_memory"));
}

#[test]
fn sysrq_f_is_told_by_the_kernel_log_and_a_worker() {
    for log in [true, false] {
        let mut scenario = vite();
        killed_in_a_write(&mut scenario, 50, 100);
        scenario.oom_mark(50, 100);
        if log {
            scenario.push(None, Fact::KernelLog { text: "sysrq: Manual OOM execution".to_owned() });
        }
        let death = scenario.dies(100, Signo::KILL).death(100);
        let expected =
            if log { (Kind::Sysrq, Confidence::Certain) } else { (Kind::OomKill, Confidence::Likely) };
        assert_eq!((death.cause.kind, death.cause.confidence), expected, "{}", death.summary);
        assert!(death.killer.is_none(), "{}", death.summary);
    }
}

/// Vite, in a container of docker's whose limit is hit when another asks for memory.
fn contained(docker: &str) -> Scenario {
    const LIMIT: Option<u64> = Some(300 << 20);
    let mut scenario = vite();
    scenario.cgroup(100, docker).spawn(40, 200, &["/usr/bin/eater"]);
    killed_in_a_write(&mut scenario, 200, 100);
    scenario.oom_mark(200, 100);
    let task = |tgid, comm: &str, mib: u64| TaskMemory { tgid, comm: Comm::from(comm), rss_bytes: mib << 20 };
    let then = CgroupMemory {
        path: docker.to_owned(),
        limit_bytes: LIMIT,
        usage_bytes: LIMIT,
        peak_bytes: LIMIT,
        oom_kills: Some(1),
        largest: vec![task(100, "node", 200), task(200, "eater", 90)],
    };
    scenario.push(None, Fact::CgroupMemory(then.clone()));
    scenario.dies(100, Signo::KILL);
    let later = CgroupMemory { usage_bytes: Some(90 << 20), largest: Vec::new(), ..then };
    scenario.push(None, Fact::CgroupMemory(later));
    scenario
}

#[test]
fn a_container_is_told_with_its_limit_its_largest_and_who_only_asked() {
    let docker = format!("/docker/4f3cbd1a9e0c{}", "0".repeat(52));
    let death = contained(&docker).death(100);
    assert_cause(&death, Kind::OomKill, Mechanism::Kernel, Confidence::Certain);
    let start = "vite (pid 100) was killed by the kernel's OOM killer: its container 4f3cbd1a9e0c had reached its memory \
                 limit of 300 MiB.";
    assert!(death.summary.starts_with(start), "{}", death.summary);
    assert!(death.summary.ends_with("eater (pid 200) asked for memory at that moment and is not to blame."));
    let oom = death.cause.oom.as_ref().unwrap();
    assert_eq!(
        oom.usage_bytes,
        Some(300 << 20),
        "as it was then, not when the victim had given back its own"
    );
    let largest: Vec<_> = oom.largest_tasks.iter().map(|task| (task.pid, task.name.as_str())).collect();
    assert_eq!(largest, [(100, "vite"), (200, "eater")]);
    assert!(death.advice[0].contains("`docker update --memory SIZE --memory-swap SIZE 4f3cbd1a9e0c`"));
}

#[test]
fn a_limit_is_raised_where_it_is_set() {
    let id = "5".repeat(64);
    for (cgroup, advice) in [
        (format!("/machine.slice/libpod-{id}.scope"), "`podman update --memory SIZE"),
        (format!("/kubepods/besteffort/pod1/{id}"), "resources.limits.memory in its pod's manifest"),
        ("/lxc.payload.web".to_owned(), "in the configuration of web"),
        (
            "/system.slice/web.service".to_owned(),
            "MemoryMax= in `systemctl edit web.service` raises the limit of 300 MiB.",
        ),
        ("/build".to_owned(), "Raise the limit of /build (300 MiB)"),
    ] {
        let death = contained(&cgroup).death(100);
        assert!(death.advice[0].contains(advice), "{:?}", death.advice);
    }
}
