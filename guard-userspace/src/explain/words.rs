//! The words of an answer: short, plain, exact where it matters.

use crate::model::report::Mechanism;
use crate::model::signal::Signo;

use super::process::Process;

/// `14 ms`, `2.3 s`, `5 min 12 s`, `3 h 4 min`.
#[must_use]
pub fn duration(ns: u64) -> String {
    let us = ns / 1_000;
    let ms = us / 1_000;
    let s = ms / 1_000;
    match (s, ms, us) {
        (0, 0, us) => format!("{us} µs"),
        (0, ms, _) => format!("{ms} ms"),
        (s @ 1..=9, ms, _) => format!("{s}.{} s", (ms % 1_000) / 100),
        (s @ 10..=119, ..) => format!("{s} s"),
        (s @ 120..=7_199, ..) => format!("{} min {} s", s / 60, s % 60),
        (s, ..) => format!("{} h {} min", s / 3_600, s / 60 % 60),
    }
}

/// `512 MiB`, `1.5 GiB`.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    for (name, size) in UNITS {
        if bytes >= size {
            let (whole, tenths) = (bytes / size, bytes % size * 10 / size);
            return if tenths == 0 || whole >= 100 {
                format!("{whole} {name}")
            } else {
                format!("{whole}.{tenths} {name}")
            };
        }
    }
    format!("{bytes} bytes")
}

/// `3 processes`, `1 process`.
#[must_use]
pub fn count(n: usize, one: &str, many: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {many}") }
}

/// `zsh (4010)`, for the steps of a chain.
#[must_use]
pub fn short(process: &Process) -> String {
    format!("{} ({})", super::actors::title(process), process.tgid)
}

/// How a sender reached its target, when that is worth saying.
#[must_use]
pub fn manner(mechanism: Mechanism) -> Option<&'static str> {
    match mechanism {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_a_person_would_say_them() {
        let cases = [
            (900, "0 µs"),
            (14_000_000, "14 ms"),
            (2_340_000_000, "2.3 s"),
            (61_000_000_000, "61 s"),
            (312_000_000_000, "5 min 12 s"),
            (11_040_000_000_000, "3 h 4 min"),
        ];
        for (ns, text) in cases {
            assert_eq!(duration(ns), text);
        }
    }

    #[test]
    fn sizes_read_as_a_person_would_say_them() {
        assert_eq!(bytes(512 << 20), "512 MiB");
        assert_eq!(bytes(3 << 29), "1.5 GiB");
        assert_eq!(bytes(12), "12 bytes");
    }
}
