//! The agent: carries events from the sources to the explainer, and its answers to the output.
//!
//! Everything runs on one thread. While nothing happens it sleeps in `epoll_wait`, without timers. The first
//! event wakes it; from then on it drains every [`COALESCE`], as network drivers do, until a drain finds
//! nothing, so that a flood of events costs a hundred wakeups a second and not one each.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::failure::Failure;
use super::keeper::{Keeper, Store};
use super::output::{Output, note};
use super::select::{Selection, absent};
use super::service::ServiceManager;
use super::session::{Ended, Job, answer_signal};
use super::signals::Signals;
use super::sources::{Abilities, Sources};
use super::sys;
use crate::collect::enrich::Enricher;
use crate::collect::host;
use crate::explain::Explainer;
use crate::explain::case::asks_to_stop;
use crate::model::header::{Header, Tool};
use crate::model::signal::Signo;
use crate::model::time::Timestamp;
use crate::model::{Event, Fact};
use crate::recording;

/// Between two drains while events keep coming. Far below the 100 ms that a verdict may take, and long enough
/// that a flood of 200,000 signals a second costs little: 2,000 events, a quarter of a megabyte of ring.
const COALESCE: Duration = Duration::from_millis(10);
/// Between two drains where the arguments of a new program must be read from /proc: it may live for a millisecond.
const HASTE: Duration = Duration::from_micros(500);
/// Between two ticks while a verdict waits for time to pass.
const SETTLE: Duration = Duration::from_millis(5);
/// Longest wait for open verdicts once watching has ended.
const SETTLE_AT_END: Duration = Duration::from_millis(500);
/// The collector answers as many rounds of questions between two drains; the rest wait for the next.
const ROUNDS: usize = 8;
/// Events that the batch keeps room for after a flood.
const BATCH_KEPT: usize = 16_384;

/// Carries events from the sources to the explainer, and its answers to the output.
#[derive(Debug)]
pub(super) struct Agent {
    sources: Sources,
    enricher: Enricher,
    /// Exec events come without arguments.
    reads_arguments: bool,
    /// Processes are selected by the ports they listen on.
    by_port: bool,
    explainer: Explainer,
    output: Output,
    /// Keeps what dies on the whole machine.
    keeper: Option<Keeper>,
    recording: Recording,
    /// Selectors in the user's words.
    texts: Vec<String>,
    /// Units and cgroups that were asked for and have no process.
    absent: Vec<String>,
    /// Events of this turn; empty between turns, its room reused.
    batch: Vec<Event>,
    last_id: u64,
    pub(super) deaths: u64,
    root_died: bool,
    /// No root is alive, so the next one is worth a word.
    waiting: bool,
}

/// The recording that was asked for.
#[derive(Debug)]
enum Recording {
    None,
    On(recording::Writer<File>),
    Failed,
}

impl Agent {
    pub(super) fn new(
        mut sources: Sources,
        abilities: Abilities,
        selection: Selection,
        output: Output,
        events: Option<File>,
        store: Option<Store>,
    ) -> Result<Self, Failure> {
        let offset = host::wall_minus_boottime_ns();
        let header = Header {
            schema: Header::SCHEMA.to_owned(),
            tool: Tool { name: "killtrace".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() },
            host: host::host(),
            backend: abilities.backend.to_owned(),
            degraded: abilities.degraded,
            capabilities: abilities.capabilities,
            started_at: Timestamp(offset.saturating_add_unsigned(host::boottime_ns())),
            wall_minus_boottime_ns: offset,
            selectors: selection.texts.clone(),
            own_tgid: std::process::id(),
        };
        for lack in &header.degraded {
            log::info!("degraded: {lack}");
        }
        let keeper = store.map(|store| Keeper::start(store, &header, abilities.continued)).transpose()?;
        // A store has each death as soon as it is told, and does not change it later.
        let journal = sources.take_journal().filter(|_| keeper.is_none());
        let enricher = Enricher::new(journal);
        let mut agent = Self {
            sources,
            enricher,
            reads_arguments: !header.capabilities.exec_args,
            by_port: !selection.selectors.ports.is_empty(),
            explainer: Explainer::new(header.clone(), selection.selectors),
            output,
            keeper,
            recording: Recording::None,
            texts: selection.texts,
            absent: Vec::new(),
            batch: Vec::new(),
            last_id: 0,
            deaths: 0,
            root_died: false,
            waiting: false,
        };
        if let Some(file) = events {
            let writer = file.set_len(0).and_then(|()| recording::Writer::new(file, &header));
            agent.recording = match writer {
                Ok(writer) => Recording::On(writer),
                Err(error) => Recording::failed(error),
            };
        }
        Ok(agent)
    }

