//! A running killtrace that is measured.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;
use serde_json::Value;

use super::{Programs, as_f64};

/// `killtrace watch`, whose output is read as it comes.
pub(super) struct Session {
    child: Child,
    /// Until somebody else reads it.
    stdout: Option<BufReader<ChildStdout>>,
    /// How many deaths were told, once they are counted.
    deaths: Arc<AtomicU64>,
    /// Held open: killtrace would notice a closed pipe.
    _stderr: BufReader<ChildStderr>,
    report: tempfile::TempPath,
    /// From the start of the process to its `watching:` line.
    pub(super) armed_after: Duration,
}

impl Session {
    /// Arms it with a backend (`auto`, `ebpf`, `perf`) and selects what is watched.
    ///
    /// # Errors
    /// When it ends instead.
    pub(super) fn start(programs: &Programs, backend: &str, selector: &[&str]) -> Result<Self> {
        let report = tempfile::NamedTempFile::new().context("cannot make a temporary file")?.into_temp_path();
        let mut command = Command::new(&programs.killtrace);
        command.args(["watch", "--backend", backend]).args(selector).arg("-o").arg(&report);
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
        let stdout = child.stdout.take().map(BufReader::new);
        let deaths = Arc::default();
        Ok(Self { child, stdout, deaths, _stderr: stderr, report, armed_after })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line on standard output that names `pid`.
    pub(super) fn until_printed(&mut self, pid: u32) -> Result<()> {
        let pid = pid.to_string();
        let mut line = String::new();
        let stdout = self.stdout.as_mut().context("somebody else reads what it says")?;
        while stdout.read_line(&mut line).context("cannot read what killtrace prints")? > 0 {
            if line.split(|c: char| !c.is_ascii_digit()).any(|number| number == pid) {
                return Ok(());
            }
            line.clear();
        }
        bail!("killtrace ended without a word on process {pid}")
    }

    /// From now on, counts the deaths that it tells of processes of this name.
    ///
    /// # Errors
    /// When it does so already.
    pub(super) fn count_deaths(&mut self, name: &str) -> Result<()> {
        let stdout = self.stdout.take().context("somebody else reads what it says")?;
        let (deaths, begins) = (Arc::clone(&self.deaths), format!("{name} (pid "));
        std::thread::spawn(move || {
            // What follows the first line of a death is indented or a heading.
            for _ in
                stdout.split(b'\n').map_while(Result::ok).filter(|line| line.starts_with(begins.as_bytes()))
            {
                deaths.fetch_add(1, Ordering::Relaxed);
            }
        });
        Ok(())
    }

    /// How many deaths it has told since they are counted.
    pub(super) fn deaths(&self) -> u64 {
        self.deaths.load(Ordering::Relaxed)
    }

    /// Highest resident size so far, in MiB.
    pub(super) fn peak_mib(&self) -> Result<f64> {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.pid())).context("killtrace is gone")?;
        let kib = field(&status, "VmHWM:").context("this kernel tells no peak memory")?;
        Ok(as_f64(kib) / 1024.0)
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

    /// Processor time used so far, in nanoseconds.
    pub(super) fn cpu_ns(&self) -> Result<u64> {
        let clock =
            clock_getcpuclockid(Pid::from_raw(self.pid().cast_signed())).context("killtrace is gone")?;
        let time = Duration::from(clock.now().context("its clock cannot be read")?);
        u64::try_from(time.as_nanos()).context("it has run for too long")
    }

    /// Memory that it holds now, and the part of it that nobody else has, in MiB.
    pub(super) fn memory_mib(&self) -> Result<(f64, f64)> {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid()));
        let rollup = rollup.context("this kernel tells no private memory")?;
        let mib = |name: &str| field(&rollup, name).map(|kib| as_f64(kib) / 1024.0);
        let all = || Some((mib("Rss:")?, mib("Private_Clean:")? + mib("Private_Dirty:")?));
        all().context("smaps_rollup has not what is looked for")
    }

    /// Stops it, and returns its report.
    pub(super) fn stop(mut self) -> Result<Value> {
        let mut kill = Command::new("kill");
        crate::shell::run(kill.args(["-TERM", &self.pid().to_string()]))?;
        if let Some(stdout) = &mut self.stdout {
            std::io::copy(stdout, &mut std::io::sink()).context("cannot read what killtrace prints")?;
        }
        self.child.wait().context("cannot wait for killtrace")?;
        let text = fs::read_to_string(&self.report).context("killtrace wrote no report")?;
        serde_json::from_str(&text).context("the report is no JSON")
    }
}

impl Drop for Session {
    /// Whoever does not ask for the report does not wait for it.
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
