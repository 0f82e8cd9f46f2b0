//! How killtrace says that it failed: what, why, and what to do. The exit code says the rest.

use std::fmt::{self, Write as _};

use crate::collect::CollectError;
use crate::recording::RecordingError;
use crate::store::StoreError;
use crate::store::ask::AskError;

/// Exit codes, as documented for users.
pub mod exit {
    /// killtrace itself failed.
    pub const FAILED: u8 = 1;
    /// Wrong usage.
    pub const USAGE: u8 = 2;
    /// Nothing died before `--once` or `--duration` ended.
    pub const NOTHING_DIED: u8 = 3;
    /// `why`: no recorded death matches.
    pub const NOTHING_MATCHES: u8 = 3;
    /// Privileges are missing (`EX_NOPERM` of sysexits.h).
    pub const PRIVILEGES: u8 = 77;
    /// `run`: killtrace failed, so the command was not run, as `env` and `timeout` say it.
    pub const RUN_FAILED: u8 = 125;
    /// `run`: the command was found but cannot be executed.
    pub const RUN_CANNOT_EXECUTE: u8 = 126;
    /// `run`: the command was not found.
    pub const RUN_NOT_FOUND: u8 = 127;
}

/// An error on its way to the user.
///
/// Printed as `error:`, `why:` and `help:` lines; `help` is left out rather than vague.
#[derive(Debug)]
pub struct Failure {
    error: anyhow::Error,
    help: Option<String>,
    code: u8,
}

impl Failure {
    /// killtrace could not do what was asked.
    #[must_use]
    pub fn new(error: anyhow::Error) -> Self {
        Self::from(error)
    }

    /// The user asked for something that makes no sense or does not exist.
    #[must_use]
    pub fn usage(what: impl fmt::Display, help: impl Into<String>) -> Self {
        let help = Some(help.into());
        Self { error: anyhow::anyhow!("{what}"), help, code: exit::USAGE }
    }

    /// Adds the reason, or one more behind it.
    #[must_use]
    pub fn because(self, why: impl fmt::Display) -> Self {
        let error = anyhow::anyhow!("{why}").context(self.error.to_string());
        Self { error, ..self }
    }

    /// Sets what the user can do about it.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// Sets the exit code.
    #[must_use]
    pub fn with_code(self, code: u8) -> Self {
        Self { code, ..self }
    }

    /// What the process should exit with.
    #[must_use]
    pub fn code(&self) -> u8 {
        self.code
    }
}

impl From<anyhow::Error> for Failure {
    /// Finds help and exit code in whatever part of the chain knows them.
    fn from(error: anyhow::Error) -> Self {
        let collect = error.chain().find_map(|cause| cause.downcast_ref::<CollectError>());
        let recording = error.chain().find_map(|cause| cause.downcast_ref::<RecordingError>());
        let help = collect.and_then(CollectError::help).or_else(|| recording.and_then(RecordingError::help));
        let code = match collect {
            Some(CollectError::Privileges { .. }) => exit::PRIVILEGES,
            _ => exit::FAILED,
        };
        Self { error, help, code }
    }
}

impl From<CollectError> for Failure {
    fn from(error: CollectError) -> Self {
        let missing = match &error {
            CollectError::Privileges { missing } if !missing.is_empty() => Some(missing.join(", ")),
            _ => None,
        };
        let failure = Self::from(anyhow::Error::new(error));
        match missing {
            Some(missing) => failure.because(format!("missing: {missing}")).help(PRIVILEGES_HELP),
            None if failure.code == exit::PRIVILEGES => failure.help(PRIVILEGES_HELP),
            None => failure,
        }
    }
}

/// The two ways to get privileges, with this between their parts. The capabilities are what watching needs on any kernel
/// from 5.8.
macro_rules! how_to_get_privileges {
    ($between:literal) => {
        concat!(
            "run it with sudo, or grant them to the program once:",
            $between,
            "sudo setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search,cap_syslog,cap_net_admin+ep ",
            "\"$(command -v killtrace)\"",
            $between,
            "(and cap_sys_admin, where kernel.perf_event_paranoid is above 2, as Debian's and Ubuntu's kernels have it)"
        )
    };
}
pub(super) use how_to_get_privileges;

const PRIVILEGES_HELP: &str =
    concat!(how_to_get_privileges!("\n"), "\n`killtrace doctor` lists everything missing");

