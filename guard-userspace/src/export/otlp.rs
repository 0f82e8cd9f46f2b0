//! Deaths as OpenTelemetry logs, to a collector: OTLP/HTTP with JSON (opentelemetry-proto, `logs.proto`).
//!
//! Attributes follow the semantic conventions for processes where there is one, and are `killtrace.*` elsewhere;
//! docs/exports.md lists them.

use std::io::Read as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::journal::gap_message;
use super::{Refused, Sink, killer_role, word};
use crate::model::header::{Host, Tool};
use crate::model::record::{DeathRecord, Gap};
use crate::model::time::Timestamp;
use crate::report::escape;
use crate::store::tail::Record;

/// How long a collector may take to answer, in seconds.
const TIMEOUT_S: u64 = 5;
/// Most of an answer that is looked at, in bytes.
const MOST_ANSWER: u64 = 4096;
/// SeverityNumber of `WARN` and `INFO` (logs.proto).
const WARN: (u8, &str) = (13, "WARN");
const INFO: (u8, &str) = (9, "INFO");

/// A collector.
#[derive(Debug)]
pub struct Otlp {
    /// `http://localhost:4318/v1/logs`
    url: String,
    say: fn(&str),
}

/// The address that logs are sent to: a collector's address alone means its usual path.
///
/// # Errors
/// When it is no address that this can send to.
pub fn endpoint(text: &str) -> Result<String, String> {
    let Some(rest) = text.strip_prefix("http://") else {
        return Err(match text.starts_with("https://") {
            true => "killtrace speaks plain HTTP only: name a collector on this machine or network, which can pass \
                     it on encrypted"
                .to_owned(),
            false => "write it like http://localhost:4318".to_owned(),
        });
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if host.is_empty() || host.contains(char::is_whitespace) {
        return Err("write it like http://localhost:4318".to_owned());
    }
    Ok(match path.is_empty() {
        true => format!("http://{host}/v1/logs"),
        false => text.to_owned(),
    })
}

impl Otlp {
    /// Sends to that address, as [`endpoint`] gives it. `say` gets what a collector refuses for good.
    #[must_use]
    pub fn new(url: String, say: fn(&str)) -> Self {
        Self { url, say }
    }

    fn refused_for_good(&self, why: &str) {
        let name = self.name();
        (self.say)(&format!("{name} does not take what it was sent: {why}; it is in the store"));
    }
}

impl Sink for Otlp {
    fn name(&self) -> String {
        format!("the collector at {}", self.url)
    }

    fn bookmark(&self) -> Option<&'static str> {
        Some("otlp.bookmark")
    }

    fn take(&mut self, records: &[Record]) -> Result<(), Refused> {
        let request = minreq::post(&self.url)
            .with_header("Content-Type", "application/json")
            .with_header("User-Agent", concat!("killtrace/", env!("CARGO_PKG_VERSION")))
            .with_body(request(records))
            .with_follow_redirects(false)
            .with_max_headers_size(64 << 10)
            .with_timeout(TIMEOUT_S);
        let response = request.send_lazy().map_err(Refused::new)?;
        let status = response.status_code;
        let retry_after = response.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("retry-after"));
        let wait = retry_after.and_then(|(_, value)| value.trim().parse().ok()).map(Duration::from_secs);
        let mut answer = String::new();
        let _ = response.take(MOST_ANSWER).read_to_string(&mut answer);
        match status {
            200..=299 => {
                let rejected = serde_json::from_str::<Value>(&answer).ok();
                let partial = rejected.as_ref().and_then(|answer| answer.get("partialSuccess"));
                if let Some(partial) = partial.filter(|partial| rejects(partial)) {
                    // "The client MUST NOT retry" what was accepted only in part.
                    self.refused_for_good(partial["errorMessage"].as_str().unwrap_or("no reason given"));
                }
                Ok(())
            }
            // The only ones that the specification has tried again.
            429 | 502 | 503 | 504 => Err(Refused { why: format!("it answers with status {status}"), wait }),
            // That is not what a collector says to logs: perhaps it is still being set up.
            404 | 405 => {
                Err(Refused::new(format!("it answers with status {status}: is it an OTLP/HTTP receiver?")))
            }
            _ => {
                self.refused_for_good(&format!("it answers with status {status}"));
                Ok(())
            }
        }
    }
}

fn rejects(partial: &Value) -> bool {
    // 64-bit numbers are strings in protobuf's JSON; some write numbers all the same.
    let rejected = &partial["rejectedLogRecords"];
    rejected.as_str().map_or_else(|| rejected.as_u64().unwrap_or(0) > 0, |text| text != "0")
}

/// `ExportLogsServiceRequest`. A store holds records of one machine, but perhaps of several killtraces.
pub(super) fn request(records: &[Record]) -> String {
    let mut resources: Vec<(Value, Vec<Value>)> = Vec::new();
    for record in records {
        let (resource, log) = match record {
            Record::Death(record) => (resource(&record.tool, &record.host), death(record)),
            Record::Gap(gap) => (resource(&gap.tool, &gap.host), of_gap(gap)),
        };
        match resources.last_mut().filter(|(last, _)| *last == resource) {
            Some((_, logs)) => logs.push(log),
            None => resources.push((resource, vec![log])),
        }
    }
    let scope = json!({"name": "killtrace", "version": env!("CARGO_PKG_VERSION")});
    let resource_logs = resources.into_iter().map(
        |(resource, logs)| json!({"resource": resource, "scopeLogs": [{"scope": scope, "logRecords": logs}]}),
    );
    escape::json(json!({"resourceLogs": resource_logs.collect::<Vec<_>>()}).to_string())
}

