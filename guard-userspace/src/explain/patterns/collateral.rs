//! Deaths that belong together: one that took many along, or many that fell to one.

use std::collections::{BTreeSet, VecDeque};

use crate::model::report::{Pattern, PatternKind, ProcessRef, Relation};
use crate::model::time::Timestamp;
use crate::model::units::{counted, elapsed};

use super::kept::{self, Kept};
use super::{AnsweredDeath, Detector, Scene, label, list, pattern};
use crate::explain::followed::Link;
use crate::explain::process::{ProcId, Process};
use crate::explain::table::Table;

/// From the third victim on, they are many.
const MANY: u64 = 3;
/// A sender that strikes again after this begins another round.
const ROUND_NS: u64 = 10_000_000_000;
/// Of what it started itself: a browser that closes one tab after the other does nothing remarkable.
const OWN_ROUND_NS: u64 = 1_000_000_000;
/// Victims that are named.
const NAMED: usize = 32;
/// Members of an incident, and deaths that followed from others, that are remembered.
const REMEMBERED: usize = 256;

/// Whose end, or whose act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    Death(ProcId),
    Sender(ProcId),
}

/// Incidents, by what began them.
#[derive(Debug, Default)]
pub(super) struct Collaterals {
    incidents: Kept<Origin, Incident>,
    /// Who died because of whom, the last of them: a death may take along one that takes along others.
    followed: VecDeque<(ProcId, ProcId)>,
}

#[derive(Debug)]
struct Incident {
    /// Whose doing it was, as it was called then.
    label: String,
    name: String,
    by: Option<String>,
    count: u64,
    first_at: Timestamp,
    last_at: Timestamp,
    victims: Vec<ProcessRef>,
    labels: Vec<String>,
    members: BTreeSet<ProcId>,
    relation: Relation,
    /// It was a test's or a package script's doing.
    scripted: bool,
    /// Of some, only order and time say that they belong to it.
    likely: bool,
}

impl Detector for Collaterals {
    fn answered(&mut self, scene: Scene<'_>, answered: &AnsweredDeath<'_>) -> Option<Pattern> {
        let finding = &answered.story.finding;
        let lost = answered.story.followed.filter(|followed| followed.link == Link::Time);
        let origin = match (finding.because_of.or(lost.map(|lost| lost.origin)), answered.story.killer) {
            (Some(origin), _) => Origin::Death(self.beginning(origin, answered.victim.id)),
            (None, Some(killer)) if killer != answered.victim.id => Origin::Sender(killer),
            _ => return None,
        };
        let (Origin::Death(one) | Origin::Sender(one)) = origin;
        let own = origin == Origin::Sender(one) && started(scene.table, one, answered.victim);
        // Whoever kills the group of what it started means all of it, and each death says so.
        if own && answered.story.shared_act.is_some() {
            return None;
        }
        let round_ns = if own { OWN_ROUND_NS } else { ROUND_NS };
        let at = answered.death.died_at;
        let goes_on = |incident: &mut Incident| match origin {
            Origin::Death(_) => true,
            // Whoever was started since then is not of the same round: a manager that kills each child that it starts.
            Origin::Sender(_) => {
                at.0.abs_diff(incident.last_at.0) <= round_ns
                    && answered.death.victim.started_at.is_none_or(|start| start <= incident.first_at)
            }
        };
        if !self.incidents.current(&origin).is_some_and(goes_on) {
            let process = scene.table.get(one)?;
            let by = answered.by();
            self.incidents.open(origin, Incident::new(process, by, at));
        }
        let incident = self.incidents.current(&origin)?;
        let recognised = kept::Case::recognised(incident);
        incident.add(scene.table, one, answered);
        (!recognised && kept::Case::recognised(incident)).then(|| incident.pattern(origin))
    }

    fn patterns(&self, _: Scene<'_>) -> Vec<Pattern> {
        self.incidents.recognised().map(|(&origin, incident)| incident.pattern(origin)).collect()
    }
}

impl Collaterals {
    /// The first of the deaths that this one followed from.
    fn beginning(&mut self, origin: ProcId, victim: ProcId) -> ProcId {
        let first =
            self.followed.iter().rev().find(|(died, _)| *died == origin).map_or(origin, |(_, first)| *first);
        if self.followed.len() == REMEMBERED {
            self.followed.pop_front();
        }
        self.followed.push_back((victim, first));
        first
    }
}

impl kept::Case for Incident {
    fn recognised(&self) -> bool {
        self.count >= MANY
    }

    fn last_at(&self) -> Timestamp {
        self.last_at
    }
}

