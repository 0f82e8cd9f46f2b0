//! A running killtrace that is measured.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Programs;

/// `killtrace watch`, whose output is read as it comes.
pub(super) struct Session {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// Held open: killtrace would notice a closed pipe.
    _stderr: BufReader<ChildStderr>,
    report: tempfile::TempPath,
    /// From the start of the process to its `watching:` line.
    pub(super) armed_after: Duration,
}

impl Session {
    pub(super) fn start(programs: &Programs, selector: &[&str]) -> Result<Self> {
        let report = tempfile::NamedTempFile::new().context("cannot make a temporary file")?.into_temp_path();
        let mut command = Command::new(&programs.killtrace);
        command.args(["watch", "--backend", &programs.backend]).args(selector).arg("-o").arg(&report);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let start = Instant::now();
        let mut child = command.spawn().context("cannot run killtrace")?;
        let mut stderr = BufReader::new(child.stderr.take().context("its stderr is a pipe")?);
        let mut said = String::new();
        loop {
            let before = said.len();
            stderr.read_line(&mut said).context("cannot read what killtrace says")?;
            if said.len() == before {
                bail!("killtrace watch ended: {said}");
            }
            if said[before..].starts_with("watching:") {
                break;
            }
        }
        let armed_after = start.elapsed();
        let stdout = BufReader::new(child.stdout.take().context("its stdout is a pipe")?);
        Ok(Self { child, stdout, _stderr: stderr, report, armed_after })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line on standard output that names `pid`.
    pub(super) fn until_printed(&mut self, pid: u32) -> Result<()> {
        let pid = pid.to_string();
        let mut line = String::new();
        while self.stdout.read_line(&mut line).context("cannot read what killtrace prints")? > 0 {
            if line.split(|c: char| !c.is_ascii_digit()).any(|number| number == pid) {
                return Ok(());
            }
            line.clear();
        }
        bail!("killtrace ended without a word on process {pid}")
    }

    /// Highest resident size so far, in KiB.
    pub(super) fn peak_rss_kib(&self) -> Result<u64> {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.pid())).context("killtrace is gone")?;
        field(&status, "VmHWM:").context("this kernel tells no peak memory")
    }

    /// How often its threads went to sleep of their own accord.
    pub(super) fn sleeps(&self) -> Result<u64> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).context("killtrace is gone")?;
        let mut sum = 0;
        for task in tasks.flatten() {
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            sum += field(&status, "voluntary_ctxt_switches:").unwrap_or(0);
        }
        Ok(sum)
    }

    /// CPU time used so far, in clock ticks.
    pub(super) fn cpu_ticks(&self) -> Result<u64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).context("killtrace is gone")?;
        // The name, in brackets, may hold anything; utime and stime are the 12th and 13th field behind it.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let tick = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
        Ok(tick(11).context("no utime")? + tick(12).context("no stime")?)
    }

    /// Stops it, and returns its report.
    pub(super) fn stop(mut self) -> Result<Value> {
        let mut kill = Command::new("kill");
        crate::shell::run(kill.args(["-TERM", &self.pid().to_string()]))?;
        let mut rest = Vec::new();
        self.stdout.read_to_end(&mut rest).context("cannot read what killtrace prints")?;
        self.child.wait().context("cannot wait for killtrace")?;
        let text = fs::read_to_string(&self.report).context("killtrace wrote no report")?;
        serde_json::from_str(&text).context("the report is no JSON")
    }
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
