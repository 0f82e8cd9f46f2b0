//! One process as the stream of events has shown it, and what was done to it.

use std::borrow::Cow;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use crate::model::event::{Cgroups, Exec, Exit, ProcessFacts, SignalMasks, Taskstats, WaitStatus};
use crate::model::select::{self, Subject};
use crate::model::signal::{Signo, code};
use crate::model::text::Comm;

use super::history::{History, SignalRun};

/// Identity of a process within one stream: survives pid reuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcId(pub u64);

/// An event's place in the stream, and its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub id: u64,
    pub t_ns: u64,
}

/// What a process is. Shared with its children until they change it.
#[derive(Clone, Debug, Default)]
pub struct Image {
    pub exe: Option<Rc<str>>,
    pub cmdline: Option<Rc<[String]>>,
    pub cwd: Option<Rc<str>>,
    /// The variable NODE_OPTIONS.
    pub node_options: Option<Rc<str>>,
    pub uid: Option<u32>,
    pub cgroups: Option<Rc<Cgroups>>,
    pub oom_score_adj: Option<i32>,
    pub pgid: Option<u32>,
    pub sid: Option<u32>,
    /// `Some("")` is "has no terminal".
    pub tty: Option<Rc<str>>,
}

impl Image {
    /// Takes over from a parent what nothing else has told.
    pub(super) fn inherit(&mut self, parent: Image) {
        let Image { exe, cmdline, cwd, node_options, uid, cgroups, oom_score_adj, pgid, sid, tty } = parent;
        self.exe = self.exe.take().or(exe);
        self.cmdline = self.cmdline.take().or(cmdline);
        self.cwd = self.cwd.take().or(cwd);
        self.node_options = self.node_options.take().or(node_options);
        self.uid = self.uid.or(uid);
        self.cgroups = self.cgroups.take().or(cgroups);
        self.oom_score_adj = self.oom_score_adj.or(oom_score_adj);
        self.pgid = self.pgid.or(pgid);
        self.sid = self.sid.or(sid);
        self.tty = self.tty.take().or(tty);
    }
}

/// What a process was called and ran before an exec or a new name.
#[derive(Clone, Debug)]
pub(super) struct Guise {
    until_ns: u64,
    comm: Comm,
    image: Image,
    exec: Option<Mark>,
    exec_path: Option<Rc<str>>,
}

/// How the end of a process was seen.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    pub at: Mark,
    /// The last thread to go.
    pub tid: u32,
    pub status: Option<WaitStatus>,
    /// What the exit event of that thread says.
    pub exit: Exit,
    /// Its exit was not seen: it was a zombie when watching began.
    pub assumed: bool,
}

impl Ending {
    /// An end that was not seen.
    pub(super) fn assumed(at: Mark, tid: u32) -> Self {
        Self { at, tid, status: None, exit: Exit::default(), assumed: true }
    }
}

/// The thread whose own call ended them all (kernel/exit.c, `do_group_exit`).
#[derive(Clone, Copy, Debug)]
pub struct EndedBy {
    pub tid: u32,
    /// Its name, which may be another than the process's.
    pub comm: Option<Comm>,
    /// Signals that it blocked: in a handler, that handler's own among them.
    pub blocked: Option<u64>,
}

/// A process.
#[derive(Clone, Debug)]
pub struct Process {
    pub id: ProcId,
    pub tgid: u32,
    /// Its parent when it was born, or when it was first seen.
    pub parent: Option<ProcId>,
    /// The pid of its parent, now.
    pub ppid: Option<u32>,
    pub comm: Comm,
    pub image: Image,
    pub born: Option<Mark>,
    pub start_ns: Option<u64>,
    pub exec: Option<Mark>,
    pub renamed: Option<Mark>,
    pub exec_path: Option<Rc<str>>,
    /// The exec event had no room for all arguments.
    pub(super) args_cut: bool,
    pub ns_tgid: Option<u32>,
    /// Who traced it when it was last read.
    pub tracer: Option<u32>,
    /// Shares its parent's memory (CLONE_VM without CLONE_THREAD) until it execs.
    pub shares_memory: bool,
    /// Threads seen to be alive, the leader included.
    pub threads: BTreeSet<u32>,
    pub rss_bytes: Option<u64>,
    pub peak_rss_bytes: Option<u64>,
    pub listening: BTreeSet<u16>,
    /// Everything that /proc tells has been read.
    pub read: bool,
    /// What it did with signals when watching began.
    pub masks: Option<SignalMasks>,
    /// Signals that waited for it when /proc was last read, bit `signo - 1`, and when that was.
    pub(super) waiting: Option<(u64, u64)>,
    /// Root of the watched tree it belongs to.
    pub tree: Option<ProcId>,
    /// It matched a selector itself.
    pub root: bool,
    pub history: History,
    pub ending: Option<Ending>,
    pub ended_by: Option<EndedBy>,
    /// Its main thread was alive and did not end by its own call: another thread ended it with all the others.
    pub leader_overruled: bool,
    /// It sent a signal: what it was then matters later.
    pub(super) struck: bool,
    /// What it was before, oldest first.
    pub(super) guises: VecDeque<Guise>,
    /// Who had its pid before, if that one is remembered.
    pub(super) predecessor: Option<ProcId>,
    /// What taskstats said of its last thread.
    pub(super) stats: Option<Taskstats>,
    /// Children that are remembered.
    pub(super) children: BTreeSet<ProcId>,
}

