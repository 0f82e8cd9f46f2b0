//! The flight recorder: it remembers deaths, survives its own, and owns up to what it did not see.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use killtrace::model::answer::Answer;
use killtrace::model::record::Why;
use killtrace::model::report::Kind;
use killtrace_tests::{Victim, eventually, killtrace_path, live, strike};
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// A running `killtrace record`, killed when dropped.
struct Recorder {
    child: Child,
}

impl Recorder {
    fn start(dir: &Path) -> Self {
        let stderr = dir.join("stderr");
        let mut command = Command::new(killtrace_path());
        command.arg("record").arg("--store").arg(store(dir));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(fs::File::create(&stderr).expect("cannot write to the temporary directory"));
        let mut child = command.spawn().expect("cannot run killtrace");
        eventually(20, "killtrace to say `recording`", || {
            let said = fs::read_to_string(&stderr).unwrap_or_default();
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                panic!("killtrace record ended ({status}):\n{said}");
            }
            said.contains("recording every process").then_some(())
        });
        Self { child }
    }

    fn end(mut self, signal: Signal) -> Option<i32> {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("pids are small"));
        kill(pid, signal).expect("killtrace still runs");
        self.child.wait().expect("a child can be waited for").code()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn store(dir: &Path) -> PathBuf {
    dir.join("store")
}

fn why(dir: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(killtrace_path());
    command.arg("why").args(more).arg("--store").arg(store(dir));
    command.output().expect("cannot run killtrace")
}

/// The answer about a process, once there is one.
fn answer(dir: &Path, pid: u32) -> Answer {
    eventually(10, &format!("the death of {pid} in the store"), || {
        let output = why(dir, &[&pid.to_string(), "--json"]);
        (output.status.code() == Some(0))
            .then(|| serde_json::from_slice(&output.stdout).expect("the answer is JSON"))
    })
}

fn killed(signo: i32, args: &[&str]) -> u32 {
    let mut victim = Victim::start(args);
    strike(i32::try_from(victim.pid()).expect("pids are small"), signo);
    victim.wait();
    victim.pid()
}

#[test]
fn live_record_remembers_and_owns_up_to_what_it_did_not_see() {
    let Some(_turn) = live() else { return };
    let dir = TempDir::new().expect("cannot make a temporary directory");
    let recorder = Recorder::start(dir.path());
    let by_kill = killed(libc::SIGKILL, &["wait"]);
    let stopped = killed(libc::SIGTERM, &["exit-on-term", "7"]);
    let crashed = killed(libc::SIGSEGV, &["wait"]);
    // Its own end with 0 is nobody's business.
    let done = {
        let mut child = Command::new("true").spawn().expect("cannot run true");
        child.wait().expect("a child can be waited for");
        child.id()
    };
    let known = answer(dir.path(), by_kill);
    let death = &known.deaths[0].death;
    assert_eq!((death.victim.pid, death.cause.kind), (by_kill, Kind::KilledByProcess), "{}", death.summary);
    assert_eq!(death.killer.as_ref().map(|killer| killer.name.as_str()), Some("striker"));
    assert!(!known.deaths[0].timeline.is_empty(), "with the events that it rests on");
    let graceful = answer(dir.path(), stopped).deaths.remove(0).death;
    assert!(graceful.cause.graceful && graceful.exit.code == Some(7), "{}", graceful.summary);
    let crash = answer(dir.path(), crashed).deaths.remove(0).death;
    assert_eq!(crash.exit.signal.as_deref(), Some("SIGSEGV"), "{}", crash.summary);

    // Killed in the middle: nobody sees the next one die.
    recorder.end(Signal::SIGKILL);
    let unseen = killed(libc::SIGKILL, &["wait"]);
    let recorder = Recorder::start(dir.path());
    let last = killed(libc::SIGKILL, &["wait"]);
    let known = answer(dir.path(), last);
    assert_eq!(known.gaps.iter().map(|gap| gap.why).collect::<Vec<_>>(), [Why::NothingBefore, Why::Ended]);
    let gap = &known.gaps[1];
    assert!(gap.from.is_some_and(|from| from < gap.until && from >= graceful.died_at), "{gap:?}");
    assert_eq!(recorder.end(Signal::SIGTERM), Some(0));
    for (pid, code) in [(by_kill, 0), (stopped, 0), (crashed, 0), (last, 0), (unseen, 3), (done, 3)] {
        let output = why(dir.path(), &[&pid.to_string()]);
        let said = String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(output.status.code(), Some(code), "{said}");
        let expected =
            if code == 0 { format!("victim (pid {pid}) ") } else { format!("No death of {pid} is recorded") };
        assert!(said.contains(&expected), "{said}");
        let owned_up = said.contains("killtrace had ended without being told to");
        assert_eq!(owned_up, pid != last, "{said}");
    }
    check_lines(&store(dir.path()));
}

