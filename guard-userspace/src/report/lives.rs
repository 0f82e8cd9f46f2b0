//! The processes of a timeline, each with its life and what happened to it, for formats that draw.

use std::collections::BTreeMap;

use crate::model;
use crate::model::report::{ExitStatus, ProcessRef, TimelineEntry, What};

/// Every process that the timeline names, and every event of it.
#[derive(Debug)]
pub(super) struct Lives<'a> {
    /// In order of appearance.
    pub(super) lives: Vec<Life<'a>>,
    /// In time order.
    pub(super) marks: Vec<Mark<'a>>,
}

/// One process, from birth to death as far as the timeline shows them. A pid that is used again is another life.
#[derive(Debug)]
pub(super) struct Life<'a> {
    pub(super) pid: u32,
    /// What it was called last.
    pub(super) name: &'a str,
    /// `None` when it was there before.
    pub(super) born_ns: Option<u64>,
    /// `None` when it lived on.
    pub(super) died_ns: Option<u64>,
    pub(super) exit: Option<&'a ExitStatus>,
    /// The death record of its end.
    pub(super) death: Option<u64>,
}

/// One event, and whose lives it touches.
#[derive(Debug)]
pub(super) struct Mark<'a> {
    pub(super) entry: &'a TimelineEntry,
    /// To whom it happened; `None` for what happened to the machine.
    pub(super) on: Option<usize>,
    /// The parent of a birth, the sender of a signal; `None` also where the kernel sent it.
    pub(super) from: Option<usize>,
    /// An answer rests on it.
    pub(super) evidence: bool,
}

impl<'a> Lives<'a> {
    pub(super) fn of(report: &'a model::Report) -> Self {
        let mut evidence: BTreeMap<u64, Vec<(u32, u64, &str)>> = BTreeMap::new();
        for death in &report.deaths {
            for event in &death.evidence {
                let victim = (death.victim.pid, death.id, death.victim.name.as_str());
                evidence.entry(*event).or_default().push(victim);
            }
        }
        // Written in time order; another program may have changed that.
        let mut entries: Vec<_> = report.timeline.iter().collect();
        entries.sort_by_key(|entry| entry.t_ns);
        let mut builder = Builder::default();
        for entry in entries {
            let victims = evidence.get(&entry.id);
            let (on, from) = builder.entry(entry);
            if let (What::Exit { process, .. }, Some(on)) = (&entry.what, on) {
                let victim = victims.into_iter().flatten().find(|(pid, ..)| *pid == process.pid);
                if let Some(&(_, death, name)) = victim {
                    builder.lives[on].death = Some(death);
                    builder.lives[on].name = name;
                }
            }
            builder.marks.push(Mark { entry, on, from, evidence: victims.is_some() });
        }
        let names = names(report);
        for life in &mut builder.lives {
            if let Some(name) = names.get(&(life.pid, life.name)) {
                life.name = name;
            }
        }
        Self { lives: builder.lives, marks: builder.marks }
    }

    /// The first and the last moment of the timeline.
    pub(super) fn span(&self) -> Option<(u64, u64)> {
        let first = self.marks.first()?.entry.t_ns;
        Some((first, self.marks.last()?.entry.t_ns.max(first)))
    }
}

/// What a person calls the processes that the deaths tell of, by pid and by what the kernel calls them.
fn names(report: &model::Report) -> BTreeMap<(u32, &str), &str> {
    let mut names = BTreeMap::new();
    for death in &report.deaths {
        let decider = death.decider();
        for actor in death.killer.iter().chain(decider) {
            names.insert((actor.pid, actor.comm.as_str()), actor.name.as_str());
            let ancestors = actor.ancestry.iter();
            names.extend(ancestors.map(|up| ((up.pid, up.comm.as_str()), up.name.as_str())));
        }
        names.extend(
            death.context.tree.iter().map(|node| ((node.pid, node.comm.as_str()), node.name.as_str())),
        );
    }
    names
}

#[derive(Debug, Default)]
struct Builder<'a> {
    lives: Vec<Life<'a>>,
    marks: Vec<Mark<'a>>,
    /// The last life that had this pid.
    by_pid: BTreeMap<u32, usize>,
}

impl<'a> Builder<'a> {
    fn entry(&mut self, entry: &'a TimelineEntry) -> (Option<usize>, Option<usize>) {
        match &entry.what {
            What::Fork { parent, child } => {
                let from = parent.as_ref().map(|parent| self.known(parent));
                (Some(self.begin(child, Some(entry.t_ns))), from)
            }
            What::Exec { process, .. } => (Some(self.alive(process)), None),
            What::Signal { code, from, to, .. } => {
                let sender = from.as_ref().filter(|_| super::words::is_sent(code));
                let from = sender.map(|from| self.known(from));
                (Some(self.known(to)), from)
            }
            What::Taken { process, .. } | What::OomVictim { process, .. } => {
                (Some(self.known(process)), None)
            }
            What::Exit { process, exit } => {
                let index = self.alive(process);
                self.lives[index].died_ns = Some(entry.t_ns);
                self.lives[index].exit = Some(exit);
                (Some(index), None)
            }
            What::KernelLog { .. } | What::Journal { .. } | What::Lost { .. } => (None, None),
        }
    }

    fn begin(&mut self, process: &'a ProcessRef, born_ns: Option<u64>) -> usize {
        let life =
            Life { pid: process.pid, name: &process.comm, born_ns, died_ns: None, exit: None, death: None };
        self.lives.push(life);
        let index = self.lives.len() - 1;
        self.by_pid.insert(process.pid, index);
        index
    }

    /// The life of that pid, also when it has ended: a zombie can get signals, and the last it did may be told late.
    fn known(&mut self, process: &'a ProcessRef) -> usize {
        match self.by_pid.get(&process.pid) {
            Some(&index) => {
                self.lives[index].name = &process.comm;
                index
            }
            None => self.begin(process, None),
        }
    }

    /// The same for what only a living process does: after its end the pid belongs to another.
    fn alive(&mut self, process: &'a ProcessRef) -> usize {
        let index = self.known(process);
        if self.lives[index].died_ns.is_some() { self.begin(process, None) } else { index }
    }
}
