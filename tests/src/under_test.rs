//! killtrace under test.

#![allow(clippy::print_stdout, reason = "what killtrace said belongs to a failed test's output")]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, OnceLock};

use jsonschema::Validator;
use killtrace::model::report::{Actor, Death, Report};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::procs::eventually;
use crate::sandbox::die_with_this_thread;

const SCHEMA: &str = include_str!("../../docs/schema/report-1.json");

/// The killtrace to test: `KILLTRACE_BIN`, or what cargo builds now.
///
/// # Panics
/// When cargo cannot build it.
#[must_use]
pub fn killtrace_path() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| std::env::var_os("KILLTRACE_BIN").map_or_else(build, PathBuf::from))
}

fn build() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let profile_dir = test.ancestors().nth(2).expect("test binaries live in target/PROFILE/deps");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--quiet", "--package", "guard-userspace", "--bin", "killtrace"]);
    command.arg("--manifest-path").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
    command.arg("--target-dir").arg(profile_dir.parent().expect("the profile is not the root"));
    if profile_dir.ends_with("release") {
        command.arg("--release");
    }
    let status = command.status().expect("cannot run cargo; set KILLTRACE_BIN to test a built killtrace");
    assert!(status.success(), "killtrace does not build");
    profile_dir.join("killtrace")
}

/// Where a watch writes; kept, and told, with `KILLTRACE_KEEP` set.
fn temporary_dir() -> TempDir {
    let mut dir =
        tempfile::Builder::new().prefix("kt-watch-").tempdir().expect("cannot make a temporary directory");
    if std::env::var_os("KILLTRACE_KEEP").is_some() {
        dir.disable_cleanup(true);
        println!("--- kept: {}", dir.path().display());
    }
    dir
}

/// A running `killtrace watch`.
#[derive(Debug)]
pub struct Watch {
    child: Child,
    dir: TempDir,
}

