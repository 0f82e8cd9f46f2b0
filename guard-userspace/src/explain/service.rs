//! systemd at work: what it was doing to a unit when it ended a process of it, and who had asked for that.
//!
//! What it sends shows what it is at (systemd's src/core/unit.c, `unit_kill_context`): whoever is to stop gets a signal
//! and a SIGCONT behind it; SIGABRT in its place is a watchdog's (`operation_to_signal`); and SIGKILL comes when time
//! is up. `systemctl kill` sends no SIGCONT (`unit_kill_common`). Why a unit is to stop is in no signal: a `systemctl`
//! that was asking just then most likely says it.

use std::rc::Rc;

use crate::model::report::{Job, Kind, UnitScope};
use crate::model::signal::Signo;
use crate::model::unit::{self, Unit};
use crate::model::units::elapsed;

use super::actors;
use super::case::Case;
use super::history::SignalRun;
use super::process::{Mark, ProcId, Process};
use super::table::Table;

/// What systemd did to a unit of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub unit: Unit,
    /// `None` where its signals do not show it.
    pub job: Option<Job>,
    /// The process that it had asked first, and when; the fatal signal itself where it asked nobody.
    pub asked: (ProcId, Mark),
    /// How long it had been at it.
    pub since_ns: u64,
    /// Who asked for it, most likely.
    pub request: Option<Request>,
}

/// A `systemctl` that was asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub by: ProcId,
    /// When it asked: since it was that program.
    pub at: Mark,
    /// `systemctl --user stop kiosk.service`
    pub command: Rc<str>,
}

/// The SIGCONT is sent in the next line of systemd's code; a busy machine may take its time for it.
const BEHIND_NS: u64 = 1_000_000_000;
/// `systemctl --no-block` is gone by then.
const ASKED_NS: u64 = 1_000_000_000;

impl Service {
    /// What `killer` was doing when it ended this process; `None` unless it is the systemd that the victim's unit
    /// belongs to.
    #[must_use]
    pub fn of(table: &Table, case: &Case<'_>, killer: &Process, kind: Kind) -> Option<Self> {
        let run = case.decisive?.run;
        if !matches!(kind, Kind::KilledByProcess | Kind::CgroupKill) || run.current != Some(killer.id) {
            return None;
        }
        let unit = managed_unit(killer, case.victim)?;
        let (job, asked) = match asked(case.victim, killer.id, run.last.t_ns) {
            Some(first) => (Some(job(first, run)), (case.victim.id, first.first)),
            // SIGKILL for what a service leaves behind: its main process was asked.
            None => match stopping(table, case.victim, killer.id, run) {
                Some((job, asked)) => (Some(job), asked),
                None => (None, (case.victim.id, run.first)),
            },
        };
        let (_, at) = asked;
        let request = match job {
            Some(Job::Watchdog) => None,
            _ => request(table, killer, &unit, at.t_ns),
        };
        let (verb, request) = request.map_or((None, None), |(verb, request)| (Some(verb), Some(request)));
        // The command has to fit what was seen.
        let fits = verb.is_none_or(|verb| (verb == Verb::Kill) == job.is_none());
        let job = match job {
            Some(Job::Stop) if verb == Some(Verb::Restart) => Some(Job::Restart),
            job => job,
        };
        let since_ns = run.last.t_ns.saturating_sub(at.t_ns);
        Some(Self { unit, job, asked, since_ns, request: request.filter(|_| fits) })
    }

    /// `, as it stopped the user unit kiosk.service`
    #[must_use]
    pub fn doing(&self) -> String {
        let scope = match self.unit.scope {
            UnitScope::User => "the user unit ",
            UnitScope::System => "",
        };
        let unit = format!("{scope}{}", self.unit.name);
        match self.job {
            Some(Job::Stop | Job::Restart) => format!(", as it stopped {unit}"),
            Some(Job::Timeout) => {
                format!(", as it had been stopping {unit} for {}", elapsed(self.since_ns))
            }
            Some(Job::Watchdog) => format!(", most likely because the watchdog of {unit} ran out"),
            Some(Job::Cancel) | None => format!(", the manager of {unit}"),
        }
    }
}

