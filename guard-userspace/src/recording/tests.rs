use std::fs;

use super::*;
use crate::model::event::{Current, Exec, Signal, SignalResult};
use crate::model::header::{Capabilities, Host, Tool};
use crate::model::time::Timestamp;

fn sample_header() -> Header {
    Header {
        schema: Header::SCHEMA.to_owned(),
        tool: Tool { name: "killtrace".to_owned(), version: "0.1.0".to_owned() },
        host: Host {
            hostname: "argos".to_owned(),
            kernel: "6.12.34".to_owned(),
            arch: "aarch64".to_owned(),
            page_size: 16_384,
            boot_id: None,
            cpus: 4,
            memory_bytes: Some(8 << 30),
        },
        backend: "ebpf".to_owned(),
        degraded: vec!["no BTF".to_owned()],
        capabilities: Capabilities { exit_status: true, ..Capabilities::default() },
        started_at: Timestamp(1_771_384_364_112_233_445),
        wall_minus_boottime_ns: 1_771_384_000_000_000_000,
        selectors: vec!["comm=vite".to_owned(), "user=kali(1000)".to_owned(), "cmdline=a|b=c".to_owned()],
        own_tgid: 99,
    }
}

fn sample_events() -> Vec<Event> {
    let current =
        Some(Current { tid: 7, tgid: Some(7), uid: Some(0), comm: Some("pkill".into()), exiting: None });
    let signal = Signal {
        signo: 15,
        code: 0,
        errno: 0,
        group: true,
        result: SignalResult::Delivered,
        target_tid: 4021,
        target_tgid: Some(4021),
        target_comm: Some("node".into()),
        syscall: None,
        target_sid: None,
    };
    let exec = Exec {
        path: "/usr/bin/node".to_owned(),
        args: Some(vec!["node".to_owned(), "odd \u{1b}[0m\n\u{fffd} \"arg\"".to_owned()]),
        ..Exec::default()
    };
    vec![
        Event { id: 1, t_ns: 1_000, cpu: Some(0), current, fact: Fact::Exec(Box::new(exec)) },
        Event { id: 2, t_ns: 2_000, cpu: Some(1), current, fact: Fact::Signal(signal) },
        Event { id: 3, t_ns: 3_000, cpu: None, current: None, fact: Fact::Tick },
        Event { id: 4, t_ns: 4_000, cpu: None, current: None, fact: Fact::End },
    ]
}

/// A whole recording, as bytes.
fn recording() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, &sample_header()).unwrap();
    let events = sample_events();
    writer.write(&events[..1]).unwrap();
    writer.write(&events[1..]).unwrap();
    drop(writer);
    bytes
}

