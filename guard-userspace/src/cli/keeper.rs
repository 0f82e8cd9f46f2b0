//! What the flight recorder keeps, and what it owns up to not having seen.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::args::Included;
use super::failure::Failure;
use super::output::note;
use super::safe_file::SafeFile;
use crate::export::{Bell, Exporter, Journal, Otlp, Prometheus};
use crate::model::header::{Header, Host, Tool};
use crate::model::record::{DeathRecord, Gap, Why};
use crate::model::report::{Death, Kind};
use crate::model::select::Everybody;
use crate::model::time::Timestamp;
use crate::report::escape;
use crate::store::{Recorder, Seen, Writer};

/// Between two notes of having watched, in nanoseconds. Nothing is written while nothing happens.
const SEEN_EVERY_NS: i64 = 60_000_000_000;

/// A store that is ready to be written to.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) directory: PathBuf,
    pub(crate) seen: Seen,
    pub(crate) writer: Writer,
    pub(crate) include: Include,
    pub(crate) exports: Exports,
}

/// Where else deaths are told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exports {
    pub(crate) journal: bool,
    /// Where a collector takes logs.
    pub(crate) otlp: Option<String>,
    /// The file for Prometheus.
    pub(crate) metrics: Option<PathBuf>,
}

impl Exports {
    fn start(&self, directory: &Path, started_at: Timestamp) -> Result<Vec<Exporter>, Failure> {
        let mut exporters = Vec::new();
        if self.journal {
            let journal = Journal::connect().ok_or_else(|| {
                Failure::new(anyhow::anyhow!("there is no journal here to write to"))
                    .help("it is systemd's: leave out --journal where systemd does not run")
            })?;
            exporters.push(Exporter::start(directory, journal, note)?);
        }
        if let Some(url) = &self.otlp {
            exporters.push(Exporter::start(directory, Otlp::new(url.clone(), note), note)?);
        }
        if let Some(path) = &self.metrics {
            // node_exporter runs as somebody else.
            let file = SafeFile::check(path)?.for_everybody();
            let write = move |text: &str| file.write(|out| out.write_all(text.as_bytes()));
            let prometheus = Prometheus::start(path.display().to_string(), write, started_at)?;
            exporters.push(Exporter::start(directory, prometheus, note)?);
        }
        Ok(exporters)
    }
}

/// Which deaths are kept beyond those that nobody would call normal.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Include {
    nonzero: bool,
    pipe: bool,
    interrupt: bool,
}

impl Include {
    pub(crate) fn new(included: &[Included]) -> Self {
        let has = |what| included.contains(&what);
        Self {
            nonzero: has(Included::Nonzero),
            pipe: has(Included::Pipe),
            interrupt: has(Included::Interrupt),
        }
    }

    pub(crate) fn everybody(self) -> Everybody {
        if self.nonzero { Everybody::KilledOrFailed } else { Everybody::Killed }
    }

    /// Whether a death is worth keeping.
    fn keeps(self, death: &Death) -> bool {
        match death.cause.kind {
            // Pressing Ctrl-C is how commands are ended.
            Kind::TtyKeyboard => self.interrupt,
            // `yes | head`: how pipelines end. A daemon that dies of it has a bug.
            Kind::BrokenPipe => self.pipe || is_daemon(death),
            Kind::Exited if !death.cause.graceful => {
                self.nonzero && death.exit.code.is_some_and(|code| code != 0)
            }
            // Nothing but that it ended is known.
            Kind::Unknown => {
                death.exit.signal.is_some() || death.exit.code != Some(0) || death.cause.graceful
            }
            _ => true,
        }
    }
}

/// The main process of a service, as opposed to what runs in somebody's pipeline.
fn is_daemon(death: &Death) -> bool {
    let victim = &death.victim;
    victim.ppid == Some(1) && victim.unit.as_deref().is_some_and(|unit| unit.ends_with(".service"))
}

/// Keeps deaths in a store.
#[derive(Debug)]
pub(super) struct Keeper {
    recorder: Recorder,
    exporters: Vec<Exporter>,
    include: Include,
    directory: PathBuf,
    tool: Tool,
    host: Host,
    /// Events that were lost and are not told yet.
    lost: u64,
    lost_from: Timestamp,
    /// The turn before this one.
    passed: Timestamp,
    /// When it was last noted that it watches.
    seen: Timestamp,
}

