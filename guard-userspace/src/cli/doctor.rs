//! `killtrace doctor`: what this kernel can do, which backend will be used, what is missing and how to get it.
//!
//! Everything is tested by trying, never concluded from a version number, and all at once: nobody should fix
//! one thing only to be told of the next. It works without privileges as far as it can.

mod kernel;
mod machine;
pub(crate) mod privileges;

use std::io::{self, IsTerminal as _, Write as _};

use anyhow::Context as _;
use nix::errno::Errno;
use serde::Serialize;

use super::args::DoctorArgs;
use super::failure::{Failure, exit};
use super::output::style;
use crate::collect::host;
use crate::model::header::{Host, Tool};
use crate::report::Style;
use crate::report::text::Page;

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    pub(crate) name: String,
    pub(crate) state: State,
    /// Without it nothing can be watched.
    pub(crate) required: bool,
    /// What was found, or why not.
    pub(crate) found: String,
    /// What killtrace cannot tell without it; `None` when nothing is missing.
    pub(crate) lost: Option<String>,
    /// The kernel option behind it.
    pub(crate) kernel_option: Option<String>,
    /// How to get it.
    pub(crate) fix: Option<String>,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    Ok,
    /// Missing, and killtrace does without it.
    Degraded,
    /// Missing, and nothing works without it.
    Missing,
    /// Could not be tried, or was refused, for lack of privileges.
    NoPrivileges,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Missing => "missing",
            Self::NoPrivileges => "no access",
        }
    }
}

/// Why something that was tried did not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// This kernel, or this machine, has not got it.
    Absent(String),
    /// More privileges are needed to have it, or to find out.
    Privileges(String),
}

impl Lack {
    fn io(what: &str, error: &io::Error) -> Self {
        // Without the number that `io::Error` adds.
        let reason = error
            .raw_os_error()
            .map_or(error.to_string(), |number| Errno::from_raw(number).desc().to_owned());
        let text = format!("{what}: {reason}");
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::Privileges(text),
            _ => Self::Absent(text),
        }
    }
}

/// What a check is about, apart from how it ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About {
    pub(crate) name: &'static str,
    pub(crate) required: bool,
    pub(crate) lost: &'static str,
    pub(crate) kernel_option: Option<&'static str>,
    pub(crate) fix: &'static str,
}

impl About {
    /// The check, once tried.
    pub(crate) fn tried(self, result: Result<String, Lack>) -> Check {
        let name = self.name.to_owned();
        let Self { required, .. } = self;
        let (state, found) = match result {
            Ok(found) => {
                let (lost, kernel_option, fix) = (None, None, None);
                return Check { name, state: State::Ok, required, found, lost, kernel_option, fix };
            }
            Err(Lack::Absent(found)) if required => (State::Missing, found),
            Err(Lack::Absent(found)) => (State::Degraded, found),
            Err(Lack::Privileges(found)) => (State::NoPrivileges, found),
        };
        let fix = if state == State::NoPrivileges { privileges::HOW_TO_GET } else { self.fix };
        let kernel_option = self.kernel_option.filter(|_| state != State::NoPrivileges);
        Check {
            name,
            state,
            required,
            found,
            lost: Some(self.lost.to_owned()).filter(|text| !text.is_empty()),
            kernel_option: kernel_option.map(str::to_owned),
            fix: Some(fix.to_owned()).filter(|text| !text.is_empty()),
        }
    }
}

/// Everything that was found.
#[derive(Debug, Serialize)]
struct Findings {
    schema: &'static str,
    tool: Tool,
    host: Host,
    checks: Vec<Check>,
    /// The backend that `watch` will use; `null` when it cannot work.
    backend: Option<&'static str>,
    verdict: Verdict,
}

/// Whether watching will work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Works,
    NeedsPrivileges,
    DoesNotWork,
}

impl Verdict {
    fn of(checks: &[Check]) -> Self {
        let mut needed = checks.iter().filter(|check| check.required && check.state != State::Ok).peekable();
        if needed.peek().is_none() {
            Self::Works
        } else if needed.all(|check| check.state == State::NoPrivileges) {
            Self::NeedsPrivileges
        } else {
            Self::DoesNotWork
        }
    }

    fn exit_code(self) -> u8 {
        match self {
            Self::Works => 0,
            Self::NeedsPrivileges => exit::PRIVILEGES,
            Self::DoesNotWork => exit::FAILED,
        }
    }
}

/// Tries everything and says what came of it; returns the exit code.
///
/// # Errors
/// When its answer cannot be written.
pub fn run(args: &DoctorArgs) -> Result<u8, Failure> {
    let findings = findings();
    let text = if args.json {
        let mut json = serde_json::to_string_pretty(&findings).context("cannot write JSON")?;
        json.push('\n');
        crate::report::escape::json(json)
    } else {
        text(&findings, style(io::stdout().is_terminal()))
    };
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(anyhow::Error::new(error).context("cannot write to standard output")))
        }
        _ => Ok(findings.verdict.exit_code()),
    }
}

fn findings() -> Findings {
    let mut checks = privileges::checks();
    checks.extend(kernel::checks());
    checks.extend(machine::checks());
    let (backends, backend) = kernel::backends(Verdict::of(&checks));
    checks.extend(backends);
    let verdict = Verdict::of(&checks);
    Findings {
        schema: "killtrace.doctor/1",
        tool: Tool { name: "killtrace".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() },
        host: host::host(),
        checks,
        backend,
        verdict,
    }
}

