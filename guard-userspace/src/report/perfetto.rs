//! The timeline as a Chrome trace, which ui.perfetto.dev and chrome://tracing open.
//!
//! One track per process: its life is a slice, a signal is a short slice on the sender's and on the target's
//! track with an arrow between them, and what happens in a moment is an instant. Times are CLOCK_BOOTTIME in
//! microseconds, as those of other traces of the same machine are.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::{Value, json};

use super::lives::{Lives, Mark};
use super::{Options, Report, escape, secrets, words};
use crate::model;
use crate::model::report::{Death, What};

/// How long a signal is drawn; arrows need something to begin and end at.
const SIGNAL_NS: u64 = 1_000;

/// Chrome trace JSON.
#[derive(Debug)]
pub struct Perfetto;

impl Report for Perfetto {
    fn name(&self) -> &'static str {
        "perfetto"
    }

    fn about(&self) -> &'static str {
        "the timeline as a Chrome trace, for ui.perfetto.dev"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["perfetto.json", "trace.json"]
    }

    fn write(&self, report: &model::Report, _: &Options, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(b"{\"displayTimeUnit\":\"ns\",\"otherData\":")?;
        let about = json!({
            "tool": safe(&format!("{} {}", report.tool.name, report.tool.version)),
            "host": safe(&words::setting(report)),
            "answer": safe(&words::headline(report)),
        });
        write!(out, "{about},\n\"traceEvents\":[")?;
        for (index, event) in events(report).iter().enumerate() {
            write!(out, "{}\n{event}", if index == 0 { "" } else { "," })?;
        }
        out.write_all(b"\n]}\n")
    }
}

/// Text that shows nothing but itself wherever it is shown.
fn safe(text: &str) -> String {
    escape::text(&secrets::mask(text)).into_owned()
}

/// In microseconds, as the format wants it; nanoseconds are its decimals.
fn us(ns: u64) -> f64 {
    ns as f64 / 1000.0
}

fn events(report: &model::Report) -> Vec<Value> {
    let lives = Lives::of(report);
    let Some((first, last)) = lives.span() else { return Vec::new() };
    let mut events = names(&lives);
    events.extend(slices(&lives, first, last));
    let deaths: BTreeMap<u64, &Death> = report.deaths.iter().map(|death| (death.id, death)).collect();
    let shown = signal_ends(&lives);
    for (index, mark) in lives.marks.iter().enumerate() {
        mark_events(&mut events, &lives, mark, shown[index], &deaths);
    }
    events
}

/// A track for each pid, called as its last process was.
fn names(lives: &Lives<'_>) -> Vec<Value> {
    let mut tracks: BTreeMap<u32, (usize, &str)> = BTreeMap::new();
    for (index, life) in lives.lives.iter().enumerate() {
        let first = tracks.get(&life.pid).map_or(index, |(first, _)| *first);
        tracks.insert(life.pid, (first, life.name));
    }
    let named = tracks.into_iter().flat_map(|(pid, (order, name))| {
        let meta =
            |what: &str, args: Value| json!({"ph": "M", "name": what, "pid": pid, "tid": pid, "args": args});
        [
            meta("process_name", json!({"name": safe(name)})),
            meta("thread_name", json!({"name": safe(name)})),
            meta("process_sort_index", json!({"sort_index": order})),
        ]
    });
    named.collect()
}

/// The lives. Slices of one track must not overlap, so that one ends at the latest when its pid is another's.
fn slices(lives: &Lives<'_>, first: u64, last: u64) -> Vec<Value> {
    let mut slices = Vec::new();
    let mut taken_from: BTreeMap<u32, u64> = BTreeMap::new();
    for life in lives.lives.iter().rev() {
        let from = life.born_ns.unwrap_or(first);
        let to = life.died_ns.unwrap_or(last).min(taken_from.get(&life.pid).copied().unwrap_or(u64::MAX));
        taken_from.insert(life.pid, from.min(to));
        let mut args = json!({"pid": life.pid, "was there before": life.born_ns.is_none()});
        if let Some(exit) = life.exit {
            args["ended by"] = safe(&words::outcome(exit)).into();
        }
        slices.push(json!({
            "ph": "X", "cat": "process", "name": safe(life.name), "pid": life.pid, "tid": life.pid,
            "ts": us(from), "dur": us(to.saturating_sub(from)), "args": args,
        }));
    }
    // Those of one pid in time order.
    slices.reverse();
    slices
}

