//! The events that a report shows: the watched trees' lives, and whatever an answer rests on.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::header::Header;
use crate::model::report::{Death, ExitStatus, ProcessRef, TimelineEntry, What};
use crate::model::signal::code_name;

use super::history::SignalRun;
use super::process::{Mark, Process};
use super::table::Table;

/// Entries by event id. Bounded: the oldest that no answer rests on go first.
#[derive(Debug, Default)]
pub struct Timeline {
    entries: BTreeMap<u64, (u64, What)>,
    evidence: BTreeSet<u64>,
    omitted: u64,
}

impl Timeline {
    const LIMIT: usize = 20_000;
    /// How far from the oldest a spare one is looked for: where all is evidence, the oldest goes.
    const LOOKED_AT: usize = 64;

    pub fn add(&mut self, at: Mark, what: What) {
        self.entries.insert(at.id, (at.t_ns, what));
        if self.entries.len() > Self::LIMIT {
            let spare =
                self.entries.keys().take(Self::LOOKED_AT).find(|id| !self.evidence.contains(id)).copied();
            if let Some(id) = spare.or_else(|| self.entries.keys().next().copied()) {
                self.entries.remove(&id);
                self.evidence.remove(&id);
                self.omitted += 1;
            }
        }
    }

    /// Marks entries that an answer rests on.
    pub fn keep(&mut self, ids: impl IntoIterator<Item = u64>) {
        self.evidence.extend(ids);
    }

    /// The entries that an answer rests on, in time order.
    #[must_use]
    pub fn of(&self, header: &Header, death: &Death) -> Vec<TimelineEntry> {
        let entry = |&id: &u64| {
            let (t_ns, what) = self.entries.get(&id)?;
            Some(TimelineEntry { id, t: header.wall(*t_ns), t_ns: *t_ns, what: what.clone() })
        };
        let mut entries: Vec<_> = death.evidence.iter().filter_map(entry).collect();
        entries.sort_by_key(|entry| (entry.t_ns, entry.id));
        entries
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.evidence.clear();
    }

    pub fn fork(&mut self, child: &Process, table: &Table) {
        let Some(at) = child.born else { return };
        let parent = child.parent.and_then(|id| table.get(id)).map(reference);
        self.add(at, What::Fork { parent, child: reference(child) });
    }

    pub fn exec(&mut self, process: &Process) {
        let (Some(at), Some(path)) = (process.exec, process.exec_path.as_deref()) else { return };
        let cmdline = process.image.cmdline.as_deref().map(<[String]>::to_vec);
        self.add(at, What::Exec { process: reference(process), path: path.to_owned(), cmdline });
    }

    pub fn signal(&mut self, target: &Process, run: &SignalRun, table: &Table) {
        self.add(run.first, signal_entry(target, run, table));
    }

    pub fn oom_victim(&mut self, process: &Process, table: &Table) {
        let Some(mark) = process.history.oom else { return };
        let allocating_task = mark.current.and_then(|id| table.get(id)).map(reference);
        self.add(mark.at, What::OomVictim { process: reference(process), allocating_task });
    }

    pub fn taken(&mut self, process: &Process) {
        if let Some(taken) = process.history.taken {
            let signal = taken.signo.to_string();
            self.add(taken.at, What::Taken { signal, process: reference(process) });
        }
    }

    pub fn exit(&mut self, process: &Process, exit: ExitStatus) {
        if let Some(ending) = process.ending {
            self.add(ending.at, What::Exit { process: reference(process), exit });
        }
    }

    /// The entries in time order, those of `alive` processes' signals included.
    #[must_use]
    pub fn entries(&self, header: &Header, alive: &[&Process], table: &Table) -> Vec<TimelineEntry> {
        let entry = |id: u64, t_ns: u64, what: What| TimelineEntry { id, t: header.wall(t_ns), t_ns, what };
        let mut all: Vec<TimelineEntry> =
            self.entries.iter().map(|(&id, (t_ns, what))| entry(id, *t_ns, what.clone())).collect();
        for process in alive {
            for run in &process.history.runs {
                all.push(entry(run.first.id, run.first.t_ns, signal_entry(process, run, table)));
            }
        }
        all.sort_by_key(|entry| (entry.t_ns, entry.id));
        all.dedup_by_key(|entry| entry.id);
        all
    }

    #[must_use]
    pub fn omitted(&self) -> u64 {
        self.omitted
    }
}

fn signal_entry(target: &Process, run: &SignalRun, table: &Table) -> What {
    let from = run.current.and_then(|id| table.get(id)).map(|process| ProcessRef {
        pid: process.tgid,
        comm: if run.current_comm.is_empty() { process.comm } else { run.current_comm }.to_text(),
    });
    What::Signal {
        signal: run.signo.to_string(),
        code: code_name(run.signo, run.code),
        via: run.syscall.map(|syscall| syscall.call),
        from,
        to: reference(&target.as_of(run.first.t_ns)),
        result: run.result,
        count: run.count,
        handled: run.handled,
        last_t_ns: run.last.t_ns,
    }
}

/// A process, briefly.
#[must_use]
pub fn reference(process: &Process) -> ProcessRef {
    ProcessRef { pid: process.tgid, comm: process.comm.to_text() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(timeline: &mut Timeline, id: u64) {
        timeline.add(Mark { id, t_ns: id }, What::KernelLog { text: id.to_string() });
    }

    #[test]
    fn the_oldest_that_no_answer_rests_on_go_first() {
        let mut timeline = Timeline::default();
        timeline.keep([1]);
        for id in 1..=Timeline::LIMIT as u64 + 2 {
            note(&mut timeline, id);
        }
        assert_eq!((timeline.entries.len(), timeline.omitted()), (Timeline::LIMIT, 2));
        assert!(timeline.entries.contains_key(&1) && !timeline.entries.contains_key(&2));
    }

    #[test]
    fn evidence_alone_does_not_grow_without_bound() {
        let mut timeline = Timeline::default();
        let last = Timeline::LIMIT as u64 + 500;
        timeline.keep(1..=last);
        for id in 1..=last {
            note(&mut timeline, id);
        }
        assert_eq!((timeline.entries.len(), timeline.omitted()), (Timeline::LIMIT, 500));
        assert_eq!(timeline.evidence.len(), Timeline::LIMIT);
    }
}
