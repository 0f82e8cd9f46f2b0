//! A resource limit: RLIMIT_CPU and RLIMIT_RTTIME (kernel/time/posix-cpu-timers.c, `check_rlimit`: SIGXCPU each
//! second, then SIGKILL), RLIMIT_FSIZE (fs/read_write.c, `generic_write_check_limits`: SIGXFSZ).

use super::{Case, Cause, Finding};
use crate::model::event::Limits;
use crate::model::report::Kind;
use crate::model::signal::{Signo, code};

pub(super) struct Rlimit;

impl Cause for Rlimit {
    fn kind(&self) -> Kind {
        Kind::Rlimit
    }

    fn examine(&self, case: &Case<'_>) -> Option<Finding> {
        let blow = case.blow()?;
        if !blow.own {
            return None;
        }
        let finding = Finding::kernel(Kind::Rlimit);
        let limits = case.ending.exit.limits;
        if blow.is(Signo::XCPU, code::SI_KERNEL, true) {
            // Its hard limits tell which one was set.
            return Some(match limits {
                Some(Limits { cpu_s: Some(_), rttime_us: None }) => finding.detail("cpu_time"),
                Some(Limits { cpu_s: None, rttime_us: Some(_) }) => finding.detail("real_time"),
                _ => finding,
            });
        }
        // The same bits as an OOM kill by the allocating task itself: only the OOM mark tells them apart. BPF programs
        // that kill (`bpf_send_signal`) make them too.
        if blow.is(Signo::KILL, code::SI_KERNEL, true) && case.victim.history.oom.is_none() {
            let warned =
                case.victim.history.runs.iter().any(|run| run.is(Signo::XCPU, code::SI_KERNEL, true));
            let finding = finding.detail("hard_limit");
            return match limits {
                Some(limits) => (limits != Limits::default()).then_some(finding),
                None if warned => Some(finding),
                None => Some(finding.likely()),
            };
        }
        let file_size = blow.is(Signo::XFSZ, code::SI_USER, false) && blow.in_kill() != Some(true);
        file_size.then(|| finding.detail("file_size"))
    }
}
