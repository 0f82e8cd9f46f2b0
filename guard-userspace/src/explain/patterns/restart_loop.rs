//! The same program, dying and coming back, never by its own successful exit.

use crate::explain::advice;
use crate::model::report::{Pattern, PatternKind, Trend};
use crate::model::time::Timestamp;
use crate::model::units::elapsed;

use super::kept::{self, Kept};
use super::rhythm::Rhythm;
use super::{AnsweredDeath, Detector, Scene, pattern};

/// Deaths further apart than this are not one loop.
pub(super) const LOOP_GAP_NS: u64 = 600_000_000_000;
/// From the third round on, it is a loop.
const ROUNDS: u64 = 3;

/// Loops, by the name of what dies.
#[derive(Debug, Default)]
pub(super) struct RestartLoops {
    loops: Kept<String, Loop>,
}

#[derive(Debug)]
struct Loop {
    rhythm: Rhythm,
    /// Deaths of those that were started after the first of them had died, and that one. Twenty that fall to one blow
    /// are not twenty rounds.
    rounds: u64,
    /// Who did it, while it was always the same.
    by: Option<String>,
    /// As of the last death.
    advice: Option<String>,
}

impl Detector for RestartLoops {
    fn answered(&mut self, scene: Scene<'_>, answered: &AnsweredDeath<'_>) -> Option<Pattern> {
        if !answered.counts(scene.table) {
            return None;
        }
        let name = &answered.death.victim.name;
        if answered.well() {
            self.loops.close(name);
            return None;
        }
        let at = answered.death.died_at;
        let Some(known) = self.loops.current(name).filter(|known| known.rhythm.since(at) <= LOOP_GAP_NS)
        else {
            self.loops.open(
                name.clone(),
                Loop { rhythm: Rhythm::new(at), rounds: 1, by: answered.by(), advice: None },
            );
            return None;
        };
        let recognised = kept::Case::recognised(known);
        known.rhythm.beat(at);
        known.rounds +=
            u64::from(answered.death.victim.started_at.is_none_or(|start| start > known.rhythm.first_at));
        known.by = known.by.take().filter(|by| Some(by) == answered.by().as_ref());
        known.advice = advice::restarts(scene.table, answered.victim, known.rhythm.median_ns());
        (!recognised && kept::Case::recognised(known)).then(|| known.pattern(name))
    }

    fn patterns(&self, _: Scene<'_>) -> Vec<Pattern> {
        self.loops.recognised().map(|(name, known)| known.pattern(name)).collect()
    }
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
    fn pattern(&self, name: &str) -> Pattern {
        let Rhythm { count, first_at, last_at, .. } = self.rhythm;
        let median_ns = self.rhythm.median_ns();
        let trend = self.rhythm.trend();
        let every = median_ns.map_or_else(String::new, |ns| format!(", every {} or so", elapsed(ns)));
        let changing = match trend {
            Some(Trend::Faster) => " and faster and faster",
            Some(Trend::Slower) => " and slower and slower",
            Some(Trend::Steady) | None => "",
        };
        let each = self.by.as_ref().map_or_else(String::new, |by| format!(", each time by {by}"));
        let span = elapsed(self.rhythm.span_ns());
        Pattern {
            median_interval_ms: median_ns.map(|ns| ns / 1_000_000),
            trend,
            by: self.by.clone(),
            advice: self.advice.iter().cloned().collect(),
            text: format!("{name} died {count} times in {span}{every}{changing}{each}"),
            ..pattern(PatternKind::RestartLoop, name, count, (first_at, last_at))
        }
    }
}
