//! What a handful of figures says together.

use std::fmt;

/// The middle of some figures, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    /// A quarter of the figures is below, a quarter above these two.
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Spread {
    /// `None` when there are no figures.
    pub(super) fn of(figures: &[f64]) -> Option<Self> {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        // Of a few figures, all.
        let (low, high) = (last / 4, (last * 3).div_ceil(4));
        Some(Self { median: median(&sorted)?, low: *sorted.get(low)?, high: *sorted.get(high)? })
    }
}

/// The middle of some figures; no number when there are none.
pub(super) fn middle(figures: &[f64]) -> f64 {
    Spread::of(figures).map_or(f64::NAN, |spread| spread.median)
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { median, low, high } = self;
        // Where it doubles and more, nobody asks for thousandths.
        let digits = if *median < 2.0 { 3 } else { 1 };
        write!(f, "{median:.digits$} ({low:.digits$}-{high:.digits$})")
    }
}

fn median(sorted: &[f64]) -> Option<f64> {
    let (low, high) = (sorted.get((sorted.len().checked_sub(1)?) / 2)?, sorted.get(sorted.len() / 2)?);
    Some(f64::midpoint(*low, *high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_and_outliers_do_not_move_it() {
        let spread = Spread::of(&[1.0, 900.0, 3.0, 2.0, 0.0]).unwrap();
        assert_eq!(spread, Spread { median: 2.0, low: 1.0, high: 3.0 });
        assert_eq!(Spread::of(&[1.0, 2.0]).unwrap(), Spread { median: 1.5, low: 1.0, high: 2.0 });
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn a_spread_shows_as_many_digits_as_matter() {
        assert_eq!(Spread::of(&[1.0312]).unwrap().to_string(), "1.031 (1.031-1.031)");
        assert_eq!(Spread::of(&[22.44]).unwrap().to_string(), "22.4 (22.4-22.4)");
    }
}
