//! Processes that do nothing: what a machine with many of them costs.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use anyhow::{Context, Result};

use super::Programs;

/// The kernel's limits, and room for everybody else.
const LIMITS: [&str; 2] = ["/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"];
const OTHERS: usize = 20_000;

/// Some processes. Dropping this ends them, and puts the kernel's limits back.
pub(super) struct Sleepers {
    child: Child,
    /// How many there are: as many as were asked for, unless the machine has no room for them.
    pub(super) count: usize,
    before: Vec<(&'static str, String)>,
}

impl Sleepers {
    /// # Errors
    /// When not even one can be started.
    pub(super) fn start(programs: &Programs, count: usize) -> Result<Self> {
        let before = make_room(count);
        let mut command = programs.load(&["sleepers", &count.to_string()]);
        let child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot run load")?;
        let mut this = Self { child, count: 0, before };
        let mut line = String::new();
        let stdout = this.child.stdout.as_mut().context("its output is a pipe")?;
        BufReader::new(stdout).read_line(&mut line).context("it says nothing")?;
        let started = line.trim().strip_prefix("started ").and_then(|number| number.parse().ok());
        this.count = started.with_context(|| format!("it said {line:?}"))?;
        Ok(this)
    }
}

/// Raises the kernel's limits where they are in the way; returns what they were.
fn make_room(count: usize) -> Vec<(&'static str, String)> {
    let mut before = Vec::new();
    for path in LIMITS {
        let Ok(now) = fs::read_to_string(path) else { continue };
        let enough = count + OTHERS;
        let is_less = now.trim().parse::<usize>().is_ok_and(|now| now < enough);
        // Where it may not be raised there are fewer of them, and that is told.
        if is_less && fs::write(path, enough.to_string()).is_ok() {
            before.push((path, now));
        }
    }
    before
}

impl Drop for Sleepers {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
        for (path, value) in &self.before {
            let _ = fs::write(path, value);
        }
    }
}
