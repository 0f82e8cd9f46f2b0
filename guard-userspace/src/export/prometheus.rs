//! Counters of deaths for Prometheus, in a file for node_exporter's textfile collector.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::{Refused, Sink, killer_role, word};
use crate::model::record::Why;
use crate::model::report::Death;
use crate::model::time::Timestamp;
use crate::store::tail::Record;

/// Most combinations of labels. A machine whose units have made-up names must not flood the monitor.
const MOST_SERIES: usize = 500;
/// The unit of what is beyond that.
const OTHERS: &str = "(others)";

/// The counters since this killtrace was started, as is usual for counters.
#[derive(Debug)]
pub struct Prometheus {
    path: PathBuf,
    started_at: Timestamp,
    deaths: BTreeMap<Labels, u64>,
    lost_events: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Labels {
    kind: String,
    unit: String,
    killer: String,
}

impl Labels {
    fn of(death: &Death) -> Self {
        Self {
            kind: word(death.cause.kind),
            unit: death.victim.unit.clone().unwrap_or_default(),
            killer: killer_role(death),
        }
    }
}

impl Prometheus {
    /// Writes the counters to a file, all zero for now.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn start(path: &Path, started_at: Timestamp) -> io::Result<Self> {
        let (deaths, path) = (BTreeMap::new(), path.to_owned());
        let this = Self { path, started_at, deaths, lost_events: 0 };
        this.write()?;
        Ok(this)
    }

    fn count(&mut self, record: &Record) {
        match record {
            Record::Death(record) => {
                let mut labels = Labels::of(&record.death);
                if self.deaths.len() >= MOST_SERIES && !self.deaths.contains_key(&labels) {
                    labels.unit = OTHERS.to_owned();
                }
                *self.deaths.entry(labels).or_default() += 1;
            }
            Record::Gap(gap) if gap.why == Why::EventsLost => self.lost_events += gap.count.unwrap_or(0),
            Record::Gap(_) => {}
        }
    }

    /// The text exposition format.
    fn text(&self) -> String {
        let mut text = String::new();
        let mut metric = |name: &str, kind: &str, help: &str, samples: &str| {
            // Writing to a string cannot fail.
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{samples}");
        };
        let mut samples = String::new();
        for (labels, count) in &self.deaths {
            let Labels { kind, unit, killer } = labels;
            let (kind, unit, killer) = (escaped(kind), escaped(unit), escaped(killer));
            let _ = writeln!(
                samples,
                "killtrace_deaths_total{{kind=\"{kind}\",unit=\"{unit}\",killer=\"{killer}\"}} {count}"
            );
        }
        metric(
            "killtrace_deaths_total",
            "counter",
            "Deaths recorded since killtrace was started, by kind, systemd unit and role of the killer.",
            &samples,
        );
        metric(
            "killtrace_lost_events_total",
            "counter",
            "Kernel events for which there was no room since killtrace was started.",
            &format!("killtrace_lost_events_total {}\n", self.lost_events),
        );
        let (seconds, millis) = (self.started_at.0 / 1_000_000_000, self.started_at.0 / 1_000_000 % 1000);
        metric(
            "killtrace_start_time_seconds",
            "gauge",
            "When killtrace was started, in seconds since 1970.",
            &format!("killtrace_start_time_seconds {seconds}.{millis:03}\n"),
        );
        text
    }

    /// In one step: the collector must never see half of it, and runs as somebody else.
    fn write(&self) -> io::Result<()> {
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let mut file = tempfile::Builder::new()
            .prefix(".killtrace-")
            .permissions(Permissions::from_mode(0o644))
            .tempfile_in(directory.unwrap_or(Path::new(".")))?;
        file.write_all(self.text().as_bytes())?;
        file.persist(&self.path).map_err(|error| error.error)?;
        Ok(())
    }
}

impl Sink for Prometheus {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn bookmark(&self) -> Option<&'static str> {
        None
    }

    fn take(&mut self, records: &[Record]) -> Result<(), Refused> {
        let before = (self.deaths.clone(), self.lost_events);
        for record in records {
            self.count(record);
        }
        self.write().map_err(|error| {
            // They come again.
            (self.deaths, self.lost_events) = before;
            Refused::new(error)
        })
    }
}

/// A label's value.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
