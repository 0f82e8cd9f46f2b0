//! Streams whose answer is known: the recorded fixtures, and stories made up for it.

use std::fmt;
use std::fs;
use std::path::Path;

use crate::explain::invariants::explain_and_check;
use crate::model::event::Event;
use crate::model::report::{Confidence, Death, Kind, Mechanism};
use crate::model::select::Selectors;
use crate::model::{Header, Report};
use crate::recording;

/// A stream, and who is watched in it.
#[derive(Clone)]
pub(super) struct Sample {
    pub name: String,
    pub header: Header,
    pub selectors: Selectors,
    pub events: Vec<Event>,
    /// From a real kernel, where the victim lives for longer than a buffer is late.
    pub recorded: bool,
}

/// What an answer says, without its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub pid: u32,
    pub kind: Kind,
    pub mechanism: Option<Mechanism>,
    pub graceful: bool,
    pub killer: Option<u32>,
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub confidence: Confidence,
}

impl From<&Death> for Answer {
    fn from(death: &Death) -> Self {
        Self {
            pid: death.victim.pid,
            kind: death.cause.kind,
            mechanism: death.cause.mechanism,
            graceful: death.cause.graceful,
            killer: death.killer.as_ref().map(|killer| killer.pid),
            code: death.exit.code,
            signal: death.exit.signal_number,
            confidence: death.cause.confidence,
        }
    }
}

impl Answer {
    pub(super) fn is_certain(&self) -> bool {
        self.confidence == Confidence::Certain
    }

    /// Says nothing that `truth` does not say; it may leave out who it was.
    fn agrees_with(&self, truth: &Answer) -> bool {
        let killer = self.killer.or(truth.killer);
        Answer { killer, confidence: truth.confidence, ..self.clone() } == *truth
    }
}

impl fmt::Debug for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Sample {
    pub(super) fn explain(&self, events: &[Event]) -> Report {
        explain_and_check(&self.header, &self.selectors, events)
    }

    pub(super) fn answers(&self, events: &[Event]) -> Vec<Answer> {
        self.explain(events).deaths.iter().map(Answer::from).collect()
    }

    /// The answers that are sure and wrong: other than those of the undisturbed stream.
    pub(super) fn wrong(&self, truth: &[Answer], events: &[Event]) -> Vec<Answer> {
        let answers = self.answers(events).into_iter();
        let wrong = |answer: &Answer| {
            answer.is_certain()
                && !truth.iter().any(|truth| truth.pid == answer.pid && answer.agrees_with(truth))
        };
        answers.filter(wrong).collect()
    }
}

/// Every recording under `tests/` from a real kernel.
pub(super) fn recorded() -> Vec<Sample> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests");
    let mut places = vec![tests.join("replay"), tests.join("zoo/recordings")];
    let mut samples: Vec<Sample> = Vec::new();
    while let Some(place) = places.pop() {
        if place.extension().is_some_and(|extension| extension == "jsonl") {
            let text = fs::read_to_string(&place).expect("a recording");
            samples.push(sample(&place.display().to_string(), &text));
        }
        let entries = fs::read_dir(place).into_iter().flatten().flatten();
        places.extend(entries.map(|entry| entry.path()));
    }
    samples.sort_by(|one, other| one.name.cmp(&other.name));
    samples
}

fn sample(name: &str, text: &str) -> Sample {
    let mut lines = text.lines();
    let header: Header = serde_json::from_str(lines.next().expect("a header")).expect("a header");
    let selectors = recording::selectors(&header.selectors).expect("selectors");
    let events = lines.map(|line| serde_json::from_str(line).expect("an event")).collect();
    Sample { name: name.to_owned(), header, selectors, events, recorded: true }
}
