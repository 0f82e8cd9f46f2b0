//! Nobody asks for it.

use killtrace::model::report::{Job, Kind, PatternKind, UnitScope};
use killtrace_tests::{Manager, eventually, live, patient};

use crate::{killer, outcome, watched};

const SYSTEM: Manager = Manager::System;

/// A service that gives no sign of life. A core is none of anybody's business.
pub(crate) fn hung() -> String {
    let soon = patient(1).as_millis() / 2;
    format!("WatchdogSec={soon}ms\nLimitCORE=0\nExecStart=/bin/sleep 1000")
}

#[test]
fn live_systemd_watchdog_runs_out() {
    let Some(_turn) = live() else { return };
    let Some((watch, systemd)) = watched("kt-hung") else { return };
    let pids = systemd.start(SYSTEM, "kt-hung.service", &hung());
    let outcome = outcome(watch, &pids);
    let death = outcome.death(pids[0]);
    let unit = ("kt-hung.service", UnitScope::System);
    killer(death, systemd.init, unit, "SIGABRT", Some(Job::Watchdog));
    let said = "most likely because the watchdog of kt-hung.service ran out.";
    assert!(death.summary.ends_with(said), "{}", death.summary);
    let [advice] = &death.advice[..] else { panic!("{:?}", death.advice) };
    assert!(advice.contains("WatchdogSec= says: `systemctl cat kt-hung.service`"), "{advice}");
}

/// Until systemd gives up.
#[test]
fn live_systemd_starts_again_what_fails() {
    const BURST: u64 = 4;
    let Some(_turn) = live() else { return };
    let Some((watch, systemd)) = watched("kt-fails") else { return };
    let limits = format!("StartLimitBurst={BURST}\nStartLimitIntervalSec=60");
    let service = "Restart=always\nRestartSec=200ms\nExecStart=/bin/sh -c 'exit 3'";
    systemd.unit(SYSTEM, "kt-fails.service", &limits, service);
    systemd.systemctl(SYSTEM, &["start", "kt-fails"]);
    eventually(10, "systemd to give up", || {
        let said = systemd.ask(SYSTEM, &["show", "--property=SubState", "kt-fails"]).stdout;
        String::from_utf8_lossy(&said).contains("SubState=failed").then_some(())
    });
    let outcome = watch.stop();
    assert!(
        outcome
            .report
            .deaths
            .iter()
            .all(|death| death.cause.kind == Kind::Exited && death.exit.code == Some(3))
    );
    let mut patterns = outcome.report.patterns.iter();
    let again = patterns.find(|pattern| pattern.kind == PatternKind::RestartLoop);
    let again = again.unwrap_or_else(|| panic!("no loop: {:?}", outcome.summaries()));
    assert_eq!(again.count, BURST, "{}", again.text);
    let [advice] = &again.advice[..] else { panic!("{:?}", again.advice) };
    let starts = format!("systemd (pid {}) starts it again each time.", systemd.init);
    assert!(advice.starts_with(&starts), "{advice}");
    for said in ["`systemctl edit kt-fails.service`", "RestartSec=", "StartLimitBurst="] {
        assert!(advice.contains(said), "no {said} in {advice}");
    }
}
