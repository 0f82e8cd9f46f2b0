//! Another process sends the signal.

use killtrace::model::report::{Kind, Mechanism};

use super::Family;
use crate::Case;
use crate::stage::{Person, Stage};

pub(crate) const KILLS: Family = Family {
    cases: &[
        Case::new("kill", "SIGTERM by kill(2) from another process", kill).late(),
        Case::new("kill9", "SIGKILL by kill(2) from another process", kill9).late(),
        Case::new("ignexit", "it ignores SIGTERM and later exits by itself", ignored_then_exit).late(),
    ],
    acts: &[],
};

fn kill(stage: &mut Stage) {
    let mut victim = stage.victim(&["ready", "pause"]);
    stage.curtain();
    let killer = stage.perform("kz-killer", &[&format!("kill:{},TERM", victim.pid())]);
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .mechanism(Mechanism::Kill)
        .killer(&killer)
        .ancestry(&[Person::director().pid])
        .chain(&["sent SIGTERM to kz-victim", "was killed by SIGTERM"]);
}

fn kill9(stage: &mut Stage) {
    let mut victim = stage.victim(&["ready", "pause"]);
    stage.curtain();
    let killer = stage.perform("kz-killer", &[&format!("kill:{},KILL", victim.pid())]);
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGKILL)
        .mechanism(Mechanism::Kill)
        .killer(&killer)
        .chain(&["sent SIGKILL to kz-victim", "was killed by SIGKILL"]);
}

fn ignored_then_exit(stage: &mut Stage) {
    let mut victim = stage.victim(&["ignore:TERM", "ready", "obey"]);
    stage.curtain();
    let decoy = stage.perform("kz-decoy", &[&format!("kill:{},TERM", victim.pid())]);
    victim.order("exit:3");
    stage
        .death_of(&mut victim, Kind::Exited)
        .by_exit(3)
        .no_killer()
        .innocent(decoy.pid)
        .other_signal("SIGTERM");
}
