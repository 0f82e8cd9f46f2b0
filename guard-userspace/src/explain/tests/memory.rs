//! The OOM killer, and what looks like it.

use super::*;
use crate::model::Fact;
use crate::model::event::Fork;

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
