//! The answer in one sentence.

use crate::model::report::{Confidence, Kind, Mechanism, Oom, OomScope};
use crate::model::signal::Signo;
use crate::model::{select, unit, units};

use super::actors;
use super::case::Case;
use super::causes::{Finding, tty_hangup};
use super::followed::{self, Link};
use super::heap::{HEAP_LIMIT, Heap};
use super::process::Process;
use super::story::Story;
use super::table::Table;
use super::test_file::test_file;
use super::words;

/// What it was, in one sentence without what surrounds it.
#[must_use]
pub(super) fn short(table: &Table, case: &Case<'_>, story: &Story) -> String {
    cause(table, case, story, None)
}

/// The answer in one sentence.
#[must_use]
pub fn sentence(table: &Table, case: &Case<'_>, story: &Story, oom: Option<&Oom>) -> String {
    let mut sentence = format!("{}{}", cause(table, case, story, oom), asked_for(table, story));
    // Workers of a test runner all have one name.
    if let Some(file) = test_file(case.victim).filter(|file| !is_script(case.victim, file)) {
        sentence.push_str(&format!(" It had been started for {file}."));
    }
    match case.dumped_for() {
        Some(_) => format!("{sentence} A SIGKILL while it dumped core gave it the status of SIGKILL."),
        None => sentence,
    }
}

