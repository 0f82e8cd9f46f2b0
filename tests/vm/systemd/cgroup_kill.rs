//! systemd ends all of a unit with SIGKILL: by `cgroup.kill` where it was asked to kill it, one by one where it stops it.
//! (src/core/unit.c: `unit_kill` since 257, `unit_kill_context`.)

use killtrace::model::report::{Confidence, Death, Job, Kind, Mechanism, Role, UnitScope};
use killtrace_tests::{Manager, Outcome, Systemd, Watch, comm, eventually, patient};

const SYSTEM: Manager = Manager::System;
const UNIT: &str = "kt-doomed.service";

/// `systemctl kill -s KILL`. Its main process systemd kills by itself, all others through the cgroup.
pub(crate) fn when_asked() {
    let systemd = Systemd::boot().expect("this machine has booted it");
    let watch = Watch::start(&["--unit", UNIT]);
    let main = systemd.start(SYSTEM, UNIT, "ExecStart=/bin/sh -c 'sleep 1000 & exec sleep 1001'")[0];
    let (main, left) = both(&systemd, main);
    systemd.run_script("prune.sh", "systemctl kill -s KILL kt-doomed\n");
    watch.until_dead(&[main, left]);
    let outcome = watch.stop();

    killed_by_systemd(&outcome, main, None);
    let death = killed_by_systemd(&outcome, left, None);
    let summary = &death.summary;
    assert_eq!(
        (death.cause.kind, death.cause.mechanism),
        (Kind::CgroupKill, Some(Mechanism::CgroupKill)),
        "{summary}"
    );
    // Where it cannot be seen what systemd was doing, a debugger could have looked the same.
    let sees_calls = std::path::Path::new("/sys/kernel/btf/vmlinux").exists()
        && outcome.report.collector.backend == "ebpf";
    let expected = if sees_calls { Confidence::Certain } else { Confidence::Likely };
    assert_eq!(death.cause.confidence, expected, "{summary}");
    for pid in [main, left] {
        let death = outcome.death(pid);
        let root = death.root_cause.as_ref().unwrap_or_else(|| panic!("no root cause: {}", death.summary));
        let by = root.actor.as_ref().map(|actor| actor.name.as_str());
        assert_eq!((by, root.confidence), (Some("prune.sh"), Confidence::Likely), "{}", death.summary);
        assert_eq!(root.action, "asked for it with `systemctl kill kt-doomed.service`");
    }
}

/// The last SIGKILL of a stop that took too long.
pub(crate) fn when_time_is_up() {
    let systemd = Systemd::boot().expect("this machine has booted it");
    let watch = Watch::start(&["--unit", UNIT]);
    let stubborn = format!(
        "TimeoutStopSec={}ms\nExecStart=/bin/sh -c 'trap \"\" TERM; sleep 1000 & exec sleep 1001'",
        patient(1).as_millis() / 4
    );
    let main = systemd.start(SYSTEM, UNIT, &stubborn)[0];
    let (main, left) = both(&systemd, main);
    systemd.run_script("deploy.sh", "systemctl stop kt-doomed\n");
    watch.until_dead(&[main, left]);
    let _said = watch.until_said(&format!("(pid {main}): Journal"));
    let outcome = watch.stop();

    for pid in [main, left] {
        let death = killed_by_systemd(&outcome, pid, Some(Job::Timeout));
        let summary = &death.summary;
        assert_eq!(
            (death.cause.kind, death.cause.confidence),
            (Kind::KilledByProcess, Confidence::Certain),
            "{summary}"
        );
        assert!(summary.contains("as it had been stopping kt-doomed.service for"), "{summary}");
    }
    let journal = &outcome.death(main).journal;
    for said in ["timed out", "Failed with result 'timeout'"] {
        assert!(journal.iter().any(|line| line.text.contains(said)), "no {said:?} in {journal:#?}");
    }
}

/// The two processes of the unit, when both are what they are to be.
fn both(systemd: &Systemd, main: u32) -> (u32, u32) {
    eventually(5, "both of them", || {
        let members = systemd.members(SYSTEM, UNIT);
        let sleeping = members.iter().filter(|&&pid| comm(pid).as_deref() == Some("sleep")).count();
        let left = members.iter().find(|&&pid| pid != main)?;
        (sleeping == 2 && members.len() == 2).then_some((main, *left))
    })
}

/// Whatever the way, it was systemd, with a SIGKILL.
#[track_caller]
fn killed_by_systemd(outcome: &Outcome, pid: u32, job: Option<Job>) -> &Death {
    let death = outcome.death(pid);
    let summary = &death.summary;
    println!("{summary}");
    assert_eq!(death.exit.signal.as_deref(), Some("SIGKILL"), "{summary}");
    let unit = (death.victim.unit.as_deref(), death.victim.unit_scope);
    assert_eq!(unit, (Some(UNIT), Some(UnitScope::System)), "{summary}");
    let killer = death.killer.as_ref().unwrap_or_else(|| panic!("no killer: {summary}"));
    assert_eq!((killer.pid, killer.role, killer.job), (1, Role::ServiceManager, job), "{summary}");
    death
}
