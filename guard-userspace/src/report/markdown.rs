//! The report as GitHub shows it: the summary of a CI step, an issue, a comment; and annotations for the log of
//! a workflow.

use std::io::{self, Write};

use super::text::death as plain;
use super::{Options, Report, escape, secrets, words};
use crate::model;
use crate::model::report::{Actor, Death, Kind};
use crate::model::units;

/// Deaths told in full.
const TOLD: usize = 25;
/// Events shown for each.
const EVENTS: usize = 40;
/// What more deaths may not make it longer than. GitHub takes 1 MiB for the summary of a step.
const BYTES: usize = 500_000;
/// Longest text, in characters. A longer one is cut in its middle.
const TEXT: usize = 1_500;
/// Longest command line shown, in characters.
const COMMAND_LINE: usize = 300;
/// What GitHub shows of the errors of one step.
const ANNOTATIONS: usize = 10;

/// Markdown as GitHub renders it.
#[derive(Debug)]
pub struct Markdown;

impl Report for Markdown {
    fn name(&self) -> &'static str {
        "markdown"
    }

    fn about(&self) -> &'static str {
        "for GitHub: the summary of a step, an issue, a comment"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["md", "markdown"]
    }

    fn write(&self, report: &model::Report, _: &Options, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(document(report).as_bytes())
    }

    fn annotations(&self, report: &model::Report) -> String {
        annotations(report)
    }
}

/// Markdown as it grows. Text gets in by [`Md::text`] alone, and nothing of it is markup then.
///
/// Text never begins a line: a bold label, a heading's mark or a table's bar comes before it, so that it cannot
/// start a list, a heading or a rule.
#[derive(Debug, Default)]
struct Md {
    out: String,
}

impl Md {
    fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.out.push_str(markup);
        self
    }

    fn number(&mut self, number: u64) -> &mut Self {
        self.out.push_str(&number.to_string());
        self
    }

    /// Text whose every character stands for itself.
    fn text(&mut self, text: &str) -> &mut Self {
        let masked = secrets::mask(text);
        let text = escape::cut_middle(&escape::text(&masked), TEXT);
        let mut before = ' ';
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            match c {
                '&' => self.out.push_str("&amp;"),
                '<' => self.out.push_str("&lt;"),
                '>' => self.out.push_str("&gt;"),
                // GitHub looks for code, cells, people, issues and formulas before it reads backslashes.
                '`' | '|' | '@' | '#' | '$' => self.entity(c),
                // Nor is an address made a link.
                ':' if rest.peek() == Some(&'/') => self.entity(c),
                '.' if before.eq_ignore_ascii_case(&'w') => self.entity(c),
                '\\' | '*' | '_' | '[' | ']' | '~' => {
                    self.out.push('\\');
                    self.out.push(c);
                }
                c => self.out.push(c),
            }
            before = c;
        }
        self
    }

    fn entity(&mut self, c: char) {
        self.out.push_str(&format!("&#{};", u32::from(c)));
    }

    /// A line of a list; nothing for nothing.
    fn item(&mut self, label: &'static str, text: &str) -> &mut Self {
        if text.is_empty() { self } else { self.raw("- **").raw(label).raw(":** ").text(text).raw("\n") }
    }
}

fn document(report: &model::Report) -> String {
    let mut md = Md::default();
    md.raw("## ").text(&words::headline(report)).raw("\n\n<sub>killtrace on ");
    md.text(&words::setting(report)).raw("</sub>\n");
    for caveat in words::caveats(report) {
        md.raw("\n> **Note:** ").text(&caveat).raw("\n");
    }
    for pattern in &report.patterns {
        md.raw("\n- **").raw(words::pattern(pattern.kind)).raw(":** ").text(&pattern.text).raw("\n");
        for advice in &pattern.advice {
            md.raw("  - **What to do:** ").text(advice).raw("\n");
        }
    }
    let mut told = 0;
    for death in words::told(&report.deaths, TOLD) {
        if md.out.len() > BYTES {
            break;
        }
        told += 1;
        one(&mut md, report, death);
    }
    let untold = report.deaths.len() - told;
    if untold != 0 {
        let more = units::counted(untold as u64, "more death is", "more deaths are");
        md.raw("\n> **Note:** ").text(&format!("{more} not shown here; the JSON report has them.")).raw("\n");
    }
    md.out
}