impl From<RecordingError> for Failure {
    fn from(error: RecordingError) -> Self {
        Self::from(anyhow::Error::new(error))
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        AskError::Store(error).into()
    }
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        let help = error.help();
        let denied = matches!(&error, AskError::Store(error) if error.is_denied());
        let code = if denied { exit::PRIVILEGES } else { exit::FAILED };
        Self { help, ..Self::from(anyhow::Error::new(error)) }.with_code(code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(f, "error: ", &self.error.to_string())?;
        let mut said = self.error.to_string();
        for cause in self.error.chain().skip(1).map(ToString::to_string) {
            // Some libraries repeat their source in their own text.
            if !said.contains(&cause) {
                line(f, "\n  why:  ", &cause)?;
            }
            said = cause;
        }
        if let Some(help) = &self.help {
            line(f, "\n  help: ", help)?;
        }
        Ok(())
    }
}

/// Lines of a text that are shown: the kernel's verifier explains itself in hundreds, of which the last say it.
const FIRST_LINES: usize = 3;
const LAST_LINES: usize = 9;

/// Writes a labelled text. Further lines are indented below the first, control characters made visible:
/// errors quote file names and damaged files, which may hold anything.
fn line(f: &mut fmt::Formatter<'_>, label: &str, text: &str) -> fmt::Result {
    f.write_str(label)?;
    let text = text.trim_end();
    let count = text.lines().count();
    let left_out = if count > FIRST_LINES + LAST_LINES + 1 { FIRST_LINES..count - LAST_LINES } else { 0..0 };
    for (index, part) in text.lines().enumerate() {
        if left_out.contains(&index) {
            if index == left_out.start {
                write!(f, "\n        ({} lines left out)", left_out.len())?;
            }
            continue;
        }
        if index > 0 {
            f.write_str("\n        ")?;
        }
        for c in part.chars() {
            if c.is_control() { write!(f, "{}", c.escape_default())? } else { f.write_char(c)? }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_store_of_somebody_else_is_a_matter_of_privileges() {
        let denied = |kind: std::io::ErrorKind| {
            let path = "/var/lib/killtrace".into();
            Failure::from(StoreError::Io { what: "read", path, source: kind.into() }).code()
        };
        assert_eq!(denied(std::io::ErrorKind::PermissionDenied), exit::PRIVILEGES);
        assert_eq!(denied(std::io::ErrorKind::StorageFull), exit::FAILED);
    }

    #[test]
    fn an_error_says_what_why_and_what_to_do() {
        let source = io::Error::from_raw_os_error(libc::ENOENT);
        let failure = Failure::from(CollectError::Tracefs(source));
        assert_eq!(
            failure.to_string(),
            "error: cannot find or mount tracefs\n  why:  No such file or directory (os error 2)\n  \
             help: mount it: sudo mount -t tracefs tracefs /sys/kernel/tracing"
        );
        assert_eq!(failure.code(), exit::FAILED);
    }

    #[test]
    fn missing_privileges_are_listed_and_have_their_own_code() {
        let failure = Failure::from(CollectError::Privileges { missing: vec!["CAP_BPF".to_owned()] });
        assert_eq!(failure.code(), exit::PRIVILEGES);
        let text = failure.to_string();
        assert!(text.contains("why:  missing: CAP_BPF\n"), "{text}");
        assert!(text.contains("sudo") && text.contains("setcap cap_bpf,cap_perfmon"), "{text}");
    }

    #[test]
    fn help_survives_context() {
        let error = anyhow::Error::new(CollectError::NoTracingPrograms).context("cannot watch");
        let text = Failure::from(error).to_string();
        assert!(text.starts_with("error: cannot watch\n  why:  the kernel cannot run"), "{text}");
        assert!(text.contains("help: `killtrace doctor`"), "{text}");
    }

    #[test]
    fn a_repeated_cause_is_said_once() {
        let inner = io::Error::other("boom");
        let error = anyhow::Error::new(inner).context("it went boom");
        assert_eq!(Failure::from(error).to_string(), "error: it went boom");
    }

    #[test]
    fn a_very_long_reason_keeps_its_beginning_and_end() {
        let long = (0..800).map(|n| format!("insn {n}\n")).collect::<String>();
        let text = Failure::usage("refused", "x").because(&long).to_string();
        assert_eq!(text.lines().count(), 1 + FIRST_LINES + 1 + LAST_LINES + 1, "{text}");
        assert!(text.contains("why:  insn 0\n") && text.contains("(788 lines left out)"), "{text}");
        assert!(text.contains("        insn 799\n  help: x"), "{text}");
        let short = (0..13).map(|n| format!("insn {n}\n")).collect::<String>();
        assert!(!Failure::usage("refused", "x").because(short).to_string().contains("left out"));
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        let failure = Failure::usage("bad\u{1b}[31m name", "two\nlines");
        assert_eq!(failure.to_string(), "error: bad\\u{1b}[31m name\n  help: two\n        lines");
    }
}
