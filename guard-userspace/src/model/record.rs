//! What the flight recorder keeps: one line for each death, `killtrace.death/1`, and one for each time of which
//! it knows nothing, `killtrace.gap/1`. These types are the JSON.
//!
//! Each line stands alone: it can be read on another machine, years later, without the lines around it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::header::{Host, Tool};
use super::report::{Death, Report, TimelineEntry};
use super::time::Timestamp;

/// One death, with all that is needed to understand it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeathRecord {
    /// Always `killtrace.death/1`.
    pub schema: String,
    pub tool: Tool,
    /// The machine it died on; `boot_id` says in which of its lives.
    pub host: Host,
    /// `ebpf`, `perf`.
    pub backend: String,
    /// What this kernel could not give.
    pub degraded: Vec<String>,
    /// The record of the death, as a report holds it.
    pub death: Death,
    /// The events it rests on, in time order.
    pub timeline: Vec<TimelineEntry>,
}

impl DeathRecord {
    /// Name and version of the format.
    pub const SCHEMA: &str = "killtrace.death/1";

    /// The deaths of a report, each with its own events.
    pub fn of_report(report: Report) -> impl Iterator<Item = Self> {
        let Report { tool, host, collector, deaths, timeline, .. } = report;
        deaths.into_iter().map(move |death| Self {
            schema: Self::SCHEMA.to_owned(),
            tool: tool.clone(),
            host: host.clone(),
            backend: collector.backend.clone(),
            degraded: collector.degraded.clone(),
            timeline: timeline.iter().filter(|entry| death.evidence.contains(&entry.id)).cloned().collect(),
            death,
        })
    }
}

/// A time in which deaths may have been missed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Gap {
    /// Always `killtrace.gap/1`.
    pub schema: String,
    pub tool: Tool,
    pub host: Host,
    /// When it last was known to watch; `null` when nothing is known of before.
    pub from: Option<Timestamp>,
    pub until: Timestamp,
    pub why: Why,
    /// Events that were lost, or deaths that could not be written.
    pub count: Option<u64>,
}

impl Gap {
    /// Name and version of the format.
    pub const SCHEMA: &str = "killtrace.gap/1";
}

/// Why deaths may have been missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Nothing was recorded here before.
    NothingBefore,
    /// The recorder had been stopped.
    Stopped,
    /// The recorder had ended without being told to; it watched at least until `from`.
    Ended,
    /// The machine was started again meanwhile; it was watched at least until `from`.
    Rebooted,
    /// The machine was too busy: the kernel had no room for events.
    EventsLost,
    /// The store could not be written to.
    NotWritten,
}
