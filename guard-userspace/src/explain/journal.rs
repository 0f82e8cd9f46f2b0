//! What the systemd journal says of a death: a witness, heard when the verdict stands. Its silence changes nothing.
//!
//! A line counts if journald has it from the very process that acted (its pid, from the kernel), about that time, and
//! about that victim or that unit.

use std::collections::{BTreeSet, VecDeque};

use crate::model::event::Cgroups;
use crate::model::journal::{Entry, Query, Writer};
use crate::model::report::{Death, JournalLine, Kind, ProcessRef, Role, What};
use crate::model::{Event, unit};

use super::process::{Mark, Process};
use super::service::{is_systemd, managed_unit};
use super::story::Story;
use super::table::Table;
use super::{Explainer, actors};

/// How long before the act a daemon may have said what it was about to do, and a manager that time was up.
const BEFORE_NS: u64 = 1_000_000_000;
/// What has not been said by then is not about this.
const AFTER_NS: u64 = 10_000_000_000;

/// Deaths of which the journal may still tell.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    open: VecDeque<Open>,
}

/// What is a line about a death.
#[derive(Debug)]
struct Open {
    death: u64,
    queries: Vec<Query>,
    died_ns: u64,
    /// Those that the killer may name.
    struck: BTreeSet<u32>,
    cgroups: Vec<String>,
    heard: Vec<(u64, String)>,
    /// The manager has had its last word.
    over: bool,
}

impl Explainer {
    /// Adds a line to the deaths that it is about. They have been answered: it cannot change an answer.
    pub(super) fn journal(&mut self, event: &Event, entry: &Entry) {
        let about = self.hearing.hear(entry);
        let writer = ProcessRef { pid: entry.writer.pid, comm: entry.comm.clone().unwrap_or_default() };
        let line = JournalLine {
            t: self.header.wall(entry.at_boottime_ns),
            event: event.id,
            writer: writer.clone(),
            text: entry.text.clone(),
        };
        for id in about {
            let Some(record) = self.deaths.iter_mut().rev().find(|record| record.death.id == id) else {
                continue;
            };
            let what = What::Journal { writer: writer.clone(), text: entry.text.clone() };
            self.timeline.add(Mark { id: event.id, t_ns: entry.at_boottime_ns }, what);
            record.death.journal.push(line.clone());
            record.death.journal.sort_by_key(|line| line.t);
            self.heard.entry(id).or_default().push(line.clone());
        }
    }

    /// What the journal has said since the last call, of deaths that have been told.
    pub fn take_journal(&mut self) -> Vec<(Death, Vec<JournalLine>)> {
        let heard = std::mem::take(&mut self.heard);
        let death = |id| self.deaths.iter().find(|record| record.death.id == id);
        heard.into_iter().filter_map(|(id, lines)| Some((death(id)?.death.clone(), lines))).collect()
    }

    /// It is the journalctl that answers killtrace's own questions, not one that killtrace was to run.
    pub(super) fn asks_the_journal(&self, process: &Process) -> bool {
        let parent = process.parent.and_then(|parent| self.table.get(parent));
        parent.is_some_and(|parent| self.table.is_own(parent))
            && process.comm.to_text() == "journalctl"
            && !self.selectors.pids.contains(&process.tgid)
    }
}

impl Hearing {
    const KEPT: usize = 256;
    /// Most lines of one death.
    const LINES: usize = 8;