    /// Reads the processes that exist. The sources are armed already, so that what happens during the scan is
    /// not lost but sorted in.
    pub(super) fn seed(&mut self) -> Result<(), Failure> {
        let procfs = self.enricher.procfs();
        // Who listens on what is read only when it was asked: it means looking at every open file.
        let scan =
            if self.by_port { procfs.scan_with_ports(&mut self.batch) } else { procfs.scan(&mut self.batch) };
        scan.context("cannot list the processes in /proc")
            .map_err(|error| Failure::new(error).help("is /proc mounted? mount -t proc proc /proc"))?;
        self.absent = absent(&self.texts, &self.batch);
        self.turn()?;
        self.batch.shrink_to(BATCH_KEPT);
        sys::return_memory();
        Ok(())
    }

    /// Says what is watched.
    pub(super) fn announce(&mut self) {
        if let Some(keeper) = &self.keeper {
            keeper.announce();
            return;
        }
        for what in std::mem::take(&mut self.absent) {
            note(&format!("no {} yet; waiting for it", printable(&what)));
        }
        let roots = self.explainer.live_roots();
        self.waiting = roots.is_empty();
        if self.waiting {
            let wanted = self.texts.join(" or ");
            note(&format!("watching: no process matches {} yet; waiting for one", printable(&wanted)));
        } else {
            note(&format!("watching: {}", describe(&roots)));
        }
    }

    /// What it is at, in a few words.
    pub(super) fn status(&self) -> String {
        let doing = match &self.keeper {
            Some(keeper) => format!("recording to {}", keeper.directory().display()),
            None => format!("watching {}", self.texts.join(" or ")),
        };
        printable(&format!("{doing}; deaths so far: {}", self.deaths)).into_owned()
    }

    /// Follows events until the job is done.
    pub(super) async fn follow(&mut self, signals: &Signals, job: &mut Job) -> Result<Ended, Failure> {
        let deadline = match job {
            Job::Watch { duration: Some(duration), .. } => Some(Instant::now() + *duration),
            _ => None,
        };
        let mut manager = ServiceManager::new();
        let mut busy = true;
        loop {
            let pause = self.pause(busy);
            if let Some(pause) = pause {
                // Not a sleep of the runtime: events would wake it, and waiting for more of them is the point.
                std::thread::sleep(pause);
            }
            let timer = [deadline, self.output.save_at(), manager.due()].into_iter().flatten().min();
            let mut arrived = None;
            tokio::select! {
                biased;
                signal = signals.next() => arrived = Some(signal.context("cannot wait for signals")?),
                () = self.output.saved() => {}
                // Looks at the signals once and goes on.
                () = tokio::task::yield_now(), if pause.is_some() => {}
                () = sleep_until(timer) => {}
                ready = self.sources.ready() => ready.context("cannot wait for events")?,
            }
            if arrived.is_some_and(|arrived| matches!(job, Job::Run(_)) && arrived.signo != Signo::CHLD) {
                // Sent to a group, it reaches the command an instant before or after killtrace, and then it is seen.
                std::thread::sleep(COALESCE);
            }
            if arrived.is_some_and(|arrived| asks_to_stop(arrived.signo)) {
                self.output.asked_to_stop();
            }
            busy = self.turn()?;
            if let Some(arrived) = arrived {
                let has_it = |pid| self.explainer.sent_to_both(pid, arrived.signo);
                if let Some(ended) = answer_signal(arrived, job, has_it)? {
                    return Ok(ended);
                }
            }
            let now = Instant::now();
            if self.output.save_at().is_some_and(|due| due <= now) {
                self.output.save(self.explainer.report());
            }
            manager.alive(now, || self.status());
            match job {
                Job::Watch { once: true, .. } if self.root_died => return Ok(Ended::Once),
                Job::Watch { .. } if self.is_unheard() => return Ok(Ended::Closed),
                _ if deadline.is_some_and(|deadline| deadline <= now) => return Ok(Ended::Duration),
                _ => {}
            }
        }
    }