fn resource(tool: &Tool, host: &Host) -> Value {
    let mut attributes = Attributes::default();
    attributes.text("service.name", Some(&tool.name));
    attributes.text("service.version", Some(&tool.version));
    attributes.text("host.name", Some(&host.hostname));
    attributes.text("host.arch", Some(arch(&host.arch)));
    attributes.text("os.type", Some("linux"));
    attributes.text("os.version", Some(&host.kernel));
    attributes.text("killtrace.boot_id", host.boot_id.as_deref());
    json!({"attributes": attributes.0})
}

/// The conventions' words for processors.
fn arch(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn death(record: &DeathRecord) -> Value {
    let death = &record.death;
    let victim = &death.victim;
    let mut of = Attributes::default();
    of.int("process.pid", Some(victim.pid.into()));
    of.int("process.parent_pid", victim.ppid.map(Into::into));
    of.text("process.title", Some(&victim.name));
    of.text("process.executable.name", Some(&victim.comm));
    of.text("process.executable.path", victim.exe.as_deref());
    of.texts("process.command_args", victim.cmdline.as_deref());
    of.text("process.working_directory", victim.cwd.as_deref());
    of.text("process.owner", victim.user.as_deref());
    of.int("process.user.id", victim.uid.map(Into::into));
    of.text("process.creation.time", victim.started_at.map(|at| at.to_string()).as_deref());
    of.int("process.exit.code", death.exit.code.map(Into::into));
    of.int("process.vpid", victim.pid_in_namespace.map(Into::into));
    of.text("process.linux.cgroup", victim.cgroup.as_deref());
    of.text("container.id", victim.container.as_deref());
    of.text("killtrace.cause.kind", Some(&word(death.cause.kind)));
    of.text("killtrace.cause.confidence", Some(&word(death.cause.confidence)));
    of.text("killtrace.cause.detail", death.cause.detail.as_deref());
    of.boolean("killtrace.cause.graceful", death.cause.graceful);
    of.text("killtrace.signal", death.exit.signal.as_deref());
    of.text("killtrace.unit", victim.unit.as_deref());
    of.text("killtrace.killer.role", Some(&killer_role(death)));
    if let Some(killer) = &death.killer {
        of.int("killtrace.killer.pid", Some(killer.pid.into()));
        of.text("killtrace.killer.name", Some(&killer.name));
        of.texts("killtrace.killer.command_args", killer.cmdline.as_deref());
    }
    if let Some(decider) = death.decider() {
        of.int("killtrace.root_cause.pid", Some(decider.pid.into()));
        of.text("killtrace.root_cause.name", Some(&decider.name));
    }
    of.texts("killtrace.advice", (!death.advice.is_empty()).then_some(death.advice.as_slice()));
    log_record(death.died_at, "killtrace.death", WARN, &escape::text(&death.summary), of)
}

fn of_gap(gap: &Gap) -> Value {
    let mut of = Attributes::default();
    of.text("killtrace.gap.why", Some(&word(gap.why)));
    of.text("killtrace.gap.from", gap.from.map(|from| from.to_string()).as_deref());
    of.int("killtrace.gap.count", gap.count.and_then(|count| i64::try_from(count).ok()));
    log_record(gap.until, "killtrace.gap", INFO, &gap_message(gap), of)
}

fn log_record(at: Timestamp, event: &str, severity: (u8, &str), body: &str, attributes: Attributes) -> Value {
    json!({
        "timeUnixNano": at.0.to_string(),
        "severityNumber": severity.0,
        "severityText": severity.1,
        "eventName": event,
        "body": {"stringValue": body},
        "attributes": attributes.0,
    })
}

/// Attributes; what is not known is left out.
#[derive(Debug, Default)]
struct Attributes(Vec<Value>);

impl Attributes {
    fn put(&mut self, key: &str, value: Option<Value>) {
        self.0.extend(value.map(|value| json!({"key": key, "value": value})));
    }

    fn text(&mut self, key: &str, value: Option<&str>) {
        self.put(key, value.map(|text| json!({"stringValue": text})));
    }

    fn texts(&mut self, key: &str, values: Option<&[String]>) {
        let values =
            values.map(|texts| texts.iter().map(|text| json!({"stringValue": text})).collect::<Vec<_>>());
        self.put(key, values.map(|values| json!({"arrayValue": {"values": values}})));
    }

    /// 64-bit numbers are strings in protobuf's JSON.
    fn int(&mut self, key: &str, value: Option<i64>) {
        self.put(key, value.map(|number| json!({"intValue": number.to_string()})));
    }

    fn boolean(&mut self, key: &str, value: bool) {
        self.put(key, Some(json!({"boolValue": value})));
    }
}
