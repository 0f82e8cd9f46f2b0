//! Signals by number and name, and what each does by default.
//!
//! Numbers 1 to 31 are the same on x86 and arm (include/uapi/asm-generic/signal.h).

use std::fmt;

/// What a signal does to a process that has not said otherwise (`man 7 signal`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultAction {
    Terminate,
    /// Terminate, dumping core when limits allow.
    Core,
    Ignore,
    Stop,
    Continue,
}

use DefaultAction::{Continue, Core, Ignore, Stop, Terminate};

const SIGNALS: [(&str, DefaultAction); 31] = [
    ("SIGHUP", Terminate),
    ("SIGINT", Terminate),
    ("SIGQUIT", Core),
    ("SIGILL", Core),
    ("SIGTRAP", Core),
    ("SIGABRT", Core),
    ("SIGBUS", Core),
    ("SIGFPE", Core),
    ("SIGKILL", Terminate),
    ("SIGUSR1", Terminate),
    ("SIGSEGV", Core),
    ("SIGUSR2", Terminate),
    ("SIGPIPE", Terminate),
    ("SIGALRM", Terminate),
    ("SIGTERM", Terminate),
    ("SIGSTKFLT", Terminate),
    ("SIGCHLD", Ignore),
    ("SIGCONT", Continue),
    ("SIGSTOP", Stop),
    ("SIGTSTP", Stop),
    ("SIGTTIN", Stop),
    ("SIGTTOU", Stop),
    ("SIGURG", Ignore),
    ("SIGXCPU", Core),
    ("SIGXFSZ", Core),
    ("SIGVTALRM", Terminate),
    ("SIGPROF", Terminate),
    ("SIGWINCH", Ignore),
    ("SIGIO", Terminate),
    ("SIGPWR", Terminate),
    ("SIGSYS", Core),
];

/// First real-time signal as the kernel numbers them; glibc keeps two for itself and calls 34 `SIGRTMIN`.
const KERNEL_RTMIN: i32 = 32;
/// Highest signal number (`_NSIG`).
const MAX: i32 = 64;

/// A signal number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signo(pub i32);

impl Signo {
    pub const HUP: Self = Self(1);
    pub const INT: Self = Self(2);
    pub const QUIT: Self = Self(3);
    pub const ILL: Self = Self(4);
    pub const TRAP: Self = Self(5);
    pub const ABRT: Self = Self(6);
    pub const BUS: Self = Self(7);
    pub const FPE: Self = Self(8);
    pub const KILL: Self = Self(9);
    pub const USR1: Self = Self(10);
    pub const SEGV: Self = Self(11);
    pub const USR2: Self = Self(12);
    pub const PIPE: Self = Self(13);
    pub const ALRM: Self = Self(14);
    pub const TERM: Self = Self(15);
    pub const CHLD: Self = Self(17);
    pub const CONT: Self = Self(18);
    pub const STOP: Self = Self(19);
    pub const TSTP: Self = Self(20);
    pub const TTIN: Self = Self(21);
    pub const TTOU: Self = Self(22);
    pub const URG: Self = Self(23);
    pub const XCPU: Self = Self(24);
    pub const XFSZ: Self = Self(25);
    pub const VTALRM: Self = Self(26);
    pub const PROF: Self = Self(27);
    pub const WINCH: Self = Self(28);
    pub const IO: Self = Self(29);
    pub const PWR: Self = Self(30);
    pub const SYS: Self = Self(31);

    /// Reads `KILL`, `SIGKILL`, `9`, `SIGRTMIN+3` and `SIGRTMAX-2`, in any case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(number) = text.parse::<i32>() {
            return (1..=MAX).contains(&number).then_some(Self(number));
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let named = SIGNALS.iter().position(|(known, _)| known.strip_prefix("SIG") == Some(name));
        if let Some(index) = named {
            return i32::try_from(index + 1).ok().map(Self);
        }
        let number = match name {
            "IOT" => 6,
            "POLL" => 29,
            "RTMIN" => KERNEL_RTMIN + 2,
            "RTMAX" => MAX,
            _ => {
                if let Some(up) = name.strip_prefix("RTMIN+") {
                    (KERNEL_RTMIN + 2).checked_add(up.parse().ok()?)?
                } else if let Some(down) = name.strip_prefix("RTMAX-") {
                    MAX.checked_sub(down.parse().ok()?)?
                } else {
                    return None;
                }
            }
        };
        (1..=MAX).contains(&number).then_some(Self(number))
    }

    /// Sent for real-time work: queued in order, never merged.
    #[must_use]
    pub fn is_real_time(self) -> bool {
        (KERNEL_RTMIN..=MAX).contains(&self.0)
    }

    /// What it does to a process that has no handler for it.
    #[must_use]
    pub fn default_action(self) -> DefaultAction {
        self.known().map_or(Terminate, |known| known.1)
    }

    fn known(self) -> Option<&'static (&'static str, DefaultAction)> {
        SIGNALS.get(usize::try_from(self.0).ok()?.checked_sub(1)?)
    }

    /// Its place in a set of signals as /proc and the kernel show one; 0 for what is no signal.
    #[must_use]
    pub fn bit(self) -> u64 {
        let place = u32::try_from(self.0).ok().and_then(|signo| signo.checked_sub(1));
        place.and_then(|place| 1u64.checked_shl(place)).unwrap_or(0)
    }

    /// Ends a process that has not said otherwise.
    #[must_use]
    pub fn is_fatal_by_default(self) -> bool {
        matches!(self.default_action(), Terminate | Core)
    }

    /// Raised by the CPU for the task's own instruction (`SYNCHRONOUS_MASK`, kernel/signal.c, without SIGSYS).
    #[must_use]
    pub fn is_fault(self) -> bool {
        matches!(self, Self::SEGV | Self::BUS | Self::ILL | Self::FPE | Self::TRAP)
    }
}