fn one(md: &mut Md, report: &model::Report, death: &Death) {
    if report.deaths.len() + usize::from(report.deaths_omitted != 0) > 1 {
        md.raw("\n### Death ").number(death.id).raw(": ").text(&death.summary).raw("\n");
    }
    md.raw("\n");
    md.item("How sure", &words::sureness(death));
    for gap in words::gaps(death) {
        md.item("Not seen", gap);
    }
    let decider = death.decider();
    if let Some(root) = &death.root_cause {
        match decider {
            Some(decider) => actor(md, "Behind it", decider, &words::action(root)),
            None => {
                md.item("Behind it", &root.action);
            }
        }
    }
    let killer = death.killer.as_ref();
    if let Some(killer) = killer.filter(|killer| decider.is_none_or(|decider| decider.pid != killer.pid)) {
        actor(md, "Killer", killer, "");
    }
    md.item("When", &plain::when(death));
    if let Some(args) = &death.victim.cmdline {
        md.raw("- **Victim:** <code>").text(&escape::command_line(args, COMMAND_LINE)).raw("</code>\n");
    }
    for line in &death.journal {
        md.item("Journal", &format!("{} {}", units::clock(line.t), words::journal(line)));
    }
    for advice in &death.advice {
        md.item("What to do", advice);
    }
    for survivor in death.aftermath.survivors.iter().take(5) {
        md.item("Left behind", &plain::survivor_words(survivor));
    }
    if death.chain.len() > 1 {
        md.raw("\n| Time | What happened |\n| ---: | :--- |\n");
        for step in &death.chain {
            let time = step.after_ns.map_or_else(|| units::clock(step.t), words::after);
            md.raw("| ").text(&time).raw(" | ").text(&step.text).raw(" |\n");
        }
    }
    evidence(md, report, death);
}

fn actor(md: &mut Md, label: &'static str, actor: &Actor, action: &str) {
    md.raw("- **").raw(label).raw(":** ").text(&plain::introduction(actor));
    if !action.is_empty() {
        md.raw(" ").text(action);
    }
    if let Some(line) = plain::command(actor.cmdline.as_deref(), &actor.name, COMMAND_LINE) {
        md.raw(": <code>").text(&line).raw("</code>");
    }
    md.raw("\n");
}

/// The events behind it, to unfold. GitHub reads Markdown inside of HTML only after an empty line.
fn evidence(md: &mut Md, report: &model::Report, death: &Death) {
    let entries = report.timeline.iter().filter(|entry| death.evidence.contains(&entry.id));
    let entries: Vec<_> = entries.collect();
    if entries.is_empty() {
        return;
    }
    md.raw("\n<details><summary>Evidence: ");
    md.text(&units::counted(entries.len() as u64, "event", "events")).raw("</summary>\n\n");
    md.raw("| Event | Time | Kind | What happened |\n| ---: | :--- | :--- | :--- |\n");
    for entry in entries.iter().take(EVENTS) {
        md.raw("| ").number(entry.id).raw(" | ").text(&units::clock(entry.t)).raw(" | ");
        md.raw(words::event_kind(&entry.what)).raw(" | ").text(&words::event(&entry.what)).raw(" |\n");
    }
    md.raw("\n</details>\n");
}

/// Lines that a GitHub workflow shows as errors of its step, when they are in its log.
///
/// Of what ended by itself, only selected processes that said that they failed.
fn annotations(report: &model::Report) -> String {
    let worth = |death: &&Death| {
        death.cause.kind != Kind::Exited || death.victim.root && death.exit.code.is_some_and(|code| code != 0)
    };
    let mut lines = String::new();
    for death in report.deaths.iter().filter(worth).take(ANNOTATIONS) {
        let victim = &death.victim;
        let title = format!("{} (pid {}): {}", victim.name, victim.pid, words::kind(death.cause.kind));
        lines.push_str(&format!("::error title={}::{}", property(&title), data(&death.summary)));
        for advice in &death.advice {
            lines.push_str("%0A");
            lines.push_str(&data(advice));
        }
        lines.push('\n');
    }
    lines
}

/// As the runner reads a message back (`ActionCommand.UnescapeData` of actions/runner). Of line breaks, which it
/// would make of `%0A` and `%0D`, a text has none.
fn data(text: &str) -> String {
    escape::text(&secrets::mask(text)).replace('%', "%25")
}

