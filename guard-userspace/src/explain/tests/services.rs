//! systemd's stops, timeouts and watchdogs, and who asked for them.

use super::*;
use crate::model::report::Job;

/// Two managers, each where a systemd lives: pid 1, and 60 for kali; a script with a `systemctl`, and kali's kiosk.
fn kiosk(systemctl: &[&str]) -> Scenario {
    let mut scenario = Scenario::new();
    scenario.seed(1, 0, "systemd", &["/sbin/init"]).cgroup(1, "/init.scope");
    scenario.seed(60, 1, "systemd", &["/usr/lib/systemd/systemd", "--user"]);
    scenario.cgroup(60, "/user.slice/user-1000.slice/user@1000.service/init.scope");
    scenario.seed(40, 1, "sh", &["/bin/sh", "/home/kali/tidy-up.sh"]).seeded();
    scenario.spawn(60, 100, &["/usr/bin/chrome"]);
    scenario.cgroup(100, "/user.slice/user-1000.slice/user@1000.service/app.slice/kiosk.service");
    scenario.wait(5_000).spawn(40, 200, systemctl);
    scenario
}

/// What systemd sends to what is to stop.
fn ask(scenario: &mut Scenario, manager: u32, signo: Signo) {
    scenario.kill(manager, 100, signo).kill(manager, 100, Signo::CONT);
}

fn job(death: &Death) -> Option<Job> {
    death.killer.as_ref().and_then(|killer| killer.job)
}

/// Who is behind it, how sure that is, and what they did.
fn behind(death: &Death) -> (u32, Confidence, &str) {
    let root = death.root_cause.as_ref().expect("somebody did it");
    (root.actor.as_ref().map_or(0, |actor| actor.pid), root.confidence, &root.action)
}

#[test]
fn a_stop_is_the_managers_and_most_likely_the_systemctls_that_waited() {
    let mut scenario = kiosk(&["/usr/bin/systemctl", "--user", "stop", "kiosk"]);
    ask(&mut scenario, 60, Signo::TERM);
    let death = scenario.dies(100, Signo::TERM).death(100);
    assert_cause(&death, Kind::KilledByProcess, Mechanism::Kill, Confidence::Certain);
    assert_eq!(
        death.summary,
        "chrome (pid 100) was killed by SIGTERM from systemd (pid 60), as it stopped the user unit kiosk.service. Most \
         likely tidy-up.sh (pid 40) asked for that: `systemctl --user stop kiosk.service`."
    );
    assert_eq!(job(&death), Some(Job::Stop));
    let asked = "asked for it with `systemctl --user stop kiosk.service`";
    assert_eq!(behind(&death), (40, Confidence::Likely, asked));
}

#[test]
fn who_asks_another_manager_or_for_another_unit_did_not_ask_for_this() {
    for systemctl in [
        &["/usr/bin/systemctl", "stop", "kiosk"][..],
        &["/usr/bin/systemctl", "--user", "stop", "other"],
        &["/usr/bin/systemctl", "--user", "status", "kiosk"],
        &["/usr/bin/systemctl", "--user", "-M", "box", "stop", "kiosk"],
    ] {
        let mut scenario = kiosk(systemctl);
        ask(&mut scenario, 60, Signo::TERM);
        let death = scenario.dies(100, Signo::TERM).death(100);
        let action = "sent SIGTERM to chrome (pid 100)";
        assert_eq!(behind(&death), (60, Confidence::Certain, action), "{systemctl:?}");
        assert_eq!(job(&death), Some(Job::Stop), "{systemctl:?}");
    }
    let mut scenario = kiosk(&["/usr/bin/systemctl", "--user", "stop", "kiosk"]);
    scenario.exits(200, 0).wait(1_500);
    ask(&mut scenario, 60, Signo::TERM);
    let death = scenario.dies(100, Signo::TERM).death(100);
    assert_eq!(behind(&death).0, 60, "it was long gone: {}", death.summary);
}

#[test]
fn a_restart_is_a_stop_that_was_asked_for_so() {
    let mut scenario = kiosk(&["/usr/bin/systemctl", "--user", "restart", "kiosk"]);
    ask(&mut scenario, 60, Signo::TERM);
    let death = scenario.handle(100, Signo::TERM).exits(100, 143).death(100);
    assert!(death.cause.graceful, "{}", death.summary);
    assert_eq!(job(&death), Some(Job::Restart));
}

#[test]
fn sigkill_after_a_request_is_a_timeout() {
    let mut scenario = kiosk(&["/usr/bin/systemctl", "--user", "stop", "kiosk"]);
    ask(&mut scenario, 60, Signo::TERM);
    let death = scenario.wait(89_998).kill(60, 100, Signo::KILL).dies(100, Signo::KILL).death(100);
    assert_eq!(job(&death), Some(Job::Timeout));
    let steps: Vec<&str> = death.chain.iter().map(|step| step.text.as_str()).collect();
    assert!(steps.contains(&"systemd (60) asked chrome (100) to stop"), "{steps:?}");
    assert!(
        death.summary.contains("as it had been stopping the user unit kiosk.service for 1 min 30 s"),
        "{}",
        death.summary
    );
    assert_eq!(behind(&death).0, 40);
    assert!(
        death.advice[0].contains("TimeoutStopSec= in `systemctl --user edit kiosk.service`"),
        "{:?}",
        death.advice
    );
}

