//! Every process of the machine is watched, and few of them matter.

use crate::model::Fact;
use crate::model::event::{Current, Exit, Taskstats, WaitStatus};
use crate::model::record::DeathRecord;
use crate::model::report::Kind;
use crate::model::select::{Everybody, Selectors};
use crate::model::signal::Signo;
use crate::model::want::Want;

use super::super::Explainer;
use super::super::scenario::Scenario;
use super::vite;

/// What is told, and what was asked of /proc.
fn record(scenario: &mut Scenario, everybody: Everybody) -> (Vec<DeathRecord>, Vec<Want>) {
    scenario.wait(2000);
    scenario.push(None, Fact::End);
    let selectors = Selectors { everybody: Some(everybody), ..Selectors::default() };
    let mut explainer = Explainer::new(scenario.header.clone(), selectors);
    let (mut records, mut wants) = (Vec::new(), Vec::new());
    for event in &scenario.events {
        explainer.apply(event);
        wants.extend(explainer.take_wants());
        records.extend(explainer.take_records());
    }
    assert!(explainer.report().deaths.is_empty(), "what was taken is not kept");
    assert!(explainer.report().timeline.is_empty());
    (records, wants)
}

fn pids(records: &[DeathRecord]) -> Vec<u32> {
    records.iter().map(|record| record.death.victim.pid).collect()
}

#[test]
fn who_ends_normally_is_neither_told_nor_looked_at() {
    let mut scenario = vite();
    scenario.spawn(40, 300, &["/bin/true"]).exits(300, 0);
    scenario.spawn(40, 301, &["/bin/false"]).exits(301, 1);
    let (records, wants) = record(&mut scenario.clone(), Everybody::Killed);
    assert!(records.is_empty() && wants.is_empty(), "{records:?} {wants:?}");
    let (records, wants) = record(&mut scenario, Everybody::KilledOrFailed);
    assert_eq!(pids(&records), [301]);
    assert!(wants.iter().all(|want| !matches!(want, Want::Process(_))), "{wants:?}");
}

#[test]
fn who_is_killed_is_told_with_its_evidence() {
    let mut scenario = vite();
    scenario.spawn(40, 200, &["/usr/bin/pkill", "-f", "vite"]).kill(200, 100, Signo::TERM);
    scenario.exits(200, 0).dies(100, Signo::TERM);
    let (records, wants) = record(&mut scenario, Everybody::Killed);
    assert_eq!(pids(&records), [100]);
    let DeathRecord { death, timeline, .. } = &records[0];
    assert_eq!(death.cause.kind, Kind::KilledByProcess);
    assert_eq!(death.killer.as_ref().map(|killer| killer.comm.as_str()), Some("pkill"));
    let shown: Vec<u64> = timeline.iter().map(|entry| entry.id).collect();
    for event in &death.evidence {
        assert!(shown.contains(event), "{event} is not in {shown:?}");
    }
    for want in [Want::Process(100), Want::Process(200), Want::ProcessMemory(100), Want::MachineMemory] {
        assert!(wants.contains(&want), "{want:?} is not in {wants:?}");
    }
}

#[test]
fn who_stops_when_asked_to_is_told() {
    let mut scenario = vite();
    scenario.kill(40, 100, Signo::TERM).handle(100, Signo::TERM).exits(100, 0);
    let (records, _) = record(&mut scenario, Everybody::Killed);
    assert_eq!(pids(&records), [100]);
    assert!(records[0].death.cause.graceful);
}

fn ended(tgid: u32, status: i32) -> Fact {
    Fact::Taskstats(Taskstats {
        tid: tgid,
        tgid: Some(tgid),
        status: WaitStatus(status),
        group_dead: Some(true),
        comm: None,
        signaled: status != 0,
        max_rss_bytes: None,
    })
}

#[test]
fn a_status_that_comes_when_the_pid_was_given_again_is_not_the_new_ones() {
    for before_its_end in [true, false] {
        let mut scenario = vite();
        for signo in [Signo::TERM, Signo::KILL] {
            scenario.spawn(40, 300, &["/bin/again"]).kill(40, 300, signo);
            if signo == Signo::KILL && before_its_end {
                scenario.push(None, ended(300, Signo::TERM.0));
            }
            let current = Current { exiting: Some(true), ..scenario.current(300) };
            scenario.push(Some(current), Fact::Exit(Exit { group_dead: Some(true), ..Exit::default() }));
        }
        if !before_its_end {
            scenario.push(None, ended(300, Signo::TERM.0));
        }
        scenario.push(None, ended(300, Signo::KILL.0));
        let (records, _) = record(&mut scenario, Everybody::Killed);
        let signals: Vec<_> = records.iter().map(|record| record.death.exit.signal.as_deref()).collect();
        assert_eq!(signals, [Some("SIGTERM"), Some("SIGKILL")]);
    }
}

#[test]
fn a_status_that_comes_late_decides_late() {
    let mut scenario = vite();
    scenario.spawn(40, 300, &["/bin/true"]).spawn(40, 301, &["/bin/crash"]);
    for (pid, status) in [(300, 0), (301, Signo::SEGV.0)] {
        let current = Current { exiting: Some(true), ..scenario.current(pid) };
        scenario.push(Some(current), Fact::Exit(Exit { group_dead: Some(true), ..Exit::default() }));
        scenario.push(None, ended(pid, status));
    }
    let (records, wants) = record(&mut scenario, Everybody::Killed);
    assert_eq!(pids(&records), [301]);
    assert_eq!(records[0].death.exit.signal.as_deref(), Some("SIGSEGV"));
    assert_eq!(wants.iter().filter(|want| **want == Want::MachineMemory).count(), 1, "{wants:?}");
}

#[test]
fn a_clock_that_is_set_later_dates_what_dies_later() {
    let mut scenario = vite();
    scenario.kill(40, 100, Signo::KILL).dies(100, Signo::KILL).wait(100);
    scenario.push(None, Fact::Tick);
    let selectors = Selectors { everybody: Some(Everybody::Killed), ..Selectors::default() };
    let mut explainer = Explainer::new(scenario.header.clone(), selectors);
    let since = scenario.header.since_ns();
    let hour = 3_600_000_000_000;
    explainer.set_wall_clock(scenario.header.wall_minus_boottime_ns + hour);
    assert_eq!(explainer.header.since_ns(), since);
    scenario.events.iter().for_each(|event| explainer.apply(event));
    scenario.push(None, Fact::End);
    explainer.apply(scenario.events.last().expect("just pushed"));
    let records = explainer.take_records();
    let died = scenario.events.iter().find(|event| matches!(event.fact, Fact::Exit(_))).expect("it died");
    assert_eq!(records[0].death.died_at.0, scenario.header.wall(died.t_ns).0 + hour);
}
