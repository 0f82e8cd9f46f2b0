//! Every process of the machine, by pid now and by identity for ever (within bounds).

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::rc::Rc;

use crate::model::event::{Current, Event, Exec, Exit, Fact, Fork, ProcessFacts, Signal};
use crate::model::signal::{Signo, code};
use crate::model::text::Comm;

use super::process::{Ending, Mark, OomMark, ProcId, Process, SignalRun};

/// `CLONE_VM` (include/uapi/linux/sched.h).
const CLONE_VM: u64 = 0x100;

/// The process table.
///
/// The dead are remembered while a descendant lives, and some thousands of them beyond that: a killer is
/// usually gone before its victim, and its parents before either.
#[derive(Debug, Default)]
pub struct Table {
    processes: HashMap<ProcId, Process>,
    by_tid: HashMap<u32, ProcId>,
    dead: VecDeque<ProcId>,
    next: u64,
    /// Names of users; `None` for those that have none.
    users: HashMap<u32, Option<Rc<str>>>,
}

/// What an event did to the table that the explainer must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A process appeared by fork.
    Born(ProcId),
    /// A process became another program, or /proc told something new about it.
    Changed(ProcId),
    /// A process was moved to another cgroup.
    Moved(ProcId),
    /// A signal was generated for a process.
    Signalled(ProcId),
    /// The OOM killer marked a process.
    OomMarked(ProcId),
    /// A process ended.
    Died(ProcId),
    /// Nothing that matters.
    Nothing,
}

impl Table {
    /// How many dead processes without living descendants are remembered.
    const DEAD: usize = 4096;

    #[must_use]
    pub fn get(&self, id: ProcId) -> Option<&Process> {
        self.processes.get(&id)
    }

    pub fn get_mut(&mut self, id: ProcId) -> Option<&mut Process> {
        self.processes.get_mut(&id)
    }

    /// The process that a thread id or process id belongs to, now.
    #[must_use]
    pub fn by_tid(&self, tid: u32) -> Option<ProcId> {
        self.by_tid.get(&tid).copied()
    }