#[test]
fn sigabrt_from_systemd_is_most_likely_its_watchdog() {
    let mut scenario = kiosk(&["/usr/bin/systemctl", "--user", "stop", "kiosk"]);
    ask(&mut scenario, 60, Signo::ABRT);
    let death = scenario.dies(100, Signo::ABRT).death(100);
    assert_eq!(job(&death), Some(Job::Watchdog));
    assert_eq!(behind(&death).0, 60, "nobody asks for that");
    let said = "most likely because the watchdog of the user unit kiosk.service ran out.";
    assert!(death.summary.ends_with(said), "{}", death.summary);
}

#[test]
fn a_signal_without_sigcont_stops_no_unit() {
    let mut scenario = kiosk(&["/usr/bin/systemctl", "--user", "kill", "kiosk"]);
    let death = scenario.kill(60, 100, Signo::TERM).dies(100, Signo::TERM).death(100);
    assert_eq!(job(&death), None);
    assert_eq!(behind(&death).0, 40);
    // It waited to stop what systemd only sent a signal to.
    let mut scenario = kiosk(&["/usr/bin/systemctl", "--user", "stop", "kiosk"]);
    let death = scenario.kill(60, 100, Signo::TERM).dies(100, Signo::TERM).death(100);
    assert_eq!((job(&death), behind(&death).0), (None, 60), "{}", death.summary);
}

#[test]
fn sighup_may_have_been_a_reload() {
    let mut scenario = kiosk(&["/usr/bin/systemctl", "--user", "stop", "other"]);
    ask(&mut scenario, 60, Signo::HUP);
    scenario.handle(100, Signo::HUP);
    let death = scenario.wait(9_000).kill(60, 100, Signo::KILL).dies(100, Signo::KILL).death(100);
    assert_eq!(job(&death), None, "{}", death.summary);
}

#[test]
fn what_a_main_process_left_behind_is_killed_to_stop_the_unit() {
    let mut scenario = kiosk(&["/usr/bin/systemctl", "--user", "stop", "kiosk"]);
    scenario.fork(100, 101);
    scenario.cgroup(101, "/user.slice/user-1000.slice/user@1000.service/app.slice/kiosk.service");
    ask(&mut scenario, 60, Signo::TERM);
    scenario.dies(100, Signo::TERM).kill(60, 101, Signo::KILL).dies(101, Signo::KILL);
    let death = scenario.death(101);
    assert_eq!((job(&death), behind(&death).0), (Some(Job::Stop), 40), "{}", death.summary);
}

#[test]
fn a_manager_does_nothing_to_units_that_are_not_its_own() {
    let mut scenario = kiosk(&["/usr/bin/systemctl", "stop", "kiosk"]);
    ask(&mut scenario, 1, Signo::TERM);
    let death = scenario.dies(100, Signo::TERM).death(100);
    assert_eq!((job(&death), behind(&death).0), (None, 1), "{}", death.summary);
    assert_eq!(death.advice, [""; 0]);
}

/// `systemctl kill -s KILL` of systemd 257 and later (src/core/unit.c, `unit_kill`), and whatever else it has the kernel
/// do to a whole cgroup.
#[test]
fn systemd_that_writes_to_cgroup_kill_is_told_as_if_it_had_killed_each() {
    let write = |scenario: &mut Scenario| {
        let (manager, call) = (scenario.current(60), Some((Call::Write, 3)));
        let delivered = SignalResult::Delivered;
        scenario.signal(manager, 100, Signo::KILL, code::SI_USER, false, delivered, call);
    };
    let mut scenario = kiosk(&["/usr/bin/systemctl", "--user", "kill", "-s", "KILL", "kiosk"]);
    write(&mut scenario);
    let death = scenario.dies(100, Signo::KILL).death(100);
    assert_cause(&death, Kind::CgroupKill, Mechanism::CgroupKill, Confidence::Certain);
    let asked = "asked for it with `systemctl --user kill kiosk.service`";
    assert_eq!((job(&death), behind(&death)), (None, (40, Confidence::Likely, asked)), "{}", death.summary);

    let mut scenario = kiosk(&["/usr/bin/systemctl", "--user", "stop", "kiosk"]);
    ask(&mut scenario, 60, Signo::TERM);
    write(scenario.wait(89_998));
    let death = scenario.dies(100, Signo::KILL).death(100);
    assert_cause(&death, Kind::CgroupKill, Mechanism::CgroupKill, Confidence::Certain);
    assert_eq!(job(&death), Some(Job::Timeout), "{}", death.summary);
    assert!(
        death.summary.contains("as it had been stopping the user unit kiosk.service"),
        "{}",
        death.summary
    );
    assert!(death.advice[0].contains("TimeoutStopSec="), "{:?}", death.advice);
}

#[test]
fn systemd_oomd_is_told_as_such_with_what_tells_it_whom_to_spare() {
    let mut scenario = Scenario::new();
    scenario.seed(30, 1, "systemd-oomd", &["/lib/systemd/systemd-oomd"]).seeded();
    scenario.spawn(1, 100, &["/usr/bin/chrome"]);
    scenario.cgroup(100, "/user.slice/user-1000.slice/user@1000.service/app.slice/kiosk.service");
    let death = scenario.kill(30, 100, Signo::KILL).dies(100, Signo::KILL).death(100);
    let killer = death.killer.as_ref().expect("oomd");
    assert_eq!((killer.pid, killer.role), (30, Role::OomDaemon));
    let [advice] = &death.advice[..] else { panic!("{:?}", death.advice) };
    for said in ["oomctl", "ManagedOOMMemoryPressureLimit=", "`systemctl --user edit kiosk.service`"] {
        assert!(advice.contains(said), "no {said} in {advice}");
    }
}
