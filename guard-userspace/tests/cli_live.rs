//! The commands against the running kernel. They need root, and say so where they have to be skipped.

#![allow(clippy::print_stdout, reason = "a skip, and what killtrace said, belong to the test's output")]

mod needs;
mod patience;

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use self::patience::eventually;

const KILLTRACE: &str = env!("CARGO_BIN_EXE_killtrace");

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// A process to be killed, ended with the test.
struct Victim(Child);

impl Victim {
    fn new() -> Self {
        Self(Command::new("sleep").arg("1000").spawn().expect("sleep can be run"))
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn selector(&self) -> String {
        format!("--pid={}", self.pid())
    }

    fn kill(&mut self) {
        send(&self.0, Signal::SIGTERM);
        self.0.wait().expect("it ends");
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).expect("pids are small")), signal).expect("it is alive");
}

/// A running killtrace whose stderr is read up to `watching:`.
struct Watch {
    child: Child,
    /// Where stdout and stderr go. Files, because a pipe that nobody reads before the end may hold 4096 bytes only.
    files: [PathBuf; 2],
}

impl Watch {
    fn start(directory: &Path, args: &[&str]) -> Self {
        Self::start_with(directory, args, None)
    }

    fn with_closed_stdout(directory: &Path, args: &[&str]) -> Self {
        let mut watch = Self::start_with(directory, args, Some(Stdio::piped()));
        drop(watch.child.stdout.take());
        watch
    }

    fn start_with(directory: &Path, args: &[&str], stdout: Option<Stdio>) -> Self {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let files = ["stdout", "stderr"].map(|name| directory.join(format!("{name}-{number}")));
        let [out, err] =
            files.each_ref().map(|path| Stdio::from(File::create(path).expect("it can be made")));
        let mut command = Command::new(KILLTRACE);
        command.arg("watch").args(args).stdin(Stdio::null()).stdout(stdout.unwrap_or(out)).stderr(err);
        let child = command.env("NO_COLOR", "1").spawn().expect("the program can be run");
        let watch = Self { child, files };
        eventually(10, "`watching:`", || watch.said().contains("watching: ").then_some(()));
        watch
    }

    /// What is on its stdout.
    fn printed(&self) -> String {
        fs::read_to_string(&self.files[0]).expect("UTF-8")
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.files[1]).unwrap_or_default()
    }

    fn ended(&mut self) -> ExitStatus {
        eventually(10, "killtrace to end", || self.child.try_wait().expect("it is a child"))
    }

    fn stop(&mut self, signal: Signal) -> ExitStatus {
        send(&self.child, signal);
        self.ended()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("--- killtrace said:\n{}", self.said());
        }
    }
}

fn read_report(path: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Pids of the deaths in a report.
fn dead(report: &Value) -> Vec<u64> {
    let deaths = report["deaths"].as_array().expect("a report has deaths");
    deaths.iter().map(|death| death["victim"]["pid"].as_u64().expect("a pid")).collect()
}

#[test]
fn live_a_signal_to_killtrace_ends_it_with_its_report() {
    if !needs::root() {
        return;
    }
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let directory = directory();
        let path = directory.path().join("report.json");
        let mut victim = Victim::new();
        let args = [&victim.selector(), "-o", path.to_str().expect("UTF-8")];
        let mut watch = Watch::start(directory.path(), &args);
        assert!(
            watch.said().contains(&format!("watching: sleep (pid {})", victim.pid())),
            "{}",
            watch.said()
        );
        victim.kill();
        // At once: the death must be in the report although nothing had time to be said.
        let status = watch.stop(signal);
        assert_eq!((status.code(), status.signal()), (Some(0), None), "{signal}: {}", watch.said());
        let report = read_report(&path).expect("a report was written");
        assert_eq!(dead(&report), [u64::from(victim.pid())], "{signal}");
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
        let names: Vec<_> = fs::read_dir(directory.path()).expect("it is there").collect();
        assert_eq!(names.len(), 3, "nothing but it, stdout and stderr is left behind: {names:?}");
    }
}

