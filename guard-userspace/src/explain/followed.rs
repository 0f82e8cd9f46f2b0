//! Who exits by itself because another has died, though no event of the kernel links the two: a wrapper that passes its
//! child's status on, or a process that has lost one that it worked with. Only order and time say so, which makes a likely
//! reason and never more.

use crate::model::report::Kind;

use super::case::Case;
use super::causes::Finding;
use super::process::{Mark, ProcId, Process};
use super::table::Table;

/// npm and its like have their own end to write down before they pass a status on.
pub(super) const HANDED_ON_NS: u64 = 5_000_000_000;
/// A socket that closes is noticed at once.
const LOST_NS: u64 = 1_000_000_000;

/// What links an exit to the death before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// It ended with the status of what it had started.
    Status,
    /// Another of its tree died of a signal right before.
    Time,
}

/// The death that an exit followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Followed {
    pub origin: ProcId,
    pub link: Link,
    /// The end of the origin.
    pub end: Mark,
}

/// The death that this exit followed; `None` for those that ended well, or were ended.
#[must_use]
pub(super) fn followed(case: &Case<'_>, finding: &Finding) -> Option<Followed> {
    let code = case.exit_code().filter(|&code| code != 0 && finding.kind == Kind::Exited)?;
    passed_on(case, code).or_else(|| lost(case))
}

/// From parent to child down to the first that ended with this status.
fn passed_on(case: &Case<'_>, code: i32) -> Option<Followed> {
    let mut found = None;
    let mut at = *case;
    // A command line of wrappers is not longer.
    for _ in 0..16 {
        let children = at.victim.children.iter().filter_map(|&id| case.table.get(id));
        let ended = children.filter_map(|child| Case::new(case.table, child)).filter(|child| {
            shell_status(child) == Some(code)
                && before(child, case, HANDED_ON_NS)
                && before(child, &at, HANDED_ON_NS)
        });
        let Some(child) = ended.max_by_key(|child| child.ending.at.t_ns) else { break };
        found = Some(Followed { origin: child.victim.id, link: Link::Status, end: child.ending.at });
        at = child;
    }
    found
}

/// The nearest of its tree that died of a signal; not by its own hand or that of whoever had started it.
fn lost(case: &Case<'_>) -> Option<Followed> {
    let (table, victim) = (case.table, case.victim);
    let tree = victim.tree?;
    let near = |other: &&Process| other.tree == Some(tree) && other.id != victim.id;
    let cases = table.iter().filter(near).filter_map(|other| Case::new(table, other));
    cases
        .filter(|other| other.death_signal().is_some() && before(other, case, LOST_NS))
        // Whoever asked for memory when the OOM killer struck did nothing.
        .filter(|other| {
            other.victim.history.oom.is_some() || other.current().is_none_or(|by| !rules(table, by, victim))
        })
        .max_by_key(|other| (closeness(other.victim, victim), other.ending.at.t_ns))
        .map(|other| Followed { origin: other.victim.id, link: Link::Time, end: other.ending.at })
}

/// It is the process, or one that started it.
fn rules(table: &Table, by: &Process, victim: &Process) -> bool {
    by.id == victim.id || table.is_ancestor(by.id, victim.id)
}

/// Parent or child, then brothers and sisters, then the rest of the tree.
fn closeness(other: &Process, victim: &Process) -> u8 {
    match (other.parent, victim.parent) {
        (parent, _) if parent == Some(victim.id) => 2,
        (_, parent) if parent == Some(other.id) => 2,
        (Some(one), Some(two)) if one == two => 1,
        _ => 0,
    }
}

fn before(other: &Case<'_>, case: &Case<'_>, within_ns: u64) -> bool {
    case.ending.at.t_ns.checked_sub(other.ending.at.t_ns).is_some_and(|after| after <= within_ns)
}

/// What a shell prints as `$?`.
fn shell_status(case: &Case<'_>) -> Option<i32> {
    case.exit_code().or(case.death_signal().map(|signo| 128 + signo.0))
}
