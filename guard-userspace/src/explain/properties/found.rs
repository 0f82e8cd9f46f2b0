//! What the properties and the fuzzer have found: each was a sure answer that was wrong, or a panic.

use crate::explain::Explainer;
use crate::explain::scenario::{MS, Scenario};
use crate::model::event::{
    Call, Current, Deliver, Disposition, Fact, ProcessFacts, SignalMasks, SignalResult,
};
use crate::model::report::{Confidence, Death, Kind};
use crate::model::select::Selectors;
use crate::model::signal::{Signo, code};

fn vite() -> Scenario {
    let mut scenario = Scenario::new();
    scenario.seed(40, 1, "bash", &["/bin/bash"]).seed(70, 1, "manager", &["/opt/manager"]).seeded();
    scenario.spawn(40, 100, &["/usr/bin/node", "/app/node_modules/.bin/vite"]);
    scenario
}

/// The last event is handed over before the `by` events that came before it.
fn hasten(scenario: &mut Scenario, by: usize) {
    let event = scenario.events.pop().expect("an event");
    scenario.events.insert(scenario.events.len() - by, event);
    for (id, event) in (1..).zip(&mut scenario.events) {
        event.id = id;
        // Each from a CPU of its own: which of them was drained first says nothing.
        event.cpu = event.cpu.map(|_| u32::try_from(id).unwrap_or_default());
    }
}

fn lose(scenario: &mut Scenario) {
    scenario.push(None, Fact::Lost { probe: "signal_generate".to_owned(), count: 1 });
}

#[track_caller]
fn assert_answer(death: &Death, kind: Kind, killer: Option<u32>, confidence: Confidence) {
    let found = (death.cause.kind, death.killer.as_ref().map(|killer| killer.pid), death.cause.confidence);
    assert_eq!(found, (kind, killer, confidence), "{death:#?}");
}

#[test]
fn a_request_that_was_lost_leaves_doubt_even_when_told_long_before_the_exit() {
    let mut scenario = vite();
    lose(&mut scenario);
    let death = scenario.wait(5_000).exits(100, 0).death(100);
    assert_answer(&death, Kind::Exited, None, Confidence::Likely);
    assert!(death.gaps[0].contains("1 event was lost"), "{:?}", death.gaps);
}

#[test]
fn a_loss_long_before_the_story_takes_nothing_from_it() {
    let mut scenario = vite();
    lose(&mut scenario);
    let death = scenario.wait(60_000).kill(70, 100, Signo::KILL).dies(100, Signo::KILL).death(100);
    assert_answer(&death, Kind::KilledByProcess, Some(70), Confidence::Certain);
}

#[test]
fn a_signal_repeated_by_a_handler_that_nobody_was_seen_to_call_is_not_surely_its_own() {
    let mut scenario = vite();
    scenario.handle(100, Signo::TERM).kill(100, 100, Signo::TERM);
    let death = scenario.dies(100, Signo::TERM).death(100);
    assert_answer(&death, Kind::KilledBySelf, None, Confidence::Likely);
}

#[test]
fn a_signal_that_must_have_been_taken_was_repeated() {
    let mut scenario = vite();
    // The delivery to the handler was lost. While the first waits, no second is queued.
    scenario.kill(70, 100, Signo::TERM).kill(100, 100, Signo::TERM);
    let death = scenario.dies(100, Signo::TERM).death(100);
    assert_answer(&death, Kind::KilledByProcess, Some(70), Confidence::Likely);
}

#[test]
fn a_shell_that_handled_an_unseen_hangup_may_have_passed_it_on() {
    let mut scenario = vite();
    scenario.handle(40, Signo::HUP).kill(40, 100, Signo::HUP);
    let death = scenario.dies(100, Signo::HUP).death(100);
    assert_answer(&death, Kind::KilledByProcess, Some(40), Confidence::Likely);
}

#[test]
fn a_watch_that_has_just_begun_does_not_know_what_was_asked_before() {
    let mut scenario = Scenario::new();
    scenario.seed(40, 1, "bash", &["/bin/bash"]).seed(100, 40, "node", &["/usr/bin/node"]).seeded();
    scenario.header.started_at = scenario.header.wall(scenario.events[0].t_ns);
    let death = scenario.clone().exits(100, 0).death(100);
    assert_answer(&death, Kind::Exited, None, Confidence::Likely);
    let death = scenario.clone().wait(31_000).exits(100, 0).death(100);
    assert_answer(&death, Kind::Exited, None, Confidence::Certain);
    // It had no handler that could have taken a request.
    let signals = Some(SignalMasks::default());
    scenario.facts(ProcessFacts { tgid: 100, seeded: true, signals, ..ProcessFacts::default() });
    let death = scenario.exits(100, 0).death(100);
    assert_answer(&death, Kind::Exited, None, Confidence::Certain);
}