#[test]
fn live_the_report_is_saved_at_every_death() {
    if !needs::root() {
        return;
    }
    let directory = directory();
    let path = directory.path().join("report.json");
    let (mut first, mut second) = (Victim::new(), Victim::new());
    let args = [&first.selector(), &second.selector(), "-o", path.to_str().expect("UTF-8")];
    let watch = Watch::start(directory.path(), &args);
    first.kill();
    let saved = |count: usize| read_report(&path).filter(|report| dead(report).len() == count);
    eventually(10, "the first death to be saved", || saved(1));
    second.kill();
    eventually(10, "the second death to be saved", || saved(2));
    // Dropping kills it with SIGKILL: what was said is in the file.
    drop(watch);
    assert!(saved(2).is_some());
}

#[test]
fn live_once_ends_after_the_first_roots_death() {
    if !needs::root() {
        return;
    }
    let directory = directory();
    let mut victim = Victim::new();
    let mut watch = Watch::start(directory.path(), &[&victim.selector(), "--once"]);
    victim.kill();
    assert_eq!(watch.ended().code(), Some(0), "{}", watch.said());
    let said = watch.printed();
    assert!(said.contains(&format!("sleep (pid {})", victim.pid())) && said.contains("SIGTERM"), "{said}");
}

#[test]
fn live_json_leaves_stdout_to_the_report() {
    if !needs::root() {
        return;
    }
    let directory = directory();
    let mut victim = Victim::new();
    let mut watch = Watch::start(directory.path(), &[&victim.selector(), "--once", "--json"]);
    victim.kill();
    assert_eq!(watch.ended().code(), Some(0), "{}", watch.said());
    let report: Value = serde_json::from_str(&watch.printed()).expect("nothing but JSON");
    assert_eq!(dead(&report), [u64::from(victim.pid())]);
    assert!(watch.said().contains("SIGTERM"), "deaths are told on stderr: {}", watch.said());
}

#[test]
fn live_nothing_died_has_its_own_exit_code() {
    if !needs::root() {
        return;
    }
    let directory = directory();
    let victim = Victim::new();
    let started = Instant::now();
    let mut watch = Watch::start(directory.path(), &[&victim.selector(), "--duration", "300ms"]);
    assert_eq!(watch.ended().code(), Some(3), "{}", watch.said());
    assert!(started.elapsed() >= Duration::from_millis(300));
}

#[test]
fn live_a_name_that_matches_nothing_is_waited_for() {
    if !needs::root() {
        return;
    }
    let directory = directory();
    let program = directory.path().join("kt-late");
    fs::copy("/bin/sleep", &program).expect("it can be copied");
    let mut watch = Watch::start(directory.path(), &["--comm=kt-late", "--unit=kt-no-such-unit", "--once"]);
    assert!(watch.said().contains("no unit kt-no-such-unit yet; waiting for it"), "{}", watch.said());
    assert!(
        watch.said().contains("no process matches comm=kt-late or unit=kt-no-such-unit yet"),
        "{}",
        watch.said()
    );
    let mut victim = Victim(Command::new(&program).arg("1000").spawn().expect("it can be run"));
    eventually(10, "the late one to be noticed", || {
        watch.said().contains(&format!("watching: kt-late (pid {})", victim.pid())).then_some(())
    });
    victim.kill();
    assert_eq!(watch.ended().code(), Some(0), "{}", watch.said());
}

#[test]
fn live_a_closed_stdout_ends_a_watch_quietly() {
    if !needs::root() {
        return;
    }
    let directory = directory();
    let mut victim = Victim::new();
    let mut watch = Watch::with_closed_stdout(directory.path(), &[&victim.selector()]);
    victim.kill();
    assert_eq!(watch.ended().code(), Some(0), "{}", watch.said());
    assert!(!watch.said().contains("error"), "{}", watch.said());
}

