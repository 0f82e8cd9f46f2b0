//! Answers the explainer's questions from /proc while it can still be read.

use super::host::{boottime_ns, user_name};
use super::journal::Journal;
use super::procfs::{CgroupDetail, Detail, Procfs, cgroup_memory, event, machine_memory};
use crate::model::want::Want;
use crate::model::{Event, Fact};

/// Looks up what [`Want`]s ask for.
#[derive(Debug, Default)]
pub struct Enricher {
    procfs: Procfs,
    /// `None` where nobody would hear the answers.
    journal: Option<Journal>,
}

impl Enricher {
    #[must_use]
    pub fn new(journal: Option<Journal>) -> Self {
        Self { procfs: Procfs::default(), journal }
    }

    /// An answer is to come from a source of its own.
    #[must_use]
    pub fn is_asking(&self) -> bool {
        self.journal.as_ref().is_some_and(Journal::is_asking)
    }

    /// The reader, for the first scan.
    pub fn procfs(&mut self) -> &mut Procfs {
        &mut self.procfs
    }

    /// Appends the answer. There always is one, except for a cgroup that has gone or has no memory controller, and from
    /// the journal, which answers later if it does.
    pub fn answer(&mut self, want: &Want, out: &mut Vec<Event>) {
        match want {
            Want::Process(tgid) => self.look_at(&[*tgid], Detail::Full, out),
            Want::ProcessMemory(tgid) => self.look_at(&[*tgid], Detail::Memory, out),
            Want::Survivors(tgids) => self.look_at(tgids, Detail::Survivor, out),
            Want::User(uid) => {
                out.push(event(boottime_ns(), Fact::User { uid: *uid, name: user_name(*uid) }));
            }
            Want::MachineMemory => out.push(event(boottime_ns(), Fact::Memory(machine_memory()))),
            Want::CgroupMemory(cgroups) | Want::CgroupTasks(cgroups) => {
                let t_ns = boottime_ns();
                let detail = match want {
                    Want::CgroupTasks(_) => CgroupDetail::Tasks,
                    _ => CgroupDetail::Figures,
                };
                let figures = cgroup_memory(cgroups, detail);
                out.extend(figures.into_iter().map(|figures| event(t_ns, Fact::CgroupMemory(figures))));
            }
            Want::Journal(query) => {
                if let Some(journal) = &mut self.journal {
                    journal.ask(query);
                }
            }
        }
    }

    fn look_at(&mut self, tgids: &[u32], detail: Detail, out: &mut Vec<Event>) {
        for (tgid, t_ns, facts) in self.procfs.facts_of(tgids, detail) {
            out.push(match facts {
                Ok(facts) => event(t_ns, Fact::Process(Box::new(facts))),
                // Whatever else refuses to be read now will not be readable later either.
                Err(_) => event(boottime_ns(), Fact::ProcessGone { tgid }),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::{Cgroups, ProcessFacts};

    fn answer(want: Want) -> Vec<Fact> {
        let mut out = Vec::new();
        Enricher::new(None).answer(&want, &mut out);
        out.into_iter().map(|event| event.fact).collect()
    }

    #[test]
    fn a_living_process_is_described_and_a_dead_one_is_gone() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        let facts = answer(Want::Survivors(vec![std::process::id(), pid]));
        let [Fact::Process(alive), Fact::ProcessGone { tgid }] = facts.as_slice() else {
            panic!("{facts:?}")
        };
        assert_eq!((alive.tgid, *tgid), (std::process::id(), pid));
        assert!(alive.ppid.is_some() && alive.listening.is_some());
        assert_eq!(alive.cmdline, None, "survivors are looked at briefly");
    }

    #[test]
    fn memory_wants_are_answered_with_memory() {
        let facts = answer(Want::ProcessMemory(std::process::id()));
        let [Fact::Process(facts)] = facts.as_slice() else { panic!("{facts:?}") };
        let ProcessFacts { rss_bytes: Some(_), peak_rss_bytes: Some(_), comm: None, .. } = **facts else {
            panic!("{facts:?}")
        };
        assert!(
            matches!(answer(Want::MachineMemory).as_slice(), [Fact::Memory(memory)] if memory.available_bytes.is_some())
        );
    }

    #[test]
    fn a_cgroup_that_does_not_exist_has_no_figures() {
        let nowhere = Cgroups { v2: Some("/no/such/cgroup".to_owned()), ..Cgroups::default() };
        let facts = answer(Want::CgroupMemory(nowhere));
        assert!(
            facts.iter().all(
                |fact| !matches!(fact, Fact::CgroupMemory(figures) if figures.path == "/no/such/cgroup")
            )
        );
    }
}
