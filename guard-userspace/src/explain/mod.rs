//! From events to deaths. Pure: no clock, no files, no /proc, no globals.

pub mod actors;
pub mod acts;
mod advice;
pub mod blow;
pub mod cancel;
pub mod case;
pub mod causes;
pub mod death;
pub mod doubt;
pub mod followed;
mod gather;
pub mod heap;
pub mod history;
#[cfg(any(test, fuzzing))]
pub mod invariants;
mod journal;
pub mod losses;
mod machine;
mod oom;
pub mod oom_log;
pub mod oom_scene;
mod order;
mod package_script;
mod patterns;
pub mod process;
mod programs;
#[cfg(test)]
mod properties;
#[cfg(test)]
pub(crate) mod scenario;
pub mod sentence;
mod service;
mod settle;
pub mod story;
pub mod table;
mod test_file;
#[cfg(test)]
mod tests;
pub mod timeline;
pub mod words;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::model::event::{Cgroups, Fact};
use crate::model::report::{Confidence, Death, JournalLine, Pattern, What};
use crate::model::select::Selectors;
use crate::model::signal::Signo;
use crate::model::want::Want;
use crate::model::{Event, Header};

use acts::Acts;
use death::Surroundings;
use history::SignalRun;
use journal::Hearing;
use losses::Losses;
use oom_log::OomLogs;
use oom_scene::OomScenes;
use order::Order;
use patterns::{Patterns, Scene};
use process::{Mark, ProcId, Process};
use table::{Change, Table};
use timeline::Timeline;

/// Reads a stream of events and answers for every death in a watched tree.
#[derive(Debug)]
pub struct Explainer {
    header: Header,
    selectors: Selectors,
    table: Table,
    acts: Acts,
    timeline: Timeline,
    losses: Losses,
    order: Order,
    now_ns: u64,
    /// Whatever the kernel did before has been read, but for what a CPU hands over late.
    read_ns: u64,
    events: u64,
    roots_seen: u64,
    pending: VecDeque<Pending>,
    /// How many of them wait for their status before it is known whether they are worth an answer.
    unjudged: usize,
    wants: Vec<Want>,
    deaths: Vec<Answered>,
    deaths_omitted: u64,
    /// How many of `deaths` have been taken.
    taken: usize,
    next_death: u64,
    oom_logs: OomLogs,
    oom_scenes: OomScenes,
    patterns: Patterns,
    hearing: Hearing,
    /// Lines of the journal that have come since they were last taken, by death.
    heard: BTreeMap<u64, Vec<JournalLine>>,
}

/// A death that waits for late facts.
#[derive(Debug)]
struct Pending {
    id: ProcId,
    due_ns: u64,
    /// Without a status, taskstats or SIGCHLD may still bring one, and the collector its answers.
    last_chance_ns: u64,
    /// Descendants that the collector was asked about, once they had been reparented, and has not answered for.
    awaited: Option<BTreeSet<u32>>,
    /// It is known to be worth an answer.
    judged: bool,
    surroundings: Surroundings,
}

/// A death as the report keeps it, and what ties it to others.
#[derive(Debug)]
struct Answered {
    death: Death,
    victim: ProcId,
    /// Whose end it followed from.
    because_of: Option<ProcId>,
    /// How sure that is.
    confidence: Confidence,
    /// The act that ended it and others: its first event.
    act: Option<u64>,
}

impl Explainer {
    /// The kernel emits what belongs to a death within microseconds of it, but on several CPUs, and may mark
    /// an OOM victim after its exit (6.16 and newer).
    const SETTLE_NS: u64 = 10_000_000;
    /// For what is known only when a process is gone for good: its children's new parent after `exit_mm` has given
    /// back its memory, which takes a while on a machine that just ran out of it. A death that is complete is told
    /// at once.
    const LAST_CHANCE_NS: u64 = 1_000_000_000;
    /// So much longer for the end of a process that is known to end.
    const PATIENCE_NS: u64 = 9_000_000_000;
    /// Most deaths by one act that each of them lists.
    const FELLOWS: usize = 64;
    /// Most deaths that a report holds.
    const DEATHS: usize = 5_000;

