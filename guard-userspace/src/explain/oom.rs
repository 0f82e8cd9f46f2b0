//! The circumstances of an OOM kill: whose memory had run out, who held it, and who merely asked for more.

use crate::model::event::CgroupMemory;
use crate::model::report::{Oom, OomScope, ProcessRef, TaskMemory};

use super::actors;
use super::case::Case;
use super::death::{Scene, limiting_cgroup};
use super::history::OomMark;
use super::story::Story;

/// Tasks that are listed.
const LARGEST: usize = 5;

pub(super) fn circumstances(scene: &Scene<'_>, case: &Case<'_>, story: &Story) -> Oom {
    let mark = story.finding.oom;
    let limited = limiting_cgroup(scene).filter(|memory| memory.limit_bytes.is_some());
    // Of the one that was chosen: whoever shares its memory is not named.
    let log = mark.and_then(|mark| scene.oom_logs.of(mark.victim.tid));
    let logged_scope = log.and_then(|log| log.scope);
    // Without the kernel log: a cgroup that has counted a kill under a limit that is used up.
    let counted = scene.surroundings.cgroup_memory.iter().any(|memory| memory.oom_kills > Some(0));
    let scope = logged_scope.or(limited.filter(|memory| counted && full(memory)).map(|_| OomScope::Memcg));
    let memcg = scope == Some(OomScope::Memcg);
    let cgroup = log.and_then(|log| log.cgroup.clone()).or(limited.map(|memory| memory.path.clone()));
    let cgroup = cgroup.filter(|_| memcg);
    let read =
        |known: &[CgroupMemory]| known.iter().find(|memory| Some(&memory.path) == cgroup.as_ref()).cloned();
    let then = read(&scene.surroundings.at_oom);
    let figures = then.clone().or_else(|| read(&scene.surroundings.cgroup_memory));
    Oom {
        scope,
        limit_bytes: figures.as_ref().and_then(|memory| memory.limit_bytes),
        usage_bytes: figures.as_ref().and_then(usage),
        victim_rss_bytes: mark.and_then(|mark| mark.victim.details).map(|details| details.rss_bytes()),
        allocating_task: mark.map(|mark| {
            let process = mark.current.and_then(|id| case.table.get(id));
            ProcessRef {
                pid: process.map_or(mark.current_tid, |process| process.tgid),
                comm: process.map_or(mark.current_comm, |process| process.comm).to_text(),
            }
        }),
        largest_tasks: then.map(|then| largest(case, mark, &then)).unwrap_or_default(),
        cgroup,
    }
}

/// What was in use when memory ran out. It is read a moment later, when the victim may have begun to give back what it
/// had; but a charge failed at the limit (mm/memcontrol.c, `try_charge_memcg`), so the most there ever was is what there
/// was then.
fn usage(memory: &CgroupMemory) -> Option<u64> {
    let most = memory.peak_bytes.max(memory.usage_bytes)?;
    Some(memory.limit_bytes.map_or(most, |limit| most.min(limit)))
}

fn full(memory: &CgroupMemory) -> bool {
    memory
        .limit_bytes
        .zip(usage(memory))
        .is_some_and(|(limit, used)| used.saturating_add(limit / 16) >= limit)
}

/// Who held most, the largest first. Of the victim, what the kernel said of it: it may have been gone when the others
/// were looked at.
fn largest(case: &Case<'_>, mark: Option<OomMark>, read: &CgroupMemory) -> Vec<TaskMemory> {
    let chosen =
        mark.and_then(|mark| Some((case.table.by_tid(mark.victim.tid)?, mark.victim.details?.rss_bytes())));
    let chosen = chosen.and_then(|(id, rss_bytes)| Some((case.table.get(id)?, rss_bytes)));
    let mut tasks: Vec<TaskMemory> = read
        .largest
        .iter()
        .filter(|task| task.rss_bytes >= read.limit_bytes.unwrap_or_default() / 64)
        .filter(|task| chosen.is_none_or(|(process, _)| process.tgid != task.tgid))
        .map(|task| {
            let known = case.table.by_tid(task.tgid).and_then(|id| case.table.get(id));
            let comm = task.comm.to_text();
            let name = known.map_or_else(|| comm.clone(), actors::name);
            TaskMemory { pid: task.tgid, comm, name, rss_bytes: task.rss_bytes }
        })
        .collect();
    tasks.extend(chosen.map(|(process, rss_bytes)| TaskMemory {
        pid: process.tgid,
        comm: process.comm.to_text(),
        name: actors::name(process),
        rss_bytes,
    }));
    tasks.sort_by_key(|task| std::cmp::Reverse(task.rss_bytes));
    tasks.truncate(LARGEST);
    tasks
}
