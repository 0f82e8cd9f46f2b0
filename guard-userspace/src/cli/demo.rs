//! `killtrace demo`: a victim, a kill and the answer, for a first look.
//!
//! Nothing is played: the victim is a real process, a script really kills it, and the answer comes from a real
//! `killtrace watch` that is told nothing but the victim's pid. The demo then checks it against what it knows.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};

use super::args::DemoArgs;
use super::doctor::privileges;
use super::failure::{Failure, exit};
use super::output::note;
use crate::collect::CollectError;
use crate::model::report::{Death, Kind};
use crate::recording;

/// For the reader to follow.
const PAUSE: Duration = Duration::from_millis(700);
/// The victim's own end, should everything else fail.
const VICTIM_SECONDS: &str = "60";
/// Longest that the watch may take.
const WATCH_FOR: &str = "15s";

const SCRIPT: &str = "#!/bin/sh
# The culprit of `killtrace demo`: it hides its kill behind a second shell, which is gone in a millisecond.
sh -c \"kill -TERM $1\"
exit 0
";

/// Shows a death and its explanation; returns the exit code, 0 when the answer was right.
///
/// # Errors
/// When privileges are missing or a part of the demo cannot be started.
pub fn run(_args: &DemoArgs) -> Result<u8, Failure> {
    // Better now than after a victim has been introduced.
    let missing = privileges::missing();
    if !missing.is_empty() {
        return Err(CollectError::Privileges { missing }.into());
    }
    let directory = tempfile::Builder::new().prefix("killtrace-demo-").tempdir();
    let directory = directory.context("cannot make a temporary directory")?;
    let script = directory.path().join("clean-up.sh");
    let written = fs::write(&script, SCRIPT);
    written.with_context(|| format!("cannot write {}", script.display()))?;

    let victim = Doomed::start(Command::new("sleep").arg(VICTIM_SECONDS))?;
    let pid = victim.0.id();
    say(&format!("A victim:    sleep {VICTIM_SECONDS} (pid {pid}), which harms nobody."));
    thread::sleep(PAUSE);

    let report = directory.path().join("report.json");
    say(&format!("A watcher:   killtrace watch --pid {pid} --once"));
    let mut watcher = Watcher::start(pid, &report)?;
    if !watcher.wait_until_armed()? {
        return watcher.ended_early();
    }
    thread::sleep(PAUSE);

    say("A culprit:   clean-up.sh, about to kill it and be gone. What does killtrace say?");
    say("");
    thread::sleep(PAUSE);
    let mut culprit = Doomed::start(Command::new("sh").arg(&script).arg(pid.to_string()))?;
    culprit.0.wait().context("cannot wait for clean-up.sh")?;
    let culprit = culprit.0.id();

    let status = watcher.finish()?;
    let verdict = judge(&report, pid, culprit);
    // The answer was printed by the watch; say whether it was right.
    match verdict {
        Ok(()) => {
            say("That is what happened. Now try it on a process of yours:");
            say("sudo killtrace watch --comm NAME");
            Ok(0)
        }
        Err(error) => Err(Failure::new(error.context(format!("the demo's answer was wrong ({status})")))
            .help("please report this with the output of `killtrace doctor`")),
    }
}

/// Compares the saved answer with what was done.
fn judge(report: &Path, victim: u32, culprit: u32) -> anyhow::Result<()> {
    let report = recording::load(report)?.into_report();
    let death = report.deaths.iter().find(|death| death.victim.pid == victim);
    let death = death.with_context(|| format!("it says nothing of the death of pid {victim}"))?;
    judge_death(death, culprit)
}

