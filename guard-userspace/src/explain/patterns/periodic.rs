//! A death of one cause at regular times: the beat of a timer, or of a leak that takes so long to fill its limit.

use crate::model::report::{Kind, Pattern, PatternKind};
use crate::model::time::Timestamp;
use crate::model::units::{elapsed, moment};

use super::kept::{self, Kept};
use super::restart_loop::LOOP_GAP_NS;
use super::rhythm::Rhythm;
use super::{AnsweredDeath, Detector, Scene, Subject, pattern};

/// What comes faster than this has no period worth the name.
const SHORTEST_NS: u64 = 1_000_000_000;

/// Periods, by what dies and what it dies of.
#[derive(Debug, Default)]
pub(super) struct Periods {
    periods: Kept<(Subject, String), Period>,
}

#[derive(Debug)]
struct Period {
    rhythm: Rhythm,
    by: Option<String>,
    /// Memory ran out: the beat is how long that takes.
    leaks: bool,
    recognised: bool,
}

impl Detector for Periods {
    fn answered(&mut self, scene: Scene<'_>, answered: &AnsweredDeath<'_>) -> Option<Pattern> {
        if answered.well() || !answered.counts(scene.table) {
            return None;
        }
        let by = answered.by();
        let key = (answered.subject(), answered.cause());
        let leaks = answered.death.cause.kind == Kind::OomKill;
        let at = answered.death.died_at;
        let Some(period) = self.periods.current(&key) else {
            self.periods.open(key, Period { rhythm: Rhythm::new(at), by, leaks, recognised: false });
            return None;
        };
        period.rhythm.beat(at);
        if period.recognised || !has_period(&period.rhythm, period.leaks) {
            return None;
        }
        period.recognised = true;
        Some(period.pattern(&key.0, &key.1))
    }

    fn patterns(&self, _: Scene<'_>) -> Vec<Pattern> {
        self.periods.recognised().map(|((subject, cause), period)| period.pattern(subject, cause)).collect()
    }
}

impl kept::Case for Period {
    fn recognised(&self) -> bool {
        self.recognised
    }

    fn last_at(&self) -> Timestamp {
        self.rhythm.last_at
    }
}

/// A loop says already how often somebody strikes, or starts what ends at once. Where memory runs out each time, the beat
/// itself is the clue.
pub(super) fn has_period(rhythm: &Rhythm, leaks: bool) -> bool {
    let shortest = if leaks { SHORTEST_NS } else { LOOP_GAP_NS };
    rhythm.regular() && rhythm.median_ns().is_some_and(|median| median >= shortest)
}

impl Period {
    fn pattern(&self, subject: &Subject, cause: &str) -> Pattern {
        let Rhythm { count, first_at, last_at, .. } = self.rhythm;
        let median_ns = self.rhythm.median_ns();
        let every = elapsed(median_ns.unwrap_or_default());
        Pattern {
            median_interval_ms: median_ns.map(|ns| ns / 1_000_000),
            trend: self.rhythm.trend(),
            by: self.by.clone(),
            text: format!(
                "{subject} dies every {every} or so and comes back: {count} times since {} UTC, each time {cause}",
                moment(first_at)
            ),
            ..pattern(PatternKind::Periodic, &subject.name, count, (first_at, last_at))
        }
    }
}
