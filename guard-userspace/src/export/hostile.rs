//! Hostile names through everything that killtrace writes, at once: whatever format or exporter is added goes here.

use super::prometheus::Prometheus;
use super::{Sink as _, journal, otlp};
use crate::model::Report;
use crate::model::answer::Answer;
use crate::model::record::DeathRecord;
use crate::model::time::Timestamp;
use crate::report::{Options, REPORTS, Style, escape, sample, text, why};
use crate::store::tail::Record;

/// One name each: as `sample` has them, long without end, not UTF-8, and with the log commands of a CI runner.
fn names() -> Vec<String> {
    let mut names: Vec<String> = sample::HOSTILE.iter().map(|&name| name.to_owned()).collect();
    names.push("x\u{202e}\"'`|<\n".repeat(400));
    names.push(String::from_utf8_lossy(b"\xff\xfe\x80 \xc3( ::error::\xed\xa0\x80").into_owned());
    names.push(
        "::error title=a::b %0A::stop-commands::x ##[error]x #[x] $(reboot) `reboot` ${IFS}".to_owned(),
    );
    names
}

/// Everything that can be made of a report.
fn outputs(report: &Report) -> Vec<(&'static str, String)> {
    let mut outputs = Vec::new();
    for format in REPORTS {
        let mut out = Vec::new();
        format.write(report, &Options { style: Style::PLAIN }, &mut out).unwrap();
        outputs.push((format.name(), String::from_utf8(out).unwrap()));
        outputs.push(("annotations", format.annotations(report)));
    }
    for death in &report.deaths {
        outputs.push(("live", text::death(death, Style::PLAIN)));
        outputs.push(("journal lines", text::journal(death, &death.journal, Style::PLAIN)));
        outputs.push(("log", format!("{}\n", escape::text(&death.summary))));
    }
    for pattern in &report.patterns {
        outputs.push(("pattern", text::pattern(pattern, Style::PLAIN)));
    }
    let records: Vec<DeathRecord> = DeathRecord::of_report(report.clone()).collect();
    let answer = Answer { deaths: records.clone(), ..why::tests::answer() };
    outputs.push(("why", why::text(&answer, Style::PLAIN)));
    outputs.push(("why --json", why::json(&answer).unwrap()));
    for record in &records {
        outputs.push(("the journal's MESSAGE", journal::message(record)));
    }
    let records: Vec<Record> = records.into_iter().map(|record| Record::Death(Box::new(record))).collect();
    outputs.push(("otlp", otlp::request(&records)));
    let metrics = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let write = {
        let metrics = std::sync::Arc::clone(&metrics);
        move |text: &str| {
            *metrics.lock().unwrap() = text.to_owned();
            Ok(())
        }
    };
    let mut prometheus = Prometheus::start("file".to_owned(), write, Timestamp(0)).unwrap();
    prometheus.take(&records).unwrap();
    outputs.push(("metrics", metrics.lock().unwrap().clone()));
    outputs
}

/// Nothing moves a cursor, begins a line that was not meant, turns text around or cannot be seen.
fn check_letters(output: &str, text: &str) {
    let letter = text.chars().find(|&letter| {
        letter != '\n' && escape::text(letter.encode_utf8(&mut [0; 4])) != letter.to_string()
    });
    assert_eq!(letter, None, "{output}");
}

#[test]
fn no_name_does_anything_in_any_output() {
    let harmless = sample::with_texts(&sample::report(), &mut || "harmless".to_owned());
    let harmless = outputs(&harmless);
    for name in names() {
        let report = sample::with_texts(&sample::report(), &mut || name.clone());
        let outputs = outputs(&report);
        assert_eq!(outputs.len(), harmless.len());
        for ((output, text), (_, harmless)) in outputs.iter().zip(&harmless) {
            check_letters(output, text);
            check_structure(output, text, harmless);
        }
    }
}

/// The same as of harmless names, apart from what is said.
fn check_structure(output: &str, text: &str, harmless: &str) {
    let lines = |text: &str| text.lines().count();
    match output {
        "json" | "perfetto" | "why --json" | "otlp" => {
            serde_json::from_str::<serde_json::Value>(text).unwrap();
        }
        "html" => {
            for tag in ["<script", "<style", "<svg", "<img", "</title", "<!--"] {
                assert_eq!(text.matches(tag).count(), harmless.matches(tag).count(), "{tag}");
            }
        }
        "markdown" => {
            for line in text.lines() {
                assert!(!line.trim_start().starts_with("::"), "{line}");
            }
            let headings = |text: &str| text.lines().filter(|line| line.starts_with('#')).count();
            let bare = |text: &str| text.replace("\\`", "").matches('`').count();
            assert_eq!((headings(text), bare(text)), (headings(harmless), bare(harmless)), "{text}");
        }
        "annotations" => {
            assert_eq!(lines(text), lines(harmless), "{text}");
            assert!(text.lines().all(|line| line.starts_with("::error title=")), "{text}");
        }
        "metrics" => {
            assert_eq!(lines(text), lines(harmless), "{text}");
            // What stands between quotes has none, and no label follows but those that are meant.
            for line in text.lines().filter(|line| line.starts_with("killtrace_deaths_total{")) {
                let bare = line.replace("\\\\", "").replace("\\\"", "");
                assert_eq!(bare.matches('"').count(), 6, "{line}");
            }
        }
        _ => {}
    }
}

/// Wherever a line is broken, none becomes an order to a CI runner, which looks for them behind spaces, and for the old
/// kind anywhere (actions/runner, src/Runner.Common/ActionCommand.cs).
#[test]
fn no_name_gives_orders_to_a_ci_runner() {
    for name in names() {
        let report = sample::with_texts(&sample::report(), &mut || name.clone());
        for death in &report.deaths {
            let said = escape::workflow_commands(&text::death(death, Style::PLAIN));
            assert!(!said.lines().any(|line| line.trim_start().starts_with("::")), "{said}");
            assert!(!said.contains("##["), "{said}");
        }
    }
}