impl Keeper {
    /// Begins to record, with the time before that nothing is known of. `continued`: what the kernel saw meanwhile is
    /// still to come.
    pub(super) fn start(store: Store, header: &Header, continued: bool) -> Result<Self, Failure> {
        let Store { directory, seen, writer, include, exports } = store;
        let Header { tool, host, started_at, .. } = header.clone();
        let gap = seen.gap(&directory, &tool, &host, started_at);
        let nothing_missed = continued && gap.why == Why::Stopped;
        let exporters = exports.start(&directory, started_at)?;
        let bell = Bell::of(&exporters);
        let recorder = Recorder::start(writer, seen, tool.clone(), host.clone(), note, move || bell.ring())
            .context("cannot start the thread that writes to the store")?;
        if !nothing_missed {
            recorder.gap(&gap);
        }
        recorder.seen(started_at);
        let (lost_from, passed, seen) = (started_at, started_at, started_at);
        Ok(Self { recorder, exporters, include, directory, tool, host, lost: 0, lost_from, passed, seen })
    }

    /// Where the deaths are kept.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Says what it does.
    pub(super) fn announce(&self) {
        let place = self.directory.display().to_string();
        let store = match place.as_str() {
            crate::store::DEFAULT => String::new(),
            place => format!(" --store {place}"),
        };
        note(&escape::text(&format!(
            "recording every process of this machine to {place}; ask it: killtrace why NAME{store}"
        )));
    }

    /// Keeps a death if it is worth keeping. False when it is not.
    pub(super) fn keep(&self, record: &DeathRecord) -> bool {
        let worth = self.include.keeps(&record.death);
        if worth {
            self.recorder.death(record);
        }
        worth
    }

    /// Something happened, and so many events were lost before.
    pub(super) fn passed(&mut self, now: Timestamp, lost: u64) {
        if lost > 0 && self.lost == 0 {
            self.lost_from = self.passed;
        }
        self.lost += lost;
        self.passed = now;
        let since_seen = now.0.saturating_sub(self.seen.0);
        // Also when the clock was set back.
        if !(0..SEEN_EVERY_NS).contains(&since_seen) {
            self.own_up();
            self.recorder.seen(now);
            self.seen = now;
        }
    }

    /// Tells what was lost.
    fn own_up(&mut self) {
        if self.lost > 0 {
            self.recorder.gap(&Gap {
                schema: Gap::SCHEMA.to_owned(),
                tool: self.tool.clone(),
                host: self.host.clone(),
                from: Some(self.lost_from),
                until: self.passed,
                why: Why::EventsLost,
                count: Some(std::mem::take(&mut self.lost)),
            });
        }
    }

    /// Writes what is left. False when something could not be written.
    pub(super) fn finish(mut self, now: Timestamp) -> bool {
        self.passed = self.passed.max(now);
        self.own_up();
        let written = self.recorder.finish(now);
        for exporter in self.exporters {
            exporter.finish();
        }
        if !written {
            note("some deaths could not be written to the store: they are lost");
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    fn death(kind: Kind, code: Option<i32>) -> Death {
        let mut death = sample::report().deaths.remove(0);
        death.cause.kind = kind;
        death.cause.graceful = false;
        death.exit.code = code;
        if code.is_some() {
            death.exit.signal = None;
        }
        death
    }

    #[test]
    fn what_is_normal_is_kept_only_on_request() {
        let none = Include::default();
        let all = Include::new(&[Included::Nonzero, Included::Pipe, Included::Interrupt]);
        for kind in [Kind::KilledByProcess, Kind::OomKill, Kind::Crashed, Kind::TtyHangup, Kind::KilledBySelf]
        {
            assert!(none.keeps(&death(kind, None)), "{kind:?}");
        }
        let mut stopped = death(Kind::KilledByProcess, Some(0));
        stopped.cause.graceful = true;
        assert!(none.keeps(&stopped));
        for (kind, code) in [(Kind::TtyKeyboard, None), (Kind::BrokenPipe, None), (Kind::Exited, Some(3))] {
            assert!(!none.keeps(&death(kind, code)) && all.keeps(&death(kind, code)), "{kind:?}");
        }
        for include in [none, all] {
            assert!(!include.keeps(&death(Kind::Exited, Some(0))));
            assert!(!include.keeps(&death(Kind::Exited, None)));
            assert!(!include.keeps(&death(Kind::Unknown, Some(0))));
        }
    }

    #[test]
    fn a_daemon_that_dies_of_a_broken_pipe_is_no_pipeline() {
        let mut daemon = death(Kind::BrokenPipe, None);
        daemon.victim.ppid = Some(1);
        daemon.victim.unit = Some("web.service".to_owned());
        assert!(Include::default().keeps(&daemon));
        daemon.victim.unit = Some("session-3.scope".to_owned());
        assert!(!Include::default().keeps(&daemon));
    }
}
