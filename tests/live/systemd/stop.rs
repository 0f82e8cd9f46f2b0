//! Somebody asks for it.

use killtrace::model::report::{Job, PatternKind, UnitScope};
use killtrace_tests::{Manager, comm, eventually, live};

use crate::{asked, killer, outcome, watched};

const SYSTEM: Manager = Manager::System;

#[test]
fn live_systemd_stops_a_service() {
    let Some(_turn) = live() else { return };
    let Some((watch, systemd)) = watched("kt-stop") else { return };
    let pids = systemd.start(SYSTEM, "kt-stop.service", "ExecStart=/bin/sleep 1000");
    systemd.run_script("deploy.sh", "systemctl stop kt-stop\n");
    let outcome = outcome(watch, &pids);
    let death = outcome.death(pids[0]);
    let unit = ("kt-stop.service", UnitScope::System);
    killer(death, systemd.init, unit, "SIGTERM", Some(Job::Stop));
    asked(death, "deploy.sh", "systemctl stop kt-stop.service");
    let (init, pid) = (systemd.init, pids[0]);
    let said = format!(
        "sleep (pid {pid}) was killed by SIGTERM from systemd (pid {init}), as it stopped kt-stop.service. Most likely \
         deploy.sh"
    );
    assert!(death.summary.starts_with(&said), "{}", death.summary);
    assert_eq!(death.advice, ["`systemctl status kt-stop.service` says why kt-stop.service was stopped."]);
}

#[test]
fn live_systemd_restarts_a_service() {
    let Some(_turn) = live() else { return };
    let Some((watch, systemd)) = watched("kt-restart") else { return };
    let old = systemd.start(SYSTEM, "kt-restart.service", "ExecStart=/bin/sleep 1000");
    systemd.run_script("upgrade.sh", "systemctl restart kt-restart\n");
    let new = systemd.members(SYSTEM, "kt-restart.service");
    let outcome = outcome(watch, &old);
    let death = outcome.death(old[0]);
    let unit = ("kt-restart.service", UnitScope::System);
    killer(death, systemd.init, unit, "SIGTERM", Some(Job::Restart));
    asked(death, "upgrade.sh", "systemctl restart kt-restart.service");
    assert!(new.len() == 1 && new != old, "it runs again: {new:?}");
    assert_eq!(outcome.report.deaths.len(), 1, "{:?}", outcome.summaries());
}

#[test]
fn live_systemd_gives_a_service_that_ignores_it_a_second() {
    let Some(_turn) = live() else { return };
    let Some((watch, systemd)) = watched("kt-stubborn") else { return };
    let service = "TimeoutStopSec=1\nExecStart=/bin/sh -c 'trap \"\" TERM; exec sleep 1000'";
    let pids = systemd.start(SYSTEM, "kt-stubborn.service", service);
    eventually(5, "sh to become sleep", || (comm(pids[0])? == "sleep").then_some(()));
    systemd.run_script("deploy.sh", "systemctl stop kt-stubborn\n");
    let outcome = outcome(watch, &pids);
    let death = outcome.death(pids[0]);
    let unit = ("kt-stubborn.service", UnitScope::System);
    killer(death, systemd.init, unit, "SIGKILL", Some(Job::Timeout));
    asked(death, "deploy.sh", "systemctl stop kt-stubborn.service");
    assert!(death.summary.contains("as it had been stopping kt-stubborn.service for 1"), "{}", death.summary);
    let first = format!("systemd ({}) asked sleep ({}) to stop", systemd.init, pids[0]);
    assert!(death.chain.iter().any(|step| step.text == first), "{:?}", death.chain);
    assert!(death.other_signals.iter().any(|other| other.signal == "SIGTERM"), "{:?}", death.other_signals);
    let [advice] = &death.advice[..] else { panic!("{:?}", death.advice) };
    assert!(advice.contains("TimeoutStopSec= in `systemctl edit kt-stubborn.service`"), "{advice}");
}

/// `KillMode=control-group`, the default: whatever is in the cgroup.
#[test]
fn live_systemd_stops_all_of_a_service() {
    let Some(_turn) = live() else { return };
    let Some((watch, systemd)) = watched("kt-many") else { return };
    let service = "ExecStart=/bin/sh -c 'sleep 1000 & sleep 1000 & sleep 1000 & wait'";
    let _ = systemd.start(SYSTEM, "kt-many.service", service);
    let pids = eventually(5, "all of them", || {
        let pids = systemd.members(SYSTEM, "kt-many.service");
        let sleeping = pids.iter().filter(|&&pid| comm(pid).as_deref() == Some("sleep")).count();
        (sleeping == 3).then_some(pids)
    });
    systemd.systemctl(SYSTEM, &["stop", "kt-many"]);
    let outcome = outcome(watch, &pids);
    assert_eq!(pids.len(), 4);
    for pid in &pids {
        let unit = ("kt-many.service", UnitScope::System);
        killer(outcome.death(*pid), systemd.init, unit, "SIGTERM", Some(Job::Stop));
    }
    let mut patterns = outcome.report.patterns.iter();
    let one = patterns.find(|pattern| pattern.kind == PatternKind::Collateral).expect("they died together");
    assert_eq!((one.count, one.name.as_str()), (4, "systemd"), "{}", one.text);
    assert!(
        one.text.starts_with(&format!("systemd (pid {}) ended 4 processes", systemd.init)),
        "{}",
        one.text
    );
}

/// What a main process leaves behind gets no SIGTERM.
#[test]
fn live_systemd_clears_up_behind_a_main_process() {
    let Some(_turn) = live() else { return };
    let Some((watch, systemd)) = watched("kt-mixed") else { return };
    let service = "KillMode=mixed\nExecStart=/bin/sh -c 'sleep 1000 & exec sleep 1001'";
    let main = systemd.start(SYSTEM, "kt-mixed.service", service);
    let pids = eventually(5, "both of them", || {
        let pids = systemd.members(SYSTEM, "kt-mixed.service");
        let sleeping = pids.iter().filter(|&&pid| comm(pid).as_deref() == Some("sleep")).count();
        (sleeping == 2).then_some(pids)
    });
    systemd.systemctl(SYSTEM, &["stop", "kt-mixed"]);
    let outcome = outcome(watch, &pids);
    for pid in pids {
        let signal = if main.contains(&pid) && pid == main[0] { "SIGTERM" } else { "SIGKILL" };
        let unit = ("kt-mixed.service", UnitScope::System);
        killer(outcome.death(pid), systemd.init, unit, signal, Some(Job::Stop));
    }
}

/// It sends what it is told to, and the unit is not to stop.
#[test]
fn live_systemd_passes_a_kill_on() {
    let Some(_turn) = live() else { return };
    let Some((watch, systemd)) = watched("kt-kill") else { return };
    let pids = systemd.start(SYSTEM, "kt-kill.service", "ExecStart=/bin/sleep 1000");
    systemd.run_script("prune.sh", "systemctl kill -s TERM kt-kill\n");
    let outcome = outcome(watch, &pids);
    let death = outcome.death(pids[0]);
    killer(death, systemd.init, ("kt-kill.service", UnitScope::System), "SIGTERM", None);
    asked(death, "prune.sh", "systemctl kill kt-kill.service");
}