/// Everything up to the first problem, and whether the last line was torn.
fn read(bytes: &[u8]) -> (Vec<Event>, Option<RecordingError>, bool) {
    let mut input = bytes;
    let mut first = Vec::new();
    read_line(&mut input, &mut first).unwrap();
    let mut events = Events::new(input, Path::new("events.jsonl"));
    let mut found = Vec::new();
    let problem = loop {
        match events.next() {
            Ok(Some(event)) => found.push(event),
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    (found, problem, events.torn)
}

fn load_bytes(bytes: &[u8]) -> Result<Loaded, RecordingError> {
    load_from(bytes, Path::new("given"))
}

#[test]
fn what_is_written_is_read_back() {
    let bytes = recording();
    let first = bytes.split_inclusive(|&byte| byte == b'\n').next().unwrap();
    assert_eq!(header(first, Path::new("r")).unwrap(), sample_header());
    let (events, problem, torn) = read(&bytes);
    assert_eq!(events, sample_events());
    assert!(problem.is_none() && !torn);
}

#[test]
fn a_recording_cut_anywhere_gives_its_whole_lines() {
    let bytes = recording();
    let start = bytes.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    for end in start..bytes.len() {
        let (events, problem, torn) = read(&bytes[..end]);
        assert!(problem.is_none(), "cut at {end}: {problem:?}");
        let lines = bytes[start..end].iter().filter(|&&byte| byte == b'\n').count();
        // A line that lacks only its newline is whole.
        let whole = bytes[end] == b'\n';
        assert_eq!(events.len(), lines + usize::from(whole), "cut at {end}");
        assert_eq!(torn, !whole && bytes[end - 1] != b'\n', "cut at {end}");
        assert_eq!(events, sample_events()[..events.len()]);
    }
}

#[test]
fn damage_in_the_middle_names_its_line() {
    let text = String::from_utf8(recording()).unwrap();
    let damaged = text.replacen("\"signal\"", "\"singal\"", 1);
    let (events, problem, torn) = read(damaged.as_bytes());
    assert_eq!((events.len(), torn), (1, false));
    let problem = problem.unwrap();
    assert_eq!(problem.to_string(), "line 3 of the recording events.jsonl is damaged");
    assert!(problem.help().unwrap().contains("head -n 2 events.jsonl"));
}

#[test]
fn lines_in_the_wrong_order_are_damage() {
    let mut bytes = recording();
    bytes.extend_from_slice(b"{\"id\":2,\"t_ns\":5000,\"fact\":\"tick\"}\n");
    let (events, problem, _) = read(&bytes);
    assert_eq!(events.len(), 4);
    assert!(matches!(problem, Some(RecordingError::Line { number: 6, .. })));
}

#[test]
fn an_endless_line_is_damage_and_not_endless_memory() {
    let mut bytes = recording();
    bytes.resize(bytes.len() + max_line() + 1, b' ');
    let (_, problem, torn) = read(&bytes);
    assert!(!torn);
    assert!(matches!(problem, Some(RecordingError::Line { number: 6, .. })));
}

#[test]
fn a_newer_format_is_named_as_such() {
    let newer = |ours: &str, theirs: &str| {
        let text = format!("{{\"schema\":\"{theirs}\",\"unknown\":[]}}\n");
        let error = load_bytes(text.as_bytes()).unwrap_err();
        assert!(error.to_string().contains(&format!("({theirs}); this one reads up to {ours}")), "{error}");
        assert!(error.help().unwrap().contains("upgrade"));
    };
    newer("killtrace.events/1", "killtrace.events/2");
    newer("killtrace.report/1", "killtrace.report/17");
}

#[test]
fn other_files_are_not_mistaken_for_ours() {
    for text in [
        "hello\n",
        "{\"schema\":\"other/1\"}",
        "{}",
        "[1]",
        "{\"schema\":\"killtrace.events/x\"}\n",
        "\u{0}\u{0}",
    ] {
        let error = load_bytes(text.as_bytes()).unwrap_err();
        assert!(matches!(error, RecordingError::NotOurs { .. }), "{text}: {error:?}");
    }
    for text in ["", "\n", "  "] {
        assert!(matches!(load_bytes(text.as_bytes()), Err(RecordingError::Empty { .. })), "{text:?}");
    }
    let cut = recording()[..60].to_vec();
    assert!(matches!(load_bytes(&cut), Err(RecordingError::CutOff { what: "recording", .. })));
}

#[test]
fn a_report_is_told_from_a_recording() {
    let report = crate::report::sample::report();
    for text in [serde_json::to_string(&report).unwrap(), serde_json::to_string_pretty(&report).unwrap()] {
        assert!(matches!(load_bytes(text.as_bytes()), Ok(Loaded::Report(read)) if read == report));
        let cut = &text.as_bytes()[..text.len() / 2];
        assert!(matches!(load_bytes(cut), Err(RecordingError::CutOff { what: "report", .. })));
        let damaged = text.replacen("\"deaths\"", "\"breaths\"", 1);
        assert!(matches!(load_bytes(damaged.as_bytes()), Err(RecordingError::Damaged { .. })));
    }
}

#[test]
fn a_replay_yields_a_report_and_says_what_is_missing() {
    let whole = load_bytes(&recording()).unwrap();
    assert!(matches!(&whole, Loaded::Recording(report) if report.collector.degraded == ["no BTF"]));
    let report = whole.into_report();
    assert_eq!(report.watch.selectors, sample_header().selectors);

    let bytes = recording();
    let torn = load_bytes(&bytes[..bytes.len() - 3]).unwrap().into_report();
    assert!(torn.collector.degraded[1].contains("cut off"), "{:?}", torn.collector.degraded);
    let last = bytes[..bytes.len() - 1].iter().rposition(|&byte| byte == b'\n').unwrap() + 1;
    let stopped = load_bytes(&bytes[..last]).unwrap().into_report();
    assert!(stopped.collector.degraded[1].contains("no end"), "{:?}", stopped.collector.degraded);
}

#[test]
fn a_replay_is_the_same_from_a_file_and_every_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events.jsonl");
    fs::write(&path, recording()).unwrap();
    let first = replay(&path).unwrap();
    assert_eq!(first, replay(&path).unwrap());
    assert_eq!(first, load(&path).unwrap().into_report());
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = load(Path::new("/no/such/file")).unwrap_err();
    assert_eq!(error.to_string(), "cannot open /no/such/file");
    let error = load(Path::new("/tmp")).unwrap_err();
    assert_eq!(error.to_string(), "cannot read /tmp");
}

#[test]
fn selectors_are_read_back() {
    let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    let all = texts(&[
        "comm=a=b",
        "pid=12",
        "cmdline=^node .*vite$",
        "port=5173",
        "unit=web.service",
        "cgroup=/a/b",
        "user=kali(1000)",
        "user=7",
    ]);
    let found = selectors(&all).unwrap();
    assert_eq!((found.comms, found.pids, found.ports), (vec!["a=b".to_owned()], vec![12], vec![5173]));
    assert_eq!((found.units, found.cgroups), (vec!["web.service".to_owned()], vec!["/a/b".to_owned()]));
    assert_eq!(found.uids, [1000, 7]);
    assert!(found.cmdlines[0].is_match("node /x/vite"));
    for wrong in ["vite", "pid=x", "port=70000", "cmdline=(", "user=kali", "colour=red"] {
        let error = selectors(&texts(&[wrong])).unwrap_err();
        assert_eq!(error.selector, wrong);
    }
}