impl Incident {
    fn new(origin: &Process, by: Option<String>, at: Timestamp) -> Self {
        Self {
            label: origin.label(),
            name: origin.name(),
            by,
            count: 0,
            first_at: at,
            last_at: at,
            victims: Vec::new(),
            labels: Vec::new(),
            members: BTreeSet::new(),
            relation: Relation::default(),
            scripted: false,
            likely: false,
        }
    }

    fn add(&mut self, table: &Table, origin: ProcId, answered: &AnsweredDeath<'_>) {
        if self.members.len() < REMEMBERED && !self.members.insert(answered.victim.id) {
            return;
        }
        let relation =
            table.get(origin).map(|origin| relation(table, origin, answered.victim)).unwrap_or_default();
        self.relation = if self.count == 0 { relation } else { common(self.relation, relation) };
        self.count += 1;
        self.likely |= answered.story.followed.is_some();
        self.scripted |= answered.scripted();
        self.last_at = self.last_at.max(answered.death.died_at);
        if self.victims.len() < NAMED {
            let (pid, comm) = (answered.death.victim.pid, answered.death.victim.comm.clone());
            self.victims.push(ProcessRef { pid, comm });
            self.labels.extend(label(table, answered.victim.id));
        }
    }

    /// Whoever tidies up after itself knows what it has started.
    fn advice(&self, origin: Origin) -> Option<String> {
        let foreign = matches!(origin, Origin::Sender(_)) && self.relation.same_tree == Some(false);
        (foreign && self.scripted).then(|| {
            format!(
                "{} had not started what it killed: let it keep the pids, or the process group, of what it starts, and \
                 kill only these.",
                self.label
            )
        })
    }

    fn pattern(&self, origin: Origin) -> Pattern {
        let victims = list(self.labels.iter().map(String::as_str), self.count);
        let many = counted(self.count, "process", "processes");
        let span = elapsed(u64::try_from(self.last_at.0.saturating_sub(self.first_at.0)).unwrap_or(0));
        let text = match origin {
            Origin::Death(_) => {
                let by = self.by.as_ref().filter(|by| **by != self.name);
                let by = by.map_or_else(String::new, |by| format!("; the killer was {by}"));
                let took = if self.likely { "very likely took" } else { "took" };
                format!("the end of {} {took} {many} along: {victims}{by}", self.label)
            }
            Origin::Sender(_) => {
                format!("{} ended {many} within {span}: {victims}{}", self.label, words(self.relation))
            }
        };
        Pattern {
            by: self.by.clone(),
            relation: Some(self.relation),
            victims: self.victims.clone(),
            advice: self.advice(origin).into_iter().collect(),
            text,
            ..pattern(PatternKind::Collateral, &self.name, self.count, (self.first_at, self.last_at))
        }
    }
}

/// What a process was to one that it ended.
fn relation(table: &Table, origin: &Process, victim: &Process) -> Relation {
    let same = |one: Option<u32>, other: Option<u32>| Some(one? == other?);
    let started = started(table, origin.id, victim);
    let tree = origin.tree.is_some() && origin.tree == victim.tree;
    Relation {
        same_tree: Some(tree || started),
        same_user: same(origin.image.uid, victim.image.uid),
        same_session: same(origin.image.sid, victim.image.sid),
    }
}

/// It started the victim, or who started that. Everything descends from init.
fn started(table: &Table, origin: ProcId, victim: &Process) -> bool {
    table.get(origin).is_some_and(|origin| origin.tgid > 1) && table.is_ancestor(origin, victim.id)
}

/// What is true of all.
fn common(one: Relation, other: Relation) -> Relation {
    let both = |one: Option<bool>, other: Option<bool>| one.filter(|_| one == other);
    Relation {
        same_tree: both(one.same_tree, other.same_tree),
        same_user: both(one.same_user, other.same_user),
        same_session: both(one.same_session, other.same_session),
    }
}

/// `, none of which it had started, of the same user, in other sessions`
fn words(relation: Relation) -> String {
    let Relation { same_tree, same_user, same_session } = relation;
    let tree = match same_tree {
        Some(false) => ", none of them of its own tree",
        Some(true) => ", all of its own tree",
        None => "",
    };
    let user = match same_user {
        Some(true) if same_tree != Some(true) => ", of the same user",
        Some(false) => ", of another user",
        _ => "",
    };
    let session = match same_session {
        Some(false) => ", in another session",
        Some(true) if same_tree != Some(true) => ", in the same session",
        _ => "",
    };
    format!("{tree}{user}{session}")
}