/// Each line follows its schema and stands alone.
fn check_lines(store: &Path) {
    let schema = |text: &str| {
        let schema: Value = serde_json::from_str(text).expect("a schema is JSON");
        jsonschema::draft202012::new(&schema).expect("a schema")
    };
    let death = schema(include_str!("../../docs/schema/death-1.json"));
    let gap = schema(include_str!("../../docs/schema/gap-1.json"));
    let segments = killtrace::store::segments(store).expect("a store");
    assert_eq!(segments.len(), 2, "one for each life of the recorder");
    for segment in segments {
        for line in fs::read_to_string(segment).expect("a segment is text").lines() {
            let line: Value = serde_json::from_str(line).expect("no line is torn");
            let schema = if line["schema"] == "killtrace.gap/1" { &gap } else { &death };
            if let Some(fault) = schema.iter_errors(&line).next() {
                panic!("{}: {fault}", fault.instance_path());
            }
        }
    }
}

/// A journald of its own, in a mount namespace of its own.
const JOURNAL: &str = r#"
mount -t tmpfs tmpfs /run
mkdir -p /run/log/journal
test -s /etc/machine-id || { echo 0123456789abcdef0123456789abcdef >/run/id; mount --bind /run/id /etc/machine-id; }
/lib/systemd/systemd-journald &
journald=$!
until test -S /run/systemd/journal/socket; do sleep 0.05; done
"$KILLTRACE" record --store "$DIR/store" --journal --metrics "$DIR/killtrace.prom" >/dev/null 2>"$DIR/said" &
recorder=$!
until grep -q 'recording every process' "$DIR/said"; do sleep 0.05; done
sleep 1000 &
victim=$!
until grep -q sleep /proc/$victim/comm; do sleep 0.05; done
kill -KILL $victim
until journalctl --quiet --directory=/run/log/journal --output=json KILLTRACE_PID=$victim | grep .; do sleep 0.05; done
kill $recorder
wait $recorder
kill $journald
wait $journald
"#;

#[test]
fn live_record_tells_the_journal_and_the_monitor() {
    let Some(_turn) = live() else { return };
    let dir = TempDir::new().expect("cannot make a temporary directory");
    let mut command = Command::new("timeout");
    command.args([
        "--kill-after=5",
        "60",
        "unshare",
        "--mount",
        "--fork",
        "--kill-child",
        "bash",
        "-ec",
        JOURNAL,
    ]);
    command.env("KILLTRACE", killtrace_path()).env("DIR", dir.path()).stdin(Stdio::null());
    let output = command.output().expect("cannot run timeout and unshare");
    let said = fs::read_to_string(dir.path().join("said")).unwrap_or_default();
    assert!(output.status.success(), "{}\n{said}{}", output.status, String::from_utf8_lossy(&output.stderr));
    let entry: Value = serde_json::from_slice(&output.stdout).expect("one line of JSON");
    assert_eq!(entry["MESSAGE_ID"], "7b0c5f0e3a8d4c55a1d9f1f4c2c6e3d7", "{entry}");
    assert_eq!(entry["KILLTRACE_KIND"], "killed_by_process", "{entry}");
    assert_eq!(entry["KILLTRACE_KILLER_NAME"], "bash", "{entry}");
    assert_eq!((&entry["_COMM"], &entry["PRIORITY"]), (&"killtrace".into(), &"4".into()), "{entry}");
    let message = entry["MESSAGE"].as_str().expect("a message is text");
    assert!(message.starts_with("sleep (pid ") && message.contains("was killed by SIGKILL"), "{entry}");
    let counters = fs::read_to_string(dir.path().join("killtrace.prom")).expect("counters were written");
    assert!(counters.contains("killtrace_deaths_total{kind=\"killed_by_process\",unit=\"\","), "{counters}");
}