    /// The name of a user, and whether it is known that there is one or none.
    #[must_use]
    pub fn user(&self, uid: u32) -> Option<&Option<Rc<str>>> {
        self.users.get(&uid)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Process> {
        self.processes.values()
    }

    /// Its ancestors, nearest first, by birth.
    pub fn ancestors(&self, id: ProcId) -> impl Iterator<Item = &Process> {
        let mut next = self.get(id).and_then(|process| process.parent);
        let mut seen = 0;
        std::iter::from_fn(move || {
            // Ids only ever point to older processes, so this ends; the bound guards against a damaged stream.
            seen += 1;
            let process = self.get(next?).filter(|_| seen < 256)?;
            next = process.parent;
            Some(process)
        })
    }

    #[must_use]
    pub fn is_ancestor(&self, ancestor: ProcId, of: ProcId) -> bool {
        self.ancestors(of).any(|process| process.id == ancestor)
    }

    /// Its descendants by birth, the process itself not among them.
    #[must_use]
    pub fn descendants(&self, id: ProcId) -> Vec<ProcId> {
        let mut found = BTreeSet::new();
        let mut queue = vec![id];
        while let Some(next) = queue.pop() {
            let children = self.get(next).into_iter().flat_map(|process| process.children.iter().copied());
            // A damaged stream could make a circle.
            queue.extend(children.filter(|&child| child != id && found.insert(child)));
        }
        found.into_iter().collect()
    }

    /// A thread of the kernel: kthreadd, its children, and the idle tasks. It decides nothing.
    #[must_use]
    pub fn is_kernel_thread(&self, id: ProcId) -> bool {
        let Some(process) = self.get(id) else { return false };
        match process.tgid {
            0 | 2 => true,
            _ => process.ppid == Some(2) && process.image.cmdline.as_ref().is_none_or(|args| args.is_empty()),
        }
    }

    /// Takes one event.
    pub fn apply(&mut self, event: &Event) -> Change {
        let at = Mark { id: event.id, t_ns: event.t_ns };
        match &event.fact {
            Fact::Fork(fork) => self.fork(at, event.current, fork),
            Fact::Exec(exec) => self.exec(at, event.current, exec),
            Fact::Rename { tid, comm } => self.rename(*tid, *comm),
            Fact::Signal(signal) => self.signal(at, event.current, signal),
            Fact::Deliver(deliver) => {
                let Some(id) = event.current.and_then(|current| self.current(current)) else {
                    return Change::Nothing;
                };
                let tid = event.current.map_or(0, |current| current.tid);
                if let Some(process) = self.get_mut(id) {
                    process.history.deliver(at, tid, deliver);
                }
                Change::Nothing
            }
            Fact::OomVictim(victim) => {
                let (Some(current), Some(id)) = (event.current, self.by_tid(victim.tid)) else {
                    return Change::Nothing;
                };
                let mark = OomMark {
                    at,
                    victim: *victim,
                    current_tid: current.tid,
                    current: self.current(current),
                    current_comm: current.comm.unwrap_or_default(),
                };
                if let Some(process) = self.get_mut(id) {
                    process.history.oom.get_or_insert(mark);
                    if let Some(details) = victim.details {
                        let rss = details.anon_rss_bytes + details.file_rss_bytes + details.shmem_rss_bytes;
                        process.rss_bytes = Some(rss);
                        process.image.oom_score_adj = Some(details.oom_score_adj);
                    }
                }
                Change::OomMarked(id)
            }
            Fact::CgroupAttach { tid, hierarchy, path } => self.cgroup_attach(*tid, *hierarchy, path),
            Fact::Exit(exit) => self.exit(at, event.current, exit),
            Fact::Taskstats(stats) => {
                let id = stats.tgid.and_then(|tgid| self.by_tid(tgid)).or_else(|| self.by_tid(stats.tid));
                if let Some(process) = id.and_then(|id| self.get_mut(id))
                    && (stats.group_dead == Some(true) || process.threads.len() <= 1)
                {
                    process.apply_taskstats(stats);
                }
                Change::Nothing
            }
            Fact::Process(facts) => self.facts(at, facts),
            Fact::User { uid, name } => {
                self.users.insert(*uid, name.as_deref().map(Rc::from));
                Change::Nothing
            }
            Fact::Listen { port, listening } => {
                let Some(id) = event.current.and_then(|current| self.current(current)) else {
                    return Change::Nothing;
                };
                if let Some(process) = self.get_mut(id) {
                    if *listening {
                        process.listening.insert(*port);
                    } else {
                        process.listening.remove(port);
                    }
                }
                Change::Changed(id)
            }
            _ => Change::Nothing,
        }
    }

    /// The process of the task that was `current`, made known from the event alone if it is new: events about
    /// its birth may have been lost.
    fn current(&mut self, current: Current) -> Option<ProcId> {
        if current.tid == 0 {
            return None;
        }
        let tgid = current.tgid.unwrap_or(current.tid);
        if let Some(id) = self.by_tid(tgid).or_else(|| self.by_tid(current.tid)) {
            return Some(id);
        }
        let id = self.insert(tgid, current.comm.unwrap_or_default());
        if let Some(process) = self.get_mut(id) {
            process.image.uid = current.uid;
        }
        Some(id)
    }

    fn insert(&mut self, tgid: u32, comm: Comm) -> ProcId {
        self.next += 1;
        let id = ProcId(self.next);
        self.processes.insert(id, Process::new(id, tgid, comm));
        self.by_tid.insert(tgid, id);
        id
    }

    fn adopt(&mut self, child: ProcId, parent: ProcId) {
        if child <= parent {
            return;
        }
        if let Some(process) = self.get_mut(parent) {
            process.children.insert(child);
        }
        if let Some(process) = self.get_mut(child) {
            process.parent = Some(parent);
        }
    }

    fn fork(&mut self, at: Mark, current: Option<Current>, fork: &Fork) -> Change {
        let creator = current.and_then(|current| self.current(current));
        if fork.child_tgid != fork.child_tid {
            // A thread.
            if let Some(id) = self.by_tid(fork.child_tgid) {
                self.by_tid.insert(fork.child_tid, id);
                if let Some(process) = self.get_mut(id) {
                    process.threads.insert(fork.child_tid);
                }
            }
            return Change::Nothing;
        }
        // Seeding may have read the child from /proc before its birth was drained.
        if let Some(known) = self.by_tid(fork.child_tgid).and_then(|id| self.get_mut(id))
            && known.alive()
            && known.born.is_none()
            && same_start(known.start_ns, fork.start_boottime_ns)
        {
            known.born = Some(at);
            return Change::Nothing;
        }
        let parent = fork.ppid.and_then(|ppid| self.by_tid(ppid)).or(creator);
        let (comm, image, tree) = match parent.and_then(|id| self.get(id)) {
            Some(parent) => (parent.comm, parent.image.clone(), parent.tree),
            None => (current.and_then(|current| current.comm).unwrap_or_default(), Default::default(), None),
        };
        let ppid = fork.ppid.or_else(|| parent.and_then(|id| self.get(id)).map(|parent| parent.tgid));
        let id = self.insert(fork.child_tgid, comm);
        if let Some(parent) = parent {
            self.adopt(id, parent);
        }
        if let Some(child) = self.get_mut(id) {
            child.image = image;
            child.tree = tree;
            child.born = Some(at);
            child.ppid = ppid;
            child.start_ns = fork.start_boottime_ns.or(Some(at.t_ns));
            child.ns_tgid = fork.ns_tgid;
            child.shares_memory = fork.clone_flags & CLONE_VM != 0;
        }
        Change::Born(id)
    }

    fn exec(&mut self, at: Mark, current: Option<Current>, exec: &Exec) -> Change {
        let Some(current) = current else { return Change::Nothing };
        let Some(id) = self.current(current) else { return Change::Nothing };
        let threads = self.get(id).map(|process| process.threads.clone()).unwrap_or_default();
        for tid in threads {
            if self.get(id).is_some_and(|process| process.tgid != tid) {
                self.by_tid.remove(&tid);
            }
        }
        if let Some(process) = self.get_mut(id) {
            process.apply_exec(at, current.comm, exec);
            process.image.uid = current.uid.or(process.image.uid);
        }
        Change::Changed(id)
    }

    fn cgroup_attach(&mut self, tid: u32, hierarchy: u32, path: &str) -> Change {
        let Some(id) = self.by_tid(tid) else { return Change::Nothing };
        let Some(process) = self.get_mut(id) else { return Change::Nothing };
        let mut cgroups = process.image.cgroups.as_deref().cloned().unwrap_or_default();
        // The v2 hierarchy has the number 0 (kernel/cgroup/cgroup.c, `cgrp_dfl_root`).
        let place = if hierarchy == 0 { &mut cgroups.v2 } else { &mut cgroups.moved };
        *place = Some(path.to_owned());
        process.image.cgroups = Some(cgroups.into());
        process.read = false;
        Change::Moved(id)
    }

    fn rename(&mut self, tid: u32, comm: Comm) -> Change {
        let Some(id) = self.by_tid(tid) else { return Change::Nothing };
        match self.get_mut(id) {
            // Other threads have names of their own.
            Some(process) if process.tgid == tid => {
                process.comm = comm;
                Change::Changed(id)
            }
            _ => Change::Nothing,
        }
    }

    fn signal(&mut self, at: Mark, current: Option<Current>, signal: &Signal) -> Change {
        let signo = Signo(signal.signo);
        let sender = current.and_then(|current| self.current(current));
        if signo == Signo::CHLD {
            // Sent by the dying, stopped or continued child itself.
            if let Some(child) = sender.and_then(|id| self.get_mut(id)) {
                match signal.code {
                    code::CLD_STOPPED => child.history.stopped = true,
                    code::CLD_CONTINUED => child.history.stopped = false,
                    code::CLD_EXITED | code::CLD_KILLED | code::CLD_DUMPED => {
                        child.history.child_code = Some(signal.code);
                    }
                    _ => {}
                }
            }
            return Change::Nothing;
        }
        let target = signal.target_tgid.unwrap_or(signal.target_tid);
        let known = self.by_tid(target).or_else(|| self.by_tid(signal.target_tid));
        let id = known.unwrap_or_else(|| self.insert(target, signal.target_comm.unwrap_or_default()));
        let exiting = current.is_some_and(|current| {
            current.exiting.unwrap_or_else(|| sender.and_then(|id| self.get(id)).is_some_and(|p| !p.alive()))
        });
        let run = SignalRun {
            first: at,
            last: at,
            count: 1,
            signo,
            code: signal.code,
            group: signal.group,
            result: signal.result,
            target_tid: signal.target_tid,
            syscall: signal.syscall,
            current: sender,
            current_tid: current.map_or(0, |current| current.tid),
            current_comm: current.and_then(|current| current.comm).unwrap_or_default(),
            current_exiting: exiting,
            handled: 0,
        };
        if let Some(process) = self.get_mut(id) {
            let watched = process.tree.is_some();
            process.history.push(run, watched);
        }
        Change::Signalled(id)
    }

    fn exit(&mut self, at: Mark, current: Option<Current>, exit: &Exit) -> Change {
        let Some(current) = current else { return Change::Nothing };
        let Some(id) = self.current(current) else { return Change::Nothing };
        let Some(process) = self.get_mut(id) else { return Change::Nothing };
        process.threads.remove(&current.tid);
        let tgid = process.tgid;
        let last = exit.group_dead.unwrap_or(process.threads.is_empty());
        if process.ending.is_some_and(|ending| !ending.assumed) {
            return Change::Nothing;
        }
        if !last {
            if current.tid != tgid {
                self.by_tid.remove(&current.tid);
            }
            return Change::Nothing;
        }
        process.ppid = exit.ppid.or(process.ppid);
        process.start_ns = exit.start_boottime_ns.or(process.start_ns);
        process.peak_rss_bytes = exit.max_rss_bytes.or(process.peak_rss_bytes);
        process.ending = Some(Ending {
            at,
            tid: current.tid,
            status: exit.status,
            pending: exit.pending,
            signaled: None,
            assumed: false,
        });
        process.use_stats();
        process.listening.clear();
        if current.tid != tgid {
            self.by_tid.remove(&current.tid);
        }
        self.bury(id);
        Change::Died(id)
    }

    /// Keeps the number of remembered dead bounded.
    fn bury(&mut self, id: ProcId) {
        self.dead.push_back(id);
        let mut looked_at = 0;
        while self.dead.len() > Self::DEAD && looked_at < 4 {
            looked_at += 1;
            let Some(oldest) = self.dead.pop_front() else { return };
            if self.get(oldest).is_some_and(|process| !process.children.is_empty()) {
                self.dead.push_back(oldest);
            } else {
                self.forget(oldest);
            }
        }
    }

    fn forget(&mut self, id: ProcId) {
        let Some(process) = self.processes.remove(&id) else { return };
        for tid in process.threads.iter().chain([&process.tgid]) {
            if self.by_tid.get(tid) == Some(&id) {
                self.by_tid.remove(tid);
            }
        }
        if let Some(parent) = process.parent.and_then(|parent| self.get_mut(parent)) {
            parent.children.remove(&id);
        }
    }

    fn facts(&mut self, at: Mark, facts: &ProcessFacts) -> Change {
        let known = self.by_tid(facts.tgid).filter(|&id| {
            self.get(id).is_some_and(|known| same_start(known.start_ns, facts.start_boottime_ns))
        });
        let id = known.unwrap_or_else(|| self.insert(facts.tgid, facts.comm.unwrap_or_default()));
        for &tid in &facts.threads {
            self.by_tid.insert(tid, id);
        }
        if known.is_none()
            && let Some(parent) = facts.ppid.and_then(|ppid| self.by_tid(ppid))
        {
            self.adopt(id, parent);
            let tree = self.get(parent).and_then(|parent| parent.tree);
            if let Some(process) = self.get_mut(id) {
                process.tree = tree;
            }
        }
        let Some(process) = self.get_mut(id) else { return Change::Nothing };
        process.apply_facts(facts);
        if let (Some(uid), Some(user)) = (facts.uid, &facts.user) {
            self.users.entry(uid).or_insert_with(|| Some(Rc::from(user.as_str())));
        }
        let Some(process) = self.get_mut(id) else { return Change::Nothing };
        if facts.seeded && facts.zombie && process.ending.is_none() {
            // It died before watching began, unless its exit is still to come in the stream.
            process.ending = Some(Ending {
                at,
                tid: facts.tgid,
                status: None,
                pending: None,
                signaled: None,
                assumed: true,
            });
        }
        Change::Changed(id)
    }

    /// Links processes whose parents were read after them. Called once the seed is complete.
    pub fn link_parents(&mut self) {
        let orphans: Vec<(ProcId, u32)> = self
            .processes
            .values()
            .filter(|process| process.parent.is_none())
            .filter_map(|process| Some((process.id, process.ppid?)))
            .collect();
        for (child, ppid) in orphans {
            if let Some(parent) = self.by_tid(ppid)
                && parent != child
            {
                if let Some(process) = self.get_mut(parent) {
                    process.children.insert(child);
                }
                if let Some(process) = self.get_mut(child) {
                    process.parent = Some(parent);
                }
            }
        }
    }
}

/// /proc counts in clock ticks, the kernel in nanoseconds; unknown fits anything.
fn same_start(one: Option<u64>, other: Option<u64>) -> bool {
    const TICK_NS: u64 = 20_000_000;
    match (one, other) {
        (Some(one), Some(other)) => one.abs_diff(other) < TICK_NS,
        _ => true,
    }
}
