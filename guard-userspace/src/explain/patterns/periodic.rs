//! A death of one cause at regular times: the beat of a timer, or of a leak that takes so long to fill its limit.

use crate::model::report::{Death, Kind, Pattern, PatternKind};
use crate::model::time::Timestamp;
use crate::model::units::{elapsed, moment};

use super::kept::{self, Kept};
use super::restart_loop::LOOP_GAP_NS;
use super::rhythm::Rhythm;
use super::{AnsweredDeath, Detector, Scene, pattern};

/// What comes faster than this has no period worth the name.
const SHORTEST_NS: u64 = 1_000_000_000;

/// Periods, by the name of what dies and what it dies of.
#[derive(Debug, Default)]
pub(super) struct Periods {
    periods: Kept<(String, String), Period>,
}

#[derive(Debug)]
struct Period {
    rhythm: Rhythm,
    by: Option<String>,
    recognised: bool,
}

impl Detector for Periods {
    fn answered(&mut self, scene: Scene<'_>, answered: &AnsweredDeath<'_>) -> Option<Pattern> {
        if answered.well() || !answered.counts(scene.table) {
            return None;
        }
        let by = answered.by();
        let key = (answered.death.victim.name.clone(), cause(answered.death, by.as_deref()));
        let at = answered.death.died_at;
        let Some(period) = self.periods.current(&key) else {
            self.periods.open(key, Period { rhythm: Rhythm::new(at), by, recognised: false });
            return None;
        };
        period.rhythm.beat(at);
        if period.recognised || !period.is_one() {
            return None;
        }
        period.recognised = true;
        Some(period.pattern(&key.0, &key.1))
    }

    fn patterns(&self, _: Scene<'_>) -> Vec<Pattern> {
        self.periods.recognised().map(|((name, cause), period)| period.pattern(name, cause)).collect()
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

impl Period {
    /// A loop says already how often somebody strikes. Where nobody does, the beat itself is the clue.
    fn is_one(&self) -> bool {
        let shortest = if self.by.is_some() { LOOP_GAP_NS } else { SHORTEST_NS };
        self.rhythm.regular() && self.rhythm.median_ns().is_some_and(|median| median >= shortest)
    }

    fn pattern(&self, name: &str, cause: &str) -> Pattern {
        let Rhythm { count, first_at, last_at, .. } = self.rhythm;
        let median_ns = self.rhythm.median_ns();
        let every = elapsed(median_ns.unwrap_or_default());
        Pattern {
            median_interval_ms: median_ns.map(|ns| ns / 1_000_000),
            trend: self.rhythm.trend(),
            by: self.by.clone(),
            text: format!(
                "{name} dies every {every} or so: {count} times since {} UTC, each time {cause}",
                moment(first_at)
            ),
            ..pattern(PatternKind::Periodic, name, count, (first_at, last_at))
        }
    }
}

/// What it died of, in the words that follow `each time`.
fn cause(death: &Death, by: Option<&str>) -> String {
    match (death.cause.kind, by, &death.exit.signal, death.exit.code) {
        (Kind::OomKill, ..) => "killed by the kernel's OOM killer".to_owned(),
        (_, Some(by), ..) => format!("by {by}"),
        (Kind::Crashed, _, Some(signal), _) => format!("crashing with {signal}"),
        (_, _, Some(signal), _) => format!("of {signal}"),
        (_, _, None, Some(code)) => format!("exiting with code {code}"),
        (_, _, None, None) => "in a way that could not be seen".to_owned(),
    }
}