fn judge_death(death: &Death, culprit: u32) -> anyhow::Result<()> {
    if death.cause.kind != Kind::KilledByProcess || death.exit.signal.as_deref() != Some("SIGTERM") {
        bail!("it does not say that a process sent SIGTERM, but: {}", death.summary);
    }
    let killer = death.killer.as_ref().ok_or_else(|| anyhow!("it names no killer"))?;
    let by_culprit = killer.pid == culprit || killer.ancestry.iter().any(|parent| parent.pid == culprit);
    if !by_culprit {
        bail!("it names {} (pid {}) and not clean-up.sh (pid {culprit})", killer.name, killer.pid);
    }
    Ok(())
}

/// A child that does not outlive the demo.
#[derive(Debug)]
struct Doomed(Child);

impl Doomed {
    fn start(command: &mut Command) -> anyhow::Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.stdin(Stdio::null()).spawn();
        child.map(Self).with_context(|| format!("cannot start {name}"))
    }
}

impl Drop for Doomed {
    fn drop(&mut self) {
        // Fails when it is dead already, which is the usual way. `wait` then takes its status.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The real thing, in a process of its own.
#[derive(Debug)]
struct Watcher {
    child: Doomed,
    /// What it says beside the answer; `None` once that is passed on as it comes.
    stderr: Option<BufReader<ChildStderr>>,
}

impl Watcher {
    fn start(victim: u32, report: &Path) -> anyhow::Result<Self> {
        let own = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"));
        let mut command = Command::new(own);
        command.args(["watch", "--once", "--duration", WATCH_FOR, "--pid", &victim.to_string(), "-o"]);
        let mut child = Doomed::start(command.arg(report).stderr(Stdio::piped()))?;
        let stderr = child.0.stderr.take().map(BufReader::new);
        Ok(Self { child, stderr })
    }

    /// Waits for its word that the probes are armed. False when it ended instead.
    fn wait_until_armed(&mut self) -> anyhow::Result<bool> {
        let Some(mut stderr) = self.stderr.take() else { return Ok(false) };
        let mut line = String::new();
        loop {
            line.clear();
            if stderr.read_line(&mut line).context("cannot read what the watch says")? == 0 {
                return Ok(false);
            }
            if line.starts_with("watching: ") {
                break;
            }
            note(line.trim_end());
        }
        thread::spawn(move || io::copy(&mut stderr, &mut io::stderr()));
        Ok(true)
    }

    /// It has said why on stderr; its exit code says what kind of failure it was.
    fn ended_early(mut self) -> Result<u8, Failure> {
        let status = self.child.0.wait().context("cannot wait for the watch")?;
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        Ok(code.filter(|&code| code != 0).unwrap_or(exit::FAILED))
    }

    fn finish(mut self) -> anyhow::Result<ExitStatus> {
        self.child.0.wait().context("cannot wait for the watch")
    }
}

/// Tells the story; a closed pipe is no error.
fn say(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn only_the_right_answer_is_right() {
        let mut death = sample::report().deaths.remove(1);
        death.exit.signal = Some("SIGTERM".to_owned());
        let killer = death.killer.clone().unwrap();
        let script = killer.ancestry[0].pid;
        assert!(judge_death(&death, killer.pid).is_ok());
        assert!(judge_death(&death, script).is_ok());
        assert!(judge_death(&death, 999_999).is_err());
        death.killer = None;
        assert!(judge_death(&death, script).is_err());
        death.killer = Some(killer);
        death.cause.kind = Kind::Unknown;
        assert!(judge_death(&death, script).is_err());
    }

    #[test]
    fn the_script_kills_the_pid_it_is_given_through_another_shell() {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("clean-up.sh");
        fs::write(&script, SCRIPT).unwrap();
        let mut victim = Doomed::start(Command::new("sleep").arg("60")).unwrap();
        let status = Command::new("sh").arg(&script).arg(victim.0.id().to_string()).status().unwrap();
        assert!(status.success());
        let status = victim.0.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGTERM));
    }

    #[test]
    fn a_missing_report_is_no_right_answer() {
        assert!(judge(Path::new("/nonexistent/report.json"), 1, 2).is_err());
    }
}
