//! Jobs of continuous integration that are cancelled, or run out of time.

use super::*;
use crate::model::report::{Job, Role};

/// GitHub's runner at 90, the step's shell at 100 and npm at 101.
fn step() -> Scenario {
    let mut scenario = Scenario::new();
    scenario.seed(90, 1, "Runner.Worker", &["/home/runner/bin/Runner.Worker"]).seeded();
    scenario.spawn(90, 100, &["/usr/bin/bash", "-e", "/home/runner/_work/_temp/1.sh"]);
    scenario.spawn(100, 101, &["/usr/bin/node", "/usr/bin/npm", "test"]);
    scenario
}

fn steps(death: &Death) -> Vec<&str> {
    death.chain.iter().map(|step| step.text.as_str()).collect()
}

#[test]
fn who_obeys_the_first_signal_was_asked_by_a_runner() {
    let mut scenario = step();
    scenario.kill(90, 100, Signo::INT).handle(100, Signo::INT).exits(100, 130);
    let death = scenario.death(100);
    assert_cause(&death, Kind::KilledByProcess, Mechanism::Kill, Confidence::Certain);
    assert_eq!(
        death.summary,
        "1.sh (pid 100) was asked to stop with SIGINT by Runner.Worker (pid 90), most likely because its job was cancelled \
         or timed out, and exited with code 130 2 ms later."
    );
    let killer = death.killer.as_ref().unwrap();
    assert_eq!((killer.role, killer.job), (Role::CiRunner, Some(Job::Cancel)));
}

#[test]
fn who_obeys_none_has_the_whole_sequence() {
    let mut scenario = step();
    scenario.kill(90, 100, Signo::INT).handle(100, Signo::INT).wait(7_500);
    scenario.kill(90, 100, Signo::TERM).handle(100, Signo::TERM).wait(2_500);
    scenario.kill(90, 100, Signo::KILL).dies(100, Signo::KILL);
    let death = scenario.death(100);
    assert_eq!(
        death.summary,
        "1.sh (pid 100) was killed by SIGKILL from Runner.Worker (pid 90), most likely because its job was cancelled or \
         timed out (SIGINT 10 s and SIGTERM 2.5 s before)."
    );
    assert_eq!(
        steps(&death),
        [
            "Runner.Worker (90) sent SIGINT to 1.sh (100)",
            "Runner.Worker (90) sent SIGTERM to 1.sh (100)",
            "Runner.Worker (90) sent SIGKILL to 1.sh (100)",
            "1.sh (100) was killed by SIGKILL"
        ]
    );
}

#[test]
fn what_a_job_left_behind_was_not_asked() {
    let mut scenario = step();
    scenario.kill(90, 101, Signo::KILL).dies(101, Signo::KILL);
    let summary = scenario.death(101).summary;
    assert!(summary.ends_with("most likely because its job was over, cancelled or timed out."), "{summary}");
    // Its shell had been asked.
    let mut scenario = step();
    scenario.kill(90, 100, Signo::TERM).dies(100, Signo::TERM).wait(10);
    let summary = scenario.kill(90, 101, Signo::KILL).dies(101, Signo::KILL).death(101).summary;
    assert!(summary.ends_with("its job was cancelled or timed out (SIGTERM 12 ms before)."), "{summary}");
}

#[test]
fn a_signal_that_killtrace_passes_on_is_the_runners() {
    let mut scenario = step();
    scenario.spawn(100, 9, &["/usr/bin/killtrace", "run", "--", "vitest"]);
    scenario.spawn(9, 110, &["/usr/bin/vitest"]);
    scenario.kill(90, 9, Signo::INT).kill(9, 110, Signo::INT).dies(110, Signo::INT);
    let death = scenario.death(110);
    assert_eq!(
        death.summary,
        "vitest (pid 110) was killed by SIGINT from Runner.Worker (pid 90), most likely because its job was cancelled or \
         timed out."
    );
    assert_cause(&death, Kind::KilledByProcess, Mechanism::Kill, Confidence::Certain);
}

#[test]
fn a_step_that_kills_is_not_its_runner() {
    let mut scenario = step();
    scenario.spawn(90, 120, &["/usr/bin/bash", "-e", "/home/runner/_work/_temp/2.sh"]);
    scenario.spawn(120, 121, &["/usr/bin/pkill", "node"]);
    scenario.kill(121, 101, Signo::TERM).dies(101, Signo::TERM);
    let death = scenario.death(101);
    assert_eq!(death.decider().map(|actor| actor.pid), Some(120), "{}", death.summary);
    assert!(!death.summary.contains("cancelled"), "{}", death.summary);
}

#[test]
fn any_other_process_cancels_nothing() {
    let mut scenario = step();
    scenario.seed(91, 1, "timeout", &["/usr/bin/timeout"]);
    scenario.kill(91, 100, Signo::INT).wait(7_500).kill(91, 100, Signo::TERM).dies(100, Signo::TERM);
    let death = scenario.death(100);
    assert!(!death.summary.contains("cancelled"), "{}", death.summary);
    assert_eq!(death.killer.unwrap().job, None);
}
