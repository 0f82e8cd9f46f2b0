//! Words and order that several formats share.

use std::time::Duration;

use crate::model;
use crate::model::event::SignalResult;
use crate::model::report::{
    Confidence, Death, ExitStatus, JournalLine, Kind, PatternKind, ProcessRef, RootCause, What,
};
use crate::model::units;

/// A cause of death in a few words, for labels.
pub(super) fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Exited => "ended by itself",
        Kind::KilledByProcess => "killed by a process",
        Kind::KilledBySelf => "killed itself",
        Kind::Crashed => "crashed",
        Kind::OomKill => "out of memory",
        Kind::TtyHangup => "terminal hung up",
        Kind::TtyKeyboard => "keyboard",
        Kind::SessionLeaderExit => "session leader ended",
        Kind::OrphanedProcessGroup => "process group orphaned",
        Kind::ParentDeathSignal => "parent died",
        Kind::SiblingThreadExit => "ended by a thread of its own",
        Kind::CgroupKill => "cgroup.kill",
        Kind::PidNamespaceTeardown => "PID namespace ended",
        Kind::Seccomp => "forbidden system call",
        Kind::Rlimit => "resource limit",
        Kind::Timer => "timer",
        Kind::BrokenPipe => "broken pipe",
        Kind::Debugger => "debugger",
        Kind::Sysrq => "magic SysRq",
        Kind::ExecFailed => "exec failed",
        Kind::AsyncNotification => "asynchronous notification",
        Kind::Unknown => "cause unknown",
    }
}

pub(super) fn pattern(kind: PatternKind) -> &'static str {
    match kind {
        PatternKind::RestartLoop => "restart loop",
        PatternKind::SpawnStorm => "spawn storm",
        PatternKind::Collateral => "collateral",
        PatternKind::Orphans => "orphans",
        PatternKind::Periodic => "periodic",
    }
}

pub(super) fn confidence(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::Certain => "certain",
        Confidence::Likely => "likely",
        Confidence::Unknown => "unknown",
    }
}

/// How sure the answer is, and why not surer.
pub(super) fn sureness(death: &Death) -> String {
    match (death.cause.confidence, death.gaps.first()) {
        (Confidence::Certain, _) => "certain: the kernel's own events say so".to_owned(),
        (Confidence::Likely, None) => {
            "likely: timing and state say so, but no single event proves it".to_owned()
        }
        (Confidence::Likely, Some(gap)) => format!("likely rather than certain: {gap}"),
        (Confidence::Unknown, _) if death.cause.kind == Kind::Unknown => {
            "the evidence does not decide what killed it".to_owned()
        }
        (Confidence::Unknown, _) => "a guess: the evidence does not decide it".to_owned(),
    }
}

/// What whoever is behind it did, hedged where only likelihood links it to the death.
pub(super) fn action(root: &RootCause) -> String {
    if root.confidence < Confidence::Certain {
        format!("most likely {}", root.action)
    } else {
        root.action.clone()
    }
}

/// How another's death belongs to this one.
pub(super) fn followed(confidence: Confidence) -> &'static str {
    if confidence == Confidence::Certain { "died with it" } else { "ended after it, likely because of it" }
}

/// What was not seen, as far as [`sureness`] has not said it.
pub(super) fn gaps(death: &Death) -> &[String] {
    let said = death.cause.confidence == Confidence::Likely && !death.gaps.is_empty();
    &death.gaps[usize::from(said)..]
}

/// What `waitpid` says, in a word or two.
pub(super) fn outcome(exit: &ExitStatus) -> String {
    match (&exit.signal, exit.code) {
        (Some(signal), _) => signal.clone(),
        (None, Some(code)) => format!("exit code {code}"),
        (None, None) => "exit status unknown".to_owned(),
    }
}

/// A process that was no more than done: of thousands of them, nobody asks why.
fn is_quiet(death: &Death) -> bool {
    death.cause.kind == Kind::Exited && death.exit.code == Some(0) && !death.victim.root
}

/// The deaths to tell in full, in their order: the last ones that somebody may ask about.
pub(super) fn told(deaths: &[Death], at_most: usize) -> Vec<&Death> {
    let asked: Vec<_> = deaths.iter().filter(|death| !is_quiet(death)).collect();
    // Nothing but quiet ones: then they are what was asked about.
    let asked = if asked.is_empty() { deaths.iter().collect() } else { asked };
    asked[asked.len().saturating_sub(at_most)..].to_vec()
}

/// The report in one sentence.
pub(super) fn headline(report: &model::Report) -> String {
    let total = report.deaths.len() as u64 + report.deaths_omitted;
    if let (1, [death]) = (total, report.deaths.as_slice()) {
        return death.summary.clone();
    }
    let collector = &report.collector;
    let watched = units::duration(units::between(collector.started_at, collector.ended_at));
    let deaths =
        if total == 0 { "nothing died".to_owned() } else { units::counted(total, "death", "deaths") };
    format!("{}, watched for {watched}: {deaths}.", super::text::subject(report))
}

