//! Births that outrun deaths in a watched tree.

use std::collections::BTreeMap;

use crate::model::report::{Pattern, PatternKind, Rates};
use crate::model::time::Timestamp;
use crate::model::units::elapsed;

use super::kept::{self, Kept};
use super::{Detector, Scene, label, pattern};
use crate::explain::advice;
use crate::explain::process::{ProcId, Process};

/// A round has so many more births than deaths,
const GROWTH: u64 = 8;
/// in no less than this, for a pool of workers that is started at once is no storm,
const SHORTEST_NS: u64 = 1_000_000_000;
/// and no more, for what grows slowly is none either.
const LONGEST_NS: u64 = 60_000_000_000;
/// More than three deaths for four births are the ups and downs of a build that starts thousands.
const BIRTHS_OF_A_BUILD: u64 = 4;
const DEATHS_OF_A_BUILD: u64 = 3;
/// At the third round in a row, it is a storm.
const ROUNDS: u64 = 3;
/// Parents that are counted in a tree.
const PARENTS: usize = 64;

/// Storms, by the tree they are in.
#[derive(Debug, Default)]
pub(super) struct SpawnStorms {
    trees: Kept<ProcId, Storm>,
}

/// Births and deaths of a tree.
#[derive(Debug)]
struct Storm {
    name: String,
    /// The root of the tree, with its pid.
    root: String,
    /// When it was last looked at, while it is none.
    seen_at: Timestamp,
    round: Round,
    /// Rounds in a row that births won, and what they were together.
    won: u64,
    run: Tally,
    /// Who made the children: how many each.
    parents: BTreeMap<ProcId, u64>,
    /// All runs that were a storm.
    total: Tally,
    /// From the first birth of the first to the last of the last.
    span: Option<(Timestamp, Timestamp)>,
    /// Who made most of them, in words; remembered when its process is not.
    by: Option<String>,
    advice: Option<String>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    births: u64,
    deaths: u64,
    lasted_ns: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.births += other.births;
        self.deaths += other.deaths;
        self.lasted_ns += other.lasted_ns;
    }
}

#[derive(Clone, Copy, Debug)]
struct Round {
    from_ns: u64,
    births: u64,
    deaths: u64,
}

impl Detector for SpawnStorms {
    fn born(&mut self, scene: Scene<'_>, child: &Process) -> Option<Pattern> {
        let (tree, born) = (child.tree?, child.born?);
        let at = |t_ns: u64| scene.header.wall(t_ns);
        if self.trees.current(&tree).is_none() {
            let root = scene.table.get(tree).unwrap_or(child);
            self.trees.open(tree, Storm::new(root, born.t_ns, at(born.t_ns)));
        }
        let storm = self.trees.current(&tree)?;
        storm.seen_at = at(born.t_ns);
        if !storm.birth(born.t_ns, child.parent) {
            return None;
        }
        let known = kept::Case::recognised(storm);
        let began = born.t_ns.saturating_sub(storm.run.lasted_ns);
        storm.span = Some((storm.span.map_or(at(began), |(first, _)| first), at(born.t_ns)));
        storm.by = storm.busiest().and_then(|parent| label(scene.table, parent)).or(storm.by.take());
        storm.advice = scene
            .table
            .get(tree)
            .and_then(|root| advice::stop_all(scene.table, root))
            .or(storm.advice.take());
        (!known).then(|| storm.pattern())
    }

    fn ended(&mut self, _: Scene<'_>, process: &Process) -> Option<Pattern> {
        if let Some(storm) = process.tree.and_then(|tree| self.trees.current(&tree)) {
            storm.round.deaths += 1;
            if storm.round.deaths >= storm.round.births + GROWTH {
                storm.begin_anew(storm.round.from_ns);
            }
        }
        None
    }

    fn patterns(&self, _: Scene<'_>) -> Vec<Pattern> {
        self.trees.recognised().map(|(_, storm)| storm.pattern()).collect()
    }
}

impl kept::Case for Storm {
    fn recognised(&self) -> bool {
        self.span.is_some()
    }

    fn last_at(&self) -> Timestamp {
        self.span.map_or(self.seen_at, |(_, last)| last)
    }
}

impl Storm {
    fn new(root: &Process, t_ns: u64, seen_at: Timestamp) -> Self {
        Self {
            name: root.name(),
            root: root.label(),
            seen_at,
            round: Round { from_ns: t_ns, births: 0, deaths: 0 },
            won: 0,
            run: Tally::default(),
            parents: BTreeMap::new(),
            total: Tally::default(),
            span: None,
            by: None,
            advice: None,
        }
    }

    /// Counts a birth. True when it completes a round of a storm.
    fn birth(&mut self, t_ns: u64, parent: Option<ProcId>) -> bool {
        let mut lasted_ns = t_ns.saturating_sub(self.round.from_ns);
        if lasted_ns > LONGEST_NS {
            self.begin_anew(t_ns);
            lasted_ns = 0;
        }
        self.round.births += 1;
        self.count(parent);
        let Round { births, deaths, .. } = self.round;
        if births < deaths + GROWTH || lasted_ns < SHORTEST_NS {
            return false;
        }
        if deaths * BIRTHS_OF_A_BUILD > births * DEATHS_OF_A_BUILD {
            self.begin_anew(t_ns);
            return false;
        }
        let round = Tally { births, deaths, lasted_ns };
        self.round = Round { from_ns: t_ns, births: 0, deaths: 0 };
        self.won += 1;
        self.run += round;
        match self.won {
            ..ROUNDS => return false,
            ROUNDS => self.total += self.run,
            _ => self.total += round,
        }
        true
    }

    fn begin_anew(&mut self, t_ns: u64) {
        self.round = Round { from_ns: t_ns, births: 0, deaths: 0 };
        (self.won, self.run) = (0, Tally::default());
        self.parents.clear();
    }

    fn count(&mut self, parent: Option<ProcId>) {
        let Some(parent) = parent else { return };
        if self.parents.contains_key(&parent) || self.parents.len() < PARENTS {
            *self.parents.entry(parent).or_default() += 1;
        }
    }

    /// Who made most of the children, if it made at least half of them: where each makes some, none is to blame.
    fn busiest(&self) -> Option<ProcId> {
        let (&parent, &births) = self.parents.iter().max_by_key(|&(_, births)| births)?;
        (births * 2 >= self.run.births).then_some(parent)
    }

    fn pattern(&self) -> Pattern {
        let Tally { births, deaths, lasted_ns } = self.total;
        let per_minute = |count: u64| {
            let rate = u128::from(count) * 60_000_000_000 / u128::from(lasted_ns.max(1));
            u64::try_from(rate).unwrap_or(u64::MAX)
        };
        let rates = Rates {
            births,
            deaths,
            births_per_minute: per_minute(births),
            deaths_per_minute: per_minute(deaths),
        };
        let by = self.by.as_ref().map_or_else(String::new, |by| format!(", mostly by {by},"));
        Pattern {
            by: self.by.clone(),
            rates: Some(rates),
            advice: self.advice.iter().cloned().collect(),
            text: format!(
                "{} starts processes faster than they end: {births} were born{by} and {deaths} ended in {}, {} and {} a \
                 minute",
                self.root,
                elapsed(lasted_ns),
                rates.births_per_minute,
                rates.deaths_per_minute,
            ),
            ..pattern(PatternKind::SpawnStorm, &self.name, births, self.span.unwrap_or_default())
        }
    }
}
