//! Whatever happens to a stream on its way, no answer is sure and wrong.
//!
//! Wrong is what differs from the answer that the undisturbed stream gives, which people have judged
//! (`tests/replay`). Seeds are fixed, so that a failure is one for everybody; `PROPTEST_CASES=100000` looks further.

use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::RngSeed;

use super::disturb::{begin_at, choices, displace, duplicate, interleave, is_optional, lose, without};
use super::sample::{Answer, Sample, recorded};
use super::stories;
use crate::model::Header;
use crate::model::event::Event;
use crate::model::select::Selectors;

/// Kernel events come this much later than others of their time, at most.
const LATE_MS: u64 = 8;

/// Every stream, and its answers.
static SAMPLES: LazyLock<Vec<(Sample, Vec<Answer>)>> = LazyLock::new(|| {
    let told = stories().into_iter().map(|(scenario, kind, _)| Sample {
        name: format!("{kind:?}"),
        header: scenario.header,
        selectors: Selectors { pids: vec![100], ..Selectors::default() },
        events: scenario.events,
        recorded: false,
    });
    let with_answers = |sample: Sample| {
        let answers = sample.answers(&sample.events);
        (sample, answers)
    };
    recorded().into_iter().chain(told).map(with_answers).collect()
});

pub(super) fn config() -> ProptestConfig {
    ProptestConfig { rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::default() }
}

/// The first millisecond that a watch which began at `events[0]` has seen.
fn began_at(header: &Header, events: &[Event]) -> Header {
    let t_ns = events.first().map_or(0, |event| event.t_ns);
    Header { started_at: header.wall(t_ns), ..header.clone() }
}

#[test]
fn there_are_samples() {
    assert!(SAMPLES.len() >= 20, "{}", SAMPLES.len());
    let surely = SAMPLES.iter().flat_map(|(_, answers)| answers).filter(|answer| answer.is_certain());
    assert!(surely.count() >= 20);
}

fn any_sample() -> impl Strategy<Value = &'static (Sample, Vec<Answer>)> {
    any::<Index>().prop_map(|index| &SAMPLES[index.index(SAMPLES.len())])
}

fn some(most: usize) -> impl Strategy<Value = Vec<(Index, Index)>> {
    prop::collection::vec(any::<(Index, Index)>(), 1..=most)
}

#[track_caller]
fn assert_none(sample: &Sample, truth: &[Answer], events: &[Event]) {
    let wrong = sample.wrong(truth, events);
    if !wrong.is_empty() {
        panic!("{}: sure and wrong: {wrong:?}\ntruth: {truth:?}\n{}", sample.name, kernel_events(events));
    }
}

fn kernel_events(events: &[Event]) -> String {
    let lines: Vec<String> = events.iter().filter(|event| event.cpu.is_some()).map(brief).collect();
    lines.join("\n")
}

/// An event on one line.
fn brief(event: &Event) -> String {
    let current = event.current.map_or(0, |current| current.tid);
    let fact = serde_json::to_string(&event.fact).unwrap_or_default();
    let fact: String = fact.chars().take(160).collect();
    format!("{:4} {:>15} cpu {:?} by {current} {fact}", event.id, event.t_ns, event.cpu)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_order_in_which_buffers_are_drained_does_not_matter(
        (sample, truth) in any_sample(), choices in choices()
    ) {
        let events = interleave(&sample.events, &choices, LATE_MS);
        assert_none(sample, truth, &events);
        let answers = sample.answers(&events);
        for truth in truth.iter().filter(|_| sample.recorded) {
            prop_assert!(
                answers.iter().any(|answer| answer.pid == truth.pid && answer.confidence <= truth.confidence),
                "{}: {truth:?} became {answers:?}\n{}", sample.name, kernel_events(&events)
            );
        }
    }

    #[test]
    fn lost_events_make_no_sure_answer_wrong(
        (sample, truth) in any_sample(),
        places in prop::collection::vec(any::<Index>(), 1..12),
        choices in choices(),
    ) {
        assert_none(sample, truth, &lose(&sample.events, &places, &choices));
    }

    #[test]
    fn a_missing_event_makes_no_sure_answer_wrong(
        (sample, truth) in any_sample(), place in any::<Index>()
    ) {
        let place = place.index(sample.events.len());
        assert_none(sample, truth, &without(&sample.events, |index, _| index == place));
    }

    #[test]
    fn what_is_optional_may_be_missing(
        (sample, truth) in any_sample(), choices in choices()
    ) {
        let events = without(&sample.events, |index, event| {
            is_optional(&event.fact) && choices[index % choices.len()] & 1 == 0
        });
        assert_none(sample, truth, &events);
        assert_none(sample, truth, &without(&sample.events, |_, event| is_optional(&event.fact)));
    }

    #[test]
    fn a_watch_that_ends_early_is_not_sure_and_wrong(
        (sample, truth) in any_sample(), end in any::<Index>()
    ) {
        assert_none(sample, truth, &sample.events[..end.index(sample.events.len())]);
    }

    #[test]
    fn a_watch_that_begins_late_is_not_sure_and_wrong(
        (sample, truth) in any_sample(), start in any::<Index>()
    ) {
        let start = start.index(sample.events.len());
        let events = begin_at(&sample.events, start);
        let late = Sample { header: began_at(&sample.header, &sample.events[start..]), ..sample.clone() };
        assert_none(&late, truth, &events);
    }

    #[test]
    fn duplicates_make_no_sure_answer_wrong(
        (sample, truth) in any_sample(), picks in some(4)
    ) {
        assert_none(sample, truth, &duplicate(&sample.events, &picks));
    }

    #[test]
    fn displaced_events_make_no_sure_answer_wrong(
        (sample, truth) in any_sample(), moves in some(4)
    ) {
        assert_none(sample, truth, &displace(&sample.events, &moves));
    }
}
