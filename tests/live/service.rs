//! The flight recorder as a service: its unit file under a real systemd.
//!
//! systemd has a PID namespace of its own, and /proc there does not know the pids that the kernel tells. The service
//! alone is given the machine's /proc; sampling buffers would tell it yet other pids, so this is about eBPF.

use std::fs;
use std::path::Path;

use killtrace::model::answer::Answer;
use killtrace::model::record::Why;
use killtrace::model::report::Kind;
use killtrace_tests::{Manager, Systemd, Victim, eventually, killtrace_path, live, strike};
use nix::libc;

const UNIT: &str = "killtrace.service";

/// What differs from a person's machine: see above, and a watchdog that one can wait for.
const HERE: &str = "[Service]\nBindPaths=/mnt/proc:/proc\nWatchdogSec=2\n";

struct Machine(Systemd);

impl Machine {
    fn boot() -> Option<Self> {
        let systemd = Systemd::boot_with_own_root()?;
        let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guard-userspace/packaging");
        for (from, to) in [
            (killtrace_path().to_owned(), "/usr/bin/killtrace"),
            (packaging.join(UNIT), "/usr/lib/systemd/system/killtrace.service"),
            (packaging.join("killtrace.toml"), "/etc/killtrace.toml"),
        ] {
            fs::copy(&from, systemd.outside(to))
                .unwrap_or_else(|error| panic!("{}: {error}", from.display()));
        }
        let more = systemd.outside("/etc/systemd/system/killtrace.service.d");
        fs::create_dir_all(&more).expect("it can be made");
        fs::write(more.join("here.conf"), HERE).expect("it can be written");
        systemd.systemctl(Manager::System, &["daemon-reload"]);
        Some(Self(systemd))
    }

    fn systemctl(&self, args: &[&str]) {
        self.0.systemctl(Manager::System, args);
    }

    /// A property of the service, as systemd tells it.
    fn property(&self, name: &str) -> String {
        let output = self.0.ask(Manager::System, &["show", "--property", name, "--value", UNIT]);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn until(&self, property: &str, holds: impl Fn(&str) -> bool) {
        eventually(20, &format!("{property} of the service"), || {
            holds(&self.property(property)).then_some(())
        });
    }

    /// The answer about a process, once there is one.
    fn answer(&self, pid: u32) -> Answer {
        eventually(10, &format!("the death of {pid} in the store"), || {
            let mut why = self.0.command(Manager::System, "/usr/bin/killtrace");
            let output = why.args(["why", &pid.to_string(), "--json"]).output().expect("nsenter can be run");
            (output.status.code() == Some(0))
                .then(|| serde_json::from_slice(&output.stdout).expect("the answer is JSON"))
        })
    }
}

fn killed() -> u32 {
    let mut victim = Victim::start(&["wait"]);
    strike(i32::try_from(victim.pid()).expect("pids are small"), libc::SIGKILL);
    victim.wait();
    victim.pid()
}

#[test]
fn live_service_records_is_watched_and_starts_again() {
    let Some(_turn) = live() else { return };
    let Some(machine) = Machine::boot() else { return };
    machine.systemctl(&["start", UNIT]);
    // No wait: whoever is started after it is seen.
    let pid = killed();
    let death = machine.answer(pid).deaths.remove(0).death;
    assert_eq!((death.victim.pid, death.cause.kind), (pid, Kind::KilledByProcess), "{}", death.summary);
    assert_eq!(death.killer.map(|killer| killer.name).as_deref(), Some("striker"));
    // Told with the watchdog's sign of life, while nothing else happens.
    machine.until("StatusText", |status| {
        let deaths = status.strip_prefix("recording to /var/lib/killtrace; deaths so far: ");
        deaths.is_some_and(|deaths| deaths.parse::<u32>().is_ok_and(|deaths| deaths > 0))
    });
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(
        (machine.property("ActiveState"), machine.property("NRestarts")),
        ("active".into(), "0".into())
    );

    // One that hangs is ended, and the next one knows that something is missing.
    machine.systemctl(&["kill", "--signal=STOP", UNIT]);
    machine.until("NRestarts", |restarts| restarts == "1");
    machine.until("ActiveState", |state| state == "active");
    let gaps = machine.answer(killed()).gaps;
    assert_eq!(gaps.iter().map(|gap| gap.why).collect::<Vec<_>>(), [Why::NothingBefore, Why::Ended]);

    machine.systemctl(&["stop", UNIT]);
    assert_eq!(
        (machine.property("ActiveState"), machine.property("Result")),
        ("inactive".into(), "success".into())
    );
}

#[test]
fn live_service_does_not_try_a_wrong_configuration_again() {
    let Some(_turn) = live() else { return };
    let Some(machine) = Machine::boot() else { return };
    fs::write(machine.0.outside("/etc/killtrace.toml"), "max_size = 'much'\n").expect("it can be written");
    let started = machine.0.ask(Manager::System, &["start", UNIT]);
    assert!(!started.status.success());
    assert_eq!(machine.property("ExecMainStatus"), "2");
    assert_eq!(
        (machine.property("ActiveState"), machine.property("NRestarts")),
        ("failed".into(), "0".into())
    );
}