/// Where the slices of each mark end, on the sender's and on the target's track: before the next event there and
/// before its life does, so that slices nest.
fn signal_ends(lives: &Lives<'_>) -> Vec<(u64, u64)> {
    let mut next: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    let mut ends = vec![(0, 0); lives.marks.len()];
    for (index, mark) in lives.marks.iter().enumerate().rev() {
        let t_ns = mark.entry.t_ns;
        let mut end = |life: Option<usize>| {
            let Some(life) = life.map(|life| &lives.lives[life]) else { return t_ns };
            // What comes next on this track at another moment; at the same one both end alike.
            let (at, later) = next.get(&life.pid).copied().unwrap_or((u64::MAX, u64::MAX));
            let after = if at == t_ns { later } else { at };
            next.insert(life.pid, (t_ns, after));
            let died = life.died_ns.filter(|died| *died > t_ns).unwrap_or(u64::MAX);
            t_ns.saturating_add(SIGNAL_NS).min(after).min(died)
        };
        ends[index] = (end(mark.from), end(mark.on));
    }
    ends
}

fn mark_events(
    events: &mut Vec<Value>,
    lives: &Lives<'_>,
    mark: &Mark<'_>,
    (sent_until, taken_until): (u64, u64),
    deaths: &BTreeMap<u64, &Death>,
) {
    let entry = mark.entry;
    let on = mark.on.map(|life| &lives.lives[life]);
    let pid = on.map_or(0, |life| life.pid);
    let words = safe(&words::event(&entry.what));
    let args = json!({"event": entry.id, "evidence": mark.evidence, "what": words});
    let instant = |name: &str, scope: &str, args: &Value| {
        json!({"ph": "i", "s": scope, "cat": words::event_kind(&entry.what), "name": name, "pid": pid, "tid": pid,
            "ts": us(entry.t_ns), "args": args})
    };
    match &entry.what {
        What::Signal { signal, .. } => {
            let slice = |pid: u32, name: String, until: u64| {
                json!({"ph": "X", "cat": "signal", "name": safe(&name), "pid": pid, "tid": pid, "ts": us(entry.t_ns),
                    "dur": us(until - entry.t_ns), "args": args})
            };
            let sender = mark.from.map(|life| &lives.lives[life]).filter(|sender| sender.pid != pid);
            let Some(sender) = sender else {
                events.push(slice(pid, format!("gets {signal}"), taken_until));
                return;
            };
            let flow = |phase: &str, pid: u32| {
                json!({"ph": phase, "bp": "e", "cat": "signal", "name": safe(signal), "id": entry.id, "pid": pid,
                    "tid": pid, "ts": us(entry.t_ns)})
            };
            events.push(slice(sender.pid, format!("sends {signal} to {pid}"), sent_until));
            events.push(flow("s", sender.pid));
            events.push(slice(pid, format!("gets {signal} from {}", sender.pid), taken_until));
            events.push(flow("f", pid));
        }
        What::Exit { .. } => {
            let death = on.and_then(|life| life.death).and_then(|death| deaths.get(&death));
            let Some(death) = death else {
                events.push(instant("ends", "t", &args));
                return;
            };
            let mut args = args.clone();
            args["answer"] = safe(&death.summary).into();
            args["how sure"] = safe(&words::sureness(death)).into();
            events.push(instant(&format!("dies: {}", words::kind(death.cause.kind)), "p", &args));
        }
        What::Fork { .. } | What::Exec { .. } | What::Taken { .. } | What::OomVictim { .. } => {
            events.push(instant(&words, "t", &args));
        }
        // Of no process, so across all of them.
        What::KernelLog { .. } | What::Journal { .. } | What::Lost { .. } => {
            events.push(instant(&words, "g", &args))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::report::sample;

    fn render(report: &model::Report) -> Value {
        let mut out = Vec::new();
        Perfetto.write(report, &Options::default(), &mut out).unwrap();
        serde_json::from_slice(&out).unwrap()
    }

    fn recorded() -> Vec<(String, model::Report)> {
        let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/replay");
        let mut reports: Vec<_> = std::fs::read_dir(cases)
            .unwrap()
            .map(|case| case.unwrap().path())
            .filter(|case| case.is_dir())
            .map(|case| {
                let report = crate::recording::load(&case.join("events.jsonl")).unwrap().into_report();
                (case.display().to_string(), report)
            })
            .collect();
        reports.push(("sample".to_owned(), sample::report()));
        reports.push(("every variant".to_owned(), sample::every_variant()));
        reports
    }

    fn ns(value: &Value) -> u64 {
        format!("{:.0}", value.as_f64().unwrap() * 1000.0).parse().unwrap()
    }

    #[test]
    fn slices_of_a_track_nest() {
        for (case, report) in recorded() {
            let trace = render(&report);
            let mut tracks: BTreeMap<(u64, u64), Vec<(u64, u64)>> = BTreeMap::new();
            for event in trace["traceEvents"].as_array().unwrap() {
                if event["ph"] == "X" {
                    let track = (event["pid"].as_u64().unwrap(), event["tid"].as_u64().unwrap());
                    let from = ns(&event["ts"]);
                    tracks.entry(track).or_default().push((from, from + ns(&event["dur"])));
                }
            }
            assert!(!tracks.is_empty() || report.timeline.is_empty(), "{case}");
            for (track, mut slices) in tracks {
                slices.sort_by_key(|(from, to)| (*from, u64::MAX - to));
                let mut open: Vec<u64> = Vec::new();
                for (from, to) in slices {
                    while open.last().is_some_and(|end| *end <= from) {
                        open.pop();
                    }
                    assert!(open.last().is_none_or(|end| to <= *end), "{case} {track:?}: {from} to {to}");
                    open.push(to);
                }
            }
        }
    }

    #[test]
    fn arrows_lead_from_senders_to_victims() {
        for (case, report) in recorded() {
            let trace = render(&report);
            let events = trace["traceEvents"].as_array().unwrap();
            let end = |phase: &str, id: u64| {
                events
                    .iter()
                    .find(|event| event["ph"] == phase && event["id"] == id)
                    .map(|event| event["pid"].clone())
            };
            for entry in &report.timeline {
                let What::Signal { code, from: Some(from), to, .. } = &entry.what else { continue };
                let arrow = words::is_sent(code) && from.pid != to.pid;
                assert_eq!(end("s", entry.id), arrow.then(|| from.pid.into()), "{case}");
                assert_eq!(end("f", entry.id), arrow.then(|| to.pid.into()), "{case}");
            }
        }
    }

    #[test]
    fn every_process_has_a_name_and_every_event_what_the_format_wants() {
        for (case, report) in recorded() {
            let trace = render(&report);
            let events = trace["traceEvents"].as_array().unwrap();
            for event in events {
                for key in ["ph", "name", "pid", "tid"] {
                    assert!(!event[key].is_null(), "{case}: {key} of {event}");
                }
                assert!(event["ph"] == "M" || event["ts"].is_f64(), "{case}: {event}");
                let named =
                    events.iter().any(|meta| meta["name"] == "process_name" && meta["pid"] == event["pid"]);
                assert!(named || event["s"] == "g", "{case}: {event}");
            }
        }
    }

    #[test]
    fn nanoseconds_survive() {
        for t_ns in [0, 1, 6_770_194_407_697, 86_400_000_000_000 * 100 + 123] {
            assert_eq!(ns(&json!(us(t_ns))), t_ns);
        }
    }
}
