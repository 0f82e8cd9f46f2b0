//! A told death as a death record.

use std::collections::BTreeMap;

use crate::model::event::{CgroupMemory, MachineMemory, SignalResult};
use crate::model::header::Header;
use crate::model::report::{
    Actor, Aftermath, Ancestor, Cause, CgroupLimits, ChainStep, Confidence, Context, Death, ExitStatus, Job,
    OtherSignal, ProcessRef, RootCause, RuledOut, Sender, Survivor, TreeNode, Victim,
};
use crate::model::signal::{DefaultAction, Signo};
use crate::model::time::Timestamp;
use crate::model::unit;

use super::actors;
use super::case::Case;
use super::causes::{CAUSES, Finding};
use super::history::SignalRun;
use super::oom;
use super::oom_log::OomLogs;
use super::process::{ProcId, Process};
use super::sentence;
use super::story::{Story, Teller};
use super::table::Table;
use super::timeline::reference;

/// What surrounds a death, read when it happened.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    pub memory: Option<MachineMemory>,
    pub cgroup_memory: Vec<CgroupMemory>,
    /// The same as it was when the OOM killer had just chosen it, if it did.
    pub at_oom: Vec<CgroupMemory>,
    /// Descendants that were alive when it died.
    pub descendants: Vec<ProcId>,
}

/// Everything an answer is made from.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    pub header: &'a Header,
    pub teller: Teller<'a>,
    pub surroundings: &'a Surroundings,
    /// What the kernel log says of OOM kills.
    pub oom_logs: &'a OomLogs,
}

/// Answers for one death. `None` while the process lives.
#[must_use]
pub fn answer(scene: &Scene<'_>, victim: &Process, id: u64) -> Option<(Death, Story)> {
    let table = scene.teller.table;
    let (case, story) = scene.teller.tell(victim)?;
    let oom = story.finding.oom.map(|_| oom::circumstances(scene, &case, &story));
    let summary = sentence::sentence(table, &case, &story, oom.as_ref());
    let mut ruled_out = ruled_out(&case, &story.finding);
    ruled_out.sort_by_key(|ruled| ruled.cause);
    let wall = |t_ns: u64| scene.header.wall(t_ns);
    let cancelled = story.cancel.as_ref().map(|_| Job::Cancel);
    let job = story.service.as_ref().and_then(|service| service.job).or(cancelled);
    let actor_of = |process: &Process| Actor {
        job: job.filter(|_| Some(process.id) == story.killer),
        ..actor(table, process, victim, case.ending.at.t_ns)
    };
    let finding = &story.finding;
    let asked = story.service.as_ref().is_some_and(|service| service.request.is_some());
    let confidence = if asked { finding.confidence.min(Confidence::Likely) } else { finding.confidence };
    let root_cause = story.action.clone().map(|action| RootCause {
        actor: story.actor(table).as_deref().map(actor_of),
        action,
        confidence,
    });
    let context = context(scene, &case);
    let death = Death {
        id,
        died_at: wall(case.ending.at.t_ns),
        uptime_ms: victim.start_ns.map(|start| case.ending.at.t_ns.saturating_sub(start) / 1_000_000),
        victim: victim_record(scene.header, table, victim),
        exit: exit_status(&case),
        cause: Cause {
            kind: finding.kind,
            mechanism: finding.mechanism,
            graceful: case.decisive.is_some_and(|decisive| decisive.graceful),
            confidence: finding.confidence,
            detail: finding.detail.map(str::to_owned),
            oom,
        },
        sender: case
            .decisive
            .map(|decisive| sender(table, finding, decisive.reraised.unwrap_or(decisive.run))),
        killer: story.killer(table).as_deref().map(actor_of),
        root_cause,
        summary,
        chain: chain(&story, wall),
        evidence: story.evidence.iter().copied().collect(),
        other_signals: other_signals(&case),
        ruled_out,
        aftermath: Aftermath { also_died: Vec::new(), survivors: survivors(scene, victim) },
        advice: super::advice::advice(scene, &case, &story, context.cgroup_memory.as_ref()),
        context,
        gaps: story.gaps.clone(),
        journal: Vec::new(),
    };
    Some((death, story))
}

/// What `waitpid` would report, as far as it is known.
#[must_use]
pub fn exit_status(case: &Case<'_>) -> ExitStatus {
    let signal = case.death_signal();
    let code = case.exit_code();
    let core_dumped = case.ending.status.map(|status| signal.is_some() && status.core_dumped());
    ExitStatus {
        code,
        signal: signal.map(|signo| signo.to_string()),
        signal_number: signal.map(|signo| signo.0),
        core_dumped,
        shell_status: code.or(signal.map(|signo| 128 + signo.0)),
    }
}