impl Process {
    pub(super) fn new(id: ProcId, tgid: u32, comm: Comm) -> Self {
        Self {
            id,
            tgid,
            parent: None,
            ppid: None,
            comm,
            image: Image::default(),
            born: None,
            start_ns: None,
            exec: None,
            renamed: None,
            exec_path: None,
            args_cut: false,
            ns_tgid: None,
            tracer: None,
            shares_memory: false,
            threads: BTreeSet::from([tgid]),
            rss_bytes: None,
            peak_rss_bytes: None,
            listening: BTreeSet::new(),
            read: false,
            masks: None,
            waiting: None,
            tree: None,
            root: false,
            history: History::default(),
            ending: None,
            ended_by: None,
            leader_overruled: false,
            struck: false,
            guises: VecDeque::new(),
            predecessor: None,
            stats: None,
            children: BTreeSet::new(),
        }
    }

    /// Neither its birth was seen nor anything about it read: no more than its number and name is known.
    #[must_use]
    pub fn is_faceless(&self) -> bool {
        self.born.is_none() && self.ppid.is_none()
    }

    #[must_use]
    pub fn alive(&self) -> bool {
        self.ending.is_none()
    }

    /// A SIGKILL has been queued for it, which nothing holds up (kernel/signal.c, `complete_signal`): it may only take
    /// a while to give back its memory.
    #[must_use]
    pub fn is_doomed(&self) -> bool {
        self.history.runs.iter().any(|run| run.signo == Signo::KILL && run.result.queued())
    }

    /// It ends, or has: one of its threads has taken a signal that ends them all. Of a process in which a thread called
    /// exit_group(2), or was killed, every other thread takes a SIGKILL (kernel/signal.c, `get_signal`), at the latest
    /// when it is next given a processor.
    #[must_use]
    pub fn has_to_end(&self) -> bool {
        self.is_doomed() || self.history.taken.is_some()
    }

