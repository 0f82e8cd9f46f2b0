//! Durations, sizes and counts in words a person reads.

use std::time::Duration;

use chrono::DateTime;

use super::time::Timestamp;

/// `14 ms`, `1.4 s`, `2 min 5 s`, `3 h 20 min`, `2 d 4 h`: two figures at most.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let ns = duration.as_nanos();
    let seconds = duration.as_secs();
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{} µs", ns / 1_000),
        1_000_000..1_000_000_000 => tenths(ns, 1_000_000, "ms"),
        1_000_000_000..60_000_000_000 => tenths(ns, 1_000_000_000, "s"),
        _ if seconds < 3_600 => two(seconds / 60, "min", seconds % 60, "s"),
        _ if seconds < 86_400 => two(seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

/// [`duration`] of nanoseconds.
#[must_use]
pub fn elapsed(ns: u64) -> String {
    duration(Duration::from_nanos(ns))
}

/// One decimal below ten, none above; never rounded up to more than has passed.
fn tenths(value: u128, unit: u128, name: &str) -> String {
    let whole = value / unit;
    let tenth = value % unit * 10 / unit;
    if whole < 10 && tenth != 0 { format!("{whole}.{tenth} {name}") } else { format!("{whole} {name}") }
}

fn two(large: u64, large_name: &str, small: u64, small_name: &str) -> String {
    if small == 0 {
        format!("{large} {large_name}")
    } else {
        format!("{large} {large_name} {small} {small_name}")
    }
}

/// `512 MiB`, `1.5 GiB`, `900 KiB`, `17 bytes`.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return if bytes == 1 { "1 byte".to_owned() } else { format!("{bytes} bytes") };
    }
    let mut unit = 1024_u64;
    let mut name = UNITS[0];
    for next in &UNITS[1..] {
        if bytes / 1024 < unit {
            break;
        }
        unit *= 1024;
        name = next;
    }
    tenths(u128::from(bytes), u128::from(unit), name)
}

/// `once`, `twice`, `3 times`.
#[must_use]
pub fn times(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        _ => format!("{} times", grouped(count)),
    }
}

/// `1 death`, `3 deaths`.
#[must_use]
pub fn counted(count: u64, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{} {many}", grouped(count)) }
}

/// `51,234`
#[must_use]
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index != 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `2026-02-18 03:12:43.871`, in UTC.
#[must_use]
pub fn moment(at: Timestamp) -> String {
    DateTime::from_timestamp_nanos(at.0).format("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

/// `03:12:43.871`, in UTC.
#[must_use]
pub fn clock(at: Timestamp) -> String {
    DateTime::from_timestamp_nanos(at.0).format("%H:%M:%S%.3f").to_string()
}

/// The time between two moments; zero when the clock was set back between them.
#[must_use]
pub fn between(start: Timestamp, end: Timestamp) -> Duration {
    Duration::from_nanos(u64::try_from(end.0.saturating_sub(start.0)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_aloud() {
        let cases: [(u64, &str); 16] = [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1 µs"),
            (999_999, "999 µs"),
            (1_400_000, "1.4 ms"),
            (14_900_000, "14 ms"),
            (999_999_999, "999 ms"),
            (1_000_000_000, "1 s"),
            (1_450_000_000, "1.4 s"),
            (59_999_999_999, "59 s"),
            (60_000_000_000, "1 min"),
            (125_000_000_000, "2 min 5 s"),
            (3_600_000_000_000, "1 h"),
            (12_000_000_000_000, "3 h 20 min"),
            (187_200_000_000_000, "2 d 4 h"),
            (u64::MAX, "213503 d 23 h"),
        ];
        for (ns, text) in cases {
            assert_eq!(duration(Duration::from_nanos(ns)), text);
        }
    }

    #[test]
    fn sizes_read_aloud() {
        let cases: [(u64, &str); 10] = [
            (0, "0 bytes"),
            (1, "1 byte"),
            (1023, "1023 bytes"),
            (1024, "1 KiB"),
            (921_600, "900 KiB"),
            (1_048_575, "1023 KiB"),
            (536_870_912, "512 MiB"),
            (1_610_612_736, "1.5 GiB"),
            (8_589_934_592, "8 GiB"),
            (u64::MAX, "16777215 TiB"),
        ];
        for (size, text) in cases {
            assert_eq!(bytes(size), text);
        }
    }

    #[test]
    fn counts_read_aloud() {
        assert_eq!(times(1), "once");
        assert_eq!(times(2), "twice");
        assert_eq!(times(1234), "1,234 times");
        assert_eq!(counted(1, "death", "deaths"), "1 death");
        assert_eq!(counted(0, "death", "deaths"), "0 deaths");
        assert_eq!(grouped(100), "100");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }

    #[test]
    fn moments_are_utc_to_the_millisecond() {
        let at = Timestamp(1_771_384_363_871_002_113);
        assert_eq!(moment(at), "2026-02-18 03:12:43.871");
        assert_eq!(clock(at), "03:12:43.871");
    }

    #[test]
    fn a_clock_set_back_is_no_time_at_all() {
        assert_eq!(between(Timestamp(2), Timestamp(1)), Duration::ZERO);
        assert_eq!(between(Timestamp(1), Timestamp(3)), Duration::from_nanos(2));
    }
}
