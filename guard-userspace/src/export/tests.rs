//! Exporters, with a store on a disk and receivers on loopback.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;

use super::*;
use crate::model::record::{DeathRecord, Gap, Why};
use crate::model::time::Timestamp;
use crate::report::sample;
use crate::store::{Limits, Recorder, Seen, Writer};

const LIMITS: Limits = Limits { max_bytes: 64 << 20, max_age: Duration::from_secs(86_400) };
const PATIENCE: Duration = Duration::from_secs(20);

fn death(pid: u32) -> DeathRecord {
    let mut record = DeathRecord::of_report(sample::report()).next().unwrap();
    record.death.victim.pid = pid;
    record
}

/// Records deaths into a store, and has exporters told.
fn record(store: &Path, exporters: &[Exporter], pids: &[u32]) {
    let of = death(1);
    let (seen, bell) = (Seen::take(store, None).unwrap(), Bell::of(exporters));
    let writer = Writer::open(store, LIMITS).unwrap();
    let recorder = Recorder::start(writer, seen, of.tool, of.host, |_| {}, move || bell.ring()).unwrap();
    pids.iter().for_each(|&pid| recorder.death(&death(pid)));
    assert!(recorder.finish(Timestamp(0)));
}

/// A sink that takes what it is told to take.
struct Fake {
    took: Sender<Vec<u32>>,
    refuse: u32,
}

impl Sink for Fake {
    fn name(&self) -> String {
        "the fake".to_owned()
    }

    fn bookmark(&self) -> Option<&'static str> {
        Some("fake.bookmark")
    }

    fn take(&mut self, records: &[Record]) -> Result<(), Refused> {
        if self.refuse > 0 {
            self.refuse -= 1;
            return Err(Refused { why: "not now".to_owned(), wait: Some(Duration::ZERO) });
        }
        let pid = |record: &Record| match record {
            Record::Death(record) => record.death.victim.pid,
            Record::Gap(_) => 0,
        };
        self.took.send(records.iter().map(pid).collect()).unwrap();
        Ok(())
    }
}

fn fake(store: &Path, refuse: u32) -> (Exporter, Receiver<Vec<u32>>, Receiver<String>) {
    let ((took, taken), (say, said)) = (channel(), channel());
    let exporter =
        Exporter::start(store, Fake { took, refuse }, move |text| say.send(text.to_owned()).unwrap());
    (exporter.unwrap(), taken, said)
}

#[test]
fn each_death_is_passed_on_once_in_order_and_none_from_before() {
    let store = tempfile::tempdir().unwrap();
    record(store.path(), &[], &[1, 2]);
    let (exporter, taken, said) = fake(store.path(), 0);
    record(store.path(), std::slice::from_ref(&exporter), &[3, 4, 5]);
    exporter.finish();
    assert_eq!(taken.iter().flatten().collect::<Vec<_>>(), [3, 4, 5]);
    // Whatever happens while it is down is passed on at its next start.
    record(store.path(), &[], &[6]);
    let (exporter, taken, _) = fake(store.path(), 0);
    record(store.path(), std::slice::from_ref(&exporter), &[7]);
    exporter.finish();
    assert_eq!(taken.iter().flatten().collect::<Vec<_>>(), [6, 7]);
    assert_eq!(said.iter().count(), 0);
}

#[test]
fn what_is_refused_comes_again_and_both_are_said_once() {
    let store = tempfile::tempdir().unwrap();
    let (exporter, taken, said) = fake(store.path(), 2);
    record(store.path(), std::slice::from_ref(&exporter), &[1]);
    assert_eq!(taken.recv_timeout(PATIENCE).unwrap(), [1]);
    record(store.path(), std::slice::from_ref(&exporter), &[2]);
    exporter.finish();
    assert_eq!(taken.recv_timeout(PATIENCE).unwrap(), [2]);
    let said: Vec<String> = said.iter().collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("the fake cannot be reached: not now"), "{}", said[0]);
    assert!(said[1].contains("can be reached again"), "{}", said[1]);
}

