//! The same program, dying and coming back, never by its own successful exit.

use std::rc::Rc;

use crate::explain::advice;
use crate::explain::process::Process;
use crate::explain::table::Table;
use crate::model::report::{Kind, Pattern, PatternKind, Trend};
use crate::model::time::Timestamp;
use crate::model::units::elapsed;

use super::kept::{self, Kept};
use super::periodic;
use super::rhythm::Rhythm;
use super::{AnsweredDeath, Detector, Scene, Subject, pattern};

/// Deaths further apart than this are not one loop.
pub(super) const LOOP_GAP_NS: u64 = 600_000_000_000;
/// From the third round on, it is a loop.
const ROUNDS: u64 = 3;

/// Loops, by what dies.
#[derive(Debug, Default)]
pub(super) struct RestartLoops {
    loops: Kept<Subject, Loop>,
}

#[derive(Debug)]
struct Loop {
    rhythm: Rhythm,
    /// Deaths of those that took the place of one that had died, and the first. Twenty that fall to one blow are not
    /// twenty rounds.
    rounds: u64,
    /// What the last of them was started with.
    command: Option<Rc<[String]>>,
    /// Who did it, while it was always the same.
    by: Option<String>,
    /// What they died of, while it was always the same.
    cause: Option<String>,
    /// Memory ran out each time.
    leaks: bool,
    /// At regular times, which is told as a period.
    periodic: bool,
    /// As of the last death.
    advice: Option<String>,
}

impl Detector for RestartLoops {
    fn answered(&mut self, scene: Scene<'_>, answered: &AnsweredDeath<'_>) -> Option<Pattern> {
        if !answered.counts(scene.table) {
            return None;
        }
        let subject = answered.subject();
        if answered.well() {
            self.loops.close(&subject);
            return None;
        }
        let at = answered.death.died_at;
        let command = answered.victim.image.cmdline.clone();
        let Some(known) = self.loops.current(&subject).filter(|known| known.rhythm.since(at) <= LOOP_GAP_NS)
        else {
            let first = Loop {
                rhythm: Rhythm::new(at),
                rounds: 1,
                command,
                by: answered.by(),
                cause: Some(answered.cause()),
                leaks: answered.death.cause.kind == Kind::OomKill,
                periodic: false,
                advice: None,
            };
            self.loops.open(subject, first);
            return None;
        };
        let recognised = kept::Case::recognised(known);
        let later = answered.death.victim.started_at.is_none_or(|start| start > known.rhythm.first_at);
        let again = command.is_some() && command == known.command;
        known.rounds += u64::from(later && (again || alone(scene.table, answered.victim)));
        known.rhythm.beat(at);
        known.command = command;
        known.by = known.by.take().filter(|by| Some(by) == answered.by().as_ref());
        known.cause = known.cause.take().filter(|cause| *cause == answered.cause());
        known.leaks &= answered.death.cause.kind == Kind::OomKill;
        known.periodic |= periodic::has_period(&known.rhythm, known.leaks);
        known.advice = advice::restarts(scene.table, answered.victim, known.rhythm.median_ns());
        (!recognised && kept::Case::recognised(known)).then(|| known.pattern(&subject))
    }

    fn patterns(&self, _: Scene<'_>) -> Vec<Pattern> {
        let loops = self.loops.recognised().filter(|(_, known)| !(known.leaks && known.periodic));
        loops.map(|(subject, known)| known.pattern(subject)).collect()
    }
}

/// No other of its name, of the same parent, was alive when it was started: it has nobody's place but that of one who
/// had died. The pages of a browser come and go beside each other, each with arguments of its own.
fn alone(table: &Table, victim: &Process) -> bool {
    const LOOKED_AT: usize = 512;
    let Some((parent, start_ns)) = victim.parent.and_then(|parent| table.get(parent)).zip(victim.start_ns)
    else {
        return true;
    };
    let others = parent.children.iter().rev().take(LOOKED_AT).filter(|&&id| id != victim.id);
    !others.filter_map(|&id| table.get(id)).any(|other| {
        other.start_ns.is_some_and(|start| start < start_ns)
            && other.ending.is_none_or(|ending| ending.at.t_ns > start_ns)
            && other.name() == victim.name()
    })
}

impl kept::Case for Loop {
    fn recognised(&self) -> bool {
        self.rounds >= ROUNDS
    }

    fn last_at(&self) -> Timestamp {
        self.rhythm.last_at
    }
}

impl Loop {
    fn pattern(&self, subject: &Subject) -> Pattern {
        let Rhythm { count, first_at, last_at, .. } = self.rhythm;
        let median_ns = self.rhythm.median_ns();
        let trend = self.rhythm.trend();
        let every = median_ns.map_or_else(String::new, |ns| format!(", every {} or so", elapsed(ns)));
        let changing = match trend {
            Some(Trend::Faster) => " and faster and faster",
            Some(Trend::Slower) => " and slower and slower",
            Some(Trend::Steady) | None => "",
        };
        let each = self.cause.as_ref().map_or_else(String::new, |cause| format!(", each time {cause}"));
        let span = elapsed(self.rhythm.span_ns());
        Pattern {
            median_interval_ms: median_ns.map(|ns| ns / 1_000_000),
            trend,
            by: self.by.clone(),
            advice: self.advice.iter().cloned().collect(),
            text: format!("{subject} died {count} times in {span}{every}{changing}{each}"),
            ..pattern(PatternKind::RestartLoop, &subject.name, count, (first_at, last_at))
        }
    }
}