    /// Nobody reads what it says, and nothing is written either.
    fn is_unheard(&self) -> bool {
        self.output.is_closed() && self.keeper.is_none() && !matches!(self.recording, Recording::On(_))
    }

    /// How long to leave the sources alone; `None` to wait for them.
    fn pause(&self, busy: bool) -> Option<Duration> {
        let settling = self.explainer.is_settling();
        match (settling, busy) {
            (false, false) => None,
            _ if self.reads_arguments => Some(HASTE),
            (true, _) => Some(SETTLE),
            (false, true) => Some(COALESCE),
        }
    }

    /// Takes what there is and acts on it. False when there was nothing.
    fn turn(&mut self) -> Result<bool, Failure> {
        // Before the drain, so that the tick is no later than anything drained next time.
        let now_ns = host::boottime_ns();
        let settling = self.explainer.is_settling();
        let drained = self.sources.drain(&mut self.batch);
        let found = !self.batch.is_empty();
        if settling {
            self.batch.push(event(now_ns, Fact::Tick));
        }
        // Stable: events of one CPU are in order already, and equal times must not swap them. A loss is told when
        // the counters are read, and is of the time before: no death of this batch may be answered without it.
        self.batch.sort_by_key(|event| (!matches!(event.fact, Fact::Lost { .. }), event.t_ns));
        if found && let Some(keeper) = &mut self.keeper {
            let offset = host::wall_minus_boottime_ns();
            self.explainer.set_wall_clock(offset);
            keeper.passed(Timestamp(offset.saturating_add_unsigned(now_ns)), lost_in(&self.batch));
        }
        self.pass_on();
        drained?;
        if self.waiting && found {
            let roots = self.explainer.live_roots();
            if !roots.is_empty() {
                self.waiting = false;
                note(&format!("watching: {}", describe(&roots)));
            }
        }
        Ok(found)
    }

    /// Numbers, records and applies the batch, answers the questions that it raises, tells the deaths and what recurs.
    fn pass_on(&mut self) {
        self.apply();
        for _ in 0..ROUNDS {
            let wants = self.explainer.take_wants();
            if wants.is_empty() {
                break;
            }
            for want in &wants {
                self.enricher.answer(want, &mut self.batch);
            }
            self.apply();
        }
        if let Some(keeper) = &self.keeper {
            for record in self.explainer.take_records() {
                if keeper.keep(&record) {
                    self.deaths += 1;
                    self.output.death(&record.death);
                }
            }
        }
        let mut root_died = false;
        for death in self.explainer.take_deaths() {
            self.deaths += 1;
            root_died |= death.victim.root;
            self.output.death(&death);
        }
        for (death, lines) in self.explainer.take_journal() {
            self.output.journal(&death, &lines);
        }
        for pattern in self.explainer.take_patterns() {
            self.output.pattern(&pattern);
        }
        if root_died {
            self.root_died = true;
            self.waiting = self.explainer.live_roots().is_empty();
        }
    }