    #[must_use]
    pub fn new(header: Header, selectors: Selectors) -> Self {
        Self {
            table: Table::new(&header),
            header,
            selectors,
            acts: Acts::default(),
            timeline: Timeline::default(),
            losses: Losses::default(),
            order: Order::default(),
            now_ns: 0,
            read_ns: 0,
            events: 0,
            roots_seen: 0,
            pending: VecDeque::new(),
            unjudged: 0,
            wants: Vec::new(),
            deaths: Vec::new(),
            deaths_omitted: 0,
            taken: 0,
            next_death: 1,
            oom_logs: OomLogs::default(),
            oom_scenes: OomScenes::default(),
            patterns: Patterns::default(),
            hearing: Hearing::default(),
            heard: BTreeMap::new(),
        }
    }

    /// Takes the next event. Events come in stream order, with rising ids.
    pub fn apply(&mut self, event: &Event) {
        self.now_ns = self.now_ns.max(event.t_ns);
        if event.cpu.is_some() {
            self.events += 1;
        }
        if !self.order.admits(event) {
            self.losses.note(event.t_ns, 1);
            return;
        }
        // An answer from /proc is stamped when it is read, which may be long after the buffers were.
        if event.cpu.is_some() || event.fact == Fact::Tick {
            self.read_ns = self.read_ns.max(event.t_ns);
        }
        match &event.fact {
            Fact::Seeded { .. } => {
                self.table.link_parents();
                self.spread_trees();
            }
            Fact::Memory(memory) => {
                for pending in self.pending.iter_mut().filter(|p| p.surroundings.memory.is_none()) {
                    pending.surroundings.memory = Some(*memory);
                }
            }
            Fact::CgroupMemory(memory) => self.cgroup_memory(memory),
            Fact::KernelLog { text } => self.kernel_log(event, text),
            Fact::Journal(entry) => self.journal(event, entry),
            Fact::Lost { probe, count } => {
                self.losses.note(event.t_ns, *count);
                let what = What::Lost { probe: probe.clone(), count: *count };
                self.timeline.add(Mark { id: event.id, t_ns: event.t_ns }, what);
            }
            Fact::End => {
                self.settle(u64::MAX);
                self.patterns.closed(scene(&self.header, &self.table, self.now_ns));
                return;
            }
            _ => {}
        }
        let change = self.table.apply(event);
        self.react(event, change);
        match &event.fact {
            Fact::Process(facts) => self.answered(facts.tgid, facts.ppid),
            Fact::ProcessGone { tgid } => self.answered(*tgid, None),
            _ => {}
        }
        self.settle(self.read_ns);
        self.patterns.passed(scene(&self.header, &self.table, self.read_ns), &mut self.wants);
    }

    fn react(&mut self, event: &Event, change: Change) {
        match change {
            Change::Born(id) => {
                if let Some((child, tree)) = self.table.get(id).and_then(|child| Some((child, child.tree?))) {
                    self.timeline.fork(child, &self.table);
                    self.patterns.born(scene(&self.header, &self.table, self.now_ns), child);
                    // What its parent has not been read for, it has not inherited.
                    if child.image.cgroups.as_ref().is_some_and(|cgroups| cgroups.moved.is_some()) {
                        self.wants.push(Want::Process(child.tgid));
                    }
                    self.adopt_descendants(id, tree);
                }
            }
            Change::Changed(id) | Change::Moved(id) => self.changed(id, event),
            Change::Signalled(id, run) => self.signalled(id, run),
            Change::OomMarked(id) => self.oom_marked(id),
            Change::Settled(id) => {
                let process = self.table.get(id).filter(|process| process.tree.is_some());
                self.wants.extend(process.map(|process| Want::Process(process.tgid)));
            }
            Change::Died(id) => self.died(id),
            Change::Nothing => {}
        }
    }

