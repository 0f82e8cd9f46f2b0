//! The report in plain words, for people.

pub(super) mod death;
mod page;

use std::io::{self, Write};

pub(crate) use page::Page;

use super::{Options, Report, Style};
use crate::model;
use crate::model::report::{Death, JournalLine, Pattern};
use crate::model::units;

/// Plain words, 80 columns.
#[derive(Debug)]
pub struct Text;

impl Report for Text {
    fn name(&self) -> &'static str {
        "text"
    }

    fn about(&self) -> &'static str {
        "plain words, for people"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["txt"]
    }

    fn write(&self, report: &model::Report, options: &Options, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(whole(report, options.style).as_bytes())
    }
}

/// What is said of one death as it happens: the answer in one sentence, then what proves it.
#[must_use]
pub fn death(death: &Death, style: Style) -> String {
    let mut page = Page::new(style);
    death::lay_out(&mut page, death, "");
    page.finish()
}

/// What is said of a death that has been told already, when the journal has been read.
#[must_use]
pub fn journal(death: &Death, lines: &[JournalLine], style: Style) -> String {
    let mut page = Page::new(style);
    page.headline(
        "",
        &format!("The journal on the death of {} (pid {}):", death.victim.name, death.victim.pid),
    );
    page.set_indent(2);
    death::journal(&mut page, lines);
    page.finish()
}

/// What is said of a pattern when it is recognised.
#[must_use]
pub fn pattern(pattern: &Pattern, style: Style) -> String {
    let mut page = Page::new(style);
    page.headline("", &format!("Pattern: {}.", pattern.text));
    for advice in &pattern.advice {
        page.field("Advice", advice);
    }
    page.finish()
}

fn whole(report: &model::Report, style: Style) -> String {
    let mut page = Page::new(style);
    head(&mut page, report);
    if report.deaths_omitted != 0 {
        page.blank();
        let omitted = units::counted(report.deaths_omitted, "older death is", "older deaths are");
        page.paragraph(&format!("{omitted} left out, to keep the report at a bearable size."));
    }
    for death in &report.deaths {
        page.blank();
        death::lay_out(&mut page, death, &format!("{}. ", death.id));
    }
    if !report.patterns.is_empty() {
        page.blank();
        page.headline("", "What recurs");
        for pattern in &report.patterns {
            page.hanging("  - ", &pattern.text);
            for advice in &pattern.advice {
                page.hanging("    ", advice);
            }
        }
    }
    page.blank();
    page.paragraph(&closing(report));
    page.finish()
}

/// What was watched, where and how long, and what could not be seen.
fn head(page: &mut Page, report: &model::Report) {
    let collector = &report.collector;
    let watched = units::duration(units::between(collector.started_at, collector.ended_at));
    let deaths = units::counted(report.deaths.len() as u64 + report.deaths_omitted, "death", "deaths");
    page.headline("", &format!("killtrace watched {} for {watched}: {deaths}.", subject(report)));
    let host = &report.host;
    page.paragraph(&format!(
        "From {} to {} UTC on {}, Linux {} ({}), {} backend; {} seen.",
        units::moment(collector.started_at),
        units::moment(collector.ended_at),
        host.hostname,
        host.kernel,
        host.arch,
        collector.backend,
        units::counted(collector.events, "event", "events"),
    ));
    if collector.lost_events != 0 {
        page.paragraph(&format!(
            "{} lost because the machine was too busy: answers that depend on them say so.",
            units::counted(collector.lost_events, "event was", "events were")
        ));
    }
    if !collector.degraded.is_empty() {
        page.paragraph("This kernel could not give everything:");
        for lack in &collector.degraded {
            page.hanging("  - ", lack);
        }
    }
}

/// The selectors, as the user gave them.
pub(super) fn subject(report: &model::Report) -> String {
    match report.watch.selectors.as_slice() {
        [] => "every process".to_owned(),
        selectors => selectors.join(", "),
    }
}

pub(super) fn closing(report: &model::Report) -> String {
    let roots = report.watch.roots_seen;
    if report.deaths.is_empty() {
        let matched = units::counted(roots, "matching process was", "matching processes were");
        return match (roots, report.watch.selectors.is_empty()) {
            (_, true) => "Nothing died.".to_owned(),
            (0, _) => {
                "Nothing died, and nothing that matches was running. `ps -eo pid,comm,args` shows what \
                 processes are called."
                    .to_owned()
            }
            (_, false) => format!("Nothing died: {matched} seen, and all lived on."),
        };
    }
    let events = report.timeline.len() as u64 + report.timeline_omitted;
    let seen = units::counted(roots, "matching process was", "matching processes were");
    let lead = if report.watch.selectors.is_empty() { String::new() } else { format!("{seen} seen. ") };
    let noun = units::counted(events, "event", "events");
    format!("{lead}The evidence, {noun}, is in the JSON report (--format json).")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::report::sample;

    fn render(report: &model::Report, style: Style) -> String {
        let mut out = Vec::new();
        Text.write(report, &Options { style }, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_whole_report_reads_well() {
        let text = render(&sample::report(), Style::PLAIN);
        let expected = include_str!("text/sample.txt");
        assert!(text == expected, "text/sample.txt differs; read this and judge:\n{text}");
    }

    #[test]
    fn nothing_died_is_said_in_words() {
        let mut report = sample::nothing_died();
        assert!(
            render(&report, Style::PLAIN)
                .ends_with("\nNothing died: 1 matching process was seen, and all lived on.\n")
        );
        report.watch.roots_seen = 0;
        assert!(
            render(&report, Style::PLAIN).contains("Nothing died, and nothing that matches was running.")
        );
        report.watch.selectors.clear();
        assert!(render(&report, Style::PLAIN).ends_with("\nNothing died.\n"));
    }

    #[test]
    fn the_answer_comes_first_and_is_bold_on_a_terminal() {
        let sample = sample::report();
        let live = death(&sample.deaths[0], Style::COLOR);
        assert!(live.starts_with("\x1b[1mvite (pid 4021) died of SIGHUP"), "{live}");
        assert!(!death(&sample.deaths[0], Style::PLAIN).contains('\x1b'));
    }

    #[test]
    fn lines_fit_the_screen() {
        for line in render(&sample::report(), Style::PLAIN).lines() {
            assert!(line.chars().count() <= 80, "{line}");
            assert_eq!(line.trim_end(), line);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_control_character_comes_out_whatever_goes_in(
            texts in proptest::collection::vec(any::<String>(), 1..40),
        ) {
            let mut hostile = texts.iter().cycle().map(|text| format!("{text}\x1b[2J\n\u{202e}\u{9b}"));
            let report = sample::with_texts(&sample::report(), &mut || hostile.next().unwrap());
            let text = render(&report, Style::PLAIN);
            let shown = text.contains("\\x1b[2J\\n\\u{202e}\\u{9b}");
            prop_assert!(shown);
            for c in text.chars() {
                prop_assert!(c == '\n' || !c.is_control(), "{c:?}");
                let turns_text = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
                prop_assert!(!turns_text, "{c:?}");
            }
            // Colours are the only thing that a style adds.
            let coloured = render(&report, Style::COLOR);
            let stripped = ["\x1b[1m", "\x1b[2m", "\x1b[0m"].iter().fold(coloured, |text, code| text.replace(code, ""));
            prop_assert!(stripped.chars().all(|c| c == '\n' || !c.is_control()));
        }
    }
}