fn cause(table: &Table, case: &Case<'_>, story: &Story, oom: Option<&Oom>) -> String {
    let victim = case.victim.label();
    let finding = &story.finding;
    let run = case.decisive.map(|decisive| decisive.run);
    let graceful = case.decisive.is_some_and(|decisive| decisive.graceful);
    let signo = run.map_or(Signo::KILL, |run| run.signo);
    let how = match (graceful, case.exit_code()) {
        (true, Some(code)) => {
            let after = case.ending.at.t_ns.saturating_sub(run.map_or(0, |run| run.first.t_ns));
            format!("{victim} exited with code {code}, {} after", units::elapsed(after))
        }
        (true, None) => format!("{victim} handled {signo} and then died of it, after"),
        (false, _) => format!("{victim} died of {signo}:"),
    };
    let origin = finding.because_of.and_then(|id| table.get(id)).map(Process::label);
    let origin = origin.as_deref().unwrap_or("a process");
    // What it did, if that began the story; what made it do it otherwise.
    let own_end = story.own_end && story.actor == finding.because_of;
    let ended = story.action.as_deref().filter(|_| own_end).unwrap_or("ended");
    let reason = because(table, case, story);
    let why_origin = if own_end { "" } else { reason.as_str() };
    match finding.kind {
        Kind::Exited => exited(&victim, case, story),
        Kind::KilledByProcess => {
            let (killer, via) = killer(table, story);
            let manner = words::manner(finding.mechanism);
            if graceful {
                let all = manner.map_or_else(String::new, |manner| format!(", sent {manner}"));
                let after = case.ending.at.t_ns.saturating_sub(run.map_or(0, |run| run.first.t_ns));
                let comma = if via.is_empty() && all.is_empty() { "" } else { "," };
                let ended = match (case.exit_code(), case.death_signal()) {
                    (Some(code), _) => format!("exited with code {code}"),
                    (None, Some(signo)) => format!("died of {signo}"),
                    (None, None) => "ended".to_owned(),
                };
                format!(
                    "{victim} was asked to stop with {signo} by {killer}{via}{all}{comma} and {ended} {} later.",
                    units::elapsed(after)
                )
            } else if let Some(manner) = manner {
                format!("{victim} was killed: {killer} sent {signo} {manner}{via}.")
            } else {
                format!("{victim} was killed by {signo} from {killer}{via}.")
            }
        }
        Kind::KilledBySelf if finding.detail == Some("abort") => {
            format!("{victim} ended itself with {signo}: it called abort().")
        }
        Kind::KilledBySelf if finding.detail == Some(HEAP_LIMIT) => {
            let figures = Heap::of(case.victim).map_or_else(String::new, |heap| heap.figures());
            format!(
                "{victim} ended itself with {signo}: it called abort(), as V8 does when its heap is full.{figures}"
            )
        }
        Kind::KilledBySelf => {
            let target = words::manner(finding.mechanism).unwrap_or("to itself");
            format!("{victim} ended itself: it sent {signo} {target}.")
        }
        Kind::Crashed | Kind::Seccomp if case.exit_code().is_some() => handler_exited(&victim, case, finding),
        Kind::Crashed => format!("{victim} crashed with {signo}: {}.", words::fault(signo, finding.detail)),
        Kind::OomKill => oom_kill(case.victim, oom),
        Kind::TtyHangup if finding.detail == Some(tty_hangup::TERMINAL_GONE) => {
            let code = case.exit_code().map_or_else(String::new, |code| format!(" with code {code}"));
            format!(
                "{victim} exited{code} just after its terminal had hung up{reason}. It got no signal of that, and \
                 probably found its input at an end."
            )
        }
        Kind::TtyHangup if finding.detail == Some(tty_hangup::GIVEN_UP) => {
            let (leader, via) = killer(table, story);
            format!("{how} {leader}, the leader of its session, gave up their terminal{via}.")
        }
        Kind::TtyHangup => match story.killer(table).filter(|_| finding.because_of.is_none()) {
            Some(closer) => {
                let verb = if finding.mechanism == Some(Mechanism::TtyIoctl) { "hung up" } else { "closed" };
                let (closer, via) = killer_of(table, &closer, story);
                format!("{how} its terminal was {verb} by {closer}{via}.")
            }
            None if finding.because_of.is_none() && story.actor.is_none() => {
                format!("{how} its terminal was hung up by a worker of the kernel; for whom was not seen.")
            }
            None => format!("{how} its terminal hung up{reason}."),
        },
        Kind::TtyKeyboard => {
            let key = if signo == Signo::QUIT { "Ctrl-\\" } else { "Ctrl-C" };
            match story.killer(table) {
                Some(typist) => format!("{how} {} put {key} into its terminal.", typist.label()),
                None => format!("{how} {key} was typed at its terminal."),
            }
        }
        Kind::SessionLeaderExit => {
            format!("{how} {origin}, the leader of its terminal session, {ended}{why_origin}.")
        }
        Kind::OrphanedProcessGroup => {
            format!(
                "{how} its process group was stopped and {origin}, which could have continued it, {ended}{why_origin}."
            )
        }
        Kind::ParentDeathSignal => match finding.because_of {
            Some(_) => {
                format!("{how} it had asked for that when its parent ends, and {origin} {ended}{why_origin}.")
            }
            None => {
                let parent = story.killer(table).map(|parent| parent.label());
                let parent = parent.as_deref().unwrap_or("its parent");
                // The end of all threads of a busy machine's process may be long in coming.
                let lives =
                    if finding.confidence == Confidence::Certain { "lives" } else { "probably lives" };
                format!(
                    "{how} it had asked for that when the thread that started it ends; that thread of {parent} ended, {parent} itself {lives} on."
                )
            }
        },
        Kind::CgroupKill if case.blow().is_some_and(|blow| blow.own) => {
            format!("{victim} was killed with its whole cgroup: it wrote to cgroup.kill itself.")
        }
        Kind::CgroupKill => {
            let (killer, via) = killer(table, story);
            format!("{victim} was killed with its whole cgroup: {killer} wrote to cgroup.kill{via}.")
        }
        Kind::PidNamespaceTeardown if finding.mechanism == Some(Mechanism::Reboot) => {
            let (killer, via) = killer(table, story);
            let shows = case
                .death_signal()
                .map_or_else(String::new, |signo| format!(", and to its parent it looks killed by {signo}"));
            format!(
                "{victim} was ended: {killer} called reboot inside the PID namespace that it was init of{via}{shows}."
            )
        }
        Kind::PidNamespaceTeardown => {
            format!(
                "{how} {origin}, the init of its PID namespace, {ended} and took all with it{why_origin}."
            )
        }
        Kind::Seccomp if finding.detail == Some("strict") => {
            format!(
                "{victim} was ended by the kernel with the status of {}: strict seccomp forbids the system call that it made.",
                case.death_signal().unwrap_or(Signo::KILL)
            )
        }
        Kind::Seccomp => {
            format!("{victim} was killed by {signo}: it made a system call that its seccomp filter forbids.")
        }
        Kind::Rlimit => match finding.detail {
            Some("file_size") => {
                format!("{how} it wrote more than its file size limit (RLIMIT_FSIZE) allows.")
            }
            detail => format!("{how} {}.", words::time_limit(detail, case.ending.exit.limits)),
        },
        Kind::Timer => format!("{how} a timer that it had set itself ran out."),
        Kind::BrokenPipe => format!("{how} it wrote to a pipe or socket that nobody reads any more."),
        Kind::Debugger => match story.killer(table) {
            Some(tracer) if finding.detail == Some("injected") => {
                let signo = case.death_signal().unwrap_or(signo);
                let tracer = tracer.label();
                format!(
                    "{victim} died of {signo}: {tracer}, which was tracing it, made it go on with that signal."
                )
            }
            Some(tracer) if finding.detail == Some("exec_trap") => format!(
                "{how} {} was tracing it, and passed the {signo} on with which a traced program begins.",
                tracer.label()
            ),
            Some(tracer) if finding.because_of.is_none() => {
                format!("{victim} was killed through ptrace by {}.", tracer.label())
            }
            _ => format!(
                "{how} its tracer {origin} {ended}, and had asked for that (PTRACE_O_EXITKILL){why_origin}."
            ),
        },
        Kind::Sysrq if finding.detail == Some("out_of_memory") => {
            format!(
                "{how} magic SysRq f had the kernel's OOM killer choose a process, whether memory was short or not."
            )
        }
        Kind::Sysrq => match story.killer(table) {
            Some(writer) => format!("{how} {} triggered magic SysRq.", writer.label()),
            None => format!("{how} magic SysRq was pressed, which kills nearly everything."),
        },
        Kind::ExecFailed => format!("{how} its execve failed when there was no way back."),
        Kind::AsyncNotification => {
            let event = match finding.detail {
                Some("mq_notify") => "a message came (mq_notify)",
                Some("usb_urb") => "a USB transfer ended",
                _ => "a file or socket became ready (F_SETOWN)",
            };
            format!("{how} that signal had been asked for when {event}, and it had no handler for it.")
        }
        Kind::SiblingThreadExit => {
            let code = case.exit_code().unwrap_or_default();
            let thread = words::ender(case.victim);
            format!(
                "{victim} ended with code {code}: {thread} called exit while its main thread was still running."
            )
        }
        Kind::Unknown => unknown(&victim, case),
    }
}

