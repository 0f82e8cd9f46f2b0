//! Births, execs, moves and ends, and what /proc tells.

use std::rc::Rc;

use crate::model::event::{Current, Exec, Exit, Fork, ProcessFacts, Taskstats};
use crate::model::text::Comm;

use super::{CLONE_VM, Change, Gone, Table};
use crate::explain::process::{EndedBy, Ending, Mark, ProcId, Process};

impl Table {
    pub(super) fn fork(&mut self, at: Mark, current: Option<Current>, fork: &Fork) -> Change {
        let creator = current.and_then(|current| self.current(current));
        self.gone.retain(|gone| gone.tid != fork.child_tid);
        if fork.child_tgid != fork.child_tid {
            // A thread.
            if let Some(id) = self.by_tid(fork.child_tgid) {
                self.by_tid.insert(fork.child_tid, id);
                if let Some(process) = self.get_mut(id) {
                    process.threads.insert(fork.child_tid);
                }
                return self.acted_by_thread(id);
            }
            return Change::Nothing;
        }
        let parent = fork.ppid.and_then(|ppid| self.by_tid(ppid)).or(creator);
        if let Some(known) = self.by_tid(fork.child_tgid).filter(|&id| self.is_birth_of(id, at, fork)) {
            return self.born_late(known, parent, at, fork);
        }
        self.supersede(at, fork.child_tgid);
        let predecessor = self.by_tid(fork.child_tgid);
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
            child.predecessor = predecessor;
            child.ppid = ppid;
            child.start_ns = fork.start_boottime_ns.or(Some(at.t_ns));
            child.ns_tgid = fork.ns_tgid;
            child.shares_memory = fork.clone_flags & CLONE_VM != 0;
        }
        Change::Born(id)
    }

    /// Whether it is the birth of one that is known already: it was read from /proc, or acted on another CPU, before
    /// its birth was drained.
    fn is_birth_of(&self, id: ProcId, at: Mark, fork: &Fork) -> bool {
        self.get(id).is_some_and(|known| {
            known.born.is_none()
                && same_start(known.start_ns, fork.start_boottime_ns)
                // A pid is given again only after its end.
                && known.ending.is_none_or(|ending| at.t_ns <= ending.at.t_ns)
        })
    }

    fn born_late(&mut self, id: ProcId, parent: Option<ProcId>, at: Mark, fork: &Fork) -> Change {
        let Some(child) = self.get_mut(id) else { return Change::Nothing };
        child.born = Some(at);
        child.start_ns = child.start_ns.or(fork.start_boottime_ns);
        child.ns_tgid = child.ns_tgid.or(fork.ns_tgid);
        child.shares_memory = child.exec.is_none() && fork.clone_flags & CLONE_VM != 0;
        child.ppid = child.ppid.or(fork.ppid);
        parent.map_or(Change::Nothing, |parent| self.join(id, parent))
    }

    /// Makes a process that was known before its parent was a child of it.
    fn join(&mut self, id: ProcId, parent: ProcId) -> Change {
        if parent == id || self.is_ancestor(id, parent) {
            return Change::Nothing;
        }
        let Some(origin) = self.get(parent) else { return Change::Nothing };
        let (tree, mut image) = (origin.tree, origin.image.clone());
        let Some(child) = self.get_mut(id) else { return Change::Nothing };
        if child.parent.is_some_and(|known| known != parent) {
            return Change::Nothing;
        }
        if child.exec.is_some() {
            // Its program is its own.
            (image.exe, image.cmdline) = (None, None);
        }
        child.parent = Some(parent);
        child.image.inherit(image);
        let joins = child.tree.is_none() && tree.is_some();
        child.tree = child.tree.or(tree);
        let ended = child.ending.is_some_and(|ending| !ending.assumed);
        if let Some(parent) = self.get_mut(parent) {
            parent.children.insert(id);
        }
        match (joins, ended) {
            (true, true) => Change::Died(id),
            (true, false) => Change::Born(id),
            _ => Change::Nothing,
        }
    }

    /// A pid belongs to one process at a time (kernel/pid.c, `alloc_pid`): whoever had this one has ended unseen.
    fn supersede(&mut self, at: Mark, tgid: u32) {
        let Some(id) = self.by_tid(tgid) else { return };
        let Some(process) = self.get_mut(id).filter(|process| process.tgid == tgid && process.alive()) else {
            return;
        };
        process.ending = Some(Ending::assumed(at, tgid));
        self.bury(id);
    }

    pub(super) fn exec(&mut self, at: Mark, current: Option<Current>, exec: &Exec) -> Change {
        let Some(current) = current else { return Change::Nothing };
        let Some(id) = self.current(current) else { return Change::Nothing };
        // Its thread has the number of the leader now, which has ended.
        self.gone.retain(|gone| gone.process != id);
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
        // Its birth was not seen, or is still to come.
        if let Some(parent) = exec.ppid.and_then(|ppid| self.by_tid(ppid))
            && self.get(id).is_some_and(|process| process.parent.is_none())
        {
            self.join(id, parent);
        }
        Change::Changed(id)
    }

    pub(super) fn cgroup_attach(&mut self, tid: u32, hierarchy: u32, path: &str) -> Change {
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

    pub(super) fn rename(&mut self, at: Mark, current: Option<Current>, tid: u32, comm: Comm) -> Change {
        let of_current = || current.filter(|current| current.tid == tid).and_then(|current| current.tgid);
        let id = self.by_tid(tid).or_else(|| of_current().and_then(|tgid| self.by_tid(tgid)));
        let Some(id) = id else { return Change::Nothing };
        match self.get_mut(id) {
            Some(process) if process.tgid == tid => {
                process.rename(at, comm);
                Change::Changed(id)
            }
            // Other threads have names of their own.
            _ => self.acted_by_thread(id),
        }
    }

    /// A process has a thread besides its first. A fork that does is not about to become another program: whatever
    /// it calls itself, as the renderers that Chromium's zygote forks do, can be read.
    fn acted_by_thread(&self, id: ProcId) -> Change {
        let unread = |process: &&Process| process.born.is_some() && process.exec.is_none() && !process.read;
        self.get(id).filter(unread).map_or(Change::Nothing, |_| Change::Settled(id))
    }

    pub(super) fn exit(&mut self, at: Mark, current: Option<Current>, exit: &Exit) -> Change {
        let Some(current) = current else { return Change::Nothing };
        let Some(id) = self.current(current) else { return Change::Nothing };
        let Some(process) = self.get_mut(id) else { return Change::Nothing };
        process.threads.remove(&current.tid);
        let tgid = process.tgid;
        let last =
            exit.group_dead.unwrap_or(process.threads.is_empty() || process.stats_of_last(current.tid));
        if process.ending.is_some_and(|ending| !ending.assumed) {
            return Change::Nothing;
        }
        if let (Some(status), Some(signaled)) = (exit.status, exit.signaled) {
            let by = EndedBy { tid: current.tid, comm: current.comm, blocked: exit.blocked };
            process.thread_ended(current.tid, status, signaled, exit.ended_all.then_some(by));
        }
        if !last {
            if current.tid != tgid {
                self.by_tid.remove(&current.tid);
            }
            if self.gone.len() == Self::GONE {
                self.gone.pop_front();
            }
            let ahead = self.told_ahead.iter().position(|&told| told == (id, current.tid));
            let told = ahead.and_then(|place| self.told_ahead.remove(place)).is_some();
            self.gone.push_back(Gone { tid: current.tid, process: id, at, exit: *exit, told });
            return Change::Nothing;
        }
        self.end(id, at, current.tid, exit)
    }

    /// A process has ended with this thread.
    fn end(&mut self, id: ProcId, at: Mark, tid: u32, exit: &Exit) -> Change {
        let Some(process) = self.get_mut(id) else { return Change::Nothing };
        let tgid = process.tgid;
        process.ppid = exit.ppid.or(process.ppid);
        process.start_ns = exit.start_boottime_ns.or(process.start_ns);
        process.peak_rss_bytes = exit.max_rss_bytes.or(process.peak_rss_bytes);
        process.ending = Some(Ending { at, tid, status: exit.status, exit: *exit, assumed: false });
        process.use_stats();
        process.listening.clear();
        if tid != tgid {
            self.by_tid.remove(&tid);
        }
        self.bury(id);
        Change::Died(id)
    }

    /// How a thread ended. Where exit events do not say which thread was the last, this does (kernel/taskstats.c,
    /// `taskstats_exit`): counting can be wrong, for a thread that is ending is still in /proc, and one whose `execve`
    /// fails has become the leader by then (fs/exec.c, `de_thread`).
    pub(super) fn taskstats(&mut self, at: Mark, stats: &Taskstats) -> Change {
        let id = stats.tgid.and_then(|tgid| self.by_tid(tgid)).or_else(|| self.by_tid(stats.tid));
        let id = id.map(|id| self.late_predecessor(id, at).unwrap_or(id));
        let Some(process) = id.and_then(|id| self.get_mut(id)) else { return Change::Nothing };
        let by = (!stats.signaled && stats.status.signal().is_none() && stats.status.0 != 0)
            .then_some(EndedBy { tid: stats.tid, comm: stats.comm, blocked: None });
        process.thread_ended(stats.tid, stats.status, stats.signaled, by);
        // Read later than the exit event, which may have taken this thread out already.
        let alone = process.threads.iter().all(|&tid| tid == stats.tid);
        if !stats.group_dead.unwrap_or(alone) {
            let id = process.id;
            let of_it = |gone: &&mut Gone| gone.tid == stats.tid && gone.process == id && !gone.told;
            match self.gone.iter_mut().rev().find(of_it) {
                Some(gone) => gone.told = true,
                None => {
                    if self.told_ahead.len() == Self::GONE {
                        self.told_ahead.pop_front();
                    }
                    self.told_ahead.push_back((id, stats.tid));
                }
            }
            return Change::Nothing;
        }
        process.apply_taskstats(stats);
        let (id, alive) = (process.id, process.ending.is_none_or(|ending| ending.assumed));
        match self.gone(stats.tid).filter(|gone| alive && gone.process == id && !gone.told) {
            Some(gone) if stats.group_dead == Some(true) && gone.exit.group_dead.is_none() => {
                self.end(id, gone.at, gone.tid, &gone.exit)
            }
            _ => Change::Nothing,
        }
    }

    /// Who had the pid before this process, and whose end taskstats has not told yet: by the time that it is read, the pid
    /// may have been given again.
    fn late_predecessor(&self, id: ProcId, now: Mark) -> Option<ProcId> {
        // Nothing waits longer to be read.
        const LATE_NS: u64 = 5_000_000_000;
        let process = self.get(self.get(id)?.predecessor?)?;
        let ended = process.ending.filter(|_| process.stats.is_none())?;
        (now.t_ns.saturating_sub(ended.at.t_ns) < LATE_NS).then_some(process.id)
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

    pub(super) fn facts(&mut self, at: Mark, facts: &ProcessFacts) -> Change {
        let known = self.by_tid(facts.tgid).filter(|&id| {
            self.get(id).is_some_and(|known| same_start(known.start_ns, facts.start_boottime_ns))
        });
        if known.is_none() {
            self.supersede(at, facts.tgid);
        }
        let id = known.unwrap_or_else(|| self.insert(facts.tgid, facts.comm.unwrap_or_default()));
        for &tid in &facts.threads {
            // Read a moment ago: by now the id may be another's.
            if !self.by_tid(tid).and_then(|id| self.get(id)).is_some_and(Process::alive) {
                self.by_tid.insert(tid, id);
            }
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
        if facts.seeded && facts.stopped {
            process.history.stopped = Some(at);
        }
        process.waiting = facts.signals.map(|masks| (at.t_ns, masks.waiting)).or(process.waiting);
        if let (Some(uid), Some(user)) = (facts.uid, &facts.user) {
            self.users.entry(uid).or_insert_with(|| Some(Rc::from(user.as_str())));
        }
        let Some(process) = self.get_mut(id) else { return Change::Nothing };
        if facts.seeded && facts.zombie && process.ending.is_none() {
            // It died before watching began, unless its exit is still to come in the stream.
            process.ending = Some(Ending::assumed(at, facts.tgid));
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
