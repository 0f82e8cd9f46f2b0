//! Cases under observation, by what tells them apart.

use std::collections::BTreeMap;

use crate::model::time::Timestamp;

/// Something that may turn out to be a pattern.
pub(super) trait Case {
    /// It is one.
    fn recognised(&self) -> bool;

    /// When something was last added to it.
    fn last_at(&self) -> Timestamp;
}

/// The cases of one kind. Bounded: what has not been recognised goes first, and of that what was quiet longest.
///
/// A case ends when the next with its key is opened; it is kept if it was recognised.
#[derive(Debug)]
pub(super) struct Kept<K, C> {
    cases: BTreeMap<(K, u64), C>,
    opened: u64,
}

impl<K, C> Default for Kept<K, C> {
    fn default() -> Self {
        Self { cases: BTreeMap::new(), opened: 0 }
    }
}

impl<K: Ord + Clone, C: Case> Kept<K, C> {
    const LIMIT: usize = 128;

    /// The case that goes on.
    pub(super) fn current(&mut self, key: &K) -> Option<&mut C> {
        let all = (key.clone(), 0)..=(key.clone(), u64::MAX);
        self.cases.range_mut(all).next_back().map(|(_, case)| case)
    }

    /// Ends the case that goes on, if one does, and begins another.
    pub(super) fn open(&mut self, key: K, case: C) -> &mut C {
        self.close(&key);
        if self.cases.len() >= Self::LIMIT {
            let oldest = self.cases.iter().min_by_key(|(_, case)| (case.recognised(), case.last_at()));
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.cases.remove(&oldest);
            }
        }
        self.opened += 1;
        self.cases.entry((key, self.opened)).or_insert(case)
    }

    /// Forgets the case that goes on, unless it was recognised.
    pub(super) fn close(&mut self, key: &K) {
        let all = (key.clone(), 0)..=(key.clone(), u64::MAX);
        let current = self.cases.range(all).next_back();
        if let Some(key) = current.filter(|(_, case)| !case.recognised()).map(|(key, _)| key.clone()) {
            self.cases.remove(&key);
        }
    }

    /// Those that are patterns, in order of their keys.
    pub(super) fn recognised(&self) -> impl Iterator<Item = (&K, &C)> {
        self.cases.iter().filter(|(_, case)| case.recognised()).map(|((key, _), case)| (key, case))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Seen(bool, i64);

    impl Case for Seen {
        fn recognised(&self) -> bool {
            self.0
        }
        fn last_at(&self) -> Timestamp {
            Timestamp(self.1)
        }
    }

    #[test]
    fn a_flood_of_names_does_not_wash_away_what_was_recognised() {
        let mut kept = Kept::default();
        kept.open(-1, Seen(true, 0));
        for name in 0..1_000 {
            kept.open(name, Seen(false, name));
        }
        assert_eq!(kept.cases.len(), Kept::<i64, Seen>::LIMIT);
        assert_eq!(kept.recognised().collect::<Vec<_>>(), [(&-1, &Seen(true, 0))]);
        assert_eq!(kept.current(&0), None);
        assert_eq!(kept.current(&999), Some(&mut Seen(false, 999)));
    }

    #[test]
    fn of_a_name_the_recognised_are_kept_and_the_last_goes_on() {
        let mut kept = Kept::default();
        for case in [Seen(true, 1), Seen(false, 2), Seen(false, 3)] {
            kept.open("vite", case);
        }
        assert_eq!(kept.cases.len(), 2);
        assert_eq!(kept.current(&"vite"), Some(&mut Seen(false, 3)));
    }
}