/// `, because earlyoom (pid 812, earlyoom.service) sent SIGTERM to zsh (pid 4010) 14 ms before`
fn because(table: &Table, case: &Case<'_>, story: &Story) -> String {
    let Some(action) = story.action.as_deref() else { return String::new() };
    let before = story.act_at.map(|at| case.ending.at.t_ns.saturating_sub(at.t_ns));
    let before = before.map_or_else(String::new, |ns| format!(" {} before", units::elapsed(ns)));
    match story.killer(table).or_else(|| story.actor(table)) {
        Some(killer) => {
            let (killer, via) = self::killer_of(table, &killer, story);
            format!(", because {killer} {action}{before}{via}")
        }
        None => format!(", because {action}{before}"),
    }
}

fn killer(table: &Table, story: &Story) -> (String, String) {
    match story.killer(table) {
        Some(killer) => killer_of(table, &killer, story),
        None => ("a process that was not seen".to_owned(), String::new()),
    }
}

/// The killer, and who started it when that is who decided.
fn killer_of(table: &Table, killer: &Process, story: &Story) -> (String, String) {
    let label = match unit(killer) {
        Some(unit) if unit.trim_end_matches(".service") == killer.name() => {
            format!("{} (pid {}, {unit})", killer.name(), killer.tgid)
        }
        _ => format!("{} (pid {})", actors::title(killer), killer.tgid),
    };
    if let Some(service) = &story.service {
        return (label, service.doing());
    }
    if let Some(cancel) = &story.cancel {
        return (label, cancel.doing());
    }
    let actor = story.actor(table).filter(|actor| actor.id != killer.id);
    let via = actor.map_or_else(String::new, |actor| {
        // The nearest package script on the way up says what was being done.
        let script = table
            .ancestors(killer.id)
            .take_while(|process| process.id != actor.id)
            .find_map(actors::package_script)
            .map_or_else(String::new, |script| format!(" run by `{script}`"));
        let of_unit = unit(&actor).map_or_else(String::new, |unit| format!(", {unit}"));
        let verb = if script.is_empty() { " started by" } else { " from" };
        format!(",{script}{verb} {} (pid {}{of_unit})", actors::title(&actor), actor.tgid)
    });
    (label, via)
}

/// ` Most likely deploy.sh (pid 40) asked for that: `systemctl stop vite.service`.`
fn asked_for(table: &Table, story: &Story) -> String {
    let request = story.service.as_ref().and_then(|service| service.request.as_ref());
    let (Some(request), Some(actor)) = (request, story.actor(table)) else { return String::new() };
    let of_unit = unit(&actor).map_or_else(String::new, |unit| format!(", {unit}"));
    let title = actors::title(&actor);
    format!(" Most likely {title} (pid {}{of_unit}) asked for that: `{}`.", actor.tgid, request.command)
}

fn unit(process: &Process) -> Option<String> {
    let cgroups = process.image.cgroups.as_deref()?;
    unit::service(cgroups).map(|unit| unit.name)
}

