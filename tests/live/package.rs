//! killtrace's Debian package, and the service in it, on a machine with a real systemd.
//!
//! `KILLTRACE_DEB` names the package; `cargo xtask test` makes it of the program that it tests.
//!
//! A guest that systemd has booted is all that a person's machine is. Elsewhere systemd has a PID namespace of its own,
//! and /proc there does not know the pids that the kernel tells. The service alone is given the machine's /proc; sampling
//! buffers would tell it yet other pids, so there this is about eBPF.

use std::fs;
use std::time::Duration;

use killtrace::model::answer::Answer;
use killtrace::model::record::Why;
use killtrace::model::report::{Death, Kind};
use killtrace_tests::{Manager, Systemd, Victim, eventually, live, skip, strike};
use nix::libc;

const UNIT: &str = "killtrace.service";
/// Where the package is, inside.
const PACKAGE: &str = "/tmp/killtrace.deb";

/// The capabilities that the unit leaves it, by their numbers: DAC_READ_SEARCH, NET_ADMIN, SYS_CHROOT, SYS_PTRACE,
/// SYS_ADMIN, SYSLOG, PERFMON, BPF.
const CAPABILITIES: [u32; 8] = [2, 12, 18, 19, 21, 34, 38, 39];

struct Machine(Systemd);

/// A watchdog that one can wait for, and that waits for a machine which is slow.
fn watchdog() -> Duration {
    if Systemd::is_of_a_guest() { Duration::from_secs(10) } else { Duration::from_secs(2) }
}

/// What differs from a person's machine.
fn here() -> String {
    let proc = if Systemd::is_of_a_guest() { "" } else { "BindPaths=/mnt/proc:/proc\n" };
    format!("[Service]\n{proc}WatchdogSec={}\n", watchdog().as_secs())
}

/// The kernel's side goes on by itself while one killtrace follows the other.
fn keeps_its_probes() -> bool {
    std::env::var("KILLTRACE_VM_BACKEND").map_or(true, |backend| backend != "perf")
}

impl Machine {
    /// A machine on which killtrace was just installed.
    fn boot() -> Option<Self> {
        let Some(package) = std::env::var_os("KILLTRACE_DEB") else {
            skip("KILLTRACE_DEB names no package; `cargo xtask test` makes one where dpkg-deb is installed");
            return None;
        };
        let systemd = Systemd::boot_with_own_root()?;
        let more = systemd.outside("/etc/systemd/system/killtrace.service.d");
        fs::create_dir_all(&more).expect("it can be made");
        fs::write(more.join("here.conf"), here()).expect("it can be written");
        // Where services may not be started, as in an image that is built, the package's cannot be either.
        let _ = fs::remove_file(systemd.outside("/usr/sbin/policy-rc.d"));
        fs::copy(package, systemd.outside(PACKAGE)).expect("the package can be read");
        let machine = Self(systemd);
        machine.run(&["dpkg", "--install", PACKAGE]);
        Some(machine)
    }

    /// Runs a command inside, which has to succeed.
    fn run(&self, words: &[&str]) -> String {
        let mut command = self.0.command(Manager::System, words[0]);
        let output = command.args(&words[1..]).output().expect("nsenter can be run");
        let [stdout, stderr] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
        assert!(output.status.success(), "{words:?} failed ({}): {stdout}{stderr}", output.status);
        stdout.into_owned()
    }

    fn has(&self, path: &str) -> bool {
        // A link inside points to what is inside.
        self.0.outside(path).symlink_metadata().is_ok()
    }

    fn systemctl(&self, args: &[&str]) {
        self.0.systemctl(Manager::System, args);
    }

    /// A property of the service, as systemd tells it.
    fn property(&self, name: &str) -> String {
        let output = self.0.ask(Manager::System, &["show", "--property", name, "--value", UNIT]);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Two properties.
    fn properties(&self, names: [&str; 2]) -> [String; 2] {
        names.map(|name| self.property(name))
    }

    fn until(&self, property: &str, holds: impl Fn(&str) -> bool) {
        eventually(20, &format!("{property} of the service"), || {
            holds(&self.property(property)).then_some(())
        });
    }

    /// What the unit takes away from it has been taken, by this kernel.
    fn check_hardening(&self) {
        let proc = |file: &str| self.run(&["cat", &format!("/proc/{}/{file}", self.property("MainPID"))]);
        let status = proc("status");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
            line.unwrap_or_else(|| panic!("no {name} in {status}"))
        };
        let capabilities: u64 = CAPABILITIES.iter().map(|number| 1 << number).sum();
        assert_eq!(field("CapBnd"), format!("{capabilities:016x}"));
        assert_eq!((field("NoNewPrivs"), field("Seccomp")), ("1", "2"));
        // `36 35 98:0 / /usr ro,noatime - ...`; the last one that is mounted at a place is what is seen there.
        let mounts = proc("mountinfo");
        let options = |place: &str| {
            let mut fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
            fields.rfind(|fields| fields[4] == place).map(|fields| fields[5].to_owned())
        };
        for (place, first) in [("/", "ro"), ("/var/lib/killtrace", "rw"), ("/sys/fs/cgroup", "ro")] {
            let options = options(place).unwrap_or_else(|| panic!("nothing at {place} in {mounts}"));
            assert_eq!(options.split(',').next(), Some(first), "{place}: {options}");
        }
    }

