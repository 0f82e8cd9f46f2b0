//! Processes that outlive whoever started them, and what they hold.

use std::collections::VecDeque;

use crate::model::report::{Kind, Pattern, PatternKind, Survivor};
use crate::model::time::Timestamp;
use crate::model::units::counted;
use crate::model::want::Want;

use super::kept::{self, Kept};
use super::{AnsweredDeath, Detector, Scene, list, pattern};
use crate::explain::advice;
use crate::explain::process::{ProcId, Process};
use crate::explain::table::Table;

/// Children often end a little later: a closed pipe tells them.
const GRACE_NS: u64 = 1_000_000_000;
/// A server that was still starting when its starter died listens by now, which /proc takes a moment to tell.
const ANSWER_NS: u64 = 100_000_000;
/// Deaths whose survivors are watched for that long.
const WAITING: usize = 256;
/// Orphans of one name that are remembered: those that live, those that hold a port, and then the last of them.
const REMEMBERED: usize = 64;
/// Of these, so many that hold no port are looked at again whenever another joins them.
const LOOKED_AT_AGAIN: usize = 16;

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
    advice: Option<String>,
    /// When it was asked what they hold by then.
    asked_ns: Option<u64>,
}

#[derive(Debug)]
struct Left {
    count: u64,
    first_at: Timestamp,
    last_at: Timestamp,
    orphans: VecDeque<ProcId>,
    /// As of the last death.
    advice: Option<String>,
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
            self.waiting.push_back(Bereaved {
                name,
                died_ns: ending.at.t_ns,
                died_at,
                alive,
                advice: advice::take_along(answered.death),
                asked_ns: None,
            });
        }
        None
    }

    fn passed(&mut self, scene: Scene<'_>, wants: &mut Vec<Want>) -> Option<Pattern> {
        let unasked = self.waiting.iter_mut().filter(|bereaved| bereaved.asked_ns.is_none());
        for bereaved in unasked.take_while(|bereaved| bereaved.is_due(scene)) {
            bereaved.asked_ns = Some(scene.now_ns);
            let left = self.names.current(&bereaved.name);
            let before = left.into_iter().flat_map(|left| left.portless(scene.table));
            let ids = bereaved.alive.iter().copied().chain(before.take(LOOKED_AT_AGAIN));
            let alive = ids.filter_map(|id| scene.table.get(id)).filter(|process| process.alive());
            wants.push(Want::Survivors(alive.map(|process| process.tgid).collect()));
        }
        let asked_ns = self.waiting.front()?.asked_ns?;
        if scene.now_ns < asked_ns.saturating_add(ANSWER_NS) {
            return None;
        }
        let bereaved = self.waiting.pop_front()?;
        self.take(scene, bereaved)
    }

    fn closed(&mut self, scene: Scene<'_>) -> Vec<Pattern> {
        let due = std::mem::take(&mut self.waiting).into_iter().filter(|bereaved| bereaved.is_due(scene));
        due.filter_map(|bereaved| self.take(scene, bereaved)).collect()
    }

    fn patterns(&self, scene: Scene<'_>) -> Vec<Pattern> {
        self.names.recognised().map(|(name, left)| left.pattern(scene.table, name)).collect()
    }
}

impl Orphans {
    /// Counts those that live now.
    fn take(&mut self, scene: Scene<'_>, bereaved: Bereaved) -> Option<Pattern> {
        let Bereaved { name, died_at, mut alive, advice, .. } = bereaved;
        alive.retain(|&id| is_alive(scene.table, id));
        if alive.is_empty() {
            return None;
        }
        let known = self.names.current(&name).is_some();
        if !known {
            let left = Left {
                count: 0,
                first_at: died_at,
                last_at: died_at,
                orphans: VecDeque::new(),
                advice: None,
            };
            self.names.open(name.clone(), left);
        }
        let left = self.names.current(&name)?;
        left.last_at = left.last_at.max(died_at);
        left.advice = advice;
        for orphan in alive {
            if !left.orphans.contains(&orphan) {
                left.count += 1;
                left.orphans.push_back(orphan);
            }
        }
        left.forget(scene.table);
        (!known).then(|| left.pattern(scene.table, &name))
    }
}

impl Bereaved {
    /// Whoever lives now will go on living.
    fn is_due(&self, scene: Scene<'_>) -> bool {
        scene.now_ns >= self.died_ns.saturating_add(GRACE_NS)
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
    /// Those that hold no port, as far as is known, the first of them first.
    fn portless<'a>(&'a self, table: &'a Table) -> impl Iterator<Item = ProcId> + 'a {
        let orphans = self.orphans.iter().filter_map(|&id| table.get(id));
        orphans.filter(|process| process.alive() && process.listening.is_empty()).map(|process| process.id)
    }

    /// Keeps the number of those that are remembered bounded.
    fn forget(&mut self, table: &Table) {
        if self.orphans.len() <= REMEMBERED {
            return;
        }
        self.orphans.retain(|&id| is_alive(table, id));
        while self.orphans.len() > REMEMBERED {
            let portless = self.portless(table).next();
            let place = self.orphans.iter().position(|&id| Some(id) == portless).unwrap_or(0);
            self.orphans.remove(place);
        }
    }

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
            name: process.name(),
            reparented_to: process.ppid,
            listening: process.listening.iter().copied().collect(),
        };
        Pattern {
            survivors: alive.iter().map(survivor).collect(),
            advice: self.advice.iter().cloned().collect(),
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
