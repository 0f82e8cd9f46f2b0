//! What must hold however the stream is damaged: no panic, and never a sure answer that is wrong.

mod disturb;
mod found;
mod garbage;
mod sample;
mod streams;

use proptest::prelude::*;

use crate::model::event::{Call, SignalResult};
use crate::model::report::{Confidence, Death, Kind};
use crate::model::select::Selectors;
use crate::model::signal::{Signo, code};
use crate::model::{Event, Fact};

use super::Explainer;
use super::case::Case;
use super::causes::CAUSES;
use super::scenario::Scenario;

/// Streams whose truth is known: how process 100 died, and who did it.
fn stories() -> Vec<(Scenario, Kind, Option<u32>)> {
    let vite = || {
        let mut scenario = Scenario::new();
        scenario.seed(40, 1, "bash", &["/bin/bash"]).seed(70, 1, "manager", &["/opt/manager"]).seeded();
        scenario.spawn(40, 100, &["/usr/bin/node", "/app/node_modules/.bin/vite"]);
        scenario
    };
    let mut killed = vite();
    killed.kill(70, 100, Signo::USR1).handle(100, Signo::USR1);
    killed.spawn(40, 200, &["/usr/bin/pkill", "vite"]).kill(200, 100, Signo::KILL);
    killed.exits(200, 0).dies(100, Signo::KILL);

    let mut graceful = vite();
    graceful.kill(70, 100, Signo::TERM).handle(100, Signo::TERM).exits(100, 143);

    let mut exited = vite();
    exited.kill(70, 100, Signo::USR2).handle(100, Signo::USR2).exits(100, 137);

    let mut oom = vite();
    let manager = oom.current(70);
    oom.kernel(manager, 100, Signo::KILL, Call::None).oom_mark(70, 100).dies(100, Signo::KILL);

    let mut aborted = vite();
    let own = aborted.current(100);
    let call = Some((Call::Tgkill, 100));
    aborted.signal(own, 100, Signo::ABRT, code::SI_TKILL, false, SignalResult::Delivered, call);
    aborted.take(100, Signo::ABRT, code::SI_TKILL).dies(100, Signo::ABRT);

    let mut crashed = vite();
    let own = crashed.current(100);
    crashed.signal(own, 100, Signo::SEGV, 1, false, SignalResult::Delivered, Some((Call::None, 0)));
    crashed.take(100, Signo::SEGV, 1).dies(100, Signo::SEGV);

    let mut hangup = vite();
    hangup.session(40, 40, "pts/3").session(100, 40, "pts/3");
    hangup.kill(70, 40, Signo::KILL).dies(40, Signo::KILL);
    let bash = hangup.exiting(40);
    hangup.kernel(bash, 100, Signo::HUP, Call::None).dies(100, Signo::HUP);

    vec![
        (killed, Kind::KilledByProcess, Some(200)),
        (graceful, Kind::KilledByProcess, Some(70)),
        (exited, Kind::Exited, None),
        (oom, Kind::OomKill, None),
        (aborted, Kind::KilledBySelf, None),
        (crashed, Kind::Crashed, None),
        (hangup, Kind::SessionLeaderExit, Some(70)),
    ]
}

/// The death of process 100 as these events tell it.
fn death(scenario: &Scenario, events: &[Event]) -> Option<Death> {
    let mut explainer =
        Explainer::new(scenario.header.clone(), Selectors { pids: vec![100], ..Selectors::default() });
    for event in events {
        explainer.apply(event);
    }
    let last = events.last().map_or(0, |event| event.id);
    explainer.apply(&Event { id: last + 1, t_ns: u64::MAX / 2, cpu: None, current: None, fact: Fact::End });
    explainer.report().deaths.into_iter().find(|death| death.victim.pid == 100)
}

fn assert_not_wrongly_certain(death: Option<&Death>, kind: Kind, killer: Option<u32>) {
    let Some(death) = death.filter(|death| death.cause.confidence == Confidence::Certain) else { return };
    assert_eq!(death.cause.kind, kind, "{death:#?}");
    let blamed = death.killer.as_ref().map(|killer| killer.pid);
    assert!(blamed == killer || blamed.is_none(), "blames {blamed:?}, it was {killer:?}: {death:#?}");
}

