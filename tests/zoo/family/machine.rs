//! What is done to the whole machine. Only in a virtual one.
//!
//! SysRq i kills everything but pid 1, killtrace and this program with it: there is nobody left to watch or to ask,
//! so it is no case. SysRq e is the same with SIGTERM, which killtrace takes as the request to end its watch, and
//! which this program and the test ignore.

use std::fs;

use killtrace::model::report::{Confidence, Kind, Mechanism};

use super::Family;
use crate::Case;
use crate::stage::{Stage, vm_only};

pub(crate) const MACHINE: Family = Family {
    cases: &[
        Case::new("sysrqe", "SysRq e: SIGTERM to everybody", terminate).needs(vm_only),
        Case::new("sysrqf", "SysRq f: the OOM killer takes the largest", out_of_memory).needs(vm_only),
    ],
    acts: &[],
};

const TRIGGER: &str = "/proc/sysrq-trigger";

fn terminate(stage: &mut Stage) {
    let mut victim = stage.victim(&["default:TERM", "ready", "pause"]);
    crate::acts::action(libc::SIGTERM, libc::SIG_IGN);
    // By the director itself: a writer of its own would be hit as well.
    fs::write(TRIGGER, "e").expect("root may");
    stage
        .death_of(&mut victim, Kind::Sysrq)
        .by_signal(libc::SIGTERM)
        .mechanism(Mechanism::Sysrq)
        .killer(&crate::stage::Person::director())
        .without_btf(Kind::Sysrq, Confidence::Likely)
        .nobody_without_btf();
}

/// The kernel does it later, in a worker of its own (drivers/tty/sysrq.c, `moom_callback`): who wrote is not known.
fn out_of_memory(stage: &mut Stage) {
    let mut victim = stage.victim(&["eat:16", "adjust:1000", "ready", "pause"]);
    let writer = stage.perform("kz-writer", &[&format!("echo:{TRIGGER},f")]);
    stage
        .death_of(&mut victim, Kind::Sysrq)
        .by_signal(libc::SIGKILL)
        .mechanism(Mechanism::Sysrq)
        .detail("out_of_memory")
        .no_killer()
        .innocent(writer.pid);
}
