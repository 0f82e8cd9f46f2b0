//! The words of an answer: short, plain, exact where it matters.

use crate::model::report::Mechanism;
use crate::model::signal::Signo;

use super::process::{EndedBy, Process};
use crate::model::event::Limits;
use crate::model::units;

/// `zsh (4010)`, for the steps of a chain.
#[must_use]
pub fn short(process: &Process) -> String {
    format!("{} ({})", super::actors::title(process), process.tgid)
}

/// The thread whose call ended its process, as far as it is known: `its thread worker (4012)`.
#[must_use]
pub fn ender(process: &Process) -> String {
    match process.ended_by {
        Some(EndedBy { tid, comm: Some(comm), .. }) => format!("its thread {} ({tid})", comm.to_text()),
        Some(EndedBy { tid, comm: None, .. }) => format!("its thread {tid}"),
        None => "another of its threads".to_owned(),
    }
}

/// Which limit of time was reached, as far as it is known.
#[must_use]
pub fn time_limit(detail: Option<&str>, limits: Option<Limits>) -> String {
    let hard = detail == Some("hard_limit");
    let of = |limit: String| if hard { format!("{limit}, its hard limit") } else { "it may".to_owned() };
    match limits {
        Some(Limits { cpu_s: Some(cpu_s), rttime_us: None }) => {
            format!("it used more CPU time than {} (RLIMIT_CPU)", of(format!("{cpu_s} s")))
        }
        Some(Limits { cpu_s: None, rttime_us: Some(us) }) => {
            let limit = units::elapsed(us.saturating_mul(1000));
            format!("it ran in real time without a pause for longer than {} (RLIMIT_RTTIME)", of(limit))
        }
        _ => "it used more CPU time than its limit (RLIMIT_CPU or RLIMIT_RTTIME) allows".to_owned(),
    }
}

/// How a sender reached its target, when that is worth saying.
#[must_use]
pub fn manner(mechanism: Option<Mechanism>) -> Option<&'static str> {
    match mechanism? {
        Mechanism::KillGroup => Some("to its whole process group"),
        Mechanism::KillAll => Some("to every process it could reach"),
        _ => None,
    }
}

/// What a fault means, in words.
#[must_use]
pub fn fault(signo: Signo, detail: Option<&str>) -> &'static str {
    match (signo, detail) {
        (_, Some("SEGV_MAPERR")) => "it used an address where no memory is mapped",
        (_, Some("SEGV_ACCERR")) => "it used memory in a way that its protection forbids",
        (_, Some("SEGV_PKUERR")) => "it used memory that a protection key forbids",
        (_, Some("SEGV_MTEAERR" | "SEGV_MTESERR")) => "a memory tag did not match",
        (_, Some("SEGV_CPERR")) => "its return address had been changed",
        (_, Some("general_protection")) => "it used an address that cannot exist",
        (_, Some("signal_frame")) => {
            "it could not enter or leave a signal handler, whose place on the stack was spoiled"
        }
        (_, Some("BUS_ADRERR")) => "it used a mapped file beyond its end, or a page that could not be read",
        (_, Some("BUS_ADRALN")) => "it used a misaligned address",
        (_, Some("memory_failure")) => "the memory hardware reported an error in one of its pages",
        (_, Some("FPE_INTDIV")) => "it divided an integer by zero",
        (Signo::ILL, _) => "it executed an instruction that does not exist here",
        (Signo::TRAP, _) => "it executed a breakpoint instruction and no debugger was there",
        (Signo::FPE, _) => "an arithmetic operation failed",
        (Signo::BUS, _) => "the memory it used could not be reached",
        _ => "it used memory it may not use",
    }
}