#[test]
fn every_story_is_told_right_when_nothing_is_missing() {
    for (scenario, kind, killer) in stories() {
        let death = death(&scenario, &scenario.events).expect("a death");
        assert_eq!(death.cause.confidence, Confidence::Certain, "{death:#?}");
        assert_eq!((death.cause.kind, death.killer.map(|killer| killer.pid)), (kind, killer));
    }
}

/// The stream without the kernel's events at these places. What /proc told stays.
fn without(scenario: &Scenario, places: &[usize]) -> Vec<Event> {
    let gone = |index: usize| scenario.events[index].cpu.is_some() && places.contains(&index);
    (0..scenario.events.len())
        .filter(|&index| !gone(index))
        .map(|index| scenario.events[index].clone())
        .collect()
}

#[test]
fn one_cause_claims_each_death_and_no_other_does() {
    for (scenario, kind, _) in stories() {
        let mut explainer = Explainer::new(scenario.header.clone(), Selectors::default());
        for event in &scenario.events {
            explainer.apply(event);
        }
        let ended: Vec<_> = explainer.table.iter().filter(|process| process.ending.is_some()).collect();
        for process in ended {
            let case = Case::new(&explainer.table, process).expect("it ended");
            let claims: Vec<Kind> =
                CAUSES.iter().filter_map(|cause| cause.examine(&case)).map(|claim| claim.kind).collect();
            assert_eq!(claims.len(), 1, "{claims:?} for {} in the story of {kind:?}", process.label());
        }
    }
}

#[test]
fn a_missing_event_never_makes_a_sure_answer_wrong() {
    for (scenario, kind, killer) in stories() {
        for place in 0..scenario.events.len() {
            let events = without(&scenario, &[place]);
            assert_not_wrongly_certain(death(&scenario, &events).as_ref(), kind, killer);
        }
    }
}

#[test]
fn when_events_were_lost_no_answer_is_sure() {
    for (scenario, ..) in stories() {
        for one in 0..scenario.events.len() {
            for other in one..scenario.events.len() {
                let mut events = without(&scenario, &[one, other]);
                let last = events.last().expect("some are left");
                let lost = Fact::Lost { probe: "signal_generate".to_owned(), count: 2 };
                events.push(Event {
                    id: last.id + 1,
                    t_ns: last.t_ns + 1,
                    cpu: None,
                    current: None,
                    fact: lost,
                });
                let death = death(&scenario, &events);
                let sure = death.is_some_and(|death| death.cause.confidence == Confidence::Certain);
                assert!(!sure, "sure without events {one} and {other}");
            }
        }
    }
}

#[test]
fn a_cut_stream_never_makes_a_sure_answer_wrong() {
    for (scenario, kind, killer) in stories() {
        for end in 0..scenario.events.len() {
            assert_not_wrongly_certain(death(&scenario, &scenario.events[..end]).as_ref(), kind, killer);
        }
    }
}

#[test]
fn events_of_one_moment_may_come_in_any_order() {
    for (scenario, kind, killer) in stories() {
        for index in 1..scenario.events.len() {
            let mut events = scenario.events.clone();
            // Two CPUs, a microsecond apart, numbered the wrong way round.
            let t_ns = events[index - 1].t_ns;
            events[index].t_ns = t_ns + 1_000;
            events.swap(index - 1, index);
            let id = events[index - 1].id;
            events[index - 1].id = events[index].id;
            events[index].id = id;
            assert_not_wrongly_certain(death(&scenario, &events).as_ref(), kind, killer);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn duplicated_and_shuffled_events_never_panic(
        story in 0usize..7,
        picks in proptest::collection::vec(0usize..64, 0..80),
    ) {
        let (scenario, ..) = stories().swap_remove(story);
        let events: Vec<Event> =
            picks.iter().map(|pick| scenario.events[pick % scenario.events.len()].clone()).collect();
        let _ = death(&scenario, &events);
    }
}
