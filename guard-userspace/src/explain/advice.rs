//! What to do about a death or a pattern, only where the evidence supports it: one small function per cause.

use crate::model::report::{CgroupLimits, Death, Job, Kind, Mechanism, Role, UnitScope};
use crate::model::unit::{self, Runtime};
use crate::model::units::{bytes, elapsed};

use super::actors;
use super::case::Case;
use super::death::Scene;
use super::heap::{HEAP_LIMIT, Heap};
use super::process::Process;
use super::service::is_systemd;
use super::story::Story;
use super::table::Table;

const MIB: u64 = 1024 * 1024;

/// One or two concrete next steps, or none.
#[must_use]
pub(super) fn advice(
    scene: &Scene<'_>,
    case: &Case<'_>,
    story: &Story,
    cgroup: Option<&CgroupLimits>,
) -> Vec<String> {
    let cgroup = cgroup.and_then(|cgroup| Some((cgroup.path.as_str(), cgroup.limit_bytes?)));
    let advice = match story.finding.kind {
        Kind::TtyHangup | Kind::SessionLeaderExit => [Some(terminal(scene.teller.table, case, story)), None],
        Kind::OomKill => [
            cgroup.map(|(path, limit)| raise(scene.teller.table, case.victim, path, limit)),
            heap_over_limit(case.victim, cgroup),
        ],
        Kind::KilledBySelf if story.finding.detail == Some(HEAP_LIMIT) => {
            [Some(heap_full(case.victim, cgroup)), None]
        }
        Kind::KilledByProcess | Kind::CgroupKill => {
            let table = scene.teller.table;
            let daemon = oom_daemon(table, case, story);
            [daemon.or_else(|| watchdog(table, case, story)), stopped(table, case, story)]
        }
        _ => [None, None],
    };
    advice.into_iter().flatten().collect()
}

/// Its terminal went away: with the wrapper that the OOM daemon chose, or by itself.
fn terminal(table: &Table, case: &Case<'_>, story: &Story) -> String {
    let victim = case.victim.name();
    let wrapper = story.finding.because_of.and_then(|id| table.get(id));
    let killer = story.killer(table);
    let daemon = killer.is_some_and(|killer| actors::role(table, &killer, case.victim) == Role::OomDaemon);
    match wrapper.and_then(|wrapper| Some((wrapper, wrapper.image.oom_score_adj?))).filter(|_| daemon) {
        Some((wrapper, adj)) => format!(
            "{} had oom_score_adj {adj}: protect it as well as {victim}, or start {victim} outside the terminal \
             (setsid, systemd-run --user).",
            wrapper.label(),
        ),
        None => format!(
            "To let {victim} outlive its terminal, start it with setsid or nohup, or as a service \
             (systemd-run --user)."
        ),
    }
}

/// Where its memory limit is set, by whoever has set it.
fn raise(table: &Table, victim: &Process, path: &str, limit: u64) -> String {
    let now = bytes(limit);
    if let Some(container) = unit::container_of_path(path) {
        let id = container.short_id();
        match container.runtime {
            Some(runtime @ (Runtime::Docker | Runtime::Podman)) => {
                let command = if runtime == Runtime::Docker { "docker" } else { "podman" };
                return format!(
                    "`{command} update --memory SIZE --memory-swap SIZE {id}` gives the running container more than its \
                     {now}, `{command} run --memory` or `mem_limit` in a compose file the next one."
                );
            }
            Some(Runtime::Kubernetes) => {
                return format!(
                    "The limit of {now} is the container's resources.limits.memory in its pod's manifest."
                );
            }
            Some(Runtime::Lxc) => {
                return format!(
                    "The limit of {now} is lxc.cgroup2.memory.max (lxc.cgroup.memory.limit_in_bytes) in the \
                     configuration of {id}, limits.memory with LXD and Incus."
                );
            }
            Some(Runtime::Nspawn) | None => {}
        }
    }
    match service(victim).filter(|unit| path.ends_with(&format!("/{}", unit.name))) {
        Some(unit) => {
            format!("MemoryMax= in {} raises the limit of {now}.", unit.control("edit", victim, table))
        }
        None => format!("Raise the limit of {path} ({now}), or make its processes use less."),
    }
}

