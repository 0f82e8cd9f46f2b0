//! Events that the kernel side had no room for, and when.

use std::collections::VecDeque;

/// Losses in time. A loss is learnt of some time after it happened.
#[derive(Debug, Default)]
pub struct Losses {
    total: u64,
    recent: VecDeque<(u64, u64)>,
}

impl Losses {
    const KEPT: usize = 256;
    /// The loss counters are read at every drain; a stalled agent may take this long between two.
    const LATE_NS: u64 = 2_000_000_000;

    pub fn note(&mut self, t_ns: u64, count: u64) {
        self.total = self.total.saturating_add(count);
        if self.recent.len() == Self::KEPT {
            self.recent.pop_front();
        }
        self.recent.push_back((t_ns, count));
    }

    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Events that may have been lost between two moments.
    #[must_use]
    pub fn between(&self, from_ns: u64, to_ns: u64) -> u64 {
        let window = from_ns..=to_ns.saturating_add(Self::LATE_NS);
        let counts = self.recent.iter().filter(|(t_ns, _)| window.contains(t_ns)).map(|(_, count)| *count);
        counts.fold(0, u64::saturating_add)
    }
}
