//! A service takes more memory than it may have, and systemd-oomd ends it.

use std::fs;
use std::process::Command;

use killtrace::model::report::{Confidence, Kind, Role, UnitScope};
use killtrace_tests::{Manager, Systemd, Watch, comm, eventually};

const SYSTEM: Manager = Manager::System;
/// Without swap there is nothing to reclaim, and systemd-oomd acts only on what is reclaimed (src/oom/oomd-manager.c,
/// `monitor_memory_pressure_contexts_handler`).
pub(crate) const ZRAM: &str = "/sys/block/zram0";
const UNIT: &str = "kt-hog.service";
/// The `tail` keeps all that it reads until the line ends, which it never does.
const HOG: &str = "\
MemoryHigh=32M
ManagedOOMMemoryPressure=kill
ManagedOOMMemoryPressureLimit=5%
ExecStart=/bin/sh -c 'tail /dev/zero; true'";

pub(crate) fn under_pressure() {
    let watch = Watch::start(&["--unit", UNIT]);
    let systemd = Systemd::boot().expect("this machine has booted it");
    let _oomd = Oomd::start(&systemd);
    let main = *systemd.start(SYSTEM, UNIT, HOG).first().expect("it runs");
    let hog = eventually(5, "tail", || {
        let members = systemd.members(SYSTEM, UNIT);
        members.into_iter().find(|&pid| comm(pid).as_deref() == Some("tail"))
    });
    watch.until_dead(&[main, hog]);
    let _said = watch.until_said(&format!("(pid {main}): Journal"));
    let result = systemd.ask(SYSTEM, &["show", "--property=Result", "--value", UNIT]).stdout;
    assert_eq!(String::from_utf8_lossy(&result).trim(), "oom-kill");
    let oomd = systemd.members(SYSTEM, Oomd::UNIT);
    let outcome = watch.stop();

    for pid in [main, hog] {
        let death = outcome.death(pid);
        let summary = &death.summary;
        println!("{summary}");
        // It is a process like others that kills: the kernel was not out of memory.
        assert_eq!(
            (death.cause.kind, death.cause.confidence),
            (Kind::KilledByProcess, Confidence::Certain),
            "{summary}"
        );
        assert_eq!(death.exit.signal.as_deref(), Some("SIGKILL"), "{summary}");
        let unit = (death.victim.unit.as_deref(), death.victim.unit_scope);
        assert_eq!(unit, (Some(UNIT), Some(UnitScope::System)), "{summary}");
        assert_eq!(death.victim.cgroup.as_deref(), Some("/system.slice/kt-hog.service"), "{summary}");
        let killer = death.killer.as_ref().unwrap_or_else(|| panic!("no killer: {summary}"));
        assert_eq!(
            (killer.pid, killer.name.as_str(), killer.role, killer.unit.as_deref()),
            (oomd[0], "systemd-oomd", Role::OomDaemon, Some(Oomd::UNIT)),
            "{summary}"
        );
        let root = death.root_cause.as_ref().and_then(|root| root.actor.as_ref());
        assert_eq!(root.map(|actor| actor.pid), Some(killer.pid), "{summary}");
        assert!(summary.contains("systemd-oomd"), "{summary}");
        assert!(death.advice.iter().any(|advice| advice.contains("ManagedOOM")), "{:?}", death.advice);
        // Its own words, and no others' in its name.
        let said = "Killed /system.slice/kt-hog.service due to memory pressure for";
        let line = death.journal.iter().find(|line| line.text.starts_with(said));
        let line = line.unwrap_or_else(|| panic!("no line says {said:?}: {:#?}", death.journal));
        assert_eq!((line.writer.pid, line.writer.comm.as_str()), (killer.pid, "systemd-oomd"), "{line:?}");
    }
    // Of the main process, systemd has to say something, too.
    let journal = &outcome.death(main).journal;
    for said in ["systemd-oomd killed", "code=killed, status=9/KILL", "Failed with result 'oom-kill'"] {
        let line = journal.iter().find(|line| line.text.contains(said));
        let line = line.unwrap_or_else(|| panic!("no line says {said:?}: {journal:#?}"));
        assert_eq!((line.writer.pid, line.writer.comm.as_str()), (1, "systemd"), "{line:?}");
    }
}

/// Stopped when dropped, and what it needs is gone.
struct Oomd<'a>(&'a Systemd);

impl<'a> Oomd<'a> {
    const UNIT: &'static str = "systemd-oomd.service";
    /// The shortest that it waits.
    const CONFIGURATION: &'static str = "[OOM]\nDefaultMemoryPressureDurationSec=1s\n";

    fn start(systemd: &'a Systemd) -> Self {
        fs::write(format!("{ZRAM}/disksize"), "256M").expect("a zram device can be given a size");
        sh("mkswap /dev/zram0 && swapon /dev/zram0");
        fs::create_dir_all("/etc/systemd/oomd.conf.d").expect("it can be made");
        fs::write("/etc/systemd/oomd.conf.d/soon.conf", Self::CONFIGURATION).expect("it can be written");
        systemd.systemctl(SYSTEM, &["start", Self::UNIT]);
        Self(systemd)
    }
}

impl Drop for Oomd<'_> {
    fn drop(&mut self) {
        let _ = self.0.ask(SYSTEM, &["stop", Self::UNIT, "systemd-oomd.socket"]);
        sh("swapoff /dev/zram0");
    }
}

fn sh(script: &str) {
    let output = Command::new("sh").args(["-c", script]).output().expect("cannot run sh");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script} failed ({}): {stderr}", output.status);
}