fn text(findings: &Findings, style: Style) -> String {
    let mut page = Page::new(style);
    let Host { hostname, kernel, arch, page_size, cpus, .. } = &findings.host;
    page.paragraph(&format!(
        "killtrace {} on {hostname}: Linux {kernel}, {arch}, {} KiB pages, {cpus} CPUs",
        findings.tool.version,
        page_size / 1024,
    ));
    page.blank();
    for check in &findings.checks {
        page.columned(check.state.word(), &format!("{:<22}", check.name), &check.found);
    }
    explain_lacks(&mut page, &findings.checks);
    page.blank();
    let backend = findings.backend.unwrap_or("no");
    let untroubled = findings.checks.iter().all(|check| check.state == State::Ok);
    page.headline(
        "",
        &match findings.verdict {
            Verdict::Works if untroubled => {
                format!("Watching will work, with the {backend} backend; nothing is missing.")
            }
            Verdict::Works => format!("Watching will work, with the {backend} backend, without the above."),
            Verdict::NeedsPrivileges => {
                "Watching needs more privileges; nothing else that could be tried is missing.".to_owned()
            }
            Verdict::DoesNotWork => "Watching will not work on this kernel as it is.".to_owned(),
        },
    );
    page.finish()
}

/// What is lost and how to get it. Privileges are one lack, however many things need them.
fn explain_lacks(page: &mut Page, checks: &[Check]) {
    let lacks = checks.iter().filter(|check| matches!(check.state, State::Degraded | State::Missing));
    for check in lacks {
        page.blank();
        page.headline("", &check.name);
        for (label, text) in
            [("  without", &check.lost), ("  kernel", &check.kernel_option), ("  to get it", &check.fix)]
        {
            if let Some(text) = text {
                page.field(label, text);
            }
        }
    }
    if checks.iter().any(|check| check.state == State::NoPrivileges) {
        page.blank();
        page.headline("", "More privileges");
        page.field("  to get it", privileges::HOW_TO_GET);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABOUT: About = About {
        name: "thing",
        required: false,
        lost: "half the answer is lost",
        kernel_option: Some("CONFIG_THING"),
        fix: "boot with thing=1",
    };

    fn check(required: bool, result: Result<&str, Lack>) -> Check {
        About { required, ..ABOUT }.tried(result.map(str::to_owned))
    }

    fn absent() -> Lack {
        Lack::Absent("not there".to_owned())
    }

    fn refused() -> Lack {
        Lack::Privileges("refused".to_owned())
    }

    #[test]
    fn a_lack_is_as_bad_as_what_needs_it() {
        assert_eq!(check(true, Err(absent())).state, State::Missing);
        assert_eq!(check(false, Err(absent())).state, State::Degraded);
        assert_eq!(check(true, Err(refused())).state, State::NoPrivileges);
        let fine = check(true, Ok("here"));
        assert_eq!((fine.state, fine.lost, fine.fix), (State::Ok, None, None));
    }

    #[test]
    fn the_verdict_tells_privileges_from_kernels() {
        let verdict = |checks: &[Check]| Verdict::of(checks);
        assert_eq!(verdict(&[check(true, Ok("")), check(false, Err(absent()))]), Verdict::Works);
        assert_eq!(verdict(&[check(true, Err(refused())), check(true, Ok(""))]), Verdict::NeedsPrivileges);
        assert_eq!(verdict(&[check(true, Err(refused())), check(true, Err(absent()))]), Verdict::DoesNotWork);
        assert_eq!(Verdict::Works.exit_code(), 0);
        assert_eq!(Verdict::NeedsPrivileges.exit_code(), 77);
        assert_eq!(Verdict::DoesNotWork.exit_code(), 1);
    }

    #[test]
    fn a_lack_comes_with_what_is_lost_and_what_to_do() {
        let checks = vec![check(true, Ok("here")), check(false, Err(absent()))];
        let findings = Findings {
            schema: "killtrace.doctor/1",
            tool: Tool { name: "killtrace".to_owned(), version: "0".to_owned() },
            host: host::host(),
            backend: Some("ebpf"),
            verdict: Verdict::of(&checks),
            checks,
        };
        let text = text(&findings, Style::PLAIN);
        assert!(text.contains("\nok          thing                 here\n"), "{text}");
        assert!(text.contains("\ndegraded    thing                 not there\n"), "{text}");
        assert!(text.contains("\nthing\n  without   half the answer is lost\n"), "{text}");
        assert!(text.contains("\n  kernel    CONFIG_THING\n  to get it boot with thing=1\n"), "{text}");
        assert!(text.ends_with("Watching will work, with the ebpf backend, without the above.\n"), "{text}");
    }

    #[test]
    fn privileges_are_one_lack_however_many_need_them() {
        let checks =
            vec![check(true, Err(refused())), check(true, Err(refused())), check(false, Err(refused()))];
        let mut page = Page::new(Style::PLAIN);
        explain_lacks(&mut page, &checks);
        let text = page.finish();
        assert_eq!(text.matches("setcap").count(), 1, "{text}");
        assert!(text.contains("sudo"), "{text}");
    }

    #[test]
    fn this_machine_is_examined_whatever_it_lacks() {
        let findings = findings();
        assert!(findings.checks.len() > 15, "{}", findings.checks.len());
        for check in &findings.checks {
            assert!(!check.found.is_empty(), "{}", check.name);
            assert!(
                check.state == State::Ok || check.lost.is_some() || check.fix.is_some(),
                "{}",
                check.name
            );
        }
    }
}
