//! Moments as people say them: `yesterday`, `2h`, `2026-11-21T03:12`.

use chrono::{DateTime, Days, Local, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone};

use super::args::duration;
use crate::model::time::Timestamp;

const EXAMPLES: &str = "write it like 2h, yesterday, 03:12, 2026-11-21 or 2026-11-21T03:12";

/// Reads a moment, in the time zone of this machine unless it names its own.
pub(crate) fn moment(text: &str) -> Result<Timestamp, String> {
    relative_to(text, &Local::now())
}

fn relative_to<Z: TimeZone>(text: &str, now: &DateTime<Z>) -> Result<Timestamp, String> {
    let text = text.trim();
    let stamp = |ns: Option<i64>| ns.map(Timestamp).ok_or_else(|| "it is too far away".to_owned());
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return stamp(time.timestamp_nanos_opt());
    }
    let today = now.date_naive();
    let local = match text {
        "now" => return stamp(now.timestamp_nanos_opt()),
        "today" => Some(today.and_time(NaiveTime::MIN)),
        "yesterday" => today.checked_sub_days(Days::new(1)).map(|day| day.and_time(NaiveTime::MIN)),
        _ => date_and_time(text, today),
    };
    if let Some(local) = local {
        return stamp(in_zone(local, &now.timezone()).and_then(|time| time.timestamp_nanos_opt()));
    }
    // A number alone is a year, an hour or a pid rather than seconds.
    let ago = text.strip_suffix("ago").unwrap_or(text).trim_end();
    if ago.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(EXAMPLES.to_owned());
    }
    let ago = duration(ago).map_err(|_not_a_duration| EXAMPLES.to_owned())?;
    let ago = TimeDelta::from_std(ago).map_err(|_too_long| "it is too far away".to_owned())?;
    stamp(now.clone().checked_sub_signed(ago).and_then(|time| time.timestamp_nanos_opt()))
}

fn date_and_time(text: &str, today: NaiveDate) -> Option<NaiveDateTime> {
    let time = |text: &str| {
        NaiveTime::parse_from_str(text, "%H:%M:%S%.f")
            .or_else(|_| NaiveTime::parse_from_str(text, "%H:%M"))
            .ok()
    };
    let date = |text: &str| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok();
    if let Some(time) = time(text) {
        return Some(today.and_time(time));
    }
    match text.split_once(['T', ' ']) {
        Some((day, clock)) => Some(date(day)?.and_time(time(clock)?)),
        None => Some(date(text)?.and_time(NaiveTime::MIN)),
    }
}

/// A time that the clock shows twice is the earlier one; one that it skips is an hour later.
fn in_zone<Z: TimeZone>(local: NaiveDateTime, zone: &Z) -> Option<DateTime<Z>> {
    let skipped = || zone.from_local_datetime(&(local + TimeDelta::hours(1))).earliest();
    zone.from_local_datetime(&local).earliest().or_else(skipped)
}

#[cfg(test)]
mod tests {
    use chrono::FixedOffset;

    use super::*;

    fn read(text: &str) -> Result<String, String> {
        let zone = FixedOffset::east_opt(3600).unwrap();
        let now = zone.with_ymd_and_hms(2026, 11, 22, 9, 0, 0).unwrap();
        relative_to(text, &now).map(|at| at.to_string().replace(".000000000", ""))
    }

    #[test]
    fn moments_are_read_as_they_are_said() {
        for (text, expected) in [
            ("now", "2026-11-22T08:00:00Z"),
            ("today", "2026-11-21T23:00:00Z"),
            ("yesterday", "2026-11-20T23:00:00Z"),
            ("2h", "2026-11-22T06:00:00Z"),
            ("1h30m ago", "2026-11-22T06:30:00Z"),
            ("3d", "2026-11-19T08:00:00Z"),
            ("03:12", "2026-11-22T02:12:00Z"),
            ("2026-11-21", "2026-11-20T23:00:00Z"),
            ("2026-11-21T03:12", "2026-11-21T02:12:00Z"),
            ("2026-11-21 03:12:43", "2026-11-21T02:12:43Z"),
            ("2026-11-21T03:12:43Z", "2026-11-21T03:12:43Z"),
            ("2026-11-21T03:12:43-05:00", "2026-11-21T08:12:43Z"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn nonsense_gets_examples() {
        for text in
            ["", "soon", "2026-13-01", "2026-11-21T25:00", "25:00", "4021", "2026", "-2h", "ago", "vite"]
        {
            assert_eq!(read(text), Err(EXAMPLES.to_owned()), "{text}");
        }
    }
}