fn victim_record(header: &Header, table: &Table, victim: &Process) -> Victim {
    let image = &victim.image;
    let cgroups = image.cgroups.as_deref();
    let unit = cgroups.and_then(unit::unit);
    Victim {
        pid: victim.tgid,
        ppid: victim.ppid,
        comm: victim.comm.to_text(),
        name: victim.name(),
        exe: text(&image.exe),
        cmdline: image.cmdline.as_deref().map(<[String]>::to_vec),
        cwd: text(&image.cwd),
        uid: image.uid,
        user: user(table, image.uid),
        cgroup: cgroups.and_then(shown_cgroup),
        unit_scope: unit.as_ref().map(|unit| unit.scope),
        unit: unit.map(|unit| unit.name),
        container: cgroups.and_then(unit::container).map(|container| container.id),
        started_at: victim.start_ns.map(|start| header.wall(start)),
        root: victim.root,
        pid_in_namespace: victim.ns_tgid,
    }
}

fn user(table: &Table, uid: Option<u32>) -> Option<String> {
    table.user(uid?)?.as_deref().map(str::to_owned)
}

/// The hierarchy that says most about where a process belongs.
fn shown_cgroup(cgroups: &crate::model::event::Cgroups) -> Option<String> {
    let known = [&cgroups.moved, &cgroups.v2, &cgroups.systemd, &cgroups.memory];
    let said = known.iter().find_map(|path| path.as_deref().filter(|path| *path != "/"));
    said.or(known.iter().find_map(|path| path.as_deref())).map(str::to_owned)
}

fn text(field: &Option<std::rc::Rc<str>>) -> Option<String> {
    field.as_deref().map(str::to_owned)
}

fn actor(table: &Table, process: &Process, victim: &Process, died_ns: u64) -> Actor {
    let image = &process.image;
    let cgroups = image.cgroups.as_deref();
    let unit = cgroups.and_then(unit::unit);
    let ancestry = table.ancestors(process.id).map(|ancestor| Ancestor {
        pid: ancestor.tgid,
        comm: ancestor.comm.to_text(),
        name: actors::name(ancestor),
        cmdline: ancestor.image.cmdline.as_deref().map(<[String]>::to_vec),
        alive: ancestor.ending.is_none_or(|ending| ending.at.t_ns > died_ns),
    });
    Actor {
        pid: process.tgid,
        comm: process.comm.to_text(),
        name: actors::name(process),
        exe: text(&image.exe),
        cmdline: image.cmdline.as_deref().map(<[String]>::to_vec),
        cwd: text(&image.cwd),
        uid: image.uid,
        user: user(table, image.uid),
        cgroup: cgroups.and_then(shown_cgroup),
        unit_scope: unit.as_ref().map(|unit| unit.scope),
        unit: unit.map(|unit| unit.name),
        role: actors::role(table, process, victim),
        job: None,
        ancestry: ancestry.collect(),
    }
}

fn sender(table: &Table, finding: &Finding, run: &SignalRun) -> Sender {
    let current = run.current.and_then(|id| table.get(id)).map(|process| ProcessRef {
        pid: process.tgid,
        comm: if run.current_comm.is_empty() { process.comm } else { run.current_comm }.to_text(),
    });
    Sender { kernel: finding.kernel, current }
}

fn chain(story: &Story, wall: impl Fn(u64) -> Timestamp) -> Vec<ChainStep> {
    let mut steps = story.steps.clone();
    // The end is last, even if another CPU stamped what led to it a little later.
    let end = steps.last().map_or(0, |step| step.at.t_ns);
    steps.iter_mut().for_each(|step| step.at.t_ns = step.at.t_ns.min(end));
    steps.sort_by_key(|step| step.at.t_ns);
    let mut before: Option<u64> = None;
    steps
        .into_iter()
        .map(|step| {
            let after_ns = before.map(|before| step.at.t_ns.saturating_sub(before));
            before = Some(step.at.t_ns);
            ChainStep { t: wall(step.at.t_ns), event: step.at.id, text: step.text, after_ns }
        })
        .collect()
}

/// Signals that reached it and did not end it, alike ones together.
fn other_signals(case: &Case<'_>) -> Vec<OtherSignal> {
    let decisive = case.decisive.map(|decisive| decisive.run.first.id);
    let again = case.decisive.and_then(|decisive| decisive.reraised).map(|run| run.first.id);
    let mut grouped: BTreeMap<(Signo, Option<ProcId>, &str), (u64, u64)> = BTreeMap::new();
    for run in &case.victim.history.runs {
        let mut counts = [
            (why_not(case, run, false), run.count - run.handled.min(run.count)),
            (why_not(case, run, true), run.handled.min(run.count)),
        ];
        if Some(run.first.id) == decisive || Some(run.first.id) == again {
            // The last one of the run is the one that counted; those before it did not.
            let handled = usize::from(counts[0].1 == 0);
            counts[handled].1 = counts[handled].1.saturating_sub(1);
        }
        for (why, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            let (total, last_ns) = grouped.entry((run.signo, run.current, why)).or_default();
            *total += count;
            *last_ns = run.last.t_ns;
        }
    }
    grouped
        .into_iter()
        .map(|((signo, current, why), (count, last_ns))| OtherSignal {
            signal: signo.to_string(),
            from: current.and_then(|id| case.table.as_of(id, last_ns)).as_deref().map(reference),
            count,
            why_not: why.to_owned(),
        })
        .collect()
}