/// V8 was allowed more heap than its cgroup could ever give.
fn heap_over_limit(victim: &Process, cgroup: Option<(&str, u64)>) -> Option<String> {
    let (heap, (_, limit)) = (Heap::of(victim)?.limit_bytes?, cgroup?);
    let fitting = limit / 4 * 3 / MIB;
    (heap >= limit && fitting > 0).then(|| {
        format!(
            "{} may fill a heap of {} (--max-old-space-size) where its cgroup has {}: with {fitting} it would collect \
             garbage before the limit.",
            victim.name(),
            bytes(heap),
            bytes(limit)
        )
    })
}

/// V8's heap was full: whether there is room for a larger one.
fn heap_full(victim: &Process, cgroup: Option<(&str, u64)>) -> String {
    let name = victim.name();
    let heap = Heap::of(victim).and_then(|heap| heap.limit_bytes);
    match (heap, cgroup) {
        (Some(heap), Some((path, limit))) if heap >= limit / 4 * 3 => format!(
            "A larger --max-old-space-size than {} needs a higher limit of {path} ({}) as well.",
            heap / MIB,
            bytes(limit)
        ),
        (heap, cgroup) => {
            let option = match heap {
                Some(heap) => format!("a larger --max-old-space-size (now {})", heap / MIB),
                None => "a --max-old-space-size".to_owned(),
            };
            let room = cgroup.map_or_else(String::new, |(_, limit)| {
                format!("; its cgroup has room up to {}", bytes(limit))
            });
            format!(
                "If {name} needs that much, give it {option}, also by NODE_OPTIONS{room}. \
                 --heapsnapshot-near-heap-limit=1 shows what fills it."
            )
        }
    }
}

/// Whoever kills it is whoever starts it; where it is systemd that does, that is not what is wrong.
fn watchdog(table: &Table, case: &Case<'_>, story: &Story) -> Option<String> {
    if story.service.is_some() {
        return None;
    }
    let actor = story.actor(table)?;
    let victim = case.victim.name();
    if actors::program_role(&actor) == Some(Role::Watchdog) {
        return Some(format!(
            "{} restarts {victim} when files change: tell it which ones to ignore.",
            actor.label()
        ));
    }
    (actors::role(table, &actor, case.victim) == Role::Watchdog).then(|| {
        format!("{} both starts {victim} and has it killed: look at the kill in what it runs.", actor.label())
    })
}

/// What spares it where a daemon ends somebody before memory runs out, and what tells the daemon when that is.
fn oom_daemon(table: &Table, case: &Case<'_>, story: &Story) -> Option<String> {
    let daemon = story.killer(table)?;
    let victim = case.victim.name();
    match daemon.name().as_str() {
        "systemd-oomd" => {
            let spare = service(case.victim).map_or_else(String::new, |unit| {
                let edit = unit.control("edit", case.victim, table);
                format!(" ManagedOOMPreference=avoid in {edit} has it choose others first.")
            });
            Some(format!(
                "systemd-oomd ends the cgroup that suffers most: `oomctl` shows what it watches. \
                 ManagedOOMMemoryPressureLimit= of the slice that it watches, or SwapUsedLimit= in oomd.conf, has it wait \
                 longer.{spare}"
            ))
        }
        "earlyoom" => {
            let adj = case.victim.image.oom_score_adj;
            let adj = adj.map_or_else(String::new, |adj| format!(", which was {adj}"));
            Some(format!(
                "earlyoom ends whoever has the highest oom_score: a lower oom_score_adj of {victim}{adj}, or its --avoid, \
                 spares it; its -m says how little memory may be left."
            ))
        }
        _ => None,
    }
}

