//! Every process of the machine, by pid now and by identity for ever (within bounds).

mod lives;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::rc::Rc;

use crate::model::Header;
use crate::model::event::{Current, Event, Exit, Fact, Signal};
use crate::model::kernel_log;
use crate::model::signal::{Signo, code};
use crate::model::text::Comm;

use super::history::{OomMark, SignalRun};
use super::process::{Mark, ProcId, Process};

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
    /// Threads that ended before their processes: what a thread does to others comes after its exit event.
    gone: VecDeque<Gone>,
    /// Threads, not the last, of whose end taskstats has told while their exit events are still to come (kernel/exit.c,
    /// `do_exit` calls `taskstats_exit` first).
    told_ahead: VecDeque<(ProcId, u32)>,
    next: u64,
    /// killtrace's own pid.
    own_tgid: u32,
    x86: bool,
    /// When somebody last had the OOM killer run, by the kernel log.
    pub(super) manual_oom_ns: Option<u64>,
    /// Names of users; `None` for those that have none.
    users: HashMap<u32, Option<Rc<str>>>,
}

/// A thread that ended, as far as is known before its process.
#[derive(Clone, Copy, Debug)]
struct Gone {
    tid: u32,
    process: ProcId,
    at: Mark,
    exit: Exit,
    /// taskstats has told of it: it was not the last.
    told: bool,
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
    /// A signal was generated for a process: the index of its run.
    Signalled(ProcId, usize),
    /// The OOM killer marked a process.
    OomMarked(ProcId),
    /// A fork that has not been read has threads: it calls itself by now whatever it will.
    Settled(ProcId),
    /// A process ended.
    Died(ProcId),
    /// Nothing that matters.
    Nothing,
}

impl Table {
    /// How many dead processes without living descendants are remembered.
    const DEAD: usize = 4096;
    /// How many ended threads of living processes are remembered.
    const GONE: usize = 64;

    #[must_use]
    pub fn get(&self, id: ProcId) -> Option<&Process> {
        self.processes.get(&id)
    }

    /// A process as it was at some time.
    #[must_use]
    pub fn as_of(&self, id: ProcId, t_ns: u64) -> Option<Cow<'_, Process>> {
        self.get(id).map(|process| process.as_of(t_ns))
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

    /// A table of the machine that a stream of events begins with.
    #[must_use]
    pub fn new(header: &Header) -> Self {
        Self { own_tgid: header.own_tgid, x86: header.host.arch.starts_with("x86"), ..Self::default() }
    }

    /// The machine is an x86: only there does the kernel answer a fault with SI_KERNEL.
    #[must_use]
    pub fn is_x86(&self) -> bool {
        self.x86
    }

    /// The killtrace that watches. What `killtrace run` was asked to start, it did not decide.
    #[must_use]
    pub fn is_own(&self, process: &Process) -> bool {
        process.tgid == self.own_tgid
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
            Fact::Rename { tid, comm } => self.rename(at, event.current, *tid, *comm),
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
                        process.rss_bytes = Some(details.rss_bytes());
                        process.image.oom_score_adj = Some(details.oom_score_adj);
                    }
                }
                Change::OomMarked(id)
            }
            Fact::CgroupAttach { tid, hierarchy, path } => self.cgroup_attach(*tid, *hierarchy, path),
            Fact::Exit(exit) => self.exit(at, event.current, exit),
            Fact::Taskstats(stats) => self.taskstats(at, stats),
            Fact::Process(facts) => self.facts(at, facts),
            Fact::KernelLog { text } if kernel_log::manual_oom(text) => {
                self.manual_oom_ns = Some(at.t_ns);
                Change::Nothing
            }
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
        let thread = || self.gone(current.tid).map(|gone| gone.process);
        if let Some(id) = self.by_tid(tgid).or_else(|| self.by_tid(current.tid)).or_else(thread) {
            return Some(id);
        }
        let id = self.insert(tgid, current.comm.unwrap_or_default());
        if let Some(process) = self.get_mut(id) {
            process.image.uid = current.uid;
        }
        Some(id)
    }

    /// A thread that ended before its process, if its number was not given to another since.
    fn gone(&self, tid: u32) -> Option<Gone> {
        self.gone.iter().rev().copied().find(|gone| gone.tid == tid)
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

    /// A traced thread stopped (kernel/signal.c, `do_notify_parent_cldstop`): the target is its tracer.
    fn stopped_for(&mut self, at: Mark, child: Option<ProcId>, signal: &Signal) {
        let target = signal.target_tgid.unwrap_or(signal.target_tid);
        let known = self.by_tid(target).or_else(|| self.by_tid(signal.target_tid));
        let tracer = known.unwrap_or_else(|| self.insert(target, signal.target_comm.unwrap_or_default()));
        if let Some(child) = child.and_then(|id| self.get_mut(id)) {
            child.history.stopped_for(at, tracer);
        }
    }

    fn signal(&mut self, at: Mark, current: Option<Current>, signal: &Signal) -> Change {
        let signo = Signo(signal.signo);
        let sender = current.and_then(|current| self.current(current));
        if signo == Signo::CHLD {
            // Sent by the dying, stopped or continued child itself.
            if signal.code == code::CLD_TRAPPED {
                self.stopped_for(at, sender, signal);
                return Change::Nothing;
            }
            if let Some(child) = sender.and_then(|id| self.get_mut(id)) {
                match signal.code {
                    code::CLD_EXITED | code::CLD_KILLED | code::CLD_DUMPED => {
                        child.history.child_code = Some(signal.code);
                    }
                    _ => {}
                }
            }
            return Change::Nothing;
        }
        if let (Some(sender), Some(current)) = (sender.and_then(|id| self.get_mut(id)), current) {
            sender.struck = true;
            sender.image.uid = current.uid.or(sender.image.uid);
        }
        let target = signal.target_tgid.unwrap_or(signal.target_tid);
        let known = self.by_tid(target).or_else(|| self.by_tid(signal.target_tid));
        let id = known.unwrap_or_else(|| self.insert(target, signal.target_comm.unwrap_or_default()));
        let sender_ended = || {
            if current
                .is_some_and(|current| self.gone(current.tid).is_some_and(|gone| gone.at.t_ns <= at.t_ns))
            {
                return true;
            }
            let ending = sender.and_then(|id| self.get(id)).and_then(|process| process.ending);
            ending.is_some_and(|ending| ending.at.t_ns <= at.t_ns)
        };
        let exiting = current.is_some_and(|current| current.exiting.unwrap_or_else(sender_ended));
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
            target_sid: signal.target_sid,
            target_stopped: false,
            handled: 0,
        };
        let Some(process) = self.get_mut(id) else { return Change::Nothing };
        process.image.sid = signal.target_sid.or(process.image.sid);
        let watched = process.tree.is_some();
        Change::Signalled(id, process.history.push(run, watched))
    }
}
