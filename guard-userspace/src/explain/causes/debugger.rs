//! ptrace (kernel/ptrace.c): PTRACE_KILL sends SIGKILL, SI_USER, to the thread; a tracer that dies with
//! PTRACE_O_EXITKILL sends it with SI_KERNEL (`exit_ptrace`); and whoever lets a stopped thread go on may give it
//! another signal than the one it stopped for, which nothing generates (kernel/signal.c, `ptrace_signal`).

use super::{Case, Cause, Finding};
use crate::explain::blow::Blow;
use crate::model::event::Call;
use crate::model::report::{Kind, Mechanism};
use crate::model::signal::{Signo, code};

pub(super) struct Debugger;

impl Cause for Debugger {
    fn kind(&self) -> Kind {
        Kind::Debugger
    }

    fn examine(&self, case: &Case<'_>) -> Option<Finding> {
        let Some(blow) = case.blow() else { return injected(case) };
        if blow.own {
            return sent_on(case, &blow);
        }
        if blow.run.signo != Signo::KILL || blow.run.group {
            return None;
        }
        let killer = blow.current.map(|process| process.id);
        if blow.run.code == code::SI_USER {
            let finding = Finding::process(Kind::Debugger, Mechanism::Ptrace, killer);
            // Where the call cannot be seen, cgroup.kill looks the same; a tracer hardly uses that.
            let by_tracer = killer.is_some() && case.tracer().map(|tracer| tracer.id) == killer;
            return match blow.call() {
                Some(call) => (call == Call::Ptrace).then_some(finding),
                None => by_tracer.then(|| finding.likely()),
            };
        }
        (blow.run.code == code::SI_KERNEL && blow.run.current_exiting).then(|| {
            let finding = Finding::kernel(Kind::Debugger).mechanism(Mechanism::Ptrace);
            finding.detail("exit_kill").because_of(killer)
        })
    }
}

fn by_tracer(case: &Case<'_>, detail: &'static str) -> Option<Finding> {
    let tracer = case.tracer()?;
    Some(Finding::process(Kind::Debugger, Mechanism::Ptrace, Some(tracer.id)).detail(detail))
}

/// It took a signal that nobody had sent it, or one that had been swallowed before.
fn injected(case: &Case<'_>) -> Option<Finding> {
    let (signo, history) = (case.death_signal()?, &case.victim.history);
    history.taken.filter(|taken| taken.signo == signo && taken.code == code::SI_USER)?;
    let finding = by_tracer(case, "injected")?;
    // What it stopped for was seen to be sent, so that this other signal cannot have been sent unseen before.
    let replaced = history.runs.iter().any(|run| history.stops_since(run) > 0);
    let same = history.runs.iter().any(|run| run.signo == signo && run.result.queued());
    Some(if replaced && !same { finding } else { finding.likely() })
}

/// What the kernel sends a traced thread in its own name for its tracer.
fn sent_on(case: &Case<'_>, blow: &Blow<'_>) -> Option<Finding> {
    // For a program that is started to be traced (include/linux/ptrace.h, `ptrace_event`).
    if blow.is(Signo::TRAP, code::SI_USER, false) {
        return by_tracer(case, "exec_trap");
    }
    // A signal to go on with from a system call (`ptrace_report_syscall`). SIGSEGV is also what a signal frame
    // that cannot be written or read comes to (`force_sigsegv`).
    if !case.stopped_before(blow.run.first.t_ns) {
        return None;
    }
    let in_call = blow.call().is_some_and(|call| !matches!(call, Call::None | Call::Execve | Call::Execveat));
    let only_so = matches!(blow.run.signo, Signo::TERM | Signo::HUP | Signo::INT | Signo::QUIT);
    if blow.run.group || blow.run.code != code::SI_KERNEL || !(in_call || only_so) {
        return None;
    }
    let finding = by_tracer(case, "injected")?;
    Some(if blow.run.signo == Signo::SEGV { finding.likely() } else { finding })
}
