//! Each CPU hands over its events in the order in which it made them. What breaks that order is damage.

use std::collections::{HashMap, VecDeque};

use crate::model::event::{Event, Fact};

/// What each CPU has told last.
#[derive(Debug, Default)]
pub(super) struct Order {
    cpus: HashMap<u32, Recent>,
}

/// The last few events of a CPU.
#[derive(Debug, Default)]
struct Recent {
    last: VecDeque<Seen>,
    newest_ns: u64,
}

/// An event, as far as it takes to know it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    t_ns: u64,
    tid: u32,
    what: u64,
}

impl Order {
    const KEPT: usize = 32;
    /// More CPUs than any machine has; a damaged stream may name any number.
    const CPUS: usize = 8192;
    /// An interrupt stamps its event after the one that it interrupts, and hands it over before.
    const NESTED_NS: u64 = 1_000_000;

    /// Whether an event can come now: not twice, and not after what its CPU made later.
    pub(super) fn admits(&mut self, event: &Event) -> bool {
        let Some(cpu) = event.cpu.filter(|_| event.fact != Fact::End) else { return true };
        if self.cpus.len() >= Self::CPUS && !self.cpus.contains_key(&cpu) {
            return false;
        }
        let seen = Seen {
            t_ns: event.t_ns,
            tid: event.current.map_or(0, |current| current.tid),
            what: what(&event.fact),
        };
        let recent = self.cpus.entry(cpu).or_default();
        if event.t_ns <= recent.newest_ns
            && (recent.newest_ns - event.t_ns > Self::NESTED_NS || recent.last.contains(&seen))
        {
            return false;
        }
        recent.newest_ns = recent.newest_ns.max(event.t_ns);
        if recent.last.len() == Self::KEPT {
            recent.last.pop_front();
        }
        recent.last.push_back(seen);
        true
    }
}

/// Tells apart what one task can do at one moment.
fn what(fact: &Fact) -> u64 {
    let (kind, detail) = match fact {
        Fact::Fork(fork) => (1, fork.child_tid),
        Fact::Exec(_) => (2, 0),
        Fact::Rename { tid, .. } => (3, *tid),
        Fact::Signal(signal) => (4 + u64::from(signal.signo.unsigned_abs()), signal.target_tid),
        Fact::Deliver(deliver) => (100 + u64::from(deliver.signo.unsigned_abs()), 0),
        Fact::OomVictim(victim) => (200, victim.tid),
        Fact::Exit(_) => (201, 0),
        Fact::CgroupAttach { tid, .. } => (202, *tid),
        Fact::Listen { port, .. } => (203, u32::from(*port)),
        _ => (204, 0),
    };
    kind << 32 | u64::from(detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(cpu: u32, t_ns: u64, tid: u32) -> Event {
        let fact = Fact::Rename { tid, comm: "x".into() };
        Event { id: 0, t_ns, cpu: Some(cpu), current: None, fact }
    }

    #[test]
    fn no_cpu_tells_twice_or_goes_back_in_time() {
        let mut order = Order::default();
        assert!(order.admits(&event(0, 10_000_000, 1)));
        assert!(order.admits(&event(1, 1_000_000, 1)), "another CPU was drained later");
        assert!(order.admits(&event(0, 9_999_000, 2)), "it was interrupted");
        assert!(!order.admits(&event(0, 10_000_000, 1)), "twice");
        assert!(order.admits(&event(0, 10_000_000, 3)), "two things in one tick of the clock");
        assert!(!order.admits(&event(0, 5_000_000, 4)), "back in time");
    }
}
