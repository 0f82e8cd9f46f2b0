//! What recurs, or belongs together: found while the deaths are told, and kept when they are forgotten.
//!
//! Each kind is a [`Detector`] in a file of its own. Detectors count and keep little of each case, so their memory is
//! bounded however long the watch: the report may have dropped the first deaths of a loop, the loop still has them.

mod collateral;
mod kept;
mod orphans;
mod periodic;
mod restart_loop;
mod rhythm;
mod spawn_storm;
#[cfg(test)]
mod tests;

use std::fmt::{self, Debug, Display, Formatter};

use crate::model::Header;
use crate::model::report::{Actor, Death, Kind, Pattern, PatternKind, Role, UnitScope};
use crate::model::time::Timestamp;
use crate::model::unit;
use crate::model::want::Want;

use super::case::Case;
use super::causes;
use super::death::Surroundings;
use super::followed::Link;
use super::process::{ProcId, Process};
use super::story::Story;
use super::table::Table;

/// Finds the patterns of one kind.
trait Detector: Debug {
    /// A process of a watched tree was born.
    fn born(&mut self, _scene: Scene<'_>, _child: &Process) -> Option<Pattern> {
        None
    }

    /// A process of a watched tree ended.
    fn ended(&mut self, _scene: Scene<'_>, _process: &Process) -> Option<Pattern> {
        None
    }

    /// A death was answered.
    fn answered(&mut self, _scene: Scene<'_>, _death: &AnsweredDeath<'_>) -> Option<Pattern> {
        None
    }

    /// Time passed, whatever else happened. It may want something read.
    fn passed(&mut self, _scene: Scene<'_>, _wants: &mut Vec<Want>) -> Option<Pattern> {
        None
    }

    /// The watch ends: what was waited for does not come any more.
    fn closed(&mut self, _scene: Scene<'_>) -> Vec<Pattern> {
        Vec::new()
    }

    /// All that it has recognised, as of now.
    fn patterns(&self, scene: Scene<'_>) -> Vec<Pattern>;
}

/// Every kind of pattern, as the report lists them.
fn detectors() -> Vec<Box<dyn Detector>> {
    vec![
        Box::<restart_loop::RestartLoops>::default(),
        Box::<periodic::Periods>::default(),
        Box::<spawn_storm::SpawnStorms>::default(),
        Box::<collateral::Collaterals>::default(),
        Box::<orphans::Orphans>::default(),
    ]
}

/// What a detector may look at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scene<'a> {
    pub(super) header: &'a Header,
    pub(super) table: &'a Table,
    pub(super) now_ns: u64,
}

/// A death that has been answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct AnsweredDeath<'a> {
    pub(super) death: &'a Death,
    pub(super) story: &'a Story,
    pub(super) victim: &'a Process,
    pub(super) surroundings: &'a Surroundings,
}

/// Finds patterns of every kind.
#[derive(Debug)]
pub(super) struct Patterns {
    detectors: Vec<Box<dyn Detector>>,
    /// Recognised and not taken yet.
    news: Vec<Pattern>,
}

impl Default for Patterns {
    fn default() -> Self {
        Self { detectors: detectors(), news: Vec::new() }
    }
}

impl Patterns {
    pub(super) fn born(&mut self, scene: Scene<'_>, child: &Process) {
        self.news.extend(self.detectors.iter_mut().filter_map(|detector| detector.born(scene, child)));
    }

    pub(super) fn ended(&mut self, scene: Scene<'_>, process: &Process) {
        self.news.extend(self.detectors.iter_mut().filter_map(|detector| detector.ended(scene, process)));
    }

    pub(super) fn answered(&mut self, scene: Scene<'_>, death: &AnsweredDeath<'_>) {
        self.news.extend(self.detectors.iter_mut().filter_map(|detector| detector.answered(scene, death)));
    }

    pub(super) fn passed(&mut self, scene: Scene<'_>, wants: &mut Vec<Want>) {
        self.news.extend(self.detectors.iter_mut().filter_map(|detector| detector.passed(scene, wants)));
    }

    pub(super) fn closed(&mut self, scene: Scene<'_>) {
        self.news.extend(self.detectors.iter_mut().flat_map(|detector| detector.closed(scene)));
    }

    /// What was recognised since the last call, each pattern once.
    pub(super) fn take_news(&mut self) -> Vec<Pattern> {
        std::mem::take(&mut self.news)
    }

    /// Everything that was recognised, as of now.
    pub(super) fn all(&self, scene: Scene<'_>) -> Vec<Pattern> {
        self.detectors.iter().flat_map(|detector| detector.patterns(scene)).collect()
    }
}