#[test]
fn a_handler_may_be_heard_of_before_the_signal_it_took() {
    let mut scenario = vite();
    scenario.kill(70, 100, Signo::TERM).handle(100, Signo::TERM);
    hasten(&mut scenario, 1);
    let death = scenario.exits(100, 143).death(100);
    assert_answer(&death, Kind::KilledByProcess, Some(70), Confidence::Certain);
}

#[test]
fn the_signal_that_came_last_is_not_the_one_that_was_heard_of_last() {
    let mut scenario = vite();
    scenario.seed(71, 1, "other", &["/opt/other"]);
    scenario.kill(70, 100, Signo::TERM).handle(100, Signo::TERM).kill(71, 100, Signo::TERM);
    hasten(&mut scenario, 2);
    let death = scenario.dies(100, Signo::TERM).death(100);
    assert_answer(&death, Kind::KilledByProcess, Some(71), Confidence::Certain);
}

#[test]
fn a_birth_may_be_heard_of_after_the_whole_life() {
    let mut scenario = Scenario::new();
    scenario.seed(100, 1, "npm", &["/usr/bin/npm"]).seed(70, 1, "manager", &["/opt/manager"]).seeded();
    scenario.spawn(100, 101, &["/usr/bin/esbuild"]).kill(70, 101, Signo::KILL).dies(101, Signo::KILL);
    let place = scenario.events.len() - 4;
    let fork = scenario.events.remove(place);
    scenario.events.push(fork);
    hasten(&mut scenario, 0);
    let death =
        scenario.watch(100).deaths.into_iter().find(|death| death.victim.pid == 101).expect("a death");
    assert_answer(&death, Kind::KilledByProcess, Some(70), Confidence::Certain);
    assert_eq!(death.victim.ppid, Some(100));
}

#[test]
fn what_is_read_from_proc_does_not_end_the_wait_for_the_kernel() {
    let mut scenario = vite();
    let manager = scenario.current(70);
    scenario.kernel(manager, 100, Signo::KILL, crate::model::event::Call::None).dies(100, Signo::KILL);
    // Reading /proc took its time; since 6.16 the mark may come after the exit.
    let exit = scenario.events.last().expect("it died").t_ns;
    scenario.push(None, Fact::Memory(Default::default())).t_ns = exit + 40 * MS;
    scenario.oom_mark(70, 100).events.last_mut().expect("a mark").t_ns = exit + 1;
    scenario.events.iter_mut().for_each(|event| event.cpu = event.cpu.map(|_| 0));
    let death = scenario.death(100);
    assert_answer(&death, Kind::OomKill, None, Confidence::Certain);
}

#[test]
fn an_event_that_comes_twice_is_damage_and_is_taken_once() {
    let mut scenario = vite();
    scenario.kill(70, 100, Signo::TERM).handle(100, Signo::TERM);
    let twice = scenario.events[scenario.events.len() - 2].clone();
    scenario.wait(100).exits(100, 0).events.push(twice);
    let report = scenario.watch(100);
    assert_eq!(report.collector.lost_events, 1);
    assert!(report.deaths[0].cause.confidence < Confidence::Certain);
    assert!(report.deaths[0].other_signals.is_empty(), "{:#?}", report.deaths[0]);
}

#[test]
fn a_pid_that_is_born_again_has_ended_before() {
    let mut scenario = vite();
    scenario.fork(40, 101).wait(1_000);
    // The end of the first 101 was lost.
    scenario.spawn(40, 101, &["/usr/bin/tool"]);
    let mut explainer = Explainer::new(
        scenario.header.clone(),
        Selectors { comms: vec!["tool".into()], ..Selectors::default() },
    );
    scenario.events.iter().for_each(|event| explainer.apply(event));
    let alive: Vec<_> = explainer.table.iter().filter(|p| p.tgid == 101 && p.alive()).collect();
    assert_eq!(alive.len(), 1);
}

#[test]
fn threads_read_a_moment_ago_do_not_take_the_id_of_another_process() {
    let mut scenario = vite();
    scenario.facts(ProcessFacts { tgid: 40, threads: vec![100], ..ProcessFacts::default() });
    let death = scenario.kill(70, 100, Signo::KILL).dies(100, Signo::KILL).death(100);
    assert_eq!(death.victim.comm, "node");
}

#[test]
fn a_number_that_is_no_signal_has_a_name_all_the_same() {
    for number in [i32::MIN, -1, 0, 65, i32::MAX] {
        let signo = Signo(number);
        assert_eq!((signo.to_string(), signo.bit()), (format!("signal {number}"), 0));
        let death = vite().kill(70, 100, signo).exits(100, 0).death(100);
        assert_answer(&death, Kind::Exited, None, Confidence::Certain);
    }
}