impl Watch {
    /// Starts it and waits until it says `watching:`. `KILLTRACE_ZOO_ARGS` are more arguments, such as `--no-btf`.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn start(selectors: &[&str]) -> Self {
        let more = std::env::var("KILLTRACE_ZOO_ARGS").unwrap_or_default();
        Self::start_with(&selectors.iter().copied().chain(more.split_whitespace()).collect::<Vec<_>>())
    }

    /// Like [`Self::start`], with these arguments and no others.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start_with(arguments: &[&str]) -> Self {
        let dir = temporary_dir();
        let file = |name: &str| {
            File::create(dir.path().join(name)).expect("cannot write to the temporary directory")
        };
        let mut command = Command::new(killtrace_path());
        command.arg("watch").args(arguments);
        command.arg("-o").arg(dir.path().join("report.json"));
        command.arg("--events").arg(dir.path().join("events.jsonl"));
        command.env("NO_COLOR", "1").stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr"));
        die_with_this_thread(&mut command);
        let mut child = command.spawn().expect("cannot run killtrace");
        let stderr = dir.path().join("stderr");
        eventually(20, "killtrace to say `watching:`", || {
            let said = fs::read_to_string(&stderr).unwrap_or_default();
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                panic!("killtrace watch {arguments:?} ended ({status}):\n{said}");
            }
            said.lines().any(|line| line.starts_with("watching:")).then_some(())
        });
        Self { child, dir }
    }

    /// Waits until the report, which is rewritten at every death, holds the death of each of `pids`.
    ///
    /// # Panics
    /// When it does not in time.
    pub fn until_dead(&self, pids: &[u32]) {
        if pids.is_empty() {
            return;
        }
        let path = self.dir.path().join("report.json");
        // What killtrace said is printed when this panics.
        eventually(10, &format!("the report of the death of {pids:?}"), || {
            // It appears with the first death, and by renaming, so it is whole or absent.
            let report: Report = serde_json::from_str(&fs::read_to_string(&path).ok()?).ok()?;
            let dead: BTreeSet<u32> = report.deaths.iter().map(|death| death.victim.pid).collect();
            pids.iter().all(|pid| dead.contains(pid)).then_some(())
        });
    }

    /// Waits until it has printed something, while it watches, and returns all that it has printed by then. Where lines
    /// end does not matter.
    ///
    /// # Panics
    /// When it does not in time.
    #[must_use]
    pub fn until_said(&self, said: &str) -> String {
        let path = self.dir.path().join("stdout");
        eventually(60, &format!("killtrace to say {said:?}"), || {
            let so_far = words(&fs::read_to_string(&path).unwrap_or_default());
            so_far.contains(said).then_some(so_far)
        })
    }

    /// Stops it with SIGTERM, and checks what is true of every report.
    ///
    /// # Panics
    /// When the report is missing, breaks its schema, claims what it does not show, or replays differently.
    #[must_use]
    pub fn stop(self) -> Outcome {
        let outcome = self.stop_after_losses();
        assert_eq!(outcome.report.collector.lost_events, 0, "events were lost");
        outcome
    }

    /// Like [`Self::stop`], where events may have been lost.
    ///
    /// # Panics
    /// As there.
    #[must_use]
    pub fn stop_after_losses(mut self) -> Outcome {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("pids are small"));
        kill(pid, Signal::SIGTERM).expect("killtrace still runs");
        let status =
            eventually(10, "killtrace to stop", || self.child.try_wait().expect("a child can be waited for"));
        let read = |name: &str| fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
        let stderr = read("stderr");
        assert_eq!((status.code(), status.signal()), (Some(0), None), "killtrace after SIGTERM:\n{stderr}");
        let outcome = Outcome::new(&read("report.json"), read("stdout"), stderr, read("events.jsonl"));
        outcome.check_replay(&self.dir.path().join("events.jsonl"), &read("report.json"));
        outcome
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in ["stderr", "stdout"] {
                let said = fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
                println!("--- killtrace's {name}:\n{said}");
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What killtrace had to say.
#[derive(Debug)]
pub struct Outcome {
    pub report: Report,
    pub stdout: String,
    pub stderr: String,
    /// Every event it recorded, as JSON Lines.
    pub recording: String,
}

impl Outcome {
    fn new(json: &str, stdout: String, stderr: String, recording: String) -> Self {
        let value: Value =
            serde_json::from_str(json).unwrap_or_else(|error| panic!("no report ({error}):\n{stderr}"));
        check_schema(&value);
        let report: Report = serde_json::from_value(value).expect("what fits the schema fits the types");
        let outcome = Self { report, stdout, stderr, recording };
        outcome.check_evidence();
        outcome
    }

    /// The death of a process.
    ///
    /// # Panics
    /// When there is none, or more than one.
    #[must_use]
    pub fn death(&self, pid: u32) -> &Death {
        let deaths: Vec<&Death> = self.report.deaths.iter().filter(|death| death.victim.pid == pid).collect();
        let [death] = deaths[..] else {
            panic!("{} deaths of {pid} in {:?}", deaths.len(), self.summaries());
        };
        death
    }

    /// The death of a process, by the pid that it had in its sandbox.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn death_inside(&self, pid: u32) -> &Death {
        let inner = |death: &&Death| death.victim.pid_in_namespace.unwrap_or(death.victim.pid) == pid;
        let death = self.report.deaths.iter().find(inner);
        death.unwrap_or_else(|| panic!("no death of {pid}, in its sandbox, in {:?}", self.summaries()))
    }

    /// All sentences.
    #[must_use]
    pub fn summaries(&self) -> Vec<&str> {
        self.report.deaths.iter().map(|death| death.summary.as_str()).collect()
    }

    /// Every claim shows its evidence, and what was printed is what was written.
    fn check_evidence(&self) {
        assert_eq!(self.report.schema, Report::SCHEMA);
        let timeline: BTreeSet<u64> = self.report.timeline.iter().map(|entry| entry.id).collect();
        let printed = words(&self.stdout);
        for death in &self.report.deaths {
            assert!(!death.evidence.is_empty(), "no evidence for {:?}", death.summary);
            let chain = death.chain.iter().map(|step| &step.event);
            let missing: Vec<&u64> =
                death.evidence.iter().chain(chain).filter(|id| !timeline.contains(id)).collect();
            assert!(missing.is_empty(), "not in the timeline: {missing:?} of {:?}", death.summary);
            assert!(
                printed.contains(&words(&death.summary)),
                "not printed: {:?}\n{}",
                death.summary,
                self.stdout
            );
        }
    }

    fn check_replay(&self, recording: &Path, live: &str) {
        let output =
            Command::new(killtrace_path()).arg("report").arg(recording).args(["--format", "json"]).output();
        let output = output.expect("cannot run killtrace");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "killtrace report: {}\n{stderr}", output.status);
        let replayed = String::from_utf8(output.stdout).expect("a report is UTF-8");
        if replayed != live {
            let pairs = live.lines().zip(replayed.lines());
            let differing: Vec<_> = pairs.filter(|(live, replayed)| live != replayed).take(5).collect();
            panic!("the replay differs; lines live and replayed: {differing:#?}\n{:?}", self.summaries());
        }
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("--- killtrace's stderr:\n{}--- killtrace's stdout:\n{}", self.stderr, self.stdout);
        }
    }
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn check_schema(report: &Value) {
    static VALIDATOR: LazyLock<Validator> = LazyLock::new(|| {
        let schema = serde_json::from_str(SCHEMA).expect("the schema is JSON");
        jsonschema::validator_for(&schema).expect("the schema is a schema")
    });
    let errors: Vec<String> =
        VALIDATOR.iter_errors(report).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "the report breaks its schema: {errors:#?}");
}

/// An actor's ancestry in one line of command lines, nearest first.
#[must_use]
pub fn ancestry(actor: &Actor) -> Vec<String> {
    actor
        .ancestry
        .iter()
        .map(|step| step.cmdline.as_ref().map_or(step.comm.clone(), |args| args.join(" ")))
        .collect()
}
