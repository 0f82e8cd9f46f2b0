//! How often something comes, and whether it comes faster or slower.

use std::collections::VecDeque;

use crate::model::report::Trend;
use crate::model::time::Timestamp;

/// Times of something that recurs: how many, from when to when, and the last gaps between them.
#[derive(Clone, Debug)]
pub(super) struct Rhythm {
    pub(super) count: u64,
    pub(super) first_at: Timestamp,
    pub(super) last_at: Timestamp,
    /// In nanoseconds, the oldest first.
    gaps: VecDeque<u64>,
}

impl Rhythm {
    /// So many gaps say what it is like now; what it was like yesterday matters less.
    const KEPT: usize = 32;
    /// Both halves of the gaps must show a trend, so there have to be some.
    const TREND_FROM: usize = 6;

    pub(super) fn new(at: Timestamp) -> Self {
        Self { count: 1, first_at: at, last_at: at, gaps: VecDeque::new() }
    }

    pub(super) fn beat(&mut self, at: Timestamp) {
        if self.gaps.len() == Self::KEPT {
            self.gaps.pop_front();
        }
        self.gaps.push_back(self.since(at));
        self.count += 1;
        self.last_at = self.last_at.max(at);
    }

    /// Nanoseconds from the last time to this.
    pub(super) fn since(&self, at: Timestamp) -> u64 {
        u64::try_from(at.0.saturating_sub(self.last_at.0)).unwrap_or(0)
    }

    /// Nanoseconds from the first time to the last.
    pub(super) fn span_ns(&self) -> u64 {
        u64::try_from(self.last_at.0.saturating_sub(self.first_at.0)).unwrap_or(0)
    }

    pub(super) fn median_ns(&self) -> Option<u64> {
        median(self.gaps.iter().copied())
    }

    /// Whether the later gaps are shorter or longer than the earlier ones, by a third or more.
    pub(super) fn trend(&self) -> Option<Trend> {
        if self.gaps.len() < Self::TREND_FROM {
            return None;
        }
        let half = self.gaps.len() / 2;
        let before = median(self.gaps.iter().copied().take(half))?;
        let after = median(self.gaps.iter().copied().skip(self.gaps.len() - half))?;
        Some(match (before, after) {
            _ if after <= before - before / 3 && after < before => Trend::Faster,
            _ if before <= after - after / 3 && before < after => Trend::Slower,
            _ => Trend::Steady,
        })
    }

    /// Of at least three gaps, three quarters are within a fifth of the median.
    pub(super) fn regular(&self) -> bool {
        let Some(median) = self.median_ns().filter(|_| self.gaps.len() >= 3) else { return false };
        let near = self.gaps.iter().filter(|gap| gap.abs_diff(median) <= median / 5).count();
        near * 4 >= self.gaps.len() * 3
    }
}

fn median(gaps: impl Iterator<Item = u64>) -> Option<u64> {
    let mut gaps: Vec<u64> = gaps.collect();
    gaps.sort_unstable();
    gaps.get(gaps.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rhythm(gaps: &[i64]) -> Rhythm {
        let mut rhythm = Rhythm::new(Timestamp(7));
        for gap in gaps {
            rhythm.beat(Timestamp(rhythm.last_at.0 + gap));
        }
        rhythm
    }

    #[test]
    fn a_trend_takes_a_third_and_enough_rounds() {
        assert_eq!(rhythm(&[90, 100, 110, 60, 65, 50]).trend(), Some(Trend::Faster));
        assert_eq!(rhythm(&[10, 10, 10, 20, 40, 80]).trend(), Some(Trend::Slower));
        assert_eq!(rhythm(&[100, 90, 110, 95, 105, 100]).trend(), Some(Trend::Steady));
        assert_eq!(rhythm(&[0; 6]).trend(), Some(Trend::Steady));
        assert_eq!(rhythm(&[90, 50, 10]).trend(), None);
    }

    #[test]
    fn a_regular_beat_may_miss_now_and_then() {
        assert!(rhythm(&[100, 110, 95]).regular());
        assert!(rhythm(&[100, 110, 95, 800]).regular(), "one night without");
        assert!(!rhythm(&[100, 110]).regular(), "two gaps are no rule");
        assert!(!rhythm(&[100, 20, 300, 70, 160]).regular());
    }

    #[test]
    fn the_count_goes_on_when_old_gaps_are_forgotten() {
        let rhythm = rhythm(&[5; 10_000]);
        assert_eq!((rhythm.count, rhythm.gaps.len()), (10_001, Rhythm::KEPT));
        assert_eq!((rhythm.median_ns(), rhythm.span_ns()), (Some(5), 50_000));
    }
}
