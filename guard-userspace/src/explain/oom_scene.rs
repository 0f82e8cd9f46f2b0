//! What was read of a memory cgroup when the OOM killer had chosen, and its victim still held what it had.

use std::collections::VecDeque;

use crate::model::event::{CgroupMemory, Cgroups};

use super::process::ProcId;

/// The scenes of those whose deaths have not been answered yet.
#[derive(Debug, Default)]
pub struct OomScenes {
    open: VecDeque<Scene>,
}

#[derive(Debug)]
struct Scene {
    victim: ProcId,
    cgroups: Cgroups,
    figures: Vec<CgroupMemory>,
}

impl OomScenes {
    const KEPT: usize = 64;

    /// The OOM killer has marked it.
    pub fn open(&mut self, victim: ProcId, cgroups: Cgroups) {
        if self.open.len() == Self::KEPT {
            self.open.pop_front();
        }
        self.open.push_back(Scene { victim, cgroups, figures: Vec::new() });
    }

    /// What was read first counts: later the victim has given its memory back.
    pub fn note(&mut self, read: &CgroupMemory) {
        for scene in self.open.iter_mut().filter(|scene| covers(&read.path, &scene.cgroups)) {
            match scene.figures.iter_mut().find(|known| known.path == read.path) {
                None => scene.figures.push(read.clone()),
                Some(known) if known.largest.is_empty() => known.largest = read.largest.clone(),
                Some(_) => {}
            }
        }
    }

    /// What was read of the cgroups of this victim, its own first.
    #[must_use]
    pub fn close(&mut self, victim: ProcId) -> Vec<CgroupMemory> {
        let place = self.open.iter().position(|scene| scene.victim == victim);
        place.and_then(|place| self.open.remove(place)).map(|scene| scene.figures).unwrap_or_default()
    }
}

/// Whether the cgroup of this path holds whoever is in those.
pub(super) fn covers(path: &str, cgroups: &Cgroups) -> bool {
    [&cgroups.memory, &cgroups.v2]
        .into_iter()
        .flatten()
        .any(|own| own == path || own.starts_with(&format!("{}/", path.trim_end_matches('/'))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::TaskMemory;
    use crate::model::text::Comm;

    fn figures(path: &str, usage: u64) -> CgroupMemory {
        CgroupMemory { path: path.to_owned(), usage_bytes: Some(usage), ..CgroupMemory::default() }
    }

    #[test]
    fn the_first_reading_counts_and_the_largest_may_come_later() {
        let mut scenes = OomScenes::default();
        let cgroups = Cgroups { memory: Some("/docker/a".to_owned()), ..Cgroups::default() };
        scenes.open(ProcId(1), cgroups);
        scenes.note(&figures("/docker/a", 100));
        scenes.note(&figures("/docker/ab", 7));
        let largest = vec![TaskMemory { tgid: 9, comm: Comm::from("node"), rss_bytes: 90 }];
        scenes.note(&CgroupMemory { largest: largest.clone(), ..figures("/docker/a", 5) });
        assert_eq!(scenes.close(ProcId(2)), []);
        assert_eq!(scenes.close(ProcId(1)), [CgroupMemory { largest, ..figures("/docker/a", 100) }]);
        assert_eq!(scenes.close(ProcId(1)), [], "told once");
    }
}
