//! Counters of deaths for Prometheus, in a file for node_exporter's textfile collector.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Refused, Sink, killer_role, word};
use crate::model::record::Why;
use crate::model::report::Death;
use crate::model::time::Timestamp;
use crate::report::escape;
use crate::store::tail::Record;

/// Most combinations of labels. A machine whose units have made-up names must not flood the monitor.
const MOST_SERIES: usize = 500;
/// The unit of what is beyond that.
const OTHERS: &str = "(others)";

/// The counters since this killtrace was started, as is usual for counters.
#[derive(Debug)]
pub struct Prometheus<W> {
    name: String,
    /// Replaces the file in one step: the collector must never see half of it.
    write: W,
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

impl<W: FnMut(&str) -> anyhow::Result<()>> Prometheus<W> {
    /// Writes the counters, all zero for now, to the file of that name.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn start(name: String, write: W, started_at: Timestamp) -> anyhow::Result<Self> {
        let mut this = Self { name, write, started_at, deaths: BTreeMap::new(), lost_events: 0 };
        let text = this.text();
        (this.write)(&text)?;
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
}

impl<W: FnMut(&str) -> anyhow::Result<()> + Send + 'static> Sink for Prometheus<W> {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn bookmark(&self) -> Option<&'static str> {
        None
    }

    fn take(&mut self, records: &[Record]) -> Result<(), Refused> {
        let before = (self.deaths.clone(), self.lost_events);
        for record in records {
            self.count(record);
        }
        let text = self.text();
        (self.write)(&text).map_err(|error| {
            // They come again.
            (self.deaths, self.lost_events) = before;
            Refused::new(error.root_cause())
        })
    }
}

/// A label's value.
fn escaped(value: &str) -> String {
    // Line breaks have a way of their own.
    let lines: Vec<_> = value.split('\n').map(escape::text).collect();
    lines.join("\n").replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