    fn apply(&mut self) {
        for event in &mut self.batch {
            self.last_id += 1;
            event.id = self.last_id;
        }
        self.recording.write(&self.batch);
        for event in &self.batch {
            self.explainer.apply(event);
        }
        self.batch.clear();
        if self.batch.capacity() > 4 * BATCH_KEPT {
            self.batch.shrink_to(BATCH_KEPT);
        }
    }

    /// Lets open verdicts settle and writes the report. `failed` is what the command did. False when something could not
    /// be written.
    pub(super) async fn finish(mut self, signals: &Signals, failed: bool) -> bool {
        let begun = Instant::now();
        // A source that fails now has given what it had.
        let mut found = self.turn().unwrap_or(false);
        let waits = |agent: &Self| agent.explainer.is_settling() || agent.enricher.is_asking();
        while (found || waits(&self)) && begun.elapsed() < SETTLE_AT_END {
            tokio::select! {
                biased;
                // Asked twice: not even half a second more.
                again = signals.next() => if again.is_ok_and(|again| asks_to_stop(again.signo)) { break },
                () = tokio::time::sleep(SETTLE) => {}
            }
            found = self.turn().unwrap_or(false) && self.explainer.is_settling();
        }
        self.batch.push(event(host::boottime_ns(), Fact::End));
        self.pass_on();
        let mut written = !matches!(self.recording, Recording::Failed);
        if let Some(keeper) = self.keeper.take() {
            let now_ns = host::boottime_ns();
            written &=
                keeper.finish(Timestamp(host::wall_minus_boottime_ns().saturating_add_unsigned(now_ns)));
        }
        self.output.finish(&self.explainer.report(), failed).await && written
    }
}

impl Recording {
    fn write(&mut self, events: &[Event]) {
        if let Self::On(writer) = self
            && let Err(error) = writer.write(events)
        {
            *self = Self::failed(error);
        }
    }

    /// Says so once; what was written stays readable.
    fn failed(error: io::Error) -> Self {
        let error = anyhow::Error::new(error).context("cannot record events any more");
        note(
            &Failure::new(error)
                .help("watching goes on; the recording up to here can be replayed")
                .to_string(),
        );
        Self::Failed
    }
}

/// How many events a batch says were lost.
fn lost_in(batch: &[Event]) -> u64 {
    let lost = |event: &Event| match event.fact {
        Fact::Lost { count, .. } => count,
        _ => 0,
    };
    batch.iter().map(lost).sum()
}

fn event(t_ns: u64, fact: Fact) -> Event {
    Event { id: 0, t_ns, cpu: None, current: None, fact }
}

async fn sleep_until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when.into()).await,
        None => std::future::pending().await,
    }
}

/// `vite (pid 4021, 4033), zsh (pid 4010)`
fn describe(roots: &[(u32, String)]) -> String {
    const NAMES: usize = 6;
    const PIDS: usize = 8;
    let mut groups: Vec<(&str, Vec<u32>)> = Vec::new();
    for (pid, name) in roots {
        match groups.iter_mut().find(|(known, _)| known == name) {
            Some((_, pids)) => pids.push(*pid),
            None => groups.push((name, vec![*pid])),
        }
    }
    let mut parts: Vec<String> = Vec::new();
    for (name, pids) in groups.iter().take(NAMES) {
        let mut list = pids.iter().take(PIDS).map(u32::to_string).collect::<Vec<_>>().join(", ");
        if pids.len() > PIDS {
            list.push_str(&format!(" and {} more", pids.len() - PIDS));
        }
        parts.push(format!("{} (pid {list})", printable(name)));
    }
    if groups.len() > NAMES {
        parts.push(format!("and {} other names", groups.len() - NAMES));
    }
    parts.join(", ")
}

fn printable(text: &str) -> std::borrow::Cow<'_, str> {
    crate::report::escape::text(text)
}

#[cfg(test)]
mod tests;
