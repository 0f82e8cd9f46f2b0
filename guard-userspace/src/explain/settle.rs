//! Deaths wait for what belongs to them, and are then answered.

use std::collections::BTreeSet;

use crate::model::event::Call;
use crate::model::report::Confidence;
use crate::model::want::Want;

use super::case::Case;
use super::death::{self, Scene};
use super::doubt::Doubt;
use super::patterns::AnsweredDeath;
use super::process::{ProcId, Process};
use super::story::{self, Teller};
use super::{Answered, Explainer, Pending};

impl Explainer {
    /// Notes that the collector has answered for a process.
    ///
    /// A victim with much memory takes its time between the exit event and the end of its children's parentage
    /// (kernel/exit.c, `exit_mm` comes before `exit_notify`): whoever still names it as parent is asked again.
    pub(super) fn answered(&mut self, tgid: u32, ppid: Option<u32>) {
        for pending in &mut self.pending {
            let Some(awaited) = &mut pending.awaited else { continue };
            let victim = self.table.get(pending.id).map(|victim| victim.tgid);
            if !awaited.contains(&tgid) {
                continue;
            }
            if ppid.is_some() && ppid == victim && self.now_ns < pending.last_chance_ns {
                self.wants.push(Want::Survivors(vec![tgid]));
            } else {
                awaited.remove(&tgid);
            }
        }
    }

    /// Asks about those that outlived a death. Only now: `do_exit` reparents them after its tracepoint.
    fn ask_about_survivors(&mut self, now_ns: u64) {
        for pending in self.pending.iter_mut().filter(|p| p.awaited.is_none() && p.due_ns <= now_ns) {
            let alive = |id: &ProcId| self.table.get(*id).filter(|process| process.alive());
            let tgids: BTreeSet<u32> = pending
                .surroundings
                .descendants
                .iter()
                .filter_map(alive)
                .map(|process| process.tgid)
                .collect();
            if !tgids.is_empty() {
                self.wants.push(Want::Survivors(tgids.iter().copied().collect()));
            }
            pending.awaited = Some(tgids);
        }
    }

    /// Answers the deaths whose late facts have come, or had their time.
    pub(super) fn settle(&mut self, now_ns: u64) {
        self.judge_the_unjudged();
        self.ask_about_survivors(now_ns);
        while let Some(pending) = self.pending.front() {
            // Whatever it waits for, it waits for so long.
            if now_ns < pending.due_ns {
                return;
            }
            let ending = self.table.get(pending.id).and_then(|process| process.ending);
            let complete = ending.is_some_and(|ending| ending.status.is_some())
                && pending.surroundings.memory.is_some()
                && pending.awaited.as_ref().is_some_and(BTreeSet::is_empty);
            let until_ns = match self.awaited_end(pending.id) {
                // It comes for certain, however busy the machine is.
                Some(ending) if ending.has_to_end() => {
                    pending.last_chance_ns.saturating_add(Self::PATIENCE_NS)
                }
                None if complete => pending.due_ns,
                _ => pending.last_chance_ns,
            };
            if now_ns < until_ns {
                return;
            }
            if let Some(mut pending) = self.pending.pop_front() {
                pending.surroundings.at_oom = self.oom_scenes.close(pending.id);
                self.answer(&pending);
            }
        }
    }

    /// A thread of another process signalled it while it was ending: whether that whole process ends, and of what, is
    /// known only when its last thread is gone. One that called exit(2) ends alone.
    fn awaited_end(&self, id: ProcId) -> Option<&Process> {
        let dying = self.table.get(id)?.history.runs.iter().filter(|run| {
            let alone = run.in_call(&[Call::Exit]) == Some(true);
            run.current_exiting && !alone && run.current != Some(id)
        });
        dying.filter_map(|run| self.table.get(run.current?)).find(|sender| sender.alive())
    }

    fn answer(&mut self, pending: &Pending) {
        let Some(victim) = self.table.get(pending.id) else { return };
        let scene = Scene {
            header: &self.header,
            teller: self.teller(),
            surroundings: &pending.surroundings,
            oom_logs: &self.oom_logs,
        };
        let Some((death, story)) = death::answer(&scene, victim, self.next_death) else { return };
        self.show(&story);
        let exit = death.exit.clone();
        if let Some(victim) = self.table.get(pending.id) {
            self.timeline.exit(victim, exit);
            for run in &victim.history.runs {
                self.timeline.signal(victim, run, &self.table);
            }
        }
        self.timeline.keep(story.evidence.iter().copied());
        self.next_death += 1;
        if let Some(victim) = self.table.get(pending.id) {
            let queries = self.hearing.open(&self.table, victim, &story, death.id);
            self.wants.extend(queries.into_iter().map(Want::Journal));
            let answered =
                AnsweredDeath { death: &death, story: &story, victim, surroundings: &pending.surroundings };
            self.patterns.answered(super::scene(&self.header, &self.table, self.now_ns), &answered);
        }
        let because_of = story.finding.because_of.or(story.followed.map(|followed| followed.origin));
        let confidence = if story.followed.is_some() { Confidence::Likely } else { story.finding.confidence };
        let act = story.shared_act;
        self.deaths.push(Answered { death, victim: pending.id, because_of, confidence, act });
        if self.deaths.len() > Self::DEATHS {
            // Some at a time: moving the rest down for each would cost more than the answer itself.
            let gone = Self::DEATHS / 10;
            self.deaths.drain(..gone);
            self.taken = self.taken.saturating_sub(gone);
            self.deaths_omitted += gone as u64;
        }
    }

    /// Puts the events a story rests on into the timeline, whoever's they are.
    fn show(&mut self, story: &story::Story) {
        for process in story.cast.iter().filter_map(|&id| self.table.get(id)) {
            self.timeline.fork(process, &self.table);
            self.timeline.exec(process);
            for run in process.history.runs.iter().filter(|run| story.evidence.contains(&run.first.id)) {
                self.timeline.signal(process, run, &self.table);
            }
            if process.history.oom.is_some_and(|mark| story.evidence.contains(&mark.at.id)) {
                self.timeline.oom_victim(process, &self.table);
            }
            if process.history.taken.is_some_and(|taken| story.evidence.contains(&taken.at.id)) {
                self.timeline.taken(process);
            }
            let ended = process.ending.is_some_and(|ending| story.evidence.contains(&ending.at.id));
            if let (true, Some(case)) = (ended, Case::new(&self.table, process)) {
                self.timeline.exit(process, death::exit_status(&case));
            }
        }
    }

    fn teller(&self) -> Teller<'_> {
        let doubt = Doubt { losses: &self.losses, since_ns: self.header.since_ns() };
        Teller { table: &self.table, acts: &self.acts, doubt }
    }
}