    /// The answer about a process, once there is one.
    fn answer(&self, pid: u32) -> Answer {
        eventually(10, &format!("the death of {pid} in the store"), || self.ask_why(pid))
    }

    /// The answer about a process, if there is one.
    fn ask_why(&self, pid: u32) -> Option<Answer> {
        let mut why = self.0.command(Manager::System, "/usr/bin/killtrace");
        let output = why.args(["why", &pid.to_string(), "--json"]).output().expect("it can be run");
        (output.status.code() == Some(0))
            .then(|| serde_json::from_slice(&output.stdout).expect("the answer is JSON"))
    }
}

/// A guest's machine is the next test's, too.
impl Drop for Machine {
    fn drop(&mut self) {
        if Systemd::is_of_a_guest() {
            let mut clear_up = self.0.command(Manager::System, "sh");
            let _ = clear_up.args(["-c", CLEAR_UP]).output();
        }
    }
}

const CLEAR_UP: &str = "\
dpkg --purge killtrace
rm -rf /etc/systemd/system/killtrace.service.d /tmp/killtrace.deb /tmp/next /tmp/next.deb
systemctl daemon-reload
systemctl reset-failed";

/// Of which times nothing is known, and why.
fn gaps(answer: &Answer) -> Vec<Why> {
    answer.gaps.iter().map(|gap| gap.why).collect()
}

#[track_caller]
fn assert_struck(death: &Death) {
    let killer = death.killer.as_ref().map(|killer| killer.name.as_str());
    assert_eq!((death.cause.kind, killer), (Kind::KilledByProcess, Some("striker")), "{}", death.summary);
}

fn killed() -> u32 {
    let mut victim = Victim::start(&["wait"]);
    strike(i32::try_from(victim.pid()).expect("pids are small"), libc::SIGKILL);
    victim.wait();
    victim.pid()
}

#[test]
fn live_package_records_is_watched_and_starts_again() {
    let Some(_turn) = live() else { return };
    let Some(machine) = Machine::boot() else { return };
    // No wait: whoever is started after it is seen.
    let pid = killed();
    let death = machine.answer(pid).deaths.remove(0).death;
    assert_eq!(death.victim.pid, pid, "{}", death.summary);
    assert_struck(&death);
    // Told with the watchdog's sign of life, while nothing else happens.
    machine.until("StatusText", |status| {
        let deaths = status.strip_prefix("recording to /var/lib/killtrace; deaths so far: ");
        deaths.is_some_and(|deaths| deaths.parse::<u32>().is_ok_and(|deaths| deaths > 0))
    });
    std::thread::sleep(watchdog() + Duration::from_secs(1));
    assert_eq!(machine.properties(["ActiveState", "NRestarts"]), ["active", "0"]);

    machine.check_hardening();

    // One that hangs is ended, and the next one knows that something is missing.
    machine.systemctl(&["kill", "--signal=STOP", UNIT]);
    machine.until("NRestarts", |restarts| restarts == "1");
    machine.until("ActiveState", |state| state == "active");
    assert_eq!(gaps(&machine.answer(killed())), [Why::NothingBefore, Why::Ended]);

    machine.systemctl(&["stop", UNIT]);
    assert_eq!(machine.properties(["ActiveState", "Result"]), ["inactive", "success"]);
}

