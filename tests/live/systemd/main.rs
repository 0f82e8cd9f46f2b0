//! A real systemd ends the processes of its units: killtrace watches from outside of its namespaces.

mod journal;
mod stop;
mod trouble;
mod user;

use killtrace::model::report::{Actor, Confidence, Death, Job, Kind, Role, UnitScope};
use killtrace_tests::{Outcome, Systemd, Watch};

/// A watch for a unit, and a systemd whose whole life it sees.
fn watched(unit: &str) -> Option<(Watch, Systemd)> {
    let watch = Watch::start(&["--unit", unit]);
    Some((watch, Systemd::boot()?))
}

/// Stops the watch when all of these are dead.
fn outcome(watch: Watch, pids: &[u32]) -> Outcome {
    watch.until_dead(pids);
    watch.stop()
}

/// What is certain of each process that systemd ends.
#[track_caller]
fn killer(death: &Death, manager: u32, unit: (&str, UnitScope), signal: &str, job: Option<Job>) -> Actor {
    let said = format!("{}\n{:?}", death.summary, death.gaps);
    assert_eq!(
        (death.cause.kind, death.cause.confidence),
        (Kind::KilledByProcess, Confidence::Certain),
        "{said}"
    );
    assert_eq!(death.exit.signal.as_deref(), Some(signal), "{said}");
    assert_eq!(
        (death.victim.unit.as_deref(), death.victim.unit_scope),
        (Some(unit.0), Some(unit.1)),
        "{said}"
    );
    let killer = death.killer.clone().unwrap_or_else(|| panic!("no killer: {said}"));
    assert_eq!((killer.pid, killer.role, killer.job), (manager, Role::ServiceManager, job), "{said}");
    killer
}

/// Who asked systemd for it, which is most likely at most.
#[track_caller]
fn asked(death: &Death, by: &str, command: &str) {
    let root = death.root_cause.as_ref().unwrap_or_else(|| panic!("no root cause: {}", death.summary));
    let actor = root.actor.as_ref().unwrap_or_else(|| panic!("nobody: {}", death.summary));
    assert_eq!((actor.name.as_str(), root.confidence), (by, Confidence::Likely), "{}", death.summary);
    assert_eq!(root.action, format!("asked for it with `{command}`"));
    // Between the two may be its unit.
    let (who, what) =
        (format!("Most likely {by} (pid {}", actor.pid), format!(") asked for that: `{command}`."));
    assert!(death.summary.contains(&who) && death.summary.ends_with(&what), "{}", death.summary);
    assert!(
        death.chain.iter().any(|step| step.text.ends_with(&format!(" ran `{command}`"))),
        "{:?}",
        death.chain
    );
}
