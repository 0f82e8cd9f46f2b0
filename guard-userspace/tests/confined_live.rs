//! What killtrace gives up once it is armed, and that it still tells all that it told before. Needs root, and says so
//! where it has to be skipped.

#![allow(clippy::print_stdout, reason = "a skip, and what killtrace said, belong to the test's output")]

mod needs;
mod patience;

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use self::patience::eventually;

const KILLTRACE: &str = env!("CARGO_BIN_EXE_killtrace");
/// `nobody`, to whom none of the tests' files belong.
const NOBODY: u32 = 65534;

/// Bits of include/uapi/linux/capability.h.
const DAC_OVERRIDE: u64 = 1 << 1;
const DAC_READ_SEARCH: u64 = 1 << 2;
const FOWNER: u64 = 1 << 3;
const SETPCAP: u64 = 1 << 8;
const IPC_LOCK: u64 = 1 << 14;
const SYS_PTRACE: u64 = 1 << 19;
const PERFMON: u64 = 1 << 38;
const SYS_ADMIN: u64 = 1 << 21;
const BPF: u64 = 1 << 39;
const READ_PROCESSES: u64 = SYS_PTRACE | DAC_READ_SEARCH;

/// A child that does not outlive its test.
struct Running(Child);

impl Running {
    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn end(&mut self, signal: Signal) -> Option<i32> {
        kill(Pid::from_raw(self.pid().cast_signed()), signal).expect("it is alive");
        eventually(20, "it to end", || self.0.try_wait().expect("it is a child")).code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// killtrace, when it has said that it is ready.
fn killtrace(directory: &Path, mut command: Command, ready: &str) -> Running {
    let stderr = directory.join("stderr");
    let file = fs::File::create(&stderr).expect("it can be made");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).env("NO_COLOR", "1");
    let mut running = Running(command.spawn().expect("killtrace can be run"));
    eventually(20, ready, || {
        let said = fs::read_to_string(&stderr).unwrap_or_default();
        assert!(running.0.try_wait().expect("it is a child").is_none(), "killtrace ended:\n{said}");
        said.contains(ready).then_some(())
    });
    running
}

fn watch(args: &[&str], report: &Path) -> Command {
    let mut command = Command::new(KILLTRACE);
    command.arg("watch").args(args).arg("-o").arg(report);
    command
}

/// A line of `/proc/PID/status`, a number in base 16.
fn status(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    u64::from_str_radix(line.unwrap_or_else(|| panic!("no {name}")).trim(), 16).expect("a number")
}

/// What each thread of a process may do.
fn check_confined(pid: u32, capabilities: u64) {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("it is alive");
    for thread in threads.flatten() {
        let text = fs::read_to_string(thread.path().join("status")).expect("it is alive");
        for set in ["CapEff", "CapPrm", "CapBnd"] {
            assert_eq!(status(&text, set), capabilities, "{set} of\n{text}");
        }
        assert_eq!((status(&text, "CapInh"), status(&text, "CapAmb")), (0, 0), "{text}");
        // Refused by a filter: SECCOMP_MODE_FILTER.
        assert_eq!((status(&text, "NoNewPrivs"), status(&text, "Seccomp")), (1, 2), "{text}");
    }
}

/// A process of somebody else, ended by another one of his.
fn somebody_elses_death() -> u32 {
    let mut victim = Command::new("sleep");
    victim.arg("1000").uid(NOBODY).gid(NOBODY).current_dir("/usr/bin");
    let mut victim = Running(victim.spawn().expect("sleep can be run"));
    // Time enough to look at it.
    std::thread::sleep(Duration::from_millis(300));
    // Sampling buffers are read a while after an exec, and the killer's arguments from /proc.
    let script = format!("sleep 0.3; kill -TERM {}; true", victim.pid());
    let mut killer = Command::new("sh");
    killer.args(["-c", &script, "a marker"]).uid(NOBODY).gid(NOBODY);
    assert!(killer.status().expect("sh can be run").success());
    victim.0.wait().expect("it was killed");
    victim.pid()
}

fn check_told(death: &Value, pid: u32) {
    let victim = &death["victim"];
    assert_eq!(victim["pid"], pid, "{death:#}");
    let sleep = fs::canonicalize("/usr/bin/sleep").expect("sleep is there");
    assert_eq!(victim["exe"], sleep.to_str().expect("UTF-8"), "{death:#}");
    assert_eq!(
        (&death["cause"]["kind"], &death["exit"]["signal"]),
        (&"killed_by_process".into(), &"SIGTERM".into())
    );
    assert_eq!(death["killer"]["cmdline"][3], "a marker", "{death:#}");
}

#[test]
fn an_armed_watch_keeps_little_and_tells_all() {
    if !needs::root() {
        return;
    }
    let open_events = if killtrace::collect::is_paranoid() { SYS_ADMIN } else { PERFMON };
    for (backend, kept) in [("ebpf", BPF), ("perf", open_events | IPC_LOCK)] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let report = directory.path().join("report.json");
        let command = watch(&["--comm", "sleep", "--backend", backend], &report);
        let mut watch = killtrace(directory.path(), command, "watching:");
        check_confined(watch.pid(), READ_PROCESSES | kept);
        let pid = somebody_elses_death();
        let death = eventually(20, "the report", || {
            let report: Value = serde_json::from_slice(&fs::read(&report).ok()?).ok()?;
            let of_victim = |death: &&Value| death["victim"]["pid"] == pid;
            report["deaths"].as_array()?.iter().find(of_victim).cloned()
        });
        check_told(&death, pid);
        // Which only a look at the process itself can tell.
        assert_eq!(death["victim"]["cwd"], "/usr/bin", "{death:#}");
        check_confined(watch.pid(), READ_PROCESSES | kept);
        assert_eq!(watch.end(Signal::SIGTERM), Some(0));
    }
}

