//! What `killtrace why` answers, `killtrace.why/1`. These types are the JSON.

use serde::{Deserialize, Serialize};

use super::record::{DeathRecord, Gap};
use super::time::Timestamp;

/// The answer to one question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Always `killtrace.why/1`.
    pub schema: String,
    pub asked_at: Timestamp,
    /// The question in words: `vite`, `unit web.service`.
    pub asked: Vec<String>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// How many deaths match.
    pub matching: u64,
    /// The newest of them, newest first.
    pub deaths: Vec<DeathRecord>,
    /// How many deaths are recorded, whatever was asked.
    pub recorded: u64,
    /// When recording began, as far as the records go back.
    pub recorded_since: Option<Timestamp>,
    /// Times within those asked for in which deaths may have been missed, in order.
    pub gaps: Vec<Gap>,
    /// What there are records of, most frequent first; empty when something matches.
    pub programs: Vec<Program>,
    /// Names of programs that may have been meant; empty when something matches.
    pub similar: Vec<String>,
    /// Lines that could not be read because they are damaged, or a newer killtrace wrote them.
    pub damaged_lines: u64,
    pub newer_lines: u64,
}

impl Answer {
    /// Name and version of the format.
    pub const SCHEMA: &str = "killtrace.why/1";
}

/// A program that has died.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    pub name: String,
    pub deaths: u64,
}