#[test]
fn live_a_closed_stdout_does_not_keep_the_report_from_its_file() {
    if !needs::root() {
        return;
    }
    let directory = directory();
    let path = directory.path().join("report.json");
    let (mut first, mut second) = (Victim::new(), Victim::new());
    let args = [&first.selector(), &second.selector(), "-o", path.to_str().expect("UTF-8")];
    let mut watch = Watch::with_closed_stdout(directory.path(), &args);
    first.kill();
    eventually(10, "the first death to be saved", || read_report(&path));
    second.kill();
    assert_eq!(watch.stop(Signal::SIGTERM).code(), Some(0), "{}", watch.said());
    let report = read_report(&path).expect("a report was written");
    assert_eq!(dead(&report), [u64::from(first.pid()), u64::from(second.pid())]);
}

#[test]
fn live_two_instances_watch_the_same_victim() {
    if !needs::root() {
        return;
    }
    let directory = directory();
    let mut victim = Victim::new();
    let paths = [directory.path().join("a.json"), directory.path().join("b.json")];
    let mut watches = paths.each_ref().map(|path| {
        let args = [&victim.selector(), "--once", "-o", path.to_str().expect("UTF-8")];
        Watch::start(directory.path(), &args)
    });
    victim.kill();
    for (watch, path) in watches.iter_mut().zip(&paths) {
        assert_eq!(watch.ended().code(), Some(0), "{}", watch.said());
        assert_eq!(dead(&read_report(path).expect("a report")), [u64::from(victim.pid())]);
    }
}

/// A file system of its own, too small for a report.
struct Tiny(TempDir);

impl Tiny {
    fn new() -> Self {
        let directory = directory();
        mount(Some("tmpfs"), directory.path(), Some("tmpfs"), MsFlags::empty(), Some("size=4k,nr_inodes=8"))
            .expect("root can mount");
        Self(directory)
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = umount2(self.0.path(), MntFlags::MNT_DETACH);
    }
}

#[test]
fn live_a_full_disk_keeps_the_old_report_and_loses_nothing() {
    if !needs::root() {
        return;
    }
    let (directory, tiny) = (directory(), Tiny::new());
    let path = tiny.0.path().join("report.json");
    fs::write(&path, "old").expect("there is room for three bytes");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("it is ours");
    let mut victim = Victim::new();
    let args = [&victim.selector(), "--once", "-o", path.to_str().expect("UTF-8")];
    let mut watch = Watch::start(directory.path(), &args);
    victim.kill();
    assert_eq!(watch.ended().code(), Some(1), "{}", watch.said());
    assert_eq!(fs::read_to_string(&path).expect("it is there"), "old");
    assert_eq!(fs::read_dir(tiny.0.path()).expect("it is there").count(), 1, "no temporary file is left");
    let said = watch.said();
    assert!(
        said.contains("error: cannot save") && said.contains("No space left") && said.contains("help:"),
        "{said}"
    );
    let stdout = watch.printed();
    let json = &stdout[stdout.find("\n{").expect("the report follows the paragraph")..];
    assert_eq!(dead(&serde_json::from_str(json).expect("it is whole")), [u64::from(victim.pid())]);
}

#[test]
fn live_a_recording_replays_into_the_same_report() {
    if !needs::root() {
        return;
    }
    let directory = directory();
    let (report, events) = (directory.path().join("report.json"), directory.path().join("events.jsonl"));
    let (report_text, events_text) = (report.to_str().expect("UTF-8"), events.to_str().expect("UTF-8"));
    let mut victim = Victim::new();
    let args = [&victim.selector(), "--once", "-o", report_text, "--events", events_text];
    let mut watch = Watch::start(directory.path(), &args);
    victim.kill();
    assert_eq!(watch.ended().code(), Some(0), "{}", watch.said());
    let replayed =
        Command::new(KILLTRACE).args(["report", events_text, "--format", "json"]).output().expect("it runs");
    assert_eq!(String::from_utf8_lossy(&replayed.stdout), fs::read_to_string(&report).expect("it is there"));
    assert_eq!(fs::metadata(&events).expect("it is there").permissions().mode() & 0o777, 0o600);
}

/// A copy of the program where everybody may run it.
fn for_everybody(directory: &Path) -> PathBuf {
    let program = directory.join("killtrace");
    fs::copy(KILLTRACE, &program).expect("it can be copied");
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).expect("it is ours");
    program
}

