//! `cgroup.kill` (kernel/cgroup/cgroup.c, `__cgroup_kill`): SIGKILL, SI_USER, to one thread of each process,
//! from the task that wrote the file. A fork that races with it is killed by its own fork
//! (`cgroup_post_fork`), and the parent is not to blame.

use super::{Case, Cause, Finding};
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
        if blow.run.signo != Signo::KILL || blow.run.code != code::SI_USER {
            return None;
        }
        let writing = [Call::Write, Call::Writev, Call::Pwrite64, Call::IoUringEnter];
        if !blow.run.group && blow.in_call(&writing) == Some(true) {
            let killer = blow.current.map(|process| process.id);
            return Some(Finding::process(Kind::CgroupKill, Mechanism::CgroupKill, killer));
        }
        None
    }
}
