//! `cgroup.kill` (kernel/cgroup/cgroup.c, `__cgroup_kill`): SIGKILL, SI_USER, to one thread of each process, from
//! the task that wrote the file. No call that sends signals makes that; PTRACE_KILL does.

use super::{Case, Cause, Finding};
use crate::explain::process::ProcId;
use crate::model::event::Call;
use crate::model::report::{Kind, Mechanism};
use crate::model::signal::{Signo, code};

pub(super) struct CgroupKill;

impl Cause for CgroupKill {
    fn kind(&self) -> Kind {
        Kind::CgroupKill
    }

    fn examine(&self, case: &Case<'_>) -> Option<Finding> {
        let blow = case.blow()?;
        let found = |killer| Finding::process(Kind::CgroupKill, Mechanism::CgroupKill, killer);
        if case.killed_at_birth() {
            let finding = Finding { kernel: true, ..found(writer_that_raced(case)) };
            return Some(if blow.in_kill().is_some() { finding } else { finding.likely() });
        }
        if !blow.is(Signo::KILL, code::SI_USER, false) {
            return None;
        }
        let finding = found(blow.current.filter(|_| !blow.own).map(|process| process.id));
        match blow.call() {
            Some(Call::Ptrace) => None,
            Some(
                Call::Write
                | Call::Writev
                | Call::Pwrite64
                | Call::Sendfile
                | Call::Splice
                | Call::IoUringEnter,
            ) => Some(finding),
            // A worker of io_uring is in no call.
            Some(_) if blow.in_kill() == Some(false) => Some(finding.likely()),
            Some(_) => None,
            None => {
                let traced = case.tracer().is_some_and(|tracer| Some(tracer.id) == blow.run.current);
                (!traced).then(|| finding.likely())
            }
        }
    }
}

/// Whoever wrote to the cgroup.kill that killed the parent as well.
fn writer_that_raced(case: &Case<'_>) -> Option<ProcId> {
    let parent = case.table.get(case.victim.parent?)?;
    let mut killed = parent.history.runs.iter().rev();
    killed.find(|run| run.is(Signo::KILL, code::SI_USER, false))?.current.filter(|&id| id != parent.id)
}
