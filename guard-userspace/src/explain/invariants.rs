//! What holds for every report, whatever was in the stream: for the property tests and the fuzz targets.

use std::collections::BTreeSet;

use crate::model::event::Event;
use crate::model::report::{Confidence, Death, ExitStatus, Kind, Pattern, TimelineEntry};
use crate::model::select::Selectors;
use crate::model::{Fact, Header, Report};

use super::Explainer;

/// Explains a stream of events, as a replay does, and checks the answer.
///
/// # Panics
/// When the answer breaks a promise: that is what it is for.
#[must_use]
pub fn explain_and_check(header: &Header, selectors: &Selectors, events: &[Event]) -> Report {
    let report = explain(header, selectors, events);
    assert_eq!(report, explain(header, selectors, events), "the same events gave two reports");
    check(&report, events);
    report
}

fn explain(header: &Header, selectors: &Selectors, events: &[Event]) -> Report {
    let mut explainer = Explainer::new(header.clone(), selectors.clone());
    let mut told = Vec::new();
    let mut recognised = Vec::new();
    for event in events {
        explainer.apply(event);
        drop(explainer.take_wants());
        told.extend(explainer.take_deaths());
        recognised.extend(explainer.take_patterns());
    }
    if events.last().is_none_or(|event| event.fact != Fact::End) {
        let (id, t_ns) = events.last().map_or((1, 0), |last| (last.id.saturating_add(1), last.t_ns));
        explainer.apply(&Event { id, t_ns, cpu: None, current: None, fact: Fact::End });
        told.extend(explainer.take_deaths());
        recognised.extend(explainer.take_patterns());
    }
    let report = explainer.report();
    assert!(!explainer.is_settling(), "a death was left without an answer");
    let told: Vec<u64> = told.iter().map(|death| death.id).collect();
    let kept: Vec<u64> = report.deaths.iter().map(|death| death.id).collect();
    assert!(told.ends_with(&kept), "the report holds other deaths than were told: {told:?} {kept:?}");
    for pattern in &report.patterns {
        let same = |other: &&Pattern| {
            (other.kind, &other.name, other.first_at) == (pattern.kind, &pattern.name, pattern.first_at)
        };
        assert!(recognised.iter().any(|known| same(&known)), "never told: {pattern:#?}");
    }
    assert!(recognised.len() >= report.patterns.len(), "{recognised:#?}");
    report
}

/// Checks a report against the events that it was made of.
///
/// # Panics
/// When the report breaks a promise.
pub fn check(report: &Report, events: &[Event]) {
    let known: BTreeSet<u64> = events.iter().map(|event| event.id).collect();
    let shown: BTreeSet<u64> = report.timeline.iter().map(|entry| entry.id).collect();
    assert!(shown.is_subset(&known), "the timeline shows events that never were");
    assert_eq!(shown.len(), report.timeline.len(), "the timeline shows an event twice");
    let in_order = |pair: &[TimelineEntry]| pair[0].t_ns <= pair[1].t_ns;
    assert!(report.timeline.windows(2).all(in_order), "the timeline is out of order");
    assert!(report.deaths.windows(2).all(|pair| pair[0].id < pair[1].id), "deaths are numbered twice");
    report.patterns.iter().for_each(check_pattern);
    for death in &report.deaths {
        check_death(death, &known);
        if report.timeline_omitted == 0 {
            let missing: Vec<_> = death.evidence.iter().filter(|id| !shown.contains(id)).collect();
            assert!(missing.is_empty(), "the timeline lacks the evidence {missing:?}: {death:#?}");
        }
    }
}

fn check_pattern(pattern: &Pattern) {
    assert!(pattern.first_at <= pattern.last_at, "it ended before it began: {pattern:#?}");
    assert!(!pattern.text.is_empty());
    let shown = pattern.victims.len().max(pattern.survivors.len());
    assert!(pattern.count >= shown.max(1) as u64, "more are shown than counted: {pattern:#?}");
}

fn check_death(death: &Death, events: &BTreeSet<u64>) {
    let steps = || death.chain.iter().map(|step| step.event);
    let cited: BTreeSet<u64> = death.evidence.iter().copied().chain(steps()).collect();
    assert!(cited.is_subset(events), "it cites events that never were: {death:#?}");
    assert!(steps().all(|event| death.evidence.contains(&event)), "a step without evidence: {death:#?}");
    let victim = format!("({})", death.victim.pid);
    let last = death.chain.last();
    assert!(
        last.is_some_and(|step| step.t == death.died_at && step.text.contains(&victim)),
        "the chain does not end with the victim's end: {death:#?}"
    );
    let in_order = death.chain.windows(2).all(|pair| pair[0].t <= pair[1].t);
    assert!(in_order, "the chain is out of order: {death:#?}");
    check_exit(death);
    check_cause(death);
    assert!(!death.summary.is_empty());
}

fn check_exit(death: &Death) {
    let ExitStatus { code, signal, signal_number, shell_status, .. } = &death.exit;
    assert!(code.is_none() || signal.is_none(), "it exited and was killed: {death:#?}");
    assert_eq!(signal.is_some(), signal_number.is_some());
    assert_eq!(*shell_status, code.or(signal_number.map(|signo| 128 + signo)), "{death:#?}");
    assert!(code.is_none_or(|code| (0..=255).contains(&code)), "{death:#?}");
}

fn check_cause(death: &Death) {
    let cause = &death.cause;
    if cause.kind == Kind::Unknown {
        assert_eq!(cause.confidence, Confidence::Unknown, "a sure unknown: {death:#?}");
    }
    if cause.confidence == Confidence::Certain {
        assert!(!death.evidence.is_empty(), "sure without evidence: {death:#?}");
        let known = death.exit.code.is_some() || death.exit.signal.is_some();
        assert!(known, "sure how it died, without knowing how it ended: {death:#?}");
    }
    let by_itself = matches!(cause.kind, Kind::Exited | Kind::KilledBySelf | Kind::Crashed | Kind::OomKill);
    assert!(!by_itself || death.killer.is_none(), "a killer who did not kill: {death:#?}");
    let own = death.killer.as_ref().is_some_and(|killer| killer.pid == death.victim.pid);
    assert!(!own || cause.kind != Kind::KilledByProcess, "its own killer: {death:#?}");
    match cause.kind {
        Kind::OomKill => assert!(cause.oom.is_some(), "{death:#?}"),
        // Its f has the OOM killer choose.
        Kind::Sysrq => {}
        _ => assert!(cause.oom.is_none(), "{death:#?}"),
    }
    assert!(!cause.graceful || death.sender.is_some(), "asked to stop by nobody: {death:#?}");
}