#[test]
fn the_end_of_a_stream_ends_it_whoever_told_it() {
    let mut scenario = vite();
    scenario.kill(70, 100, Signo::KILL).dies(100, Signo::KILL);
    let selectors = Selectors { pids: vec![100], ..Selectors::default() };
    let mut explainer = Explainer::new(scenario.header.clone(), selectors);
    let end = scenario.push(None, Fact::End);
    (end.cpu, end.t_ns) = (Some(0), 0);
    scenario.events.iter().for_each(|event| explainer.apply(event));
    assert!(!explainer.is_settling());
}

#[test]
fn a_wrapper_that_handled_an_unseen_request_may_have_passed_on_another_signal() {
    let mut scenario = vite();
    scenario.handle(40, Signo::TERM).kill(40, 100, Signo::INT);
    let death = scenario.dies(100, Signo::INT).death(100);
    assert_answer(&death, Kind::KilledByProcess, Some(40), Confidence::Likely);
}

#[test]
fn a_handler_of_an_unseen_fault_may_be_why_it_exited() {
    for signo in [Signo::SYS, Signo::SEGV] {
        let mut scenario = vite();
        let death = scenario.handle(100, signo).exits(100, 3).death(100);
        assert_answer(&death, Kind::Exited, None, Confidence::Likely);
    }
}

#[test]
fn a_task_of_which_nothing_is_known_in_no_call_closed_no_terminal() {
    let mut scenario = vite();
    let worker = scenario.current(620);
    scenario.hang_up(worker, 100, Some(100)).kernel(worker, 100, Signo::CONT, Call::None);
    let death = scenario.dies(100, Signo::HUP).death(100);
    assert_answer(&death, Kind::TtyHangup, None, Confidence::Certain);
}

#[test]
fn an_oom_kill_by_a_task_of_which_nothing_is_known_may_have_been_asked_for() {
    for (current, confidence) in [(620, Confidence::Likely), (70, Confidence::Certain)] {
        let mut scenario = vite();
        let task = scenario.current(current);
        scenario.kernel(task, 100, Signo::KILL, Call::None).oom_mark(current, 100);
        let death = scenario.dies(100, Signo::KILL).death(100);
        assert_answer(&death, Kind::OomKill, None, confidence);
    }
}

#[test]
fn a_continue_that_reached_only_others_of_a_group_was_lost() {
    for (continued, confidence) in [(true, Confidence::Likely), (false, Confidence::Certain)] {
        let mut scenario = vite();
        scenario.spawn(100, 101, &["/usr/bin/esbuild"]).exits(40, 0);
        let shell = scenario.exiting(40);
        scenario.hang_up(shell, 100, Some(40)).hang_up(shell, 101, Some(40));
        if continued {
            scenario.kernel(shell, 101, Signo::CONT, Call::None);
        }
        let death = scenario.dies(101, Signo::HUP).dies(100, Signo::HUP).death(100);
        let found = (death.cause.kind, death.cause.confidence);
        assert_eq!(found, (Kind::SessionLeaderExit, confidence), "{death:#?}");
    }
}

#[test]
fn a_hangup_that_an_ancestor_seems_to_send_may_be_a_terminal_given_up() {
    for (sender, confidence) in [(40, Confidence::Likely), (70, Confidence::Certain)] {
        let mut scenario = vite();
        let current = scenario.current(sender);
        scenario.signal(current, 100, Signo::HUP, code::SI_USER, true, SignalResult::Delivered, None);
        let death = scenario.dies(100, Signo::HUP).death(100);
        assert_answer(&death, Kind::KilledByProcess, Some(sender), confidence);
        assert_eq!(death.gaps.is_empty(), confidence == Confidence::Certain, "{:?}", death.gaps);
    }
    // Whoever it comes from: a SIGCONT behind it is what a terminal given up looks like.
    let mut scenario = vite();
    let manager = scenario.current(70);
    for signo in [Signo::HUP, Signo::CONT] {
        scenario.signal(manager, 100, signo, code::SI_USER, true, SignalResult::Delivered, None);
    }
    let death = scenario.dies(100, Signo::HUP).death(100);
    assert_answer(&death, Kind::KilledByProcess, Some(70), Confidence::Likely);
}

#[test]
fn a_parent_whose_threads_all_end_does_not_live_on_however_long_that_takes() {
    let mut scenario = vite();
    scenario.spawn(70, 200, &["/opt/worker"]).kill(40, 70, Signo::TERM);
    // The thread that started the worker.
    let thread = Current { tid: 71, ..scenario.current(70) };
    let killed = Deliver { signo: Signo::KILL.0, code: 0, errno: 0, disposition: Disposition::Default };
    scenario.push(Some(thread), Fact::Deliver(killed));
    let thread = Current { exiting: Some(true), ..thread };
    scenario.signal(thread, 200, Signo::TERM, code::SI_USER, true, SignalResult::Delivered, None);
    scenario.dies(200, Signo::TERM).wait(3_000).take(70, Signo::TERM, code::SI_USER).dies(70, Signo::TERM);
    let death = scenario.death(200);
    assert_answer(&death, Kind::ParentDeathSignal, Some(40), Confidence::Likely);
}