#[test]
fn an_armed_recorder_keeps_little_and_tells_all() {
    if !needs::root() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (store, metrics) = (directory.path().join("store"), directory.path().join("killtrace.prom"));
    let mut command = Command::new(KILLTRACE);
    // Nobody listens there: it has to try, and go on.
    command.arg("record").arg("--store").arg(&store).args(["--otlp", "http://localhost:9"]);
    command.arg("--metrics").arg(&metrics).args(["--backend", "ebpf"]);
    let mut record = killtrace(directory.path(), command, "recording every process");
    check_confined(record.pid(), READ_PROCESSES | BPF);
    let pid = somebody_elses_death();
    let answer = eventually(20, "the death in the store", || {
        let mut why = Command::new(KILLTRACE);
        let output = why.arg("why").arg(pid.to_string()).arg("--json").arg("--store").arg(&store).output();
        let output = output.expect("killtrace can be run");
        output.status.success().then(|| serde_json::from_slice::<Value>(&output.stdout).expect("JSON"))
    });
    check_told(&answer["deaths"][0]["death"], pid);
    eventually(20, "the counters", || {
        fs::read_to_string(&metrics).ok()?.contains("kind=\"killed_by_process\"").then_some(())
    });
    eventually(20, "a word on the collector", || {
        let said = fs::read_to_string(directory.path().join("stderr")).ok()?;
        said.contains("refused").then_some(())
    });
    check_confined(record.pid(), READ_PROCESSES | BPF);
    assert_eq!(record.end(Signal::SIGTERM), Some(0));
}

#[test]
fn a_report_among_somebody_elses_files_is_still_written() {
    if !needs::root() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let theirs = directory.path().join("theirs");
    fs::create_dir(&theirs).expect("it can be made");
    chown(&theirs, Some(NOBODY), Some(NOBODY)).expect("root may");
    let report = theirs.join("report.json");
    let mut command = Command::new("setpriv");
    // Who may not change the bounding set goes on without.
    command.args(["--bounding-set", "-setpcap", KILLTRACE, "watch", "--comm", "sleep", "-o"]).arg(&report);
    command.args(["--backend", "ebpf"]);
    let mut watch = killtrace(directory.path(), command, "watching:");
    let text = fs::read_to_string(format!("/proc/{}/status", watch.pid())).expect("it is alive");
    let kept = READ_PROCESSES | BPF | DAC_OVERRIDE | FOWNER;
    assert_eq!((status(&text, "CapEff"), status(&text, "CapPrm")), (kept, kept), "{text}");
    assert_eq!(status(&text, "CapBnd") & SETPCAP, 0, "{text}");
    somebody_elses_death();
    assert_eq!(watch.end(Signal::SIGTERM), Some(0));
    let report: Value = serde_json::from_slice(&fs::read(&report).expect("a report")).expect("JSON");
    assert!(!report["deaths"].as_array().expect("deaths").is_empty());
}

#[test]
fn a_command_keeps_what_it_was_given_and_is_still_told_to_end() {
    if !needs::root() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let output = Command::new(KILLTRACE).args(["run", "--", "cat", "/proc/self/status"]).output();
    let theirs = String::from_utf8(output.expect("killtrace can be run").stdout).expect("UTF-8");
    let own = fs::read_to_string("/proc/self/status").expect("/proc is there");
    for name in ["CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb", "NoNewPrivs", "Seccomp"] {
        assert_eq!(status(&theirs, name), status(&own, name), "{name}");
    }
    let mut command = Command::new(KILLTRACE);
    let started: PathBuf = directory.path().join("started");
    let nobody = NOBODY.to_string();
    fs::File::create(&started).and_then(|_| chown(&started, Some(NOBODY), None)).expect("root may");
    chown(directory.path(), Some(NOBODY), None).expect("root may");
    let script = r#"echo yes >"$0"; exec sleep 1000"#;
    command.args(["run", "-v", "--", "setpriv", "--reuid", &nobody, "--clear-groups", "sh", "-c", script]);
    command.arg(&started);
    let mut run = killtrace(directory.path(), command, "");
    eventually(20, "the command", || (fs::read_to_string(&started).ok()? == "yes\n").then_some(()));
    assert_eq!(run.end(Signal::SIGTERM), Some(143));
}