    #[must_use]
    pub fn subject(&self) -> Subject<'_> {
        Subject {
            tgid: self.tgid,
            comm: self.comm,
            exe: self.image.exe.as_deref(),
            cmdline: self.image.cmdline.as_deref(),
            uid: self.image.uid,
            cgroups: self.image.cgroups.as_deref(),
            listening: &self.listening,
        }
    }

    /// What a person calls it.
    #[must_use]
    pub fn name(&self) -> String {
        select::name(&self.subject())
    }

    /// `zsh (pid 4010)`
    #[must_use]
    pub fn label(&self) -> String {
        format!("{} (pid {})", self.name(), self.tgid)
    }

    /// It has neither taken this signal nor waited for it.
    #[must_use]
    pub fn left_waiting(&self, run: &SignalRun) -> bool {
        let at_end = self.ending.and_then(|ending| ending.exit.pending).unwrap_or(0);
        let later = self.waiting.filter(|(t_ns, _)| *t_ns > run.last.t_ns).map_or(0, |(_, waiting)| waiting);
        run.handled == 0 && (at_end | later) & run.signo.bit() != 0
    }

    /// It leads its session.
    #[must_use]
    pub fn leads_session(&self) -> bool {
        self.image.sid == Some(self.tgid)
    }

    /// The process as it was at some time, before it became another program or took another name.
    #[must_use]
    pub fn as_of(&self, t_ns: u64) -> Cow<'_, Process> {
        let Some(guise) = self.guises.iter().find(|guise| t_ns < guise.until_ns) else {
            return Cow::Borrowed(self);
        };
        let Guise { until_ns: _, comm, image, exec, exec_path } = guise.clone();
        Cow::Owned(Self { comm, image, exec, exec_path, ..self.clone() })
    }

    /// Remembers what it is, before that changes, if anybody may ask.
    fn keep_guise(&mut self, until_ns: u64) {
        /// `sudo env sh -c` are three.
        const KEPT: usize = 4;
        if !self.struck && self.history.runs.is_empty() {
            return;
        }
        if self.guises.len() == KEPT {
            self.guises.pop_front();
        }
        let (comm, image) = (self.comm, self.image.clone());
        self.guises.push_back(Guise {
            until_ns,
            comm,
            image,
            exec: self.exec,
            exec_path: self.exec_path.clone(),
        });
    }

    pub(super) fn rename(&mut self, at: Mark, comm: Comm) {
        if self.comm != comm {
            self.keep_guise(at.t_ns);
            self.comm = comm;
        }
        self.renamed = Some(at);
    }

    pub(super) fn apply_exec(&mut self, at: Mark, comm: Option<Comm>, exec: &Exec) {
        self.keep_guise(at.t_ns);
        self.exec = Some(at);
        (self.ended_by, self.leader_overruled) = (None, false);
        self.shares_memory = false;
        if let Some(comm) = comm {
            self.comm = comm;
        }
        self.exec_path = Some(Rc::from(exec.path.as_str()));
        let interpreter = exec.interp.as_deref().or_else(|| interpreter(exec));
        self.image.exe = Some(Rc::from(interpreter.unwrap_or(&exec.path)));
        self.image.cmdline = exec.args.as_ref().map(|args| Rc::from(args.as_slice()));
        self.args_cut = exec.args_truncated;
        self.ppid = exec.ppid.or(self.ppid);
        self.start_ns = self.start_ns.or(exec.start_boottime_ns);
        self.threads = BTreeSet::from([self.tgid]);
        self.read = false;
    }

    pub(super) fn apply_facts(&mut self, facts: &ProcessFacts) {
        fn text(field: &mut Option<Rc<str>>, fact: Option<&String>) {
            if let Some(fact) = fact {
                *field = Some(Rc::from(fact.as_str()));
            }
        }
        let image = &mut self.image;
        text(&mut image.cwd, facts.cwd.as_ref());
        text(&mut image.tty, facts.tty.as_ref());
        // What was read a moment too late is of the program it has become since, and its exec is still to come.
        let seen = self.born.is_some() || self.exec.is_some();
        let other = seen && !facts.seeded && facts.comm.is_some_and(|comm| comm != self.comm);
        if !other {
            self.comm = facts.comm.unwrap_or(self.comm);
            text(&mut image.exe, facts.exe.as_ref());
        }
        // The arguments it was started with say more than what it has made of them since: fuser cuts its own to
        // pieces. A fork that calls itself something else has nothing better.
        let whole = self.exec.is_some() && !self.args_cut && image.cmdline.is_some();
        if let Some(cmdline) = facts.cmdline.as_ref().filter(|args| !args.is_empty() && !whole && !other) {
            image.cmdline = Some(Rc::from(cmdline.as_slice()));
        }
        if let Some(cgroups) = &facts.cgroups {
            let known = image.cgroups.as_deref();
            image.cgroups = Some(Rc::new(known.map_or(cgroups.clone(), |known| beyond_root(cgroups, known))));
        }
        // Read together with the working directory: it may have been unset since.
        if facts.cwd.is_some() {
            image.node_options = facts.node_options.as_deref().map(Rc::from);
        }
        image.uid = facts.uid.or(image.uid);
        image.oom_score_adj = facts.oom_score_adj.or(image.oom_score_adj);
        image.pgid = facts.pgid.or(image.pgid);
        image.sid = facts.sid.or(image.sid);
        self.ppid = facts.ppid.or(self.ppid);
        self.start_ns = self.start_ns.or(facts.start_boottime_ns);
        self.ns_tgid = facts.ns_tgid.or(self.ns_tgid);
        self.tracer = facts.tracer.or(self.tracer);
        self.rss_bytes = facts.rss_bytes.or(self.rss_bytes);
        self.peak_rss_bytes = facts.peak_rss_bytes.or(self.peak_rss_bytes);
        if let Some(ports) = &facts.listening {
            self.listening = ports.iter().copied().collect();
        }
        self.threads.extend(&facts.threads);
        self.masks = self.masks.or(facts.signals.filter(|_| facts.seeded));
        if facts.leaderless {
            self.threads.remove(&self.tgid);
        }
        self.read |= facts.cwd.is_some() || facts.oom_score_adj.is_some();
    }

    /// Notes what taskstats says; the record of the last thread is the process's.
    pub(super) fn apply_taskstats(&mut self, stats: &Taskstats) {
        self.peak_rss_bytes = stats.max_rss_bytes.max(self.peak_rss_bytes);
        self.stats = Some(*stats);
        self.use_stats();
    }

    /// Notes how one of its threads ended.
    ///
    /// A thread that is ended by another one's `exit_group` has the group's code and ends in `get_signal`; one that an
    /// exec replaces ends the same way with code 0 (kernel/exit.c, `do_group_exit`).
    pub(super) fn thread_ended(&mut self, tid: u32, status: WaitStatus, signaled: bool, by: Option<EndedBy>) {
        if signaled && tid == self.tgid && status.code().is_some_and(|code| code != 0) {
            self.leader_overruled = true;
        }
        if self.ended_by.is_none() {
            self.ended_by = by;
        }
    }

    /// taskstats has named this thread as its last.
    pub(super) fn stats_of_last(&self, tid: u32) -> bool {
        self.stats.is_some_and(|stats| stats.tid == tid && stats.group_dead == Some(true))
    }

    /// Whether its last thread ended by a signal, or at least not by its own call; `None` where that is not seen.
    #[must_use]
    pub fn signaled(&self) -> Option<bool> {
        self.ending?.exit.signaled.or(self.stats.map(|stats| stats.signaled))
    }

    /// The kernel sends the record before the exit event, but the two come by different ways.
    pub(super) fn use_stats(&mut self) {
        if let (Some(ending), Some(stats)) = (&mut self.ending, self.stats) {
            ending.status = ending.status.or(Some(stats.status));
        }
    }

    /// SIGCHLD's code as a wait status, as far as it goes.
    #[must_use]
    pub fn child_code_says_killed(&self) -> Option<bool> {
        match self.history.child_code? {
            code::CLD_EXITED => Some(false),
            code::CLD_KILLED | code::CLD_DUMPED => Some(true),
            _ => None,
        }
    }
}