    /// Opens it for a death, and tells what to ask; nothing where nobody writes to the journal about it.
    pub(super) fn open(&mut self, table: &Table, victim: &Process, story: &Story, death: u64) -> Vec<Query> {
        let Some(died_ns) = victim.ending.map(|ending| ending.at.t_ns) else { return Vec::new() };
        let acted_ns = story.service.as_ref().map_or(story.act_at, |service| Some(service.asked.1));
        let from_ns = acted_ns.map_or(died_ns, |at| at.t_ns).min(died_ns).saturating_sub(BEFORE_NS);
        // Before that, it was another life of the unit.
        let since_boottime_ns = from_ns.max(victim.start_ns.unwrap_or(0));
        let query = |process: &Process, unit| Query { writer: writer(process), unit, since_boottime_ns };
        let daemon =
            story.killer(table).filter(|killer| actors::role(table, killer, victim) == Role::OomDaemon);
        let manager = manager(table, victim, story);
        let queries: Vec<Query> = daemon
            .as_deref()
            .map(|daemon| query(daemon, None))
            .into_iter()
            .chain(manager.and_then(|manager| Some(query(manager, Some(managed_unit(manager, victim)?)))))
            .collect();
        if queries.is_empty() {
            return queries;
        }
        if self.open.len() == Self::KEPT {
            self.open.pop_front();
        }
        let cast = story.cast.iter().filter(|&&id| Some(id) != story.killer).filter_map(|&id| table.get(id));
        // A daemon knows those by the pids that they have where it lives.
        let inside = daemon.is_some_and(|daemon| daemon.ns_tgid.is_some());
        let (mut struck, mut cgroups) = (BTreeSet::new(), Vec::new());
        for process in cast {
            struck.insert(process.ns_tgid.filter(|_| inside).unwrap_or(process.tgid));
            let known = process.image.cgroups.as_deref();
            let paths = known.map(|Cgroups { v2, systemd, .. }| [v2, systemd]);
            cgroups.extend(paths.into_iter().flatten().flatten().cloned());
        }
        let (heard, over) = (Vec::new(), false);
        self.open.push_back(Open { death, queries: queries.clone(), died_ns, struck, cgroups, heard, over });
        queries
    }

    /// The deaths that this line is about.
    pub(super) fn hear(&mut self, entry: &Entry) -> Vec<u64> {
        self.open.iter_mut().filter_map(|open| open.hear(entry).then_some(open.death)).collect()
    }
}

impl Open {
    fn hear(&mut self, entry: &Entry) -> bool {
        let asked = |query: &&Query| {
            query.writer == entry.writer && (query.unit.is_none() || query.unit == entry.unit)
        };
        let Some(query) = self.queries.iter().find(asked) else { return false };
        let at_ns = entry.at_boottime_ns;
        let said = (at_ns, entry.text.clone());
        let in_time = at_ns >= query.since_boottime_ns && at_ns <= self.died_ns.saturating_add(AFTER_NS);
        if !in_time || self.heard.contains(&said) || self.heard.len() == Hearing::LINES {
            return false;
        }
        let about = if query.unit.is_some() {
            let over = self.over;
            self.over |= entry.is_result() && at_ns >= self.died_ns;
            !over && entry.is_remarkable()
        } else {
            let cgroups: Vec<&str> = self.cgroups.iter().map(String::as_str).collect();
            self.struck.iter().any(|&pid| entry.tells_of(pid, &cgroups))
        };
        if about {
            self.heard.push(said);
        }
        about
    }
}

/// The systemd that has something to say about this: it ended it, or it is told of its end, as the parent of main
/// processes and the one that counts the OOM kills of its units.
fn manager<'a>(table: &'a Table, victim: &'a Process, story: &Story) -> Option<&'a Process> {
    if story.service.is_some() {
        return table.get(story.killer?);
    }
    unit::service(victim.image.cgroups.as_deref()?)?;
    let above = table.ancestors(victim.id).find(|process| is_systemd(process))?;
    let told = victim.parent == Some(above.id) || story.finding.kind == Kind::OomKill;
    let well = story.finding.kind == Kind::Exited
        && victim.ending.and_then(|ending| ending.status).is_some_and(|status| status.0 == 0);
    (told && !well).then_some(above)
}

/// As the journal of its PID namespace knows it.
fn writer(process: &Process) -> Writer {
    match process.ns_tgid {
        Some(pid) => Writer { pid, root_of: Some(process.tgid) },
        None => Writer { pid: process.tgid, root_of: None },
    }
}
