//! Processes that outlive whoever started them, and what they hold.

use std::collections::VecDeque;

use crate::model::report::{Kind, Pattern, PatternKind, Survivor};
use crate::model::time::Timestamp;
use crate::model::units::counted;

use super::kept::{self, Kept};
use super::{AnsweredDeath, Detector, Scene, list, pattern};
use crate::explain::process::{ProcId, Process};
use crate::explain::table::Table;

/// Children often end a little later: a closed pipe tells them.
const GRACE_NS: u64 = 1_000_000_000;
/// Deaths whose survivors are watched for that long.
const WAITING: usize = 256;
/// Orphans of one name that are remembered, the last of them.
const REMEMBERED: usize = 64;

/// Orphans, by the name of whoever they outlived.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    waiting: VecDeque<Bereaved>,
    names: Kept<String, Left>,
}

/// Descendants that were alive when a death was answered.
#[derive(Debug)]
struct Bereaved {
    name: String,
    died_ns: u64,
    died_at: Timestamp,
    alive: Vec<ProcId>,
}

#[derive(Debug)]
struct Left {
    count: u64,
    first_at: Timestamp,
    last_at: Timestamp,
    orphans: VecDeque<ProcId>,
}

impl Detector for Orphans {
    fn answered(&mut self, scene: Scene<'_>, answered: &AnsweredDeath<'_>) -> Option<Pattern> {
        // Who starts a daemon and ends has done what it was meant to.
        if !answered.victim.root && answered.death.cause.kind == Kind::Exited {
            return None;
        }
        let descendants = answered.surroundings.descendants.iter().copied();
        let alive: Vec<ProcId> =
            descendants.filter(|&id| is_alive(scene.table, id)).take(REMEMBERED).collect();
        if let Some(ending) = answered.victim.ending.filter(|_| !alive.is_empty()) {
            if self.waiting.len() == WAITING {
                self.waiting.pop_front();
            }
            let (name, died_at) = (answered.death.victim.name.clone(), answered.death.died_at);
            self.waiting.push_back(Bereaved { name, died_ns: ending.at.t_ns, died_at, alive });
        }
        None
    }

    fn passed(&mut self, scene: Scene<'_>) -> Option<Pattern> {
        let due = self.waiting.front()?.died_ns.saturating_add(GRACE_NS);
        if scene.now_ns < due {
            return None;
        }
        let Bereaved { name, died_at, mut alive, .. } = self.waiting.pop_front()?;
        alive.retain(|&id| is_alive(scene.table, id));
        if alive.is_empty() {
            return None;
        }
        let known = self.names.current(&name).is_some();
        if !known {
            let left = Left { count: 0, first_at: died_at, last_at: died_at, orphans: VecDeque::new() };
            self.names.open(name.clone(), left);
        }
        let left = self.names.current(&name)?;
        left.last_at = left.last_at.max(died_at);
        for orphan in alive {
            if !left.orphans.contains(&orphan) {
                left.count += 1;
                left.orphans.push_back(orphan);
            }
        }
        let spare = left.orphans.len().saturating_sub(REMEMBERED);
        left.orphans.drain(..spare);
        (!known).then(|| left.pattern(scene.table, &name))
    }

    fn patterns(&self, scene: Scene<'_>) -> Vec<Pattern> {
        self.names.recognised().map(|(name, left)| left.pattern(scene.table, name)).collect()
    }
}

impl kept::Case for Left {
    fn recognised(&self) -> bool {
        true
    }

    fn last_at(&self) -> Timestamp {
        self.last_at
    }
}

impl Left {
    fn pattern(&self, table: &Table, name: &str) -> Pattern {
        let alive = self.orphans.iter().filter_map(|&id| table.get(id)).filter(|process| process.alive());
        // Who holds a port says most.
        let mut alive: Vec<&Process> = alive.collect();
        alive.sort_by_key(|process| (process.listening.is_empty(), process.tgid));
        let labels: Vec<String> = alive.iter().map(|process| describe(table, process)).collect();
        let now = match labels.len() as u64 {
            0 => "none of them lives now".to_owned(),
            count => format!("alive now: {}", list(labels.iter().map(String::as_str), count)),
        };
        let survivor = |process: &&Process| Survivor {
            pid: process.tgid,
            comm: process.comm.to_text(),
            reparented_to: process.ppid,
            listening: process.listening.iter().copied().collect(),
        };
        Pattern {
            survivors: alive.iter().map(survivor).collect(),
            text: format!(
                "{} outlived {name}, which had started {}; {now}",
                counted(self.count, "process", "processes"),
                if self.count == 1 { "it" } else { "them" },
            ),
            ..pattern(PatternKind::Orphans, name, self.count, (self.first_at, self.last_at))
        }
    }
}

fn is_alive(table: &Table, id: ProcId) -> bool {
    table.get(id).is_some_and(Process::alive)
}

/// `tsserver (pid 4040) under systemd (pid 1) listens on port 5173`
fn describe(table: &Table, orphan: &Process) -> String {
    let ports: Vec<String> = orphan.listening.iter().map(u16::to_string).collect();
    let ports = match ports.as_slice() {
        [] => String::new(),
        [port] => format!(" listens on port {port}"),
        ports => format!(" listens on ports {}", ports.join(", ")),
    };
    let parent = orphan.ppid.and_then(|ppid| table.by_tid(ppid)).and_then(|id| table.get(id));
    let under = match parent.filter(|parent| parent.alive()) {
        Some(parent) => format!(" under {}", parent.label()),
        None => String::new(),
    };
    format!("{}{under}{ports}", orphan.label())
}