/// The unit of `member`, if `manager` is the systemd that runs it.
#[must_use]
pub(super) fn managed_unit(manager: &Process, member: &Process) -> Option<Unit> {
    let cgroups = member.image.cgroups.as_deref()?;
    let unit = unit::unit(cgroups)?;
    let runs = manager.image.cgroups.as_deref().and_then(|own| unit::runs(own, cgroups));
    // Of one whose place is not known: a user's own systemd runs only that user's units, and pid 1 none of them.
    let runs = runs.unwrap_or((unit.scope == UnitScope::System) == (manager.tgid == 1));
    (is_systemd(manager) && runs).then_some(unit)
}

/// The machine's own or a user's.
pub(super) fn is_systemd(process: &Process) -> bool {
    process.comm.to_text() == "systemd"
}

/// The signal by which the manager first asked this process to stop, no later than `t_ns`. SIGHUP may have been to make
/// it read its configuration again (systemd's src/core/service.c, `service_enter_reload_signal`).
fn asked(process: &Process, manager: ProcId, t_ns: u64) -> Option<&SignalRun> {
    let from_manager = |run: &&SignalRun| run.current == Some(manager);
    process.history.runs.iter().filter(from_manager).find(|run| {
        let behind = |cont: &SignalRun| {
            let after = cont.first.t_ns.checked_sub(run.last.t_ns);
            cont.signo == Signo::CONT && after.is_some_and(|after| after < BEHIND_NS)
        };
        !matches!(run.signo, Signo::KILL | Signo::CONT | Signo::HUP)
            && run.first.t_ns <= t_ns
            && process.history.runs.iter().filter(from_manager).any(behind)
    })
}

/// What it did to a process that it had asked, when it sent this.
fn job(first: &SignalRun, run: &SignalRun) -> Job {
    let later = first.first.id != run.first.id;
    match run.signo {
        // TimeoutStopFailureMode=abort has SIGABRT in the place of SIGKILL.
        Signo::KILL | Signo::ABRT if later => Job::Timeout,
        Signo::ABRT => Job::Watchdog,
        _ => Job::Stop,
    }
}

/// For a process that it had not asked to stop: another of its unit that it had.
fn stopping(
    table: &Table,
    victim: &Process,
    manager: ProcId,
    run: &SignalRun,
) -> Option<(Job, (ProcId, Mark))> {
    if run.signo != Signo::KILL {
        return None;
    }
    let unit = unit_path(victim)?;
    table
        .iter()
        .filter(|member| member.id != victim.id && unit_path(member) == Some(unit))
        .filter(|member| {
            member.ending.is_none_or(|ending| ending.at.t_ns.saturating_add(BEHIND_NS) > run.first.t_ns)
        })
        .find_map(|member| {
            let first = asked(member, manager, run.last.t_ns)?;
            let killed = |other: &SignalRun| other.signo == Signo::KILL && other.current == Some(manager);
            let job = if member.history.runs.iter().any(killed) { Job::Timeout } else { Job::Stop };
            Some((job, (member.id, first.first)))
        })
}

fn unit_path(process: &Process) -> Option<&str> {
    process.image.cgroups.as_deref().and_then(unit::unit_path)
}

/// What a `systemctl` was to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Stop,
    Restart,
    Kill,
}