    fn changed(&mut self, id: ProcId, event: &Event) {
        let Some(process) = self.table.get(id) else { return };
        if self.table.is_own(process) || self.asks_the_journal(process) {
            return;
        }
        let fact = &event.fact;
        let (is_exec, moved) = (matches!(fact, Fact::Exec(_)), matches!(fact, Fact::CgroupAttach { .. }));
        // Another CPU may have handed over its end already.
        let lived = process.ending.is_none_or(|ending| !ending.assumed && event.t_ns <= ending.at.t_ns);
        // A fork has its parent's name and arguments until it execs: a double, not another root.
        let parent = process.parent.and_then(|parent| self.table.get(parent));
        let double =
            process.born.is_some() && process.exec.is_none() && parent.is_some_and(|parent| parent.root);
        let matched = !process.root && !double && lived && self.selectors.matches(&process.subject());
        if matched {
            self.roots_seen += 1;
            let tree = process.tree.unwrap_or(id);
            if let Some(process) = self.table.get_mut(id) {
                process.root = true;
                process.tree = Some(tree);
            }
            self.adopt_descendants(id, tree);
            self.died(id);
        }
        let Some(process) = self.table.get(id) else { return };
        if process.tree.is_some() && is_exec {
            self.timeline.exec(process);
        }
        if process.tree.is_some() && process.alive() && !process.read && (is_exec || matched || moved) {
            self.wants.push(Want::Process(process.tgid));
            self.ask_for_user(id);
        }
    }

    /// Asks for the name of the user a process runs as. It may be gone before /proc can be read, a name is not.
    fn ask_for_user(&mut self, id: ProcId) {
        let uid = self.table.get(id).and_then(|process| process.image.uid);
        if let Some(uid) = uid.filter(|&uid| self.table.user(uid).is_none()) {
            self.wants.push(Want::User(uid));
        }
    }

    /// Puts what already descends from a new root into its tree.
    fn adopt_descendants(&mut self, id: ProcId, tree: ProcId) {
        for descendant in self.table.descendants(id) {
            let Some(process) = self.table.get_mut(descendant) else { continue };
            if process.tree.is_none() && process.alive() {
                process.tree = Some(tree);
                self.wants.push(Want::Process(process.tgid));
            }
        }
    }

    /// Parents may be read after their children when the table is seeded.
    fn spread_trees(&mut self) {
        let roots: Vec<(ProcId, ProcId)> = self
            .table
            .iter()
            .filter(|process| process.root)
            .filter_map(|process| Some((process.id, process.tree?)))
            .collect();
        for (root, tree) in roots {
            self.adopt_descendants(root, tree);
        }
    }

    fn signalled(&mut self, id: ProcId, run: usize) {
        let Some(process) = self.table.get(id) else { return };
        let Some(run) = process.history.runs.get(run) else { return };
        self.acts.note(id, run);
        if !self.is_watched(process) || run.count > 1 {
            return;
        }
        if process.tree.is_none() {
            self.signalled_outside(id, run.current, run.signo, run.result);
            return;
        }
        let sender = run.current.and_then(|sender| self.table.get(sender));
        if let Some(sender) = sender.filter(|sender| sender.alive() && !sender.read && sender.id != id)
            && !self.table.is_kernel_thread(sender.id)
        {
            self.wants.push(Want::Process(sender.tgid));
        }
        let (current, signo, queued) = (run.current, run.signo, run.result.queued());
        if let Some(current) = current {
            self.ask_for_user(current);
        }
        let Some(process) = self.table.get(id) else { return };
        if signo.is_fatal_by_default() && queued && process.alive() {
            self.wants.push(Want::ProcessMemory(process.tgid));
        }
    }

    fn oom_marked(&mut self, id: ProcId) {
        let Some(process) = self.table.get(id) else { return };
        if self.is_watched(process) {
            self.timeline.oom_victim(process, &self.table);
            if let Some(cgroups) = process.image.cgroups.as_deref() {
                self.oom_scenes.open(id, cgroups.clone());
                self.wants.push(Want::CgroupTasks(cgroups.clone()));
            }
        }
    }

    fn died(&mut self, id: ProcId) {
        let Some(process) = self.table.get(id) else { return };
        let Some(ending) = process.ending else { return };
        if process.root {
            // The pid may soon be another process's.
            let tgid = process.tgid;
            self.selectors.pids.retain(|&pid| pid != tgid);
        }
        if process.tree.is_none() {
            self.died_outside(id);
            return;
        }
        self.patterns.ended(scene(&self.header, &self.table, self.now_ns), process);
        self.wait_for_the_rest(id, ending.at.t_ns, true);
        self.ask_about_surroundings(id);
    }