impl AnsweredDeath<'_> {
    /// It ended by itself, and said that all was well.
    fn well(&self) -> bool {
        self.death.cause.kind == Kind::Exited && self.death.exit.code == Some(0)
    }

    /// It counts where deaths are counted by name: one that was selected; or one below it that nobody's act and nobody
    /// else's end explains, or that its tree lives on without. The rest only went along.
    fn counts(&self, table: &Table) -> bool {
        if self.passed_on(table) {
            return false;
        }
        if self.victim.root {
            return true;
        }
        let tree_lives = || {
            let root = self.victim.tree.and_then(|root| table.get(root));
            root.is_some_and(Process::alive)
        };
        self.death.cause.kind != Kind::Exited
            && self.story.finding.because_of.is_none()
            && (self.death.killer.is_none() || tree_lives())
    }

    /// It only passed on the status of one that counts: nobody killed that one.
    fn passed_on(&self, table: &Table) -> bool {
        let followed = self.story.followed.filter(|followed| followed.link == Link::Status);
        let origin = followed.and_then(|followed| Case::new(table, table.get(followed.origin)?));
        origin.is_some_and(|origin| {
            let finding = causes::examine(&origin);
            finding.kind != Kind::Exited && finding.killer.is_none() && finding.because_of.is_none()
        })
    }

    /// A test or a package script killed it.
    fn scripted(&self) -> bool {
        let mut actors = self.death.killer.iter().chain(self.death.decider());
        actors.any(|actor| matches!(actor.role, Role::TestRunner | Role::PackageScript))
    }

    /// What died: by name, and by service, for two may run one program. A scope or a service that `systemd-run` makes
    /// has another name each time.
    fn subject(&self) -> Subject {
        let unit = self.victim.image.cgroups.as_deref().and_then(unit::service);
        let unit = unit.filter(|unit| !unit.name.starts_with("run-")).map(|unit| unit.name);
        Subject { name: self.death.victim.name.clone(), unit }
    }

    /// What it died of, in the words that follow `each time`.
    fn cause(&self) -> String {
        let death = self.death;
        match (death.cause.kind, self.by(), &death.exit.signal, death.exit.code) {
            (Kind::OomKill, ..) => "killed by the kernel's OOM killer".to_owned(),
            (_, Some(by), ..) => format!("by {by}"),
            (Kind::Crashed, _, Some(signal), _) => format!("crashing with {signal}"),
            (Kind::KilledBySelf, _, Some(signal), _) => format!("sending {signal} to itself"),
            (_, _, Some(signal), _) => format!("of {signal}"),
            (_, _, None, Some(code)) => format!("exiting with code {code}"),
            (_, _, None, None) => "in a way that could not be seen".to_owned(),
        }
    }

    /// Whose act it was, and who started that one, up to who decided it.
    fn by(&self) -> Option<String> {
        self.death.killer.as_ref().map(|killer| line(killer, self.death.decider()))
    }
}

/// What dies again and again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Subject {
    name: String,
    /// The service that it belongs to.
    unit: Option<String>,
}

impl Display for Subject {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.unit {
            Some(unit) => write!(f, "{} in {unit}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// A pattern without what only some kinds have.
fn pattern(
    kind: PatternKind,
    name: &str,
    count: u64,
    (first_at, last_at): (Timestamp, Timestamp),
) -> Pattern {
    Pattern {
        kind,
        name: name.to_owned(),
        count,
        first_at,
        last_at,
        median_interval_ms: None,
        trend: None,
        by: None,
        rates: None,
        relation: None,
        victims: Vec::new(),
        survivors: Vec::new(),
        text: String::new(),
        advice: Vec::new(),
    }
}

/// `pkill < sh < npm run kill-dev < keepalive-dev.sh (argos-dev-monitor.service, user)`, up to who decided it; where
/// that is not one of them, up to the first of its parents that is a service manager.
fn line(killer: &Actor, actor: Option<&Actor>) -> String {
    let pids = || std::iter::once(killer.pid).chain(killer.ancestry.iter().map(|ancestor| ancestor.pid));
    let decided = actor.and_then(|actor| pids().position(|pid| pid == actor.pid));
    let ancestors = killer.ancestry.iter().take_while(|ancestor| ancestor.pid > 1).take(decided.unwrap_or(5));
    let names: Vec<&str> = std::iter::once(killer.name.as_str())
        .chain(ancestors.map(|ancestor| ancestor.name.as_str()))
        .collect();
    let service = killer.unit.as_deref().filter(|unit| unit.ends_with(".service"));
    let service = service.map_or_else(String::new, |unit| match killer.unit_scope {
        Some(UnitScope::User) => format!(" ({unit}, user)"),
        _ => format!(" ({unit})"),
    });
    format!("{}{service}", names.join(" < "))
}

/// `vite (pid 4021), esbuild (pid 4033) and 4 more`
fn list<'a>(labels: impl Iterator<Item = &'a str>, count: u64) -> String {
    const SHOWN: usize = 4;
    let labels: Vec<&str> = labels.take(if count > SHOWN as u64 { SHOWN - 1 } else { SHOWN }).collect();
    let more = count.saturating_sub(labels.len() as u64);
    match (labels.as_slice(), more) {
        (labels, 1..) => format!("{} and {more} more", labels.join(", ")),
        ([before @ .., last], 0) if !before.is_empty() => format!("{} and {last}", before.join(", ")),
        (labels, 0) => labels.concat(),
    }
}

/// `systemd (pid 1)`, however little is known of it.
fn label(table: &Table, id: ProcId) -> Option<String> {
    table.get(id).map(Process::label)
}
