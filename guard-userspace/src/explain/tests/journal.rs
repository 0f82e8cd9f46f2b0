//! The journal as a witness.

use super::*;
use crate::model::journal::{Entry, Query, Writer};
use crate::model::report::UnitScope;
use crate::model::select::Selectors;
use crate::model::unit::Unit;
use crate::model::want::Want;

const KIOSK: &str = "/user.slice/user-1000.slice/user@1000.service/app.slice/kiosk.service";

fn entry(scenario: &Scenario, pid: u32, unit: Option<&str>, text: &str) -> Entry {
    let unit = unit.map(|name| Unit { name: name.to_owned(), scope: UnitScope::User });
    let last = scenario.events.last().expect("something happened");
    Entry {
        at_boottime_ns: last.t_ns,
        writer: Writer { pid, root_of: None },
        comm: Some("systemd".to_owned()),
        unit,
        priority: Some(4),
        message_id: None,
        text: text.to_owned(),
    }
}

fn result(scenario: &Scenario, pid: u32, unit: &str, result: &str) -> Entry {
    let message_id = Some("d9b373ed55a64feb8242e02dbe79a49c".to_owned());
    Entry {
        message_id,
        ..entry(scenario, pid, Some(unit), &format!("{unit}: Failed with result '{result}'."))
    }
}

fn says(scenario: &mut Scenario, entry: Entry) {
    scenario.push(None, Fact::Journal(Box::new(entry)));
}

/// What was asked while these events came, and the death of 100.
fn asked_and_told(scenario: &mut Scenario) -> (Vec<Query>, Death) {
    let mut explainer =
        Explainer::new(scenario.header.clone(), Selectors { pids: vec![100], ..Selectors::default() });
    let mut asked = Vec::new();
    for event in &scenario.events {
        explainer.apply(event);
        asked.extend(explainer.take_wants().into_iter().filter_map(|want| match want {
            Want::Journal(query) => Some(query),
            _ => None,
        }));
    }
    (asked, scenario.clone().death(100))
}

fn texts(death: &Death) -> Vec<&str> {
    death.journal.iter().map(|line| line.text.as_str()).collect()
}

/// kali's systemd (60) stops her kiosk, which does not listen.
fn timeout() -> Scenario {
    let mut scenario = Scenario::new();
    scenario.seed(60, 1, "systemd", &["/usr/lib/systemd/systemd", "--user"]);
    scenario.cgroup(60, "/user.slice/user-1000.slice/user@1000.service/init.scope").seeded();
    scenario.spawn(60, 100, &["/usr/bin/chrome"]).cgroup(100, KIOSK).wait(5_000);
    scenario.kill(60, 100, Signo::TERM).kill(60, 100, Signo::CONT).wait(90_000);
    scenario
}

#[test]
fn the_manager_is_asked_about_its_unit_and_its_words_are_attached() {
    let mut scenario = timeout();
    let late = entry(&scenario, 60, Some("kiosk.service"), "State 'stop-sigterm' timed out. Killing.");
    scenario.kill(60, 100, Signo::KILL).dies(100, Signo::KILL);
    let silent = scenario.clone().death(100);
    let last = result(&scenario, 60, "kiosk.service", "timeout");
    scenario.wait(2_000).fork(60, 300);
    let (asked, _) = asked_and_told(&mut scenario);
    let unit = Some(Unit { name: "kiosk.service".to_owned(), scope: UnitScope::User });
    let writer = Writer { pid: 60, root_of: None };
    let matches = |query: &Query| query.writer == writer && query.unit == unit;
    assert!(asked.len() == 1 && asked.iter().all(matches), "{asked:?}");
    assert!(asked[0].since_boottime_ns < late.at_boottime_ns);

    says(&mut scenario, late);
    says(&mut scenario, last.clone());
    // Asked twice, told once; and what comes after its last word is about another life.
    says(&mut scenario, last);
    let next = result(&scenario, 60, "kiosk.service", "exit-code");
    says(&mut scenario, next);
    let death = scenario.death(100);
    let expected =
        ["State 'stop-sigterm' timed out. Killing.", "kiosk.service: Failed with result 'timeout'."];
    assert_eq!(texts(&death), expected);
    assert_eq!(death.journal[0].writer.pid, 60);
    let verdict = Death { journal: Vec::new(), ..death };
    assert_eq!(verdict, silent, "its words change nothing");
}

#[test]
fn who_is_not_the_manager_or_speaks_of_another_unit_or_of_before_is_not_heard() {
    let mut scenario = timeout();
    let old = Entry { at_boottime_ns: 1, ..result(&scenario, 60, "kiosk.service", "signal") };
    scenario.kill(60, 100, Signo::KILL).dies(100, Signo::KILL);
    let of_another = result(&scenario, 60, "other.service", "timeout");
    let forged = result(&scenario, 666, "kiosk.service", "oom-kill");
    let inside = Writer { pid: 60, root_of: Some(7) };
    let of_a_container = Entry { writer: inside, ..result(&scenario, 60, "kiosk.service", "timeout") };
    let quiet =
        Entry { priority: Some(6), ..entry(&scenario, 60, Some("kiosk.service"), "Stopping kiosk...") };
    scenario.wait(2_000).fork(60, 300);
    for entry in [old, of_another, forged, of_a_container, quiet] {
        says(&mut scenario, entry);
    }
    assert_eq!(texts(&scenario.death(100)), [""; 0]);
}

#[test]
fn an_oom_daemon_is_heard_on_the_wrapper_that_it_ended() {
    let mut scenario = Scenario::new();
    scenario.seed(30, 1, "earlyoom", &["/usr/bin/earlyoom", "-r", "60"]);
    scenario.seed(40, 1, "zsh", &["/bin/zsh"]).session(40, 40, "pts/3").seeded();
    scenario.spawn(40, 100, &["/usr/bin/vite"]).session(100, 40, "pts/3");
    scenario.kill(30, 40, Signo::TERM).dies(40, Signo::TERM);
    let zsh = scenario.exiting(40);
    scenario.hang_up(zsh, 100, Some(40)).dies(100, Signo::HUP);
    let line =
        |pid: u32| format!("sending SIGTERM to process {pid} uid 1000 \"zsh\": badness 912, VmRSS 9 MiB");
    let (about_it, about_another) =
        (entry(&scenario, 30, None, &line(40)), entry(&scenario, 30, None, &line(41)));
    let forged = entry(&scenario, 31, None, &line(40));
    scenario.wait(2_000).fork(1, 300);
    let (asked, death) = asked_and_told(&mut scenario);
    assert_eq!(death.killer.as_ref().map(|killer| killer.pid), Some(30), "{}", death.summary);
    assert_eq!(
        asked.iter().map(|query| (query.writer.pid, query.unit.is_none())).collect::<Vec<_>>(),
        [(30, true)]
    );
    for entry in [about_it, about_another, forged] {
        says(&mut scenario, entry);
    }
    assert_eq!(texts(&scenario.death(100)), [line(40)]);
}

#[test]
fn nobody_is_asked_about_a_death_that_no_such_actor_had_a_part_in() {
    let mut scenario = Scenario::new();
    scenario.seed(40, 1, "bash", &["/bin/bash"]).seeded();
    scenario.spawn(40, 100, &["/usr/bin/vite"]).kill(40, 100, Signo::KILL).dies(100, Signo::KILL);
    scenario.wait(2_000).fork(40, 300);
    let (asked, _) = asked_and_told(&mut scenario);
    assert_eq!(asked, []);
}