#[test]
fn an_end_does_not_wait_for_a_sink_that_is_gone_and_loses_nothing() {
    let store = tempfile::tempdir().unwrap();
    let (exporter, taken, _) = fake(store.path(), u32::MAX);
    record(store.path(), std::slice::from_ref(&exporter), &[1, 2]);
    exporter.finish();
    assert_eq!(taken.iter().count(), 0);
    let (exporter, taken, _) = fake(store.path(), 0);
    exporter.finish();
    assert_eq!(taken.iter().flatten().collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_store_that_made_room_says_how_much_was_not_passed_on() {
    let store = tempfile::tempdir().unwrap();
    let (exporter, _, _) = fake(store.path(), u32::MAX);
    record(store.path(), std::slice::from_ref(&exporter), &[1]);
    exporter.finish();
    record(store.path(), &[], &[2]);
    record(store.path(), &[], &[3]);
    let segments = crate::store::segments(store.path()).unwrap();
    assert_eq!(segments.len(), 3);
    // The exporter began before there was any, so that nothing is missed until it has been in one.
    let (exporter, taken, _) = fake(store.path(), 0);
    exporter.finish();
    assert_eq!(taken.iter().flatten().collect::<Vec<_>>(), [1, 2, 3]);
    record(store.path(), &[], &[4]);
    record(store.path(), &[], &[5]);
    record(store.path(), &[], &[6]);
    for segment in &crate::store::segments(store.path()).unwrap()[..5] {
        fs::remove_file(segment).unwrap();
    }
    let (exporter, taken, said) = fake(store.path(), 0);
    exporter.finish();
    assert_eq!(taken.iter().flatten().collect::<Vec<_>>(), [6]);
    let said: Vec<String> = said.iter().collect();
    assert!(
        said.len() == 1 && said[0].contains("made room for new deaths before 3 of its segments"),
        "{said:?}"
    );
}

/// Answers requests one after the other, and gives back their bodies.
fn collector(answers: &'static [&'static str]) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = endpoint(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let (send, bodies) = channel();
    std::thread::spawn(move || {
        for answer in answers {
            let (stream, _) = listener.accept().unwrap();
            send.send(body_of(&stream)).unwrap();
            (&stream).write_all(answer.as_bytes()).unwrap();
        }
    });
    (url, bodies)
}

fn body_of(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let (mut length, mut line) = (0, String::new());
    reader.read_line(&mut line).unwrap();
    assert_eq!(line, "POST /v1/logs HTTP/1.1\r\n");
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    String::from_utf8(body).unwrap()
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
const BUSY: &str = "HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";
const BAD: &str = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";

fn say_nothing(_: &str) {}

#[test]
fn a_collector_gets_logs_as_the_protocol_has_them() {
    let (url, bodies) = collector(&[OK]);
    let of = death(4010);
    let gap = Gap {
        schema: Gap::SCHEMA.to_owned(),
        tool: of.tool.clone(),
        host: of.host.clone(),
        from: None,
        until: of.death.died_at,
        why: Why::EventsLost,
        count: Some(12),
    };
    let records = [Record::Death(Box::new(of.clone())), Record::Gap(Box::new(gap))];
    Otlp::new(url, say_nothing).take(&records).unwrap();
    // The official definition of the protocol reads it.
    let request: ExportLogsServiceRequest = serde_json::from_str(&bodies.recv().unwrap()).unwrap();
    let [logs] = &request.resource_logs[..] else { panic!("{request:?}") };
    let host = logs.resource.as_ref().unwrap().attributes.iter().find(|pair| pair.key == "host.name");
    assert_eq!(text(host.unwrap().value.as_ref()), of.host.hostname);
    let [death, gap] = &logs.scope_logs[0].log_records[..] else { panic!("{request:?}") };
    assert_eq!(i64::try_from(death.time_unix_nano).unwrap(), of.death.died_at.0);
    assert_eq!((death.severity_number, death.event_name.as_str()), (13, "killtrace.death"));
    assert_eq!(text(death.body.as_ref()), of.death.summary);
    let attribute = |key: &str| death.attributes.iter().find(|pair| pair.key == key);
    let pid = attribute("process.pid").unwrap().value.as_ref().unwrap();
    assert_eq!(pid.value, Some(Any::IntValue(4010)));
    assert_eq!(text(attribute("killtrace.cause.kind").unwrap().value.as_ref()), word(of.death.cause.kind));
    assert!(matches!(
        &attribute("process.command_args").unwrap().value.as_ref().unwrap().value,
        Some(Any::ArrayValue(args)) if args.values.len() == of.death.victim.cmdline.as_ref().unwrap().len()
    ));
    assert!(attribute("container.id").is_none(), "what is not known is left out");
    assert_eq!((gap.severity_number, gap.event_name.as_str()), (9, "killtrace.gap"));
    assert!(text(gap.body.as_ref()).contains("12 events were lost"), "{gap:?}");
}

fn text(value: Option<&opentelemetry_proto::tonic::common::v1::AnyValue>) -> &str {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Any::StringValue(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_busy_collector_is_left_alone_for_as_long_as_it_asks() {
    let (url, bodies) = collector(&[BUSY, OK]);
    let mut otlp = Otlp::new(url, say_nothing);
    let records = [Record::Death(Box::new(death(7)))];
    let refused = otlp.take(&records).unwrap_err();
    assert_eq!(refused.wait, Some(Duration::from_secs(1)), "{}", refused.why);
    otlp.take(&records).unwrap();
    assert_eq!(bodies.recv().unwrap(), bodies.recv().unwrap());
}

#[test]
fn a_collector_that_is_down_gets_everything_when_it_is_back() {
    let store = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}/v1/logs");
    let exporter = Exporter::start(store.path(), Otlp::new(url, say_nothing), |_| {}).unwrap();
    record(store.path(), std::slice::from_ref(&exporter), &[1, 2, 3]);
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let mut pids = Vec::new();
    // In one request, or in more where the disk is slow.
    while pids.len() < 3 {
        let (stream, _) = listener.accept().unwrap();
        let request: ExportLogsServiceRequest = serde_json::from_str(&body_of(&stream)).unwrap();
        (&stream).write_all(OK.as_bytes()).unwrap();
        for record in &request.resource_logs[0].scope_logs[0].log_records {
            let pid = record.attributes.iter().find(|pair| pair.key == "process.pid").unwrap();
            pids.push(pid.value.as_ref().unwrap().value.clone().unwrap());
        }
    }
    assert_eq!(pids, [1, 2, 3].map(Any::IntValue));
    exporter.finish();
}

#[test]
fn what_a_collector_refuses_for_good_does_not_hold_up_the_rest() {
    let (url, bodies) = collector(&[BAD, OK]);
    let mut otlp = Otlp::new(url, say_nothing);
    otlp.take(&[Record::Death(Box::new(death(1)))]).unwrap();
    otlp.take(&[Record::Death(Box::new(death(2)))]).unwrap();
    assert_ne!(bodies.recv().unwrap(), bodies.recv().unwrap());
}

#[test]
fn an_endpoint_is_plain_http() {
    assert_eq!(endpoint("http://localhost:4318").unwrap(), "http://localhost:4318/v1/logs");
    assert_eq!(endpoint("http://localhost:4318/").unwrap(), "http://localhost:4318/v1/logs");
    assert_eq!(endpoint("http://otel/custom/v1/logs").unwrap(), "http://otel/custom/v1/logs");
    for wrong in ["", "localhost:4318", "http://", "ftp://x", "http://a b"] {
        assert!(endpoint(wrong).unwrap_err().contains("http://localhost:4318"), "{wrong}");
    }
    assert!(endpoint("https://otel").unwrap_err().contains("plain HTTP"));
}

#[test]
fn counters_are_counted_escaped_and_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("killtrace.prom");
    let file = path.clone();
    let write = move |text: &str| Ok(fs::write(&file, text)?);
    let started_at = Timestamp(1_795_305_600_250_000_000);
    let mut prometheus = Prometheus::start("killtrace.prom".to_owned(), write, started_at).unwrap();
    let read = || fs::read_to_string(&path).unwrap();
    assert!(read().contains("killtrace_start_time_seconds 1795305600.250\n"), "{}", read());
    assert!(!read().contains("killtrace_deaths_total{"), "{}", read());
    let of_unit = |unit: &str| {
        let mut record = death(1);
        record.death.victim.unit = Some(unit.to_owned());
        Record::Death(Box::new(record))
    };
    let kind = word(death(1).death.cause.kind);
    let role = killer_role(&death(1).death);
    prometheus.take(&[of_unit("web.service"), of_unit("web.service"), of_unit("a\"\\\nb")]).unwrap();
    let series = |unit: &str, count: u32| {
        format!("killtrace_deaths_total{{kind=\"{kind}\",unit=\"{unit}\",killer=\"{role}\"}} {count}\n")
    };
    assert!(read().contains(&series("web.service", 2)), "{}", read());
    assert!(read().contains(&series(r#"a\"\\\nb"#, 1)), "{}", read());
    let many: Vec<Record> = (0..700).map(|number| of_unit(&format!("run-{number}.scope"))).collect();
    prometheus.take(&many).unwrap();
    assert!(read().contains(&series("(others)", 202)), "{}", read());
    assert_eq!(read().matches("killtrace_deaths_total{").count(), 501);
}