    /// Puts a death among those that wait for late facts; `judged` when it is known to be worth an answer.
    fn wait_for_the_rest(&mut self, id: ProcId, ended_ns: u64, judged: bool) {
        let alive = |id: &ProcId| self.table.get(*id).is_some_and(Process::alive);
        let descendants: Vec<ProcId> = self.table.descendants(id).into_iter().filter(alive).collect();
        self.pending.push_back(Pending {
            id,
            due_ns: ended_ns.saturating_add(Self::SETTLE_NS),
            last_chance_ns: ended_ns.saturating_add(Self::LAST_CHANCE_NS),
            awaited: None,
            judged,
            surroundings: Surroundings { descendants, ..Surroundings::default() },
        });
    }

    fn ask_about_surroundings(&mut self, id: ProcId) {
        let Some(process) = self.table.get(id) else { return };
        let cgroups: Option<Cgroups> = process.image.cgroups.as_deref().cloned();
        self.wants.extend(cgroups.map(Want::CgroupMemory));
        // Last: its answer says that all of these have been given.
        self.wants.push(Want::MachineMemory);
    }

    fn cgroup_memory(&mut self, memory: &crate::model::event::CgroupMemory) {
        self.oom_scenes.note(memory);
        for pending in &mut self.pending {
            let process = self.table.get(pending.id);
            let cgroups = process.and_then(|process| process.image.cgroups.as_deref());
            let mine = cgroups.is_some_and(|cgroups| oom_scene::covers(&memory.path, cgroups));
            if mine {
                let known = &mut pending.surroundings.cgroup_memory;
                known.retain(|known| known.path != memory.path);
                known.push(memory.clone());
            }
        }
    }

    fn kernel_log(&mut self, event: &Event, text: &str) {
        let Some(tid) = self.oom_logs.note(text) else { return };
        let watched = self.table.by_tid(tid).and_then(|id| self.table.get(id));
        if watched.is_some_and(|process| self.is_watched(process)) {
            let what = What::KernelLog { text: text.to_owned() };
            self.timeline.add(Mark { id: event.id, t_ns: event.t_ns }, what);
        }
    }

    /// What the collector should read now, since the last call.
    pub fn take_wants(&mut self) -> Vec<Want> {
        let mut wants: Vec<Want> = Vec::with_capacity(self.wants.len());
        for want in self.wants.drain(..) {
            // Many events may ask the same; the last place keeps the order in which answers complete a death.
            wants.retain(|known| *known != want);
            wants.push(want);
        }
        wants
    }

    /// Deaths answered since the last call, in order.
    pub fn take_deaths(&mut self) -> Vec<Death> {
        let new = self.deaths[self.taken..].iter().map(|record| record.death.clone()).collect();
        self.taken = self.deaths.len();
        new
    }

    /// Patterns recognised since the last call, each once.
    pub fn take_patterns(&mut self) -> Vec<Pattern> {
        self.patterns.take_news()
    }

    /// Whoever sent killtrace this signal just now sent it to this process as well: to their process group, or to one
    /// after the other.
    #[must_use]
    pub fn sent_to_both(&self, pid: u32, signo: Signo) -> bool {
        const TOGETHER_NS: u64 = 10_000_000;
        let history = |pid| Some(&self.table.get(self.table.by_tid(pid)?)?.history);
        let (Some(own), Some(other)) = (history(self.header.own_tgid), history(pid)) else { return false };
        let Some(run) = own.runs.iter().rev().find(|run| run.signo == signo) else { return false };
        let together = |other: &SignalRun| {
            other.signo == signo
                && other.current.is_some()
                && other.current == run.current
                && other.last.t_ns.abs_diff(run.last.t_ns) < TOGETHER_NS
        };
        other.runs.iter().any(together)
    }

    fn scene(&self) -> Scene<'_> {
        scene(&self.header, &self.table, self.now_ns)
    }

    /// A verdict waits for time to pass: feed a `Fact::Tick` when nothing else happens for a few milliseconds.
    #[must_use]
    pub fn is_settling(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Roots of watched trees that are alive now, as `(pid, name)`.
    #[must_use]
    pub fn live_roots(&self) -> Vec<(u32, String)> {
        let roots = self.table.iter().filter(|process| process.root && process.alive());
        let mut roots: Vec<_> = roots.map(|process| (process.tgid, process.name())).collect();
        roots.sort();
        roots
    }
}

/// What patterns are found in; a function, so that the finder itself can be borrowed beside it.
fn scene<'a>(header: &'a Header, table: &'a Table, now_ns: u64) -> Scene<'a> {
    Scene { header, table, now_ns }
}