const NOBODY: u32 = 65_534;

fn as_nobody(program: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(args).uid(NOBODY).gid(NOBODY).current_dir("/").output().expect("the program can be run")
}

#[test]
fn live_without_privileges_it_says_which_and_how_to_get_them() {
    if !needs::root() {
        return;
    }
    let directory = directory();
    let program = for_everybody(directory.path());
    let output = as_nobody(&program, &["watch", "--comm", "sleep"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(77), "{stderr}");
    for part in [
        "error: killtrace needs more privileges",
        "CAP_BPF",
        "CAP_PERFMON",
        "sudo",
        "setcap",
        "killtrace doctor",
    ] {
        assert!(stderr.contains(part), "it does not say {part:?}:\n{stderr}");
    }
    // A command is never run unwatched.
    let output = as_nobody(&program, &["run", "--", "echo", "ran"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    assert!(stderr.contains("needs more privileges") && output.stdout.is_empty(), "{stderr}");
}

fn run(args: &[&str]) -> Output {
    Command::new(KILLTRACE)
        .arg("run")
        .args(args)
        .env("NO_COLOR", "1")
        .output()
        .expect("the program can be run")
}

#[test]
fn live_run_keeps_the_commands_exit_status_and_output() {
    if !needs::root() {
        return;
    }
    let cases: [(&str, i32); 4] =
        [("exit 0", 0), ("exit 42", 42), ("kill -TERM $$", 143), ("kill -KILL $$", 137)];
    for (script, code) in cases {
        let output = run(&["--", "sh", "-c", &format!("echo out; {script}")]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{script}:\n{stderr}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "out\n", "{script}");
        assert!(stderr.contains("sh (pid "), "{script} is told:\n{stderr}");
    }
}

#[test]
fn live_run_tells_what_was_killed_and_not_what_was_done() {
    if !needs::root() {
        return;
    }
    let output = run(&["--", "sh", "-c", "sleep 0.01; sleep 1000 & kill -TERM $!; wait $!; false; exit 0"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert_eq!(stderr.matches("Victim ").count(), 2, "one sleep and the shell:\n{stderr}");
    assert!(stderr.contains("was killed by SIGTERM from sh"), "{stderr}");
}

#[test]
fn live_run_sees_a_command_that_dies_at_once() {
    if !needs::root() {
        return;
    }
    let directory = directory();
    let path = directory.path().join("report.json");
    let output = run(&["-o", path.to_str().expect("UTF-8"), "--", "true"]);
    assert_eq!(output.status.code(), Some(0));
    let report = read_report(&path).expect("a report was written");
    let death = &report["deaths"][0];
    assert_eq!((&death["victim"]["comm"], &death["exit"]["code"]), (&"true".into(), &0.into()), "{death:#}");
}

#[test]
fn live_run_says_when_the_command_cannot_be_run() {
    if !needs::root() {
        return;
    }
    for (command, code, said) in
        [("/no/such/program", 127, "No such file"), ("/etc/passwd", 126, "Permission denied")]
    {
        let output = run(&["--", command]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(
            stderr.contains(&format!("error: cannot run {command}")) && stderr.contains(said),
            "{stderr}"
        );
    }
}

#[test]
fn live_run_passes_signals_on() {
    if !needs::root() {
        return;
    }
    for (signal, code) in
        [(Signal::SIGTERM, 51), (Signal::SIGINT, 52), (Signal::SIGHUP, 53), (Signal::SIGQUIT, 54)]
    {
        let script = "trap 'exit 51' TERM; trap 'exit 52' INT; trap 'exit 53' HUP; trap 'exit 54' QUIT; \
                      echo ready; while :; do sleep 0.05; done";
        let mut command = Command::new(KILLTRACE);
        command.args(["run", "--", "sh", "-c", script]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the program can be run");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line).expect("it says so");
        assert_eq!(line, "ready\n");
        send(&child, signal);
        let status = eventually(10, "the command to end", || child.try_wait().expect("it is a child"));
        assert_eq!(status.code(), Some(code), "{signal}");
    }
}
