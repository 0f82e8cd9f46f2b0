//! A user's systemd, whose units `systemctl` without `--user` does not know.

use killtrace::model::report::{Job, Kind, Role, UnitScope};
use killtrace_tests::{Manager, Systemd, live, strike};
use nix::libc::SIGKILL;

use crate::{asked, killer, outcome, watched};

#[test]
fn live_systemd_of_a_user_stops_a_service() {
    let Some(_turn) = live() else { return };
    let Some((watch, systemd)) = watched("kt-kiosk") else { return };
    let manager = systemd.log_in();
    let pids = systemd.start(Manager::User, "kt-kiosk.service", "ExecStart=/bin/sleep 1000");
    systemd.systemctl(Manager::User, &["stop", "kt-kiosk"]);
    let outcome = outcome(watch, &pids);
    let death = outcome.death(pids[0]);
    let user = Systemd::USER;
    assert_eq!(death.victim.user.as_deref(), Some(user));
    let killer = killer(death, manager, ("kt-kiosk.service", UnitScope::User), "SIGTERM", Some(Job::Stop));
    assert_eq!(
        (killer.user.as_deref(), killer.unit.as_deref(), killer.unit_scope),
        (Some(user), Some("init.scope"), Some(UnitScope::User))
    );
    assert!(death.summary.contains("as it stopped the user unit kt-kiosk.service."), "{}", death.summary);
    let actor = death.decider().expect("somebody asked");
    asked(death, &actor.name, "systemctl --user stop kt-kiosk.service");
    let status = format!("`systemctl --user -M {user}@ status kt-kiosk.service`");
    assert_eq!(death.advice, [format!("{status} says why kt-kiosk.service was stopped.")]);
}

/// `systemctl stop` seems to do nothing, and then somebody loses patience.
#[test]
fn live_systemd_does_not_know_the_unit_of_a_user() {
    let Some(_turn) = live() else { return };
    let Some((watch, systemd)) = watched("kt-kiosk") else { return };
    let _ = systemd.log_in();
    let pids = systemd.start(Manager::User, "kt-kiosk.service", "ExecStart=/bin/sleep 1000");
    let output = systemd.ask(Manager::System, &["stop", "kt-kiosk.service"]);
    assert_eq!(output.status.code(), Some(5), "not loaded");
    assert_eq!(systemd.members(Manager::User, "kt-kiosk.service"), pids, "nothing died");
    let striker = strike(i32::try_from(pids[0]).expect("pids are small"), SIGKILL);
    let outcome = outcome(watch, &pids);
    let death = outcome.death(pids[0]);
    assert_eq!(death.cause.kind, Kind::KilledByProcess, "{}", death.summary);
    let unit = (death.victim.unit.as_deref(), death.victim.unit_scope);
    assert_eq!(unit, (Some("kt-kiosk.service"), Some(UnitScope::User)));
    let killer = death.killer.as_ref().unwrap_or_else(|| panic!("no killer: {}", death.summary));
    assert_eq!((killer.pid, killer.job), (striker, None), "{}", death.summary);
    assert_ne!(killer.role, Role::ServiceManager);
    assert!(!death.summary.contains("asked for that"), "nobody asked who could be heard: {}", death.summary);
}

/// The system's systemd stops the user's, which stops its units.
#[test]
fn live_systemd_stops_that_of_a_user() {
    let Some(_turn) = live() else { return };
    let Some((watch, systemd)) = watched("kt-kiosk") else { return };
    let manager = systemd.log_in();
    let pids = systemd.start(Manager::User, "kt-kiosk.service", "ExecStart=/bin/sleep 1000");
    systemd.run_script("log-out.sh", "systemctl stop 'user@*.service'\n");
    let outcome = outcome(watch, &pids);
    let death = outcome.death(pids[0]);
    assert_eq!(death.cause.kind, Kind::KilledByProcess, "{}", death.summary);
    let killer = death.killer.as_ref().unwrap_or_else(|| panic!("no killer: {}", death.summary));
    assert_eq!((killer.pid, killer.role), (systemd.init, Role::ServiceManager), "{}", death.summary);
    let passed_on = format!("systemd ({manager}) sent SIGTERM to sleep ({})", pids[0]);
    assert!(death.chain.iter().any(|step| step.text == passed_on), "{:?}", death.chain);
}