/// What a death that it followed adds to an exit.
fn after(case: &Case<'_>, story: &Story) -> Option<String> {
    let followed = story.followed?;
    let origin = Case::new(case.table, case.table.get(followed.origin)?)?;
    let code = case.exit_code()?;
    let before = units::elapsed(case.ending.at.t_ns.saturating_sub(followed.end.t_ns));
    let label = origin.victim.label();
    Some(match (followed.link, origin.death_signal()) {
        (Link::Status, Some(signo)) => format!(
            " with code {code}, which stands for {signo} (128 + {}). Most likely it passed on an end below it, {before} \
             before: {}",
            signo.0,
            story.origin.as_deref().unwrap_or_default()
        ),
        (Link::Status, None) => format!(" with code {code}, as {label} below it had {before} before."),
        (Link::Time, signo) => format!(
            " by itself with code {code}, {before} after {label} had died{}. That is the likely reason.",
            signo.map_or_else(String::new, |signo| format!(" of {signo}"))
        ),
    })
}

/// It is the script that the process runs and is named for.
fn is_script(process: &Process, file: &str) -> bool {
    select::basename(file).starts_with(&process.name())
}

fn exited(victim: &str, case: &Case<'_>, story: &Story) -> String {
    if let Some(after) = after(case, story) {
        return format!("{victim} exited{after}");
    }
    let Some(code) = case.exit_code() else {
        return format!("{victim} ended by itself; with which code could not be seen.");
    };
    let like = code - 128;
    if Signo(like).is_fatal_by_default() && (1..=31).contains(&like) {
        let signo = Signo(like);
        return format!(
            "{victim} exited by itself with code {code}. That looks like {signo} in a log, but no {signo} ended it, nor, in \
             the {} before, anything that it had started: the code is its own, or comes from elsewhere, such as a \
             container or another machine.",
            units::elapsed(followed::HANDED_ON_NS)
        );
    }
    format!("{victim} exited by itself with code {code}.")
}

/// A handler of a fault, or of a forbidden system call, that exits.
fn handler_exited(victim: &str, case: &Case<'_>, finding: &Finding) -> String {
    let signo = case.decisive.map_or(Signo::SEGV, |decisive| decisive.run.signo);
    let code = case.exit_code().unwrap_or_default();
    let what = match finding.kind {
        Kind::Seccomp => format!("made a system call that its seccomp filter forbids ({signo})"),
        _ => format!("crashed with {signo}: {}", words::fault(signo, finding.detail)),
    };
    format!("{victim} {what}. Its handler then exited with code {code}.")
}

fn unknown(victim: &str, case: &Case<'_>) -> String {
    if let Some(signo) = case.ended_without_signal() {
        return format!(
            "{victim} was ended by the kernel itself, with the status of {signo} but no signal: strict seccomp does that, \
             and so does a bug in the kernel (the kernel log would tell of an oops)."
        );
    }
    match (case.death_signal(), case.exit_code(), case.decisive) {
        (Some(signo), _, None) => {
            format!("{victim} died of {signo}, and killtrace did not see where that came from.")
        }
        (Some(signo), _, Some(_)) => format!("{victim} died of {signo}, and the evidence does not say why."),
        (None, Some(code), _) => {
            format!("{victim} ended with code {code}, and the evidence does not say why.")
        }
        (None, None, _) => format!("{victim} ended, and killtrace could not see how."),
    }
}

fn oom_kill(victim: &Process, oom: Option<&Oom>) -> String {
    let Some(oom) = oom else { return format!("{} was killed by the kernel's OOM killer.", victim.label()) };
    let container = oom.cgroup.as_deref().and_then(unit::container_of_path);
    let why = match (oom.scope, &oom.cgroup, oom.limit_bytes) {
        (Some(OomScope::Memcg), _, Some(limit)) if container.is_some() => {
            let id = container.as_ref().map_or("", unit::Container::short_id);
            format!("its container {id} had reached its memory limit of {}", units::bytes(limit))
        }
        (Some(OomScope::Memcg), Some(cgroup), Some(limit)) => {
            format!("its memory cgroup {cgroup} had reached its limit of {}", units::bytes(limit))
        }
        (Some(OomScope::Memcg), Some(cgroup), None) => {
            format!("its memory cgroup {cgroup} had reached its limit")
        }
        (Some(OomScope::Memcg), None, _) => "its memory cgroup had reached its limit".to_owned(),
        (Some(OomScope::Global), ..) => "the machine had run out of memory".to_owned(),
        (None, ..) => "memory had run out, of the machine or of its cgroup".to_owned(),
    };
    let size =
        oom.victim_rss_bytes.map_or_else(String::new, |rss| format!(" It held {}.", units::bytes(rss)));
    let bystander = match &oom.allocating_task {
        Some(task) if task.pid != victim.tgid => {
            format!(" {} (pid {}) asked for memory at that moment and is not to blame.", task.comm, task.pid)
        }
        _ => String::new(),
    };
    format!("{} was killed by the kernel's OOM killer: {why}.{size}{bystander}", victim.label())
}
