//! Who watches while a load runs.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use super::Programs;
use super::session::Session;
use crate::shell::{is_installed, run};

/// A tracer that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Tracer {
    /// killtrace with the eBPF backend, nothing selected matching
    Ebpf,
    /// killtrace with the perf backend
    Perf,
    /// bpftrace on the tracepoints of killtrace, printing
    Bpftrace,
    /// bpftrace on one `syscalls:` tracepoint, printing
    BpftraceCall,
    /// sigsnoop of libbpf-tools
    Sigsnoop,
    /// exitsnoop of libbpf-tools
    Exitsnoop,
    /// strace -f of the load's signals
    Strace,
    /// The audit daemon, with a rule for the calls that send signals
    Auditd,
}

/// The same tracepoints, and what each is about, as people write it.
const BPFTRACE: &str = r#"
tracepoint:signal:signal_generate { printf("%s (%d) sends %d to %s (%d)\n", comm, pid, args->sig, args->comm, args->pid); }
tracepoint:signal:signal_deliver { printf("%s (%d) takes %d\n", comm, pid, args->sig); }
tracepoint:oom:mark_victim { printf("out of memory: %d\n", args->pid); }
tracepoint:sched:sched_process_exit { printf("%s (%d) exits\n", comm, pid); }
tracepoint:sched:sched_process_exec { printf("%s (%d) runs %s\n", comm, pid, str(args->filename)); }
tracepoint:task:task_newtask { printf("%s (%d) makes %d\n", comm, pid, args->pid); }
tracepoint:task:task_rename { printf("%s (%d) is %s\n", args->oldcomm, pid, args->newcomm); }
"#;
const BPFTRACE_CALL: &str =
    r#"tracepoint:syscalls:sys_enter_kill { printf("%s (%d) kills %d\n", comm, pid, args->pid); }"#;

const AUDITED: [&str; 6] = ["-F", "arch=b64", "-S", "kill,tkill,tgkill", "-k", "killtrace-bench"];
/// Longest that a tracer may take to see the first thing.
const PATIENCE: Duration = Duration::from_secs(30);
/// A full buffer of the C library: what it printed has come out.
const PRINTED: u64 = 4096;

impl Tracer {
    pub(super) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Why it cannot be compared here; `None` when it can.
    pub(super) fn missing(self) -> Option<String> {
        let program = match self {
            Self::Ebpf | Self::Perf => return None,
            Self::Bpftrace | Self::BpftraceCall => "bpftrace",
            Self::Sigsnoop => "sigsnoop",
            Self::Exitsnoop => "exitsnoop",
            Self::Strace => "strace",
            Self::Auditd => "auditctl",
        };
        (!is_installed(program)).then(|| format!("{program} is not installed"))
    }

    /// What goes before the load's command.
    pub(super) fn wrapper(self) -> &'static [&'static str] {
        match self {
            Self::Strace => {
                &["strace", "-f", "-qq", "-e", "trace=%signal", "-e", "signal=all", "-o", "/dev/null", "--"]
            }
            _ => &[],
        }
    }

    /// Has it watch until the result is dropped.
    ///
    /// # Errors
    /// When it does not begin to.
    pub(super) fn start(self, programs: &Programs) -> Result<Running> {
        let mut command = match self {
            Self::Ebpf | Self::Perf => {
                let nothing = ["--comm", "no-such-program"];
                return Ok(Running::Killtrace(Session::start(programs, &self.name(), &nothing)?));
            }
            Self::Strace => return Ok(Running::Wrapper),
            Self::Auditd => return audit(),
            Self::Bpftrace => bpftrace(BPFTRACE),
            Self::BpftraceCall => bpftrace(BPFTRACE_CALL),
            Self::Sigsnoop => Command::new("sigsnoop"),
            Self::Exitsnoop => Command::new("exitsnoop"),
        };
        let printed =
            tempfile::NamedTempFile::new().context("cannot make a temporary file")?.into_temp_path();
        let out = File::create(&printed).context("cannot write to a temporary file")?;
        let err = out.try_clone().context("cannot share a file")?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let child = command.spawn().with_context(|| format!("cannot run {}", self.name()))?;
        let mut printer = Printer { child, printed };
        printer.wait()?;
        Ok(Running::Printer(printer))
    }
}

fn bpftrace(program: &str) -> Command {
    let mut command = Command::new("bpftrace");
    command.args(["-e", program]);
    command
}

/// A tracer at work. Dropping it ends it.
pub(super) enum Running {
    Killtrace(#[expect(dead_code, reason = "held until it is to end")] Session),
    Printer(#[expect(dead_code, reason = "held until it is to end")] Printer),
    /// It comes with each load.
    Wrapper,
    Audit,
}

/// A tracer that prints what it sees.
pub(super) struct Printer {
    child: Child,
    printed: tempfile::TempPath,
}

impl Printer {
    /// Makes it something to see, until it has printed that.
    fn wait(&mut self) -> Result<()> {
        let begun = Instant::now();
        while length(&self.printed) < PRINTED {
            if let Some(status) = self.child.try_wait().context("cannot ask for a tracer")? {
                let said = std::fs::read_to_string(&self.printed).unwrap_or_default();
                bail!("it ended ({status}): {}", said.trim());
            }
            if begun.elapsed() > PATIENCE {
                bail!("it prints nothing");
            }
            // A fork, an exec, an exit, and a system call that sends a signal.
            run(Command::new("/bin/sh").args(["-c", "kill -WINCH $$"]))?;
        }
        Ok(())
    }
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

impl Drop for Printer {
    fn drop(&mut self) {
        // Whatever goes wrong here, the next figure would show it; and it must not hide the first error.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn audit() -> Result<Running> {
    // Whoever has rules of his own keeps them, and audits already.
    run(Command::new("auditctl").args(["-e", "1"]).stdout(Stdio::null()))?;
    run(Command::new("auditctl").args(["-a", "always,exit"]).args(AUDITED).stdout(Stdio::null()))?;
    Ok(Running::Audit)
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self, Self::Audit) {
            let _ =
                run(Command::new("auditctl").args(["-d", "always,exit"]).args(AUDITED).stdout(Stdio::null()));
        }
    }
}