/// The last `systemctl` that named this unit, and still waited when the manager began.
fn request(table: &Table, manager: &Process, unit: &Unit, t_ns: u64) -> Option<(Verb, Request)> {
    let container = |process: &Process| process.image.cgroups.as_deref().and_then(unit::container);
    let asks = |process: &Process| {
        let began = process.exec.filter(|exec| exec.t_ns <= t_ns)?;
        let waited = process.ending.is_none_or(|ending| ending.at.t_ns.saturating_add(ASKED_NS) > t_ns);
        if !waited || process.name() != "systemctl" || container(process) != container(manager) {
            return None;
        }
        let command = Command::read(process.image.cmdline.as_deref()?, &unit.name)?;
        let own = command.machine || process.image.uid == manager.image.uid;
        let reaches = match unit.scope {
            UnitScope::System => !command.user,
            UnitScope::User => command.user && own,
        };
        let user = if command.user { "--user " } else { "" };
        let text = format!("systemctl {user}{} {}", command.words, unit.name);
        reaches.then(|| (command.verb, Request { by: process.id, at: began, command: Rc::from(text) }))
    };
    table.iter().filter_map(asks).max_by_key(|(_, request)| request.at.id)
}

/// A command line of systemctl, as far as it matters here.
struct Command<'a> {
    verb: Verb,
    words: &'a str,
    /// To a user's manager.
    user: bool,
    /// To that of a user it names.
    machine: bool,
}

impl<'a> Command<'a> {
    /// `None` unless it ends this unit, on this machine.
    fn read(args: &'a [String], unit: &str) -> Option<Self> {
        /// Options whose value is a word of its own (systemctl(1)).
        const VALUED: [&str; 8] = ["-s", "-t", "-p", "-n", "-o", "--signal", "--job-mode", "--kill-whom"];
        let (mut user, mut machine) = (false, false);
        let mut words: Vec<&str> = Vec::new();
        let mut rest = args.iter().skip(1).map(String::as_str);
        while let Some(arg) = rest.next() {
            match arg {
                "--user" => user = true,
                "--global" | "-H" | "--host" => return None,
                _ if arg.starts_with("--host=") || arg.starts_with("--root=") => return None,
                "-M" | "--machine" => machine = names_a_user(rest.next()?)?,
                _ if arg.starts_with("--machine=") => machine = names_a_user(&arg["--machine=".len()..])?,
                _ if VALUED.contains(&arg) => drop(rest.next()),
                _ if arg.starts_with('-') => {}
                _ => words.push(arg),
            }
        }
        let (words, names) = words.split_first()?;
        let verb = match *words {
            "stop" => Verb::Stop,
            "restart" | "try-restart" | "condrestart" | "reload-or-restart" | "try-reload-or-restart" => {
                Verb::Restart
            }
            "kill" => Verb::Kill,
            _ => return None,
        };
        let named = |name: &&str| *name == unit || unit.strip_suffix(".service") == Some(*name);
        names.iter().any(named).then_some(Self { verb, words, user, machine })
    }
}

/// `kali@` and `kali@.host` are on this machine, any other is a container.
fn names_a_user(machine: &str) -> Option<bool> {
    let (_, host) = machine.split_once('@')?;
    matches!(host, "" | ".host").then_some(true)
}

/// Who decided what was asked for.
#[must_use]
pub(super) fn decider(table: &Table, request: &Request) -> ProcId {
    actors::decider(table, request.by, request.at.t_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<(Verb, bool)> {
        let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
        Command::read(&args, "kiosk.service").map(|command| (command.verb, command.user))
    }

    #[test]
    fn a_command_line_says_what_is_to_end() {
        for (line, expected) in [
            ("systemctl stop kiosk", Some((Verb::Stop, false))),
            ("systemctl --no-block stop other kiosk.service", Some((Verb::Stop, false))),
            ("/usr/bin/systemctl --user restart kiosk", Some((Verb::Restart, true))),
            ("systemctl --user -M kali@ stop kiosk", Some((Verb::Stop, true))),
            ("systemctl kill -s KILL kiosk", Some((Verb::Kill, false))),
            ("systemctl stop other", None),
            ("systemctl status kiosk", None),
            ("systemctl -H server stop kiosk", None),
            ("systemctl -M box stop kiosk", None),
            ("systemctl kill -s kiosk", None),
            ("systemctl", None),
        ] {
            assert_eq!(read(line), expected, "{line}");
        }
    }
}