/// As it reads a property back, where `:` and `,` mean something.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::report::sample;

    fn escaped(text: &str) -> String {
        let mut md = Md::default();
        md.text(text);
        md.out
    }

    /// What the runner makes of an escaped property: its own order.
    fn read_back(text: &str) -> String {
        let pairs = [("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")];
        pairs.iter().fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
    }

    #[test]
    fn text_is_never_markup() {
        for (hostile, safe) in [
            ("<script>", "&lt;script&gt;"),
            ("a|b", "a&#124;b"),
            ("`code` **bold** _it_ ~~no~~", "&#96;code&#96; \\*\\*bold\\*\\* \\_it\\_ \\~\\~no\\~\\~"),
            ("[x](javascript:alert(1))", "\\[x\\](javascript:alert(1))"),
            ("https://evil www.evil", "https&#58;//evil www&#46;evil"),
            ("@team #1 $x$ \\", "&#64;team &#35;1 &#36;x&#36; \\\\"),
            ("]]> --> --!>", "\\]\\]&gt; --&gt; --!&gt;"),
            ("a\n# b\u{202e}", "a\\\\n&#35; b\\\\u{202e}"),
        ] {
            assert_eq!(escaped(hostile), safe);
        }
    }

    #[test]
    fn the_sample_reads_well() {
        let text = document(&sample::report());
        assert!(text.starts_with("## comm=vite, watched for 25 min 3 s: 144 deaths.\n"), "{text}");
        assert!(text.contains("\n- **What to do:** zsh (4010) had oom\\_score\\_adj 200"), "{text}");
        assert!(text.contains("| +212 µs | zsh (4010) was killed by SIGTERM |"), "{text}");
        assert!(text.contains("\n> **Note:** 12 events were lost"), "{text}");
    }

    #[test]
    fn annotations_are_one_line_each_and_few() {
        let mut report = sample::report();
        let lines = annotations(&report);
        assert!(
            lines.starts_with("::error title=vite (pid 4021)%3A terminal hung up::vite (pid 4021) died of")
        );
        assert!(lines.contains("%0Azsh (4010) had oom_score_adj 200"), "{lines}");
        assert_eq!(property("50%: a, b\n%0A"), "50%25%3A a%2C b\\n%250A");
        let one = report.deaths[0].clone();
        report.deaths = vec![one; 50];
        assert_eq!(annotations(&report).lines().count(), ANNOTATIONS);
        assert_eq!(annotations(&sample::nothing_died()), "");
    }

    #[test]
    fn what_ended_well_is_no_error() {
        let mut report = sample::report();
        report.deaths.truncate(1);
        report.deaths[0].cause.kind = Kind::Exited;
        report.deaths[0].exit.code = Some(0);
        assert_eq!(annotations(&report), "");
        report.deaths[0].exit.code = Some(1);
        assert_eq!(annotations(&report).lines().count(), 1);
        report.deaths[0].victim.root = false;
        assert_eq!(annotations(&report), "");
    }

    #[test]
    fn a_long_report_fits_into_a_summary() {
        let mut report = sample::report();
        let mut one = report.deaths[0].clone();
        one.summary = "<".repeat(4096);
        one.advice = vec!["|".repeat(4096); 20];
        report.deaths = (1..=5_000).map(|id| Death { id, ..one.clone() }).collect();
        let text = document(&report);
        assert!(text.len() < 1 << 20, "{}", text.len());
        assert!(text.contains("more deaths are not shown here"));
    }

    proptest! {
        #[test]
        fn no_line_can_be_forged(text in any::<String>()) {
            let mut report = sample::report();
            report.deaths.truncate(1);
            report.deaths[0].summary.clone_from(&text);
            report.deaths[0].victim.name.clone_from(&text);
            report.deaths[0].advice = vec![text.clone()];
            let lines = annotations(&report);
            prop_assert_eq!(lines.lines().count(), 1);
            prop_assert!(lines.starts_with("::error title="));
            let calm = escaped(&text);
            prop_assert!(!calm.contains(['\n', '<', '>', '`', '|', '@', '$']));
            let whole = property(&text);
            prop_assert!(!whole.contains([':', ',', '\n']));
            prop_assert_eq!(read_back(&whole), escape::text(&secrets::mask(&text)).into_owned());
        }
    }
}
