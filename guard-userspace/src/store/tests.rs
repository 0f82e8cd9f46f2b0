use std::collections::VecDeque;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::ask::{Ask, Condition, Found, Sources};
use super::*;
use crate::model::record::{DeathRecord, Gap, Why};
use crate::model::time::Timestamp;
use crate::report::sample;

const LIMITS: Limits = Limits { max_bytes: 64 << 20, max_age: Duration::from_secs(30 * 86_400) };
const SECOND: i64 = 1_000_000_000;
/// 2026-11-22 00:00 UTC
const DAY: i64 = 1_795_305_600 * SECOND;

/// The death of a process of that name and pid, so many seconds into the day.
fn record(name: &str, pid: u32, second: i64) -> DeathRecord {
    let mut record = DeathRecord::of_report(sample::report()).next().unwrap();
    record.timeline.clear();
    record.death.died_at = Timestamp(DAY + second * SECOND);
    let victim = &mut record.death.victim;
    (victim.pid, victim.name, victim.comm) = (pid, name.to_owned(), name.to_owned());
    (victim.exe, victim.cmdline, victim.cgroup) = (None, None, None);
    record
}

fn line(record: &impl serde::Serialize) -> String {
    serde_json::to_string(record).unwrap()
}

fn write(directory: &Path, limits: Limits, records: impl IntoIterator<Item = DeathRecord>) {
    let mut lines: VecDeque<String> = records.into_iter().map(|record| line(&record)).collect();
    Writer::open(directory, limits).unwrap().append(&mut lines).unwrap();
    assert!(lines.is_empty());
}

fn ask(directory: &Path, conditions: Vec<Condition>) -> Found {
    let mut sources = Sources::default();
    sources.store(directory).unwrap();
    let conditions = if conditions.is_empty() { Vec::new() } else { vec![conditions] };
    sources.ask(&Ask { conditions, newest: 10, ..Ask::default() }).unwrap()
}

fn named(name: &str) -> Vec<Condition> {
    vec![Condition::Name(name.to_owned())]
}

