//! The names of threads, which a sample does not carry.
//!
//! A record says which thread was `current`, not what it was called then; asking /proc would tell what it is called
//! now, if it still is. So every renaming is followed, in time order. A thread that has not renamed itself since
//! watching began is looked up when it first matters: its name is still the one it had.

use std::collections::{HashMap, VecDeque};

use crate::model::text::Comm;

/// Names of threads at the moment that the events have reached.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: HashMap<u32, Name>,
    /// Threads that have ended, the oldest first. A dying thread goes on sending signals, so it keeps its name for
    /// a while.
    ended: VecDeque<u32>,
}

#[derive(Debug)]
struct Name {
    comm: Comm,
    ended: bool,
}

impl Names {
    /// Threads that are remembered after their end.
    const ENDED: usize = 1024;

    /// The thread is called this from now on.
    pub(super) fn set(&mut self, tid: u32, comm: Comm) {
        let name = self.known.entry(tid).or_insert(Name { comm, ended: false });
        name.comm = comm;
    }

    /// A new thread of this name; whoever had its number before is no more.
    pub(super) fn born(&mut self, tid: u32, comm: Comm) {
        self.known.insert(tid, Name { comm, ended: false });
    }

    pub(super) fn ended(&mut self, tid: u32) {
        let Some(name) = self.known.get_mut(&tid) else { return };
        if std::mem::replace(&mut name.ended, true) {
            return;
        }
        self.ended.push_back(tid);
        if self.ended.len() > Self::ENDED
            && let Some(oldest) = self.ended.pop_front()
            && self.known.get(&oldest).is_some_and(|name| name.ended)
        {
            self.known.remove(&oldest);
        }
    }

    /// What a thread is called; `None` when it has gone before anything was known of it.
    pub(super) fn get(&mut self, tid: u32, cpu: u32) -> Option<Comm> {
        if tid == 0 {
            // Every CPU has an idle task, all of them number 0.
            return Some(Comm::from(format!("swapper/{cpu}").as_str()));
        }
        if let Some(name) = self.known.get(&tid) {
            return Some(name.comm);
        }
        let bytes = std::fs::read(format!("/proc/{tid}/comm")).ok()?;
        let comm = Comm::from(bytes.strip_suffix(b"\n").unwrap_or(&bytes));
        self.set(tid, comm);
        Some(comm)
    }

    /// Records were lost, renamings perhaps among them.
    pub(super) fn forget(&mut self) {
        self.known.clear();
        self.ended.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: u32 = u32::MAX;

    #[test]
    fn a_name_is_the_one_of_its_time() {
        let mut names = Names::default();
        names.born(NEVER, Comm::from("bash"));
        assert_eq!(names.get(NEVER, 0), Some(Comm::from("bash")));
        names.set(NEVER, Comm::from("kill"));
        names.ended(NEVER);
        assert_eq!(names.get(NEVER, 0), Some(Comm::from("kill")), "it may still hang up a terminal");
        names.born(NEVER, Comm::from("other"));
        assert_eq!(names.get(NEVER, 0), Some(Comm::from("other")));
    }

    #[test]
    fn who_was_there_before_is_looked_up_and_who_is_gone_stays_unknown() {
        let mut names = Names::default();
        let me = std::fs::read_to_string("/proc/self/comm").unwrap();
        assert_eq!(names.get(std::process::id(), 0), Some(Comm::from(me.trim_end())));
        assert_eq!(names.get(NEVER, 0), None);
        assert_eq!(names.get(0, 3), Some(Comm::from("swapper/3")));
    }

    #[test]
    fn the_dead_are_forgotten_in_the_end_but_not_who_has_their_number_now() {
        let mut names = Names::default();
        let many = u32::try_from(Names::ENDED).unwrap();
        for tid in 1..=many + 8 {
            names.born(NEVER - tid, Comm::from("x"));
            names.ended(NEVER - tid);
            if tid == 3 {
                names.born(NEVER - tid, Comm::from("new"));
            }
        }
        assert_eq!(names.known.len(), Names::ENDED + 1);
        assert_eq!(names.get(NEVER - 1, 0), None);
        assert_eq!(names.get(NEVER - 3, 0), Some(Comm::from("new")));
        assert_eq!(names.get(NEVER - many, 0), Some(Comm::from("x")));
    }
}