#[test]
fn live_package_misses_nothing_while_it_restarts() {
    let Some(_turn) = live() else { return };
    let Some(machine) = Machine::boot() else { return };
    let first = machine.property("MainPID");
    // The next one lets itself be waited for.
    let slow = format!("[Service]\nExecStartPre=/bin/sleep {}\n", watchdog().as_secs());
    fs::write(machine.0.outside("/etc/systemd/system/killtrace.service.d/slow.conf"), slow)
        .expect("it can be written");
    machine.systemctl(&["daemon-reload"]);
    // Known to the first, and to the second not even by its birth.
    let mut victim = Victim::start(&["wait"]);
    machine.systemctl(&["restart", "--no-block", UNIT]);
    machine.until("MainPID", |pid| pid != first);
    strike(i32::try_from(victim.pid()).expect("pids are small"), libc::SIGKILL);
    victim.wait();
    let meanwhile = killed();
    if !keeps_its_probes() {
        // Sampling buffers end with whoever reads them: it says since when nothing is known.
        machine.until("ActiveState", |state| state == "active");
        assert_eq!(gaps(&machine.answer(killed())), [Why::NothingBefore, Why::Stopped]);
        for pid in [victim.pid(), meanwhile] {
            assert!(machine.ask_why(pid).is_none(), "{pid} died while nobody watched");
        }
        return;
    }
    for pid in [victim.pid(), meanwhile] {
        let answer = machine.answer(pid);
        assert_struck(&answer.deaths[0].death);
        assert_eq!(gaps(&answer), [Why::NothingBefore]);
    }

    // Once it is stopped for good, nobody is left to go on with it.
    let links =
        || machine.run(&["sh", "-c", "cat /proc/[0-9]*/fdinfo/* 2>/dev/null | grep -c link_type || true"]);
    assert_ne!(links().trim(), "0");
    machine.systemctl(&["stop", UNIT]);
    machine.until("NFileDescriptorStore", |number| number == "0");
    assert_eq!(links().trim(), "0");
}

#[test]
fn live_package_does_not_try_a_wrong_configuration_again() {
    let Some(_turn) = live() else { return };
    let Some(machine) = Machine::boot() else { return };
    assert_eq!(machine.property("ActiveState"), "active");
    fs::write(machine.0.outside("/etc/killtrace.toml"), "max_size = 'much'\n").expect("it can be written");
    let started = machine.0.ask(Manager::System, &["restart", UNIT]);
    assert!(!started.status.success());
    assert_eq!(machine.property("ExecMainStatus"), "2");
    assert_eq!(machine.properties(["ActiveState", "NRestarts"]), ["failed", "0"]);
}

#[test]
fn live_package_keeps_what_it_knows_until_it_is_purged() {
    let Some(_turn) = live() else { return };
    let Some(machine) = Machine::boot() else { return };
    for manual in ["killtrace", "killtrace-watch", "killtrace-record"] {
        assert!(machine.has(&format!("/usr/share/man/man1/{manual}.1.gz")), "{manual}");
    }
    let completion = machine.run(&["bash", "-c", COMPLETE]);
    assert!(completion.lines().any(|word| word == "record"), "{completion}");

    let pid = killed();
    machine.answer(pid);
    let first = machine.property("MainPID");
    let settings = "# mine\nmax-age = '7d'\n";
    fs::write(machine.0.outside("/etc/killtrace.toml"), settings).expect("it can be written");
    machine.run(&["sh", "-ec", NEXT_VERSION]);
    machine.run(&["dpkg", "--force-confold", "--install", "/tmp/next.deb"]);
    machine.until("ActiveState", |state| state == "active");
    assert_ne!(machine.property("MainPID"), first);
    let kept = fs::read_to_string(machine.0.outside("/etc/killtrace.toml")).expect("it is there");
    assert_eq!(kept, settings);
    // Both of them know it: the one before, and the new one what dies from now on.
    machine.answer(pid);
    machine.answer(killed());

    machine.run(&["dpkg", "--remove", "killtrace"]);
    machine.until("ActiveState", |state| state == "inactive");
    assert!(!machine.has("/usr/bin/killtrace"));
    assert!(machine.has("/var/lib/killtrace") && machine.has("/etc/killtrace.toml"));
    machine.run(&["dpkg", "--purge", "killtrace"]);
    let left = machine.run(&["find", "/etc", "/usr", "/var", "-path", "*killtrace*", "-newer", PACKAGE]);
    let left: Vec<&str> = left.lines().filter(|path| !path.contains("/killtrace.service.d")).collect();
    assert_eq!(left, [""; 0]);
}

/// Bash's completion of `killtrace rec`, as a terminal would ask for it.
const COMPLETE: &str = "\
. /usr/share/bash-completion/completions/killtrace
COMP_WORDS=(killtrace rec) COMP_CWORD=1
_killtrace killtrace rec killtrace
printf '%s\\n' \"${COMPREPLY[@]}\"";

/// The same package, only newer.
const NEXT_VERSION: &str = "\
cd /tmp
dpkg-deb --raw-extract killtrace.deb next
sed -i 's/^Version: .*/Version: 99.0.0-1/' next/DEBIAN/control
printf '# new\\n' >> next/etc/killtrace.toml
dpkg-deb -Znone --build next next.deb";
