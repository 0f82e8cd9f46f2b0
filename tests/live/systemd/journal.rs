//! What systemd says of a unit in the journal is attached to the death, when it has been said.

use killtrace::model::report::{Confidence, Death, Kind};
use killtrace_tests::{Manager, Outcome, Systemd, Watch, comm, eventually, live, strike};
use nix::libc::SIGKILL;

use crate::trouble::hung;
use crate::watched;

const SYSTEM: Manager = Manager::System;

/// A watch for a unit, and a systemd that has a journal.
fn heard(unit: &str) -> Option<(Watch, Systemd)> {
    let (watch, systemd) = watched(unit)?;
    systemd.start_journal();
    Some((watch, systemd))
}

/// Stops the watch when it has read what the journal says of this death.
fn outcome(watch: Watch, pid: u32) -> Outcome {
    let said = watch.until_said(&format!("(pid {pid}): Journal"));
    let outcome = watch.stop();
    let shown = |line: &str| said.contains(line);
    let death = outcome.death(pid);
    assert!(death.journal.first().is_some_and(|line| shown(&line.text)), "{said}\n{:#?}", death.journal);
    outcome
}

/// Each of these is in a line of its own, in order, from this systemd.
#[track_caller]
fn check(death: &Death, manager: u32, said: &[&str]) {
    let lines: Vec<&str> = death.journal.iter().map(|line| line.text.as_str()).collect();
    let mut rest = lines.iter();
    for said in said {
        assert!(rest.any(|line| line.contains(said)), "no {said:?} in its place in {lines:#?}");
    }
    for line in &death.journal {
        assert_eq!((line.writer.comm.as_str(), line.writer.pid), ("systemd", manager), "{}", line.text);
    }
}

#[test]
fn live_journal_says_that_a_stop_took_too_long() {
    let Some(_turn) = live() else { return };
    let Some((watch, systemd)) = heard("kt-stubborn") else { return };
    let service = "TimeoutStopSec=1\nExecStart=/bin/sh -c 'trap \"\" TERM; exec sleep 1000'";
    let pids = systemd.start(SYSTEM, "kt-stubborn.service", service);
    eventually(5, "sh to become sleep", || (comm(pids[0])? == "sleep").then_some(()));
    // Anybody may say that he is systemd, and speak of its units.
    let lie =
        "echo \"kt-stubborn.service: Failed with result 'oom-kill'.\" | systemd-cat -t systemd -p err\n";
    systemd.run_script("liar.sh", lie);
    systemd.systemctl(SYSTEM, &["stop", "kt-stubborn"]);
    let outcome = outcome(watch, pids[0]);
    let death = outcome.death(pids[0]);
    let said =
        ["timed out", "Main process exited, code=killed, status=9/KILL", "Failed with result 'timeout'"];
    check(death, 1, &said);
}

#[test]
fn live_journal_says_that_a_watchdog_ran_out() {
    let Some(_turn) = live() else { return };
    let Some((watch, systemd)) = heard("kt-hung") else { return };
    let pids = systemd.start(SYSTEM, "kt-hung.service", &hung());
    let outcome = outcome(watch, pids[0]);
    let said = [
        "Watchdog timeout",
        "Main process exited, code=killed, status=6/ABRT",
        "Failed with result 'watchdog'",
    ];
    check(outcome.death(pids[0]), 1, &said);
}

/// systemd did not do it, and has seen it.
#[test]
fn live_journal_says_that_a_service_was_killed() {
    let Some(_turn) = live() else { return };
    let Some((watch, systemd)) = heard("kt-shot") else { return };
    let pids = systemd.start(SYSTEM, "kt-shot.service", "ExecStart=/bin/sleep 1000");
    let striker = strike(i32::try_from(pids[0]).expect("pids are small"), SIGKILL);
    let outcome = outcome(watch, pids[0]);
    let death = outcome.death(pids[0]);
    assert_eq!(death.killer.as_ref().map(|killer| killer.pid), Some(striker), "{}", death.summary);
    assert_eq!((death.cause.kind, death.cause.confidence), (Kind::KilledByProcess, Confidence::Certain));
    check(death, 1, &["Main process exited, code=killed, status=9/KILL", "Failed with result 'signal'"]);
}

#[test]
fn live_journal_has_what_a_users_systemd_says() {
    let Some(_turn) = live() else { return };
    let Some((watch, systemd)) = heard("kt-kiosk") else { return };
    let _ = systemd.log_in();
    let pids = systemd.start(Manager::User, "kt-kiosk.service", "ExecStart=/bin/sleep 1000");
    strike(i32::try_from(pids[0]).expect("pids are small"), SIGKILL);
    let outcome = outcome(watch, pids[0]);
    let death = outcome.death(pids[0]);
    let manager = death.journal.first().map(|line| line.writer.pid).expect("something was said");
    assert_ne!(manager, 1, "{:?}", death.journal);
    check(death, manager, &["Failed with result 'signal'"]);
}