fn why_not(case: &Case<'_>, run: &SignalRun, handled: bool) -> &'static str {
    let died = case.ending.at.t_ns;
    let doomed = case.decisive.is_some_and(|decisive| {
        !decisive.graceful
            && run.first.t_ns >= decisive.run.last.t_ns
            && run.first.id != decisive.run.first.id
    });
    let pending = case.ending.exit.pending.is_some_and(|pending| pending & run.signo.bit() != 0);
    match run.result {
        _ if handled => "a handler took it",
        SignalResult::OverflowFail => "the queue was full, so it was not sent",
        SignalResult::AlreadyPending => "one like it was already waiting",
        SignalResult::Ignored if doomed || run.first.t_ns >= died => "it was already dying",
        SignalResult::Ignored => match run.signo.default_action() {
            DefaultAction::Ignore | DefaultAction::Continue => "ignored by default",
            _ => "it ignored it, or could not be ended by it",
        },
        _ if doomed => "it was already dying",
        _ => match run.signo.default_action() {
            DefaultAction::Stop => "it stops, it does not kill",
            DefaultAction::Continue => "it continues, it does not kill",
            // One that is ignored by default is not queued, unless it is blocked or has a handler (kernel/signal.c,
            // `sig_ignored`).
            _ if case.victim.history.stops_since(run) > 0 => {
                "its tracer swallowed it, or put another in its place"
            }
            _ if pending => "it was blocked and still waiting when the process ended",
            _ => "it was blocked, waited for, or took no effect",
        },
    }
}

fn ruled_out(case: &Case<'_>, finding: &Finding) -> Vec<RuledOut> {
    CAUSES
        .iter()
        .filter(|cause| cause.kind() != finding.kind)
        .filter_map(|cause| Some(RuledOut { cause: cause.kind(), because: cause.ruled_out(case)? }))
        .collect()
}

fn context(scene: &Scene<'_>, case: &Case<'_>) -> Context {
    let (table, victim) = (scene.teller.table, case.victim);
    let node = |process: &Process| TreeNode {
        pid: process.tgid,
        ppid: process.ppid,
        comm: process.comm.to_text(),
        name: actors::name(process),
        oom_score_adj: process.image.oom_score_adj,
        alive: process.ending.is_none_or(|ending| ending.at.t_ns > case.ending.at.t_ns),
    };
    let mut tree: Vec<TreeNode> = table.ancestors(victim.id).map(node).collect();
    tree.reverse();
    tree.push(node(victim));
    tree.extend(scene.surroundings.descendants.iter().filter_map(|&id| table.get(id)).map(node));
    Context {
        memory: scene.surroundings.memory.map(Into::into),
        victim_rss_bytes: victim.rss_bytes,
        victim_peak_rss_bytes: victim.peak_rss_bytes,
        oom_score_adj: victim.image.oom_score_adj,
        cgroup_memory: limiting_cgroup(scene).map(|memory| CgroupLimits {
            path: memory.path.clone(),
            limit_bytes: memory.limit_bytes,
            usage_bytes: memory.usage_bytes,
            peak_bytes: memory.peak_bytes,
            oom_kills: memory.oom_kills,
        }),
        tree,
    }
}

/// The victim's memory cgroup: the nearest one with a limit, else its own.
pub(super) fn limiting_cgroup<'a>(scene: &Scene<'a>) -> Option<&'a CgroupMemory> {
    let known = &scene.surroundings.cgroup_memory;
    known.iter().find(|memory| memory.limit_bytes.is_some()).or(known.first())
}

/// Descendants that live on.
fn survivors(scene: &Scene<'_>, victim: &Process) -> Vec<Survivor> {
    let table = scene.teller.table;
    scene
        .surroundings
        .descendants
        .iter()
        .filter_map(|&id| table.get(id))
        .filter(|process| process.alive() && !process.is_doomed())
        .map(|process| Survivor {
            pid: process.tgid,
            comm: process.comm.to_text(),
            name: process.name(),
            reparented_to: process.ppid.filter(|&ppid| ppid != victim.tgid),
            listening: process.listening.iter().copied().collect(),
        })
        .collect()
}