fn pids(found: &Found) -> Vec<u32> {
    found.deaths.iter().map(|record| record.death.victim.pid).collect()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn what_is_written_is_found_newest_first() {
    let store = tempfile::tempdir().unwrap();
    write(store.path(), LIMITS, [record("vite", 1, 10), record("node", 2, 20), record("vite", 3, 30)]);
    let found = ask(store.path(), named("vite"));
    assert_eq!((pids(&found), found.matching, found.kept), (vec![3, 1], 2, 3));
    assert_eq!(found.deaths[0], record("vite", 3, 30));
    assert_eq!(pids(&ask(store.path(), vec![Condition::Pid(2)])), [2]);
    assert!(ask(store.path(), named("vit")).deaths.is_empty());
    for path in files(store.path()) {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
    }
}

#[test]
fn a_victim_is_found_by_whatever_watch_would_select_it_by() {
    let store = tempfile::tempdir().unwrap();
    let mut vite = record("vite", 4021, 1);
    vite.death.victim.comm = "node".to_owned();
    vite.death.victim.exe = Some("/usr/bin/node".to_owned());
    vite.death.victim.cmdline = Some(["node", "/app/node_modules/.bin/vite.js"].map(str::to_owned).to_vec());
    vite.death.victim.cgroup =
        Some("/user.slice/user-1000.slice/user@1000.service/app.slice/argos-dev-monitor.service".to_owned());
    vite.death.victim.unit = Some("argos-dev-monitor.service".to_owned());
    vite.death.victim.pid_in_namespace = Some(7);
    (vite.death.victim.uid, vite.death.victim.user) = (Some(1000), Some("kali".to_owned()));
    let mut long = record("systemd-timesyncd", 5, 2);
    long.death.victim.comm = "systemd-timesyn".to_owned();
    (long.death.victim.uid, long.death.victim.user) = (Some(0), Some("root".to_owned()));
    write(store.path(), LIMITS, [vite, long]);
    let unit = |name: &str| Condition::Unit(name.to_owned());
    let user = |name: &str, uid| Condition::User { name: name.to_owned(), uid };
    let regex = |regex: &str| Condition::Cmdline(regex::Regex::new(regex).unwrap());
    for name in ["vite", "vite.js", "node"] {
        assert_eq!(pids(&ask(store.path(), named(name))), [4021], "{name}");
    }
    assert_eq!(pids(&ask(store.path(), named("systemd-timesyncd"))), [5]);
    for found in [
        unit("argos-dev-monitor"),
        unit("argos-dev-monitor.service"),
        unit("app.slice"),
        user("kali", None),
        user("whoever", Some(1000)),
        regex("bin/vite"),
        Condition::Pid(7),
    ] {
        let shown = format!("{found:?}");
        assert_eq!(pids(&ask(store.path(), vec![found])), [4021], "{shown}");
    }
    for missed in [unit("argos"), unit("vite"), user("nobody", Some(4)), regex("^vite"), Condition::Pid(8)] {
        let shown = format!("{missed:?}");
        assert!(ask(store.path(), vec![missed]).deaths.is_empty(), "{shown}");
    }
}

#[test]
fn conditions_of_different_kinds_must_all_hold() {
    let store = tempfile::tempdir().unwrap();
    write(store.path(), LIMITS, [record("vite", 1, 10), record("vite", 2, 20), record("node", 2, 30)]);
    let mut sources = Sources::default();
    sources.store(store.path()).unwrap();
    let conditions = vec![named("vite"), vec![Condition::Pid(2), Condition::Pid(9)]];
    let found = sources.ask(&Ask { conditions, newest: 1, ..Ask::default() }).unwrap();
    assert_eq!((pids(&found), found.matching), (vec![2], 1));
    assert_eq!(found.deaths[0].death.victim.name, "vite");
}

#[test]
fn only_the_time_that_is_asked_for_counts() {
    let store = tempfile::tempdir().unwrap();
    write(store.path(), LIMITS, (1..=9).map(|n| record("vite", n, i64::from(n) * 10)));
    let mut sources = Sources::default();
    sources.store(store.path()).unwrap();
    let at = |second: i64| Some(Timestamp(DAY + second * SECOND));
    let found = sources.ask(&Ask { since: at(30), until: at(60), newest: 2, ..Ask::default() }).unwrap();
    assert_eq!((pids(&found), found.matching), (vec![5, 4], 3));
}

#[test]
fn a_torn_line_is_skipped_and_never_continued() {
    let store = tempfile::tempdir().unwrap();
    write(store.path(), LIMITS, [record("vite", 1, 10), record("vite", 2, 20)]);
    let segment = segments(store.path()).unwrap().remove(0);
    let bytes = fs::read(&segment).unwrap();
    for cut in [bytes.len() - 1, bytes.len() - 2, bytes.len() - 100, bytes.len() / 2 + 20] {
        fs::write(&segment, &bytes[..cut]).unwrap();
        let found = ask(store.path(), named("vite"));
        // The line break alone is no loss.
        let whole = usize::from(cut == bytes.len() - 1);
        assert_eq!(found.deaths.len(), 1 + whole, "{cut}");
        assert_eq!(found.damaged, 1 - whole as u64, "{cut}");
    }
    write(store.path(), LIMITS, [record("vite", 3, 30)]);
    assert_eq!(segments(store.path()).unwrap().len(), 2);
    assert_eq!(pids(&ask(store.path(), named("vite"))), [3, 1]);
}

#[test]
fn an_index_that_is_missing_short_or_wrong_changes_no_answer() {
    let store = tempfile::tempdir().unwrap();
    write(store.path(), LIMITS, (1..=5).map(|n| record("vite", n, i64::from(n))));
    let index = index::index_of(&segments(store.path()).unwrap()[0]);
    let good = fs::read(&index).unwrap();
    assert_eq!(good.len(), 8 + 5 * entry::Entry::BYTES);
    let mut wrong = good.clone();
    wrong[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
    for bytes in [&good[..], &good[..4], &good[..8], &good[..200], &[b'x'; 700][..], &wrong[..]] {
        fs::write(&index, bytes).unwrap();
        assert_eq!(pids(&ask(store.path(), named("vite"))), [5, 4, 3, 2, 1]);
        Writer::open(store.path(), LIMITS).unwrap();
        assert!(fs::read(&index).unwrap() == good, "the next writer mends it");
    }
    fs::remove_file(&index).unwrap();
    assert_eq!(ask(store.path(), named("vite")).matching, 5);
}

#[test]
fn lines_of_the_future_are_skipped_and_counted() {
    let store = tempfile::tempdir().unwrap();
    write(store.path(), LIMITS, [record("vite", 1, 10)]);
    let segment = segments(store.path()).unwrap().remove(0);
    let mut file = fs::OpenOptions::new().append(true).open(&segment).unwrap();
    writeln!(file, r#"{{"schema":"killtrace.death/2","soul":"departed"}}"#).unwrap();
    writeln!(file, r#"{{"schema":"killtrace.weather/1"}}"#).unwrap();
    writeln!(file, "\u{1b}[2J not json").unwrap();
    let mut later = serde_json::to_value(record("vite", 2, 20)).unwrap();
    later["death"]["victim"]["shoe_size"] = 43.into();
    writeln!(file, "{later}").unwrap();
    let found = ask(store.path(), named("vite"));
    assert_eq!((pids(&found), found.newer, found.damaged), (vec![2, 1], 2, 1));
}

#[test]
fn hostile_names_stay_one_line_and_come_back() {
    let store = tempfile::tempdir().unwrap();
    let name = "vi\nte\"}\x1b[2J\u{202e}\0";
    let tool = record("x", 1, 1).tool;
    let host = record("x", 1, 1).host;
    let seen = Seen::take(store.path(), None).unwrap();
    let writer = Writer::open(store.path(), LIMITS).unwrap();
    let recorder = Recorder::start(writer, seen, tool, host, |_| {}, || {}).unwrap();
    recorder.death(&record(name, 1, 10));
    assert!(recorder.finish(Timestamp(DAY)));
    let text = fs::read_to_string(&segments(store.path()).unwrap()[0]).unwrap();
    assert_eq!(text.lines().count(), 1);
    assert!(text.trim_end().chars().all(|c| !c.is_control() && c != '\u{202e}'));
    let found = ask(store.path(), named(name));
    assert_eq!(found.deaths[0].death.victim.name, name);
}

#[test]
fn a_store_stays_within_its_size_and_loses_the_oldest() {
    let store = tempfile::tempdir().unwrap();
    let limits = Limits { max_bytes: 400 << 10, ..LIMITS };
    write(store.path(), limits, (0..400).map(|n| record("vite", n, i64::from(n))));
    let size: u64 = files(store.path()).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(size <= limits.max_bytes, "{size}");
    assert!(size > limits.max_bytes / 2, "{size}");
    let found = ask(store.path(), named("vite"));
    assert_eq!(pids(&found)[0], 399);
    assert!(found.matching > 10 && found.matching < 400, "{}", found.matching);
    assert_eq!(found.matching, found.kept);
}

#[test]
fn what_is_too_old_is_removed_and_a_clock_set_back_removes_nothing() {
    let store = tempfile::tempdir().unwrap();
    write(store.path(), LIMITS, [record("vite", 1, 10)]);
    let old = segments(store.path()).unwrap().remove(0);
    let touch =
        |path: &Path, time| fs::File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
    touch(&old, SystemTime::now() + Duration::from_secs(86_400 * 365));
    write(store.path(), LIMITS, [record("vite", 2, 5)]);
    assert_eq!(pids(&ask(store.path(), named("vite"))), [1, 2], "newest by the time they died");
    touch(&old, SystemTime::now() - LIMITS.max_age - Duration::from_secs(60));
    write(store.path(), LIMITS, [record("vite", 3, 30)]);
    assert_eq!(pids(&ask(store.path(), named("vite"))), [3, 2]);
}

#[test]
fn segments_stay_in_order_when_the_clock_does_not() {
    assert_eq!(segment::file_name(42, 0), "deaths-00000042-19700101T000000Z.jsonl");
    let path = |name: &str| segment::sequence(Path::new(name));
    assert_eq!(path("/s/deaths-00000042-20261122T031200Z.jsonl"), Some(42));
    for other in ["/s/deaths-00000042-20261122T031200Z.idx", "/s/last-seen", "/s/deaths-x-y.jsonl"] {
        assert_eq!(path(other), None);
    }
}

#[test]
fn one_recorder_at_a_time_and_the_next_one_knows_of_the_gap() {
    let store = tempfile::tempdir().unwrap();
    let directory = store.path().join("made");
    let first = record("x", 1, 1);
    let (tool, mut host) = (first.tool, first.host);
    let now = |second: i64| Timestamp(DAY + second * SECOND);
    let take = |boot: &str| Seen::take(&directory, Some(boot.to_owned()));
    let gap = |seen: &Seen, host: &_, at| {
        let Gap { from, until, why, .. } = seen.gap(&directory, &tool, host, at);
        (from, until, why)
    };
    host.boot_id = Some("one".to_owned());
    let seen = take("one").unwrap();
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(matches!(take("one"), Err(StoreError::InUse { .. })));
    assert_eq!(gap(&seen, &host, now(1)), (None, now(1), Why::NothingBefore));
    seen.mark(now(5), false).unwrap();
    drop(seen);
    // It was killed.
    let seen = take("one").unwrap();
    assert_eq!(gap(&seen, &host, now(9)), (Some(now(5)), now(9), Why::Ended));
    // What is on the disk proves that it watched longer than the mark says.
    write(&directory, LIMITS, [record("vite", 1, 7)]);
    assert_eq!(gap(&seen, &host, now(9)), (Some(now(7)), now(9), Why::Ended));
    seen.mark(now(10), true).unwrap();
    drop(seen);
    let seen = take("one").unwrap();
    assert_eq!(gap(&seen, &host, now(20)), (Some(now(10)), now(20), Why::Stopped));
    // A clock that was set back.
    assert_eq!(gap(&seen, &host, now(3)), (None, now(3), Why::Stopped));
    seen.mark(now(30), false).unwrap();
    drop(seen);
    host.boot_id = Some("two".to_owned());
    let seen = take("two").unwrap();
    assert_eq!(gap(&seen, &host, now(40)), (Some(now(30)), now(40), Why::Rebooted));
}

#[test]
fn a_store_that_anybody_can_write_to_is_refused() {
    let store = tempfile::tempdir().unwrap();
    fs::set_permissions(store.path(), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(Seen::take(store.path(), None), Err(StoreError::Open { .. })));
    fs::set_permissions(store.path(), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(Seen::take(store.path(), None).is_ok());
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(store.path(), Some(65534), None).unwrap();
        assert!(matches!(Seen::take(store.path(), None), Err(StoreError::Open { .. })), "the owner can");
    }
    let missing = segments(&store.path().join("missing")).unwrap_err();
    assert!(missing.help().unwrap().contains("killtrace record"));
}

#[test]
fn gaps_are_told_within_the_time_that_is_asked_for() {
    let store = tempfile::tempdir().unwrap();
    let at = |second: i64| Timestamp(DAY + second * SECOND);
    let of = record("x", 1, 1);
    let gap = |from, until| Gap {
        schema: Gap::SCHEMA.to_owned(),
        tool: of.tool.clone(),
        host: of.host.clone(),
        from,
        until,
        why: Why::Stopped,
        count: None,
    };
    let gaps = [gap(None, at(10)), gap(Some(at(20)), at(30)), gap(Some(at(40)), at(50))];
    let mut lines: VecDeque<String> = gaps.iter().map(line).collect();
    Writer::open(store.path(), LIMITS).unwrap().append(&mut lines).unwrap();
    let mut sources = Sources::default();
    sources.store(store.path()).unwrap();
    let found = sources.ask(&Ask { since: Some(at(15)), until: Some(at(40)), ..Ask::default() }).unwrap();
    assert_eq!(found.gaps, gaps[1..2]);
    assert_eq!(ask(store.path(), Vec::new()).gaps, gaps);
    assert_eq!(ask(store.path(), Vec::new()).first, Some(at(10)));
}

#[test]
fn a_report_and_a_copied_segment_are_asked_like_a_store() {
    let store = tempfile::tempdir().unwrap();
    write(store.path(), LIMITS, [record("vite", 1, 10)]);
    let copy = store.path().join("copy.txt");
    fs::copy(&segments(store.path()).unwrap()[0], &copy).unwrap();
    let report = store.path().join("report.json");
    let mut saved = sample::report();
    saved.timeline[0].id = saved.deaths[0].evidence[0];
    fs::write(&report, line(&saved)).unwrap();
    let mut sources = Sources::default();
    sources.any(&copy).unwrap();
    sources.any(&report).unwrap();
    let all = sources.ask(&Ask { newest: 100, ..Ask::default() }).unwrap();
    assert_eq!(all.matching, 1 + sample::report().deaths.len() as u64);
    let first = &sample::report().deaths[0];
    let conditions = vec![vec![Condition::Pid(first.victim.pid)]];
    let found = sources.ask(&Ask { conditions, newest: 1, ..Ask::default() }).unwrap();
    assert_eq!(&found.deaths[0].death, first);
    assert_eq!(found.deaths[0].timeline, saved.timeline[..1], "the events that it rests on");
    let other = store.path().join("other.txt");
    fs::write(&other, "shopping list").unwrap();
    assert!(sources.any(&other).is_err());
}

#[test]
fn what_cannot_be_written_now_can_be_written_later() {
    let place = tempfile::tempdir().unwrap();
    let (store, away) = (place.path().join("store"), place.path().join("away"));
    fs::create_dir(&store).unwrap();
    let mut writer = Writer::open(&store, LIMITS).unwrap();
    let mut lines: VecDeque<String> = (1..=3).map(|n| line(&record("vite", n, i64::from(n)))).collect();
    fs::rename(&store, &away).unwrap();
    assert!(writer.append(&mut lines).is_err());
    assert_eq!(lines.len(), 3);
    fs::rename(&away, &store).unwrap();
    writer.append(&mut lines).unwrap();
    assert_eq!(pids(&ask(&store, named("vite"))), [3, 2, 1]);
}

#[test]
fn what_waits_for_the_disk_is_bounded_and_what_is_refused_is_told() {
    let store = tempfile::tempdir().unwrap();
    let directory = store.path().join("store");
    let of = record("vite", 1, 1);
    let seen = Seen::take(&directory, None).unwrap();
    let writer = Writer::open(&directory, LIMITS).unwrap();
    let away = store.path().join("away");
    fs::rename(&directory, &away).unwrap();
    let (said_in, said) = std::sync::mpsc::channel();
    let say = move |text: &str| said_in.send(text.to_owned()).unwrap();
    let recorder = Recorder::start(writer, seen, of.tool.clone(), of.host.clone(), say, || {}).unwrap();
    let mut large = record("vite", 1, 1);
    large.death.summary = "x".repeat(1 << 20);
    recorder.death(&large);
    assert!(said.recv().unwrap().starts_with("cannot write to the store"));
    for second in 2..=9 {
        large.death.died_at = Timestamp(DAY + second * SECOND);
        recorder.death(&large);
    }
    fs::rename(&away, &directory).unwrap();
    assert!(recorder.finish(Timestamp(DAY + 10 * SECOND)), "in the end all is written");
    assert_eq!(said.recv().unwrap(), "the store can be written to again");
    let found = ask(&directory, Vec::new());
    assert_eq!(found.kept, 3, "as many megabytes as may wait");
    let gap = &found.gaps[0];
    assert_eq!((gap.why, gap.count), (Why::NotWritten, Some(6)));
    assert_eq!((gap.from, gap.until), (Some(Timestamp(DAY + 4 * SECOND)), Timestamp(DAY + 9 * SECOND)));
}

#[test]
fn twenty_thousand_deaths_are_searched_in_no_time() {
    let store = tempfile::tempdir().unwrap();
    let limits = Limits { max_bytes: 1 << 30, ..LIMITS };
    let mut lines: VecDeque<String> = vec![line(&small("vite")); 20_000].into();
    Writer::open(store.path(), limits).unwrap().append(&mut lines).unwrap();
    let begun = cpu_time();
    let found = ask(store.path(), named("no such thing"));
    let took = cpu_time() - begun;
    assert_eq!((found.matching, found.kept), (0, 20_000));
    assert!(took < Duration::from_millis(500), "{took:?}");
}

/// What this thread has used of a processor: other tests run meanwhile.
fn cpu_time() -> Duration {
    let clock = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
    nix::time::clock_gettime(clock).unwrap().into()
}

/// A death of which little is known.
fn small(name: &str) -> DeathRecord {
    let mut record = record(name, 1, 1);
    let death = &mut record.death;
    (death.chain, death.evidence, death.other_signals) = Default::default();
    (death.ruled_out, death.advice, death.gaps, death.aftermath) = Default::default();
    (death.killer, death.root_cause, death.sender) = Default::default();
    death.context.tree.clear();
    record.degraded.clear();
    record
}