impl fmt::Display for Signo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.known(), self.0) {
            (Some((name, _)), _) => f.write_str(name),
            (None, 32 | 33) => write!(f, "signal {}", self.0),
            (None, number) if self.is_real_time() && number < 50 => match number - KERNEL_RTMIN - 2 {
                0 => f.write_str("SIGRTMIN"),
                above => write!(f, "SIGRTMIN+{above}"),
            },
            (None, 64) => f.write_str("SIGRTMAX"),
            (None, number) if self.is_real_time() => write!(f, "SIGRTMAX-{}", MAX - number),
            (None, number) => write!(f, "signal {number}"),
        }
    }
}

impl fmt::Debug for Signo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `si_code` values (include/uapi/asm-generic/siginfo.h).
pub mod code {
    pub const SI_USER: i32 = 0;
    pub const SI_KERNEL: i32 = 128;
    pub const SI_QUEUE: i32 = -1;
    pub const SI_TIMER: i32 = -2;
    pub const SI_MESGQ: i32 = -3;
    pub const SI_ASYNCIO: i32 = -4;
    pub const SI_SIGIO: i32 = -5;
    pub const SI_TKILL: i32 = -6;
    pub const SI_ASYNCNL: i32 = -60;
    pub const CLD_EXITED: i32 = 1;
    pub const CLD_KILLED: i32 = 2;
    pub const CLD_DUMPED: i32 = 3;
    /// Stopped for its tracer.
    pub const CLD_TRAPPED: i32 = 4;
    pub const CLD_STOPPED: i32 = 5;
    pub const CLD_CONTINUED: i32 = 6;
}

/// The name of a `si_code`, which depends on the signal; the raw number where it has none.
#[must_use]
pub fn code_name(signo: Signo, si_code: i32) -> String {
    let name = match (si_code, signo) {
        (code::SI_USER, _) => "SI_USER",
        (code::SI_KERNEL, _) => "SI_KERNEL",
        (code::SI_QUEUE, _) => "SI_QUEUE",
        (code::SI_TIMER, _) => "SI_TIMER",
        (code::SI_MESGQ, _) => "SI_MESGQ",
        (code::SI_ASYNCIO, _) => "SI_ASYNCIO",
        (code::SI_SIGIO, _) => "SI_SIGIO",
        (code::SI_TKILL, _) => "SI_TKILL",
        (code::SI_ASYNCNL, _) => "SI_ASYNCNL",
        (1, Signo::SEGV) => "SEGV_MAPERR",
        (2, Signo::SEGV) => "SEGV_ACCERR",
        (3, Signo::SEGV) => "SEGV_BNDERR",
        (4, Signo::SEGV) => "SEGV_PKUERR",
        (8, Signo::SEGV) => "SEGV_MTEAERR",
        (9, Signo::SEGV) => "SEGV_MTESERR",
        (10, Signo::SEGV) => "SEGV_CPERR",
        (1, Signo::BUS) => "BUS_ADRALN",
        (2, Signo::BUS) => "BUS_ADRERR",
        (3, Signo::BUS) => "BUS_OBJERR",
        (4, Signo::BUS) => "BUS_MCEERR_AR",
        (5, Signo::BUS) => "BUS_MCEERR_AO",
        (1, Signo::ILL) => "ILL_ILLOPC",
        (2, Signo::ILL) => "ILL_ILLOPN",
        (3, Signo::ILL) => "ILL_ILLADR",
        (4, Signo::ILL) => "ILL_ILLTRP",
        (5, Signo::ILL) => "ILL_PRVOPC",
        (1, Signo::FPE) => "FPE_INTDIV",
        (2, Signo::FPE) => "FPE_INTOVF",
        (3, Signo::FPE) => "FPE_FLTDIV",
        (1, Signo::TRAP) => "TRAP_BRKPT",
        (2, Signo::TRAP) => "TRAP_TRACE",
        (4, Signo::TRAP) => "TRAP_HWBKPT",
        (6, Signo::TRAP) => "TRAP_PERF",
        (1, Signo::SYS) => "SYS_SECCOMP",
        (1, Signo::CHLD) => "CLD_EXITED",
        (2, Signo::CHLD) => "CLD_KILLED",
        (3, Signo::CHLD) => "CLD_DUMPED",
        (4, Signo::CHLD) => "CLD_TRAPPED",
        (5, Signo::CHLD) => "CLD_STOPPED",
        (6, Signo::CHLD) => "CLD_CONTINUED",
        (1, Signo::IO) => "POLL_IN",
        (2, Signo::IO) => "POLL_OUT",
        (6, Signo::IO) => "POLL_HUP",
        _ => return si_code.to_string(),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_accepted_by_name_and_number() {
        for text in ["KILL", "SIGKILL", "9", "sigkill"] {
            assert_eq!(Signo::parse(text), Some(Signo::KILL), "{text}");
        }
        assert_eq!(Signo::parse("RTMIN+3"), Some(Signo(37)));
        for text in ["", "0", "65", "SIGNOPE", "-9", "RTMIN+40", "RTMIN+2147483647", "RTMAX--2147483647"] {
            assert_eq!(Signo::parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_number_has_a_name_that_reads_back() {
        for number in (1..=31).chain(34..=64) {
            assert_eq!(Signo::parse(&Signo(number).to_string()), Some(Signo(number)));
        }
    }

    #[test]
    fn a_code_means_what_its_signal_says() {
        assert_eq!(code_name(Signo::SEGV, 1), "SEGV_MAPERR");
        assert_eq!(code_name(Signo::CHLD, 1), "CLD_EXITED");
        assert_eq!(code_name(Signo::TERM, 77), "77");
    }
}
