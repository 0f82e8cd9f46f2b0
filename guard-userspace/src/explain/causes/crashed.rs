//! A fault for its own instruction (arch/*/mm/fault.c and traps.c, `force_sig_fault`).
//!
//! `current` is the victim, the signal is for the thread, and the code is positive, except x86's `int3` and
//! general protection faults, which say SI_KERNEL. A fault signal that somebody sent has a code <= 0.

use super::exec_failed::in_exec;
use super::killed_by_self::is_forged;
use super::{Case, Cause, Finding};
use crate::explain::history::SignalRun;
use crate::model::event::Call;
use crate::model::report::Kind;
use crate::model::signal::{Signo, code};

pub(super) struct Crashed;

impl Cause for Crashed {
    fn kind(&self) -> Kind {
        Kind::Crashed
    }

    fn examine(&self, case: &Case<'_>) -> Option<Finding> {
        let blow = case.blow()?;
        if !blow.run.signo.is_fault() || blow.run.group || !(blow.own || blow.kernel_thread) {
            return None;
        }
        // BUS_MCEERR_AO comes from whoever found the broken page (mm/memory-failure.c, `kill_proc`).
        if blow.run.code <= code::SI_USER || is_forged(&blow) || in_exec(case, &blow) {
            return None;
        }
        let finding = Finding::kernel(Kind::Crashed);
        if blow.run.is(Signo::SEGV, code::SI_KERNEL, false) {
            return Some(match blow.call() {
                // arch/x86/kernel/traps.c, `exc_general_protection`.
                Some(Call::None) if case.table.is_x86() => finding.detail("general_protection"),
                // Its tracer may have sent it on, as the debugger cause knows.
                Some(_) if case.stopped_before(blow.run.first.t_ns) => return None,
                // `sigreturn` with a frame that is none, or no room for a handler's frame (`force_sigsegv`).
                Some(_) => finding.detail("signal_frame"),
                // Or an execve that failed, without its traces.
                None => finding.likely(),
            });
        }
        Some(match detail(blow.run) {
            Some(detail) => finding.detail(detail),
            None => finding,
        })
    }

    fn ruled_out(&self, case: &Case<'_>) -> Option<String> {
        let signo = case.death_signal().filter(|signo| signo.is_fault())?;
        let blow = case.blow()?;
        (blow.run.code <= code::SI_USER).then(|| format!("the {signo} was sent, not raised by a fault"))
    }
}

fn detail(run: &SignalRun) -> Option<&'static str> {
    Some(match (run.signo, run.code) {
        (Signo::SEGV, 1) => "SEGV_MAPERR",
        (Signo::SEGV, 2) => "SEGV_ACCERR",
        (Signo::SEGV, 4) => "SEGV_PKUERR",
        (Signo::SEGV, 8) => "SEGV_MTEAERR",
        (Signo::SEGV, 9) => "SEGV_MTESERR",
        (Signo::SEGV, 10) => "SEGV_CPERR",
        (Signo::BUS, 1) => "BUS_ADRALN",
        (Signo::BUS, 2) => "BUS_ADRERR",
        (Signo::BUS, 3) => "BUS_OBJERR",
        (Signo::BUS, 4 | 5) => "memory_failure",
        (Signo::ILL, 1) => "ILL_ILLOPC",
        (Signo::ILL, 2) => "ILL_ILLOPN",
        (Signo::FPE, 1) => "FPE_INTDIV",
        (Signo::TRAP, 1 | code::SI_KERNEL) => "TRAP_BRKPT",
        (Signo::TRAP, 2) => "TRAP_TRACE",
        _ => return None,
    })
}