/// Where and when, in one line.
pub(super) fn setting(report: &model::Report) -> String {
    let (host, collector) = (&report.host, &report.collector);
    format!(
        "{}, Linux {} ({}), {} backend; {} to {} UTC; {} seen, {} lost",
        host.hostname,
        host.kernel,
        host.arch,
        collector.backend,
        units::moment(collector.started_at),
        units::moment(collector.ended_at),
        units::counted(collector.events, "event", "events"),
        units::grouped(collector.lost_events),
    )
}

/// Why nothing is told, and what could not be seen, where that is so.
pub(super) fn caveats(report: &model::Report) -> Vec<String> {
    let mut caveats = Vec::new();
    if report.deaths.is_empty() {
        caveats.push(super::text::closing(report));
    }
    if report.deaths_omitted != 0 {
        let omitted = units::counted(report.deaths_omitted, "older death is", "older deaths are");
        caveats.push(format!("{omitted} left out, to keep the report at a bearable size."));
    }
    if report.collector.lost_events != 0 {
        caveats.push(format!(
            "{} lost because the machine was too busy: answers that depend on them say so.",
            units::counted(report.collector.lost_events, "event was", "events were")
        ));
    }
    caveats.extend(report.collector.degraded.iter().map(|lack| format!("Not seen on this kernel: {lack}")));
    caveats
}

pub(super) fn process(process: &ProcessRef) -> String {
    format!("{} ({})", process.comm, process.pid)
}

/// Since the step before, `+1.2 ms`.
pub(super) fn after(ns: u64) -> String {
    format!("+{}", units::duration(Duration::from_nanos(ns)))
}

/// A line of the journal, with its writer in front as journalctl has it.
pub(super) fn journal(line: &JournalLine) -> String {
    format!("{}[{}]: {}", line.writer.comm, line.writer.pid, line.text)
}

/// The kind of an event, in a word.
pub(super) fn event_kind(what: &What) -> &'static str {
    match what {
        What::Fork { .. } => "birth",
        What::Exec { .. } => "exec",
        What::Signal { .. } | What::Taken { .. } => "signal",
        What::OomVictim { .. } => "OOM",
        What::Exit { .. } => "exit",
        What::KernelLog { .. } => "kernel log",
        What::Journal { .. } => "journal",
        What::Lost { .. } => "lost",
    }
}

/// A process sent it, as far as its code says; with any other, whoever ran is not to blame.
pub(super) fn is_sent(code: &str) -> bool {
    matches!(code, "SI_USER" | "SI_TKILL" | "SI_QUEUE")
}

/// An event in one sentence. It may hold whole command lines.
pub(super) fn event(what: &What) -> String {
    match what {
        What::Fork { parent, child } => match parent {
            Some(parent) => format!("{} started {}", process(parent), process(child)),
            None => format!("{} was started", process(child)),
        },
        What::Exec { process: who, path, cmdline } => {
            let line = cmdline.as_deref().map(|args| super::escape::command_line(args, COMMAND_LINE));
            let line = line.filter(|line| !line.is_empty()).unwrap_or_else(|| path.clone());
            format!("{} runs {line}", process(who))
        }
        What::Signal { signal, code, from, to, result, count, handled, .. } => {
            let mut text = signal_words(signal, code, from.as_ref(), to);
            if *count > 1 {
                text.push_str(&format!(", {}", units::times(*count)));
            }
            if *handled > 0 {
                text.push_str(&format!("; a handler took it {}", units::times(*handled)));
            }
            text.push_str(match result {
                SignalResult::Delivered => "",
                SignalResult::Ignored => "; ignored",
                SignalResult::AlreadyPending => "; already pending",
                SignalResult::OverflowFail => "; not sent, its queue was full",
                SignalResult::LoseInfo => "; queued without details",
            });
            text
        }
        What::Taken { signal, process: who } => format!("{} took {signal}", process(who)),
        What::OomVictim { process: who, allocating_task } => {
            let mut text = format!("the OOM killer chose {}", process(who));
            if let Some(task) = allocating_task {
                text.push_str(&format!(", when {} asked for memory", process(task)));
            }
            text
        }
        What::Exit { process: who, exit } => match (&exit.signal, exit.code) {
            (Some(signal), _) => format!("{} was killed by {signal}", process(who)),
            (None, Some(code)) => format!("{} exited with code {code}", process(who)),
            (None, None) => format!("{} ended", process(who)),
        },
        What::KernelLog { text } => text.clone(),
        What::Journal { writer, text } => format!("{}: {text}", process(writer)),
        What::Lost { probe, count } => {
            format!("{} of {probe} lost", units::counted(*count, "event", "events"))
        }
    }
}

/// Longest command line shown for an event, in characters.
const COMMAND_LINE: usize = 400;

fn signal_words(signal: &str, code: &str, from: Option<&ProcessRef>, to: &ProcessRef) -> String {
    let to_words = process(to);
    match from {
        Some(from) if is_sent(code) && from.pid == to.pid => format!("{to_words} sent {signal} to itself"),
        Some(from) if is_sent(code) => format!("{} sent {signal} to {to_words}", process(from)),
        None if is_sent(code) => format!("{signal} was sent to {to_words}"),
        Some(from) if from.pid != to.pid => {
            format!("the kernel sent {signal} ({code}) to {to_words} while {} ran", process(from))
        }
        _ => format!("the kernel sent {signal} ({code}) to {to_words}"),
    }
}