/// The interpreter of a script, where the kernel does not name it: `load_script` (fs/binfmt_script.c) puts it, at most
/// one argument for it, and the script's path before what the script was given.
fn interpreter(exec: &Exec) -> Option<&str> {
    let (first, rest) = exec.args.as_deref()?.split_first()?;
    let is_script =
        first.contains('/') && *first != exec.path && rest.iter().take(2).any(|arg| *arg == exec.path);
    is_script.then_some(first)
}

/// A hierarchy of cgroup v1 shows whoever is exiting at its root (kernel/cgroup/cgroup.c, `proc_cgroup_show`), wherever it
/// was: what is known from before says more, unless it was moved to the root.
fn beyond_root(read: &Cgroups, known: &Cgroups) -> Cgroups {
    let is_root = |path: &Option<String>| path.as_deref() == Some("/");
    let mut cgroups = read.clone();
    if is_root(&known.moved) {
        return cgroups;
    }
    let hierarchies = [(&mut cgroups.systemd, &known.systemd), (&mut cgroups.memory, &known.memory)];
    let mut at_root = false;
    for (path, known) in hierarchies {
        if is_root(path) {
            at_root = true;
            if known.is_some() {
                path.clone_from(known);
            }
        }
    }
    if at_root && cgroups.moved.is_none() {
        cgroups.moved.clone_from(&known.moved);
    }
    cgroups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_exiting_stays_where_it_was() {
        let path = |path: &str| Some(path.to_owned());
        let root = Cgroups { memory: path("/"), systemd: path("/"), v2: path("/a"), moved: None };
        let known = Cgroups { memory: path("/web"), moved: path("/web/x"), ..Cgroups::default() };
        let kept = beyond_root(&root, &known);
        let expected = Cgroups { memory: path("/web"), moved: path("/web/x"), ..root.clone() };
        assert_eq!(kept, expected);
        let elsewhere = Cgroups { memory: path("/other"), ..Cgroups::default() };
        assert_eq!(beyond_root(&elsewhere, &known), elsewhere, "what was read says more");
        let gone_there = Cgroups { moved: path("/"), ..known };
        assert_eq!(beyond_root(&root, &gone_there), root);
    }

    #[test]
    fn the_arguments_of_a_script_begin_with_its_interpreter() {
        let of = |path: &str, args: &[&str]| {
            let args = Some(args.iter().map(ToString::to_string).collect());
            let exec = Exec { path: path.to_owned(), args, ..Exec::default() };
            interpreter(&exec).map(str::to_owned)
        };
        assert_eq!(of("./keep.sh", &["/bin/sh", "./keep.sh", "80"]).as_deref(), Some("/bin/sh"));
        assert_eq!(of("/x", &["/usr/bin/env", "-S node", "/x"]).as_deref(), Some("/usr/bin/env"));
        assert_eq!(of("/bin/sh", &["/bin/sh", "./keep.sh"]), None);
        assert_eq!(of("/usr/bin/cp", &["cp", "/usr/bin/cp", "/tmp"]), None, "nobody calls it by a path");
        assert_eq!(of("/x", &["/bin/sh", "-a", "-b", "/x"]), None, "it can have only one argument");
    }
}