/// systemd ended it: what to set, or the manager that knows why.
fn stopped(table: &Table, case: &Case<'_>, story: &Story) -> Option<String> {
    let systemd = story.service.as_ref()?;
    let unit = &systemd.unit;
    // What was killed may have been a process that another unit's depended on.
    let own = service(case.victim).as_ref() == Some(unit);
    let member = if own { case.victim } else { story.finding.because_of.and_then(|id| table.get(id))? };
    let command = |verb: &str| unit.control(verb, member, table);
    Some(match systemd.job {
        Some(Job::Timeout) => format!(
            "{} had {} to stop: let it end on the signal it gets first, or raise TimeoutStopSec= in {}.",
            unit.name,
            elapsed(systemd.since_ns),
            command("edit")
        ),
        Some(Job::Watchdog) => format!(
            "{} has to tell systemd that it is alive (sd_notify, WATCHDOG=1) more often than WatchdogSec= says: {}. {} \
             shows if it was that.",
            unit.name,
            command("cat"),
            command("status")
        ),
        _ => format!("{} says why {} was stopped.", command("status"), unit.name),
    })
}

/// systemd starts a service again and again: `None` unless it is one.
pub(super) fn restarts(table: &Table, victim: &Process, median_ns: Option<u64>) -> Option<String> {
    /// DefaultStartLimitIntervalSec= and DefaultStartLimitBurst= (systemd-system.conf).
    const DEFAULT_BURST_NS: u64 = 10_000_000_000 / 5;
    let unit = service(victim)?;
    let parent = victim.parent.and_then(|parent| table.get(parent)).filter(|parent| is_systemd(parent))?;
    let seldom = median_ns.filter(|&median| median > DEFAULT_BURST_NS).map_or_else(String::new, |median| {
        format!("; once every {} is too seldom for the default, 5 within 10 s", elapsed(median))
    });
    Some(format!(
        "{} starts it again each time. In {}, RestartSec= makes it wait, and StartLimitBurst= with \
         StartLimitIntervalSec= makes it give up{seldom}.",
        parent.label(),
        unit.control("edit", victim, table)
    ))
}

/// Whoever ended it ended it alone, and others live on: `None` where they were meant as well.
pub(super) fn take_along(death: &Death) -> Option<String> {
    let alone = matches!(
        death.cause.mechanism,
        Some(Mechanism::Kill | Mechanism::Sigqueue | Mechanism::PidfdSendSignal)
    );
    let (killer, victim) = (death.killer.as_ref()?, &death.victim.name);
    (death.cause.kind == Kind::KilledByProcess && alone).then(|| {
        format!(
            "{} signalled {victim} alone. What {victim} starts dies with it if {victim} leads a process group (setsid; \
             in Node, `detached: true`) and that is signalled: kill -- -PID.",
            killer.name
        )
    })
}

/// What ends a whole service.
pub(super) fn stop_all(table: &Table, member: &Process) -> Option<String> {
    let unit = service(member)?;
    let without = match unit.scope {
        UnitScope::User => "; `systemctl stop` without --user does not know it",
        UnitScope::System => "",
    };
    Some(format!("{} ends all of it{without}.", unit.control("stop", member, table)))
}

fn service(process: &Process) -> Option<unit::Unit> {
    unit::service(process.image.cgroups.as_deref()?)
}

impl unit::Unit {
    /// `systemctl --user -M kali@ stop kiosk.service`, in the marks of a command. `USER@` is how root reaches the
    /// manager of a user (systemctl(1), `--machine=`).
    fn control(&self, verb: &str, member: &Process, table: &Table) -> String {
        let name = &self.name;
        let user = member.image.uid.and_then(|uid| table.user(uid)).and_then(|user| user.as_deref());
        match (self.scope, user) {
            (UnitScope::System, _) => format!("`systemctl {verb} {name}`"),
            (UnitScope::User, Some(user)) => format!("`systemctl --user -M {user}@ {verb} {name}`"),
            (UnitScope::User, None) => format!("`systemctl --user {verb} {name}`"),
        }
    }
}
