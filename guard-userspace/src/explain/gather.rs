//! Everything that has been answered, as one report.

use std::collections::BTreeMap;

use crate::model::Report;
use crate::model::record::DeathRecord;
use crate::model::report::{AlsoDied, Collector, Death, Watch};

use super::process::ProcId;
use super::{Answered, Explainer};

impl Explainer {
    /// Everything so far. Its `generated_at` is the time of the last event.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut deaths: Vec<Death> = self.deaths.iter().map(|record| record.death.clone()).collect();
        self.group(&mut deaths);
        for death in &mut deaths {
            // Who lived on then and has died since has a record of its own.
            let alive = |pid: u32| {
                self.table.by_tid(pid).and_then(|id| self.table.get(id)).is_some_and(|p| p.alive())
            };
            death.aftermath.survivors.retain(|survivor| alive(survivor.pid));
        }
        let alive: Vec<_> =
            self.table.iter().filter(|process| process.tree.is_some() && process.alive()).collect();
        let now = self.header.wall(self.now_ns);
        Report {
            schema: Report::SCHEMA.to_owned(),
            tool: self.header.tool.clone(),
            generated_at: now,
            host: self.header.host.clone(),
            collector: Collector {
                backend: self.header.backend.clone(),
                started_at: self.header.started_at,
                ended_at: now,
                events: self.events,
                lost_events: self.losses.total(),
                degraded: self.header.degraded.clone(),
            },
            watch: Watch { selectors: self.header.selectors.clone(), roots_seen: self.roots_seen },
            patterns: self.patterns.all(self.scene()),
            timeline: self.timeline.entries(&self.header, &alive, &self.table),
            timeline_omitted: self.timeline.omitted(),
            deaths_omitted: self.deaths_omitted,
            deaths,
        }
    }

    /// Deaths answered since the last call, in order, each as a record of its own; and forgets them. Which others
    /// died with them is noted as far as they were answered together.
    pub fn take_records(&mut self) -> Vec<DeathRecord> {
        let mut deaths: Vec<Death> = self.deaths.iter().map(|told| told.death.clone()).collect();
        if deaths.is_empty() {
            return Vec::new();
        }
        self.group(&mut deaths);
        let header = &self.header;
        let records = deaths.into_iter().map(|death| DeathRecord {
            schema: DeathRecord::SCHEMA.to_owned(),
            tool: header.tool.clone(),
            host: header.host.clone(),
            backend: header.backend.clone(),
            degraded: header.degraded.clone(),
            timeline: self.timeline.of(header, &death),
            death,
        });
        let records = records.collect();
        self.deaths.clear();
        self.taken = 0;
        // What a later answer rests on, it shows again.
        self.timeline.clear();
        records
    }

    /// Sets what the wall clock says: a machine without a battery for its clock learns the time while it runs.
    pub fn set_wall_clock(&mut self, wall_minus_boottime_ns: i64) {
        let since_ns = self.header.since_ns();
        self.header.wall_minus_boottime_ns = wall_minus_boottime_ns;
        self.header.started_at = self.header.wall(since_ns);
    }

    /// Notes on each death which others followed from it, or fell to the same act.
    fn group(&self, deaths: &mut [Death]) {
        let mut by_victim: BTreeMap<ProcId, usize> = BTreeMap::new();
        let mut by_act: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for (index, record) in self.deaths.iter().enumerate() {
            by_victim.insert(record.victim, index);
            if let Some(act) = record.act {
                by_act.entry(act).or_default().push(index);
            }
        }
        let also = |record: &Answered, because_of_death| AlsoDied {
            pid: record.death.victim.pid,
            comm: record.death.victim.comm.clone(),
            because_of_death,
            confidence: record.confidence,
        };
        for (index, record) in self.deaths.iter().enumerate() {
            if let Some(&origin) = record.because_of.and_then(|id| by_victim.get(&id)) {
                let because = deaths[origin].id;
                deaths[origin].aftermath.also_died.push(also(record, Some(because)));
            }
            let fellows = record.act.and_then(|act| by_act.get(&act)).into_iter().flatten();
            for &fellow in fellows.filter(|&&fellow| fellow != index).take(Self::FELLOWS) {
                deaths[index].aftermath.also_died.push(also(&self.deaths[fellow], None));
            }
        }
    }
}
