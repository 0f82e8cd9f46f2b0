//! The answer of `killtrace why`, in plain words and as JSON.

use super::text::{self, Page};
use super::{Style, escape};
use crate::model::answer::Answer;
use crate::model::record::{DeathRecord, Gap, Why};
use crate::model::units;

/// Most gaps that are told in words, the newest.
const GAPS: usize = 4;
/// Most programs that are named.
const PROGRAMS: usize = 8;
/// Most deaths that are offered to be shown.
const OFFERED: u64 = 20;

/// The answer as JSON, with a line break at the end.
///
/// # Errors
/// Never in practice: an answer is plain data.
pub fn json(answer: &Answer) -> serde_json::Result<String> {
    let mut json = escape::json(serde_json::to_string_pretty(answer)?);
    json.push('\n');
    Ok(json)
}

/// The answer in plain words.
#[must_use]
pub fn text(answer: &Answer, style: Style) -> String {
    let mut out = String::new();
    for record in &answer.deaths {
        let mut page = Page::new(style);
        page.paragraph(&when(answer, record));
        out.push_str(&page.finish());
        out.push_str(&text::death(&record.death, style));
        out.push('\n');
    }
    let mut page = Page::new(style);
    match answer.deaths.first() {
        Some(newest) => found(&mut page, answer, newest),
        None => nothing(&mut page, answer),
    }
    unread(&mut page, answer);
    out.push_str(&page.finish());
    if out.ends_with("\n\n") {
        out.pop();
    }
    out
}

/// `6 h 3 min ago on argos:`
fn when(answer: &Answer, record: &DeathRecord) -> String {
    let ago = units::duration(units::between(record.death.died_at, answer.asked_at));
    format!("{ago} ago on {}:", record.host.hostname)
}

fn found(page: &mut Page, answer: &Answer, newest: &DeathRecord) {
    let others = answer.matching.saturating_sub(answer.deaths.len() as u64);
    if others > 0 {
        let count = units::counted(others, "earlier death matches", "earlier deaths match");
        let last = answer.matching.min(answer.deaths.len() as u64 + OFFERED);
        let shows = if last == answer.matching { "shows them" } else { "shows more of them" };
        page.paragraph(&format!("{count} too: --last {last} {shows}."));
    }
    let later: Vec<&Gap> = answer.gaps.iter().filter(|gap| gap.until > newest.death.died_at).collect();
    if !later.is_empty() {
        page.paragraph("There may have been a later one, for since then not everything was seen:");
        gaps(page, &later);
    }
}

fn nothing(page: &mut Page, answer: &Answer) {
    let of = if answer.asked.is_empty() { String::new() } else { format!(" of {}", answer.asked.join(", ")) };
    let since = answer.since.map(|since| format!(" since {} UTC", units::moment(since)));
    let until = answer.until.map(|until| format!(" before {} UTC", units::moment(until)));
    let range = [since, until].into_iter().flatten().collect::<String>();
    page.headline("", &format!("No death{of} is recorded{range}."));
    if !answer.similar.is_empty() {
        page.paragraph(&format!("There are records of {}.", answer.similar.join(", ")));
    }
    let programs = answer.programs.len() as u64;
    let watched =
        answer.recorded_since.map(|since| format!(", which begins at {} UTC,", units::moment(since)));
    let watched = watched.unwrap_or_default();
    if answer.recorded == 0 {
        page.paragraph(&format!("The record{watched} holds no death at all."));
    } else {
        let named: Vec<String> = answer
            .programs
            .iter()
            .take(PROGRAMS)
            .map(|program| format!("{} ({})", program.name, units::grouped(program.deaths)))
            .collect();
        let most = if answer.programs.len() > PROGRAMS { "most of them " } else { "" };
        page.paragraph(&format!(
            "The record{watched} holds {} of {}: {most}{}.",
            units::counted(answer.recorded, "death", "deaths"),
            units::counted(programs, "program", "programs"),
            named.join(", "),
        ));
    }
    if !answer.gaps.is_empty() {
        page.paragraph("Not everything was seen:");
        gaps(page, &answer.gaps.iter().collect::<Vec<_>>());
    }
}

fn gaps(page: &mut Page, gaps: &[&Gap]) {
    let older = gaps.len().saturating_sub(GAPS);
    for gap in &gaps[older..] {
        page.hanging("  - ", &gap_text(gap));
    }
    if older > 0 {
        page.hanging("  - ", &format!("and {} before that", units::counted(older as u64, "time", "times")));
    }
}

/// `from 2026-02-18 03:12:43.871 to 03:20:01.002 UTC on argos (7 min 17 s): killtrace had been stopped`
pub(crate) fn gap_text(gap: &Gap) -> String {
    let until = units::moment(gap.until);
    let host = &gap.host.hostname;
    let time = match gap.from {
        None => format!("before {until} UTC on {host}"),
        Some(from) => {
            let took = units::duration(units::between(from, gap.until));
            format!("from {} to {until} UTC on {host} ({took})", units::moment(from))
        }
    };
    let count = gap.count.unwrap_or(0);
    let why = match gap.why {
        Why::NothingBefore => "nothing was recorded here yet".to_owned(),
        Why::Stopped => "killtrace had been stopped".to_owned(),
        Why::Ended => {
            "killtrace had ended without being told to; it may have watched a little longer".to_owned()
        }
        Why::Rebooted => {
            "the machine was started again; killtrace may have watched a little longer before".to_owned()
        }
        Why::EventsLost => {
            let lost = units::counted(count, "event was", "events were");
            format!("{lost} lost, the machine was too busy")
        }
        Why::NotWritten => {
            let deaths = units::counted(count, "death", "deaths");
            format!("{deaths} could not be written to the store")
        }
    };
    format!("{time}: {why}")
}

fn unread(page: &mut Page, answer: &Answer) {
    if answer.newer_lines > 0 {
        let lines = units::counted(answer.newer_lines, "record was", "records were");
        page.paragraph(&format!(
            "{lines} written by a newer killtrace and could not be read: upgrade this one."
        ));
    }
    if answer.damaged_lines > 0 {
        let lines = units::counted(answer.damaged_lines, "damaged line was", "damaged lines were");
        page.paragraph(&format!("{lines} skipped: a crash or a power cut leaves such."));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::answer::Program;
    use crate::model::time::Timestamp;
    use crate::report::sample;

    const HOUR: i64 = 3_600_000_000_000;

    pub(crate) fn answer() -> Answer {
        let record = DeathRecord::of_report(sample::report()).next().unwrap();
        let died_at = record.death.died_at;
        let gap = Gap {
            schema: Gap::SCHEMA.to_owned(),
            tool: record.tool.clone(),
            host: record.host.clone(),
            from: Some(Timestamp(died_at.0 + HOUR)),
            until: Timestamp(died_at.0 + 2 * HOUR),
            why: Why::Stopped,
            count: None,
        };
        Answer {
            schema: Answer::SCHEMA.to_owned(),
            asked_at: Timestamp(died_at.0 + 6 * HOUR),
            asked: vec!["vite".to_owned()],
            since: None,
            until: None,
            matching: 3,
            deaths: vec![record],
            recorded: 41,
            recorded_since: Some(Timestamp(died_at.0 - HOUR)),
            gaps: vec![gap],
            programs: Vec::new(),
            similar: Vec::new(),
            damaged_lines: 0,
            newer_lines: 0,
        }
    }

    fn one_line(text: &str) -> String {
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_death_is_told_with_when_and_where_and_what_else_there_is() {
        let text = text(&answer(), Style::PLAIN);
        assert!(text.starts_with("6 h ago on argos:\nvite (pid 4021) died of SIGHUP"), "{text}");
        let line = one_line(&text);
        assert!(line.contains("2 earlier deaths match too: --last 3 shows them."), "{text}");
        assert!(line.contains("UTC on argos (1 h): killtrace had been stopped"), "{text}");
        assert!(!text.ends_with("\n\n") && text.ends_with('\n'));
    }

    #[test]
    fn where_nothing_matches_it_says_what_there_is() {
        let mut answer = answer();
        answer.deaths.clear();
        answer.matching = 0;
        answer.similar = vec!["vitest".to_owned()];
        answer.programs = vec![
            Program { name: "node".to_owned(), deaths: 40 },
            Program { name: "vitest".to_owned(), deaths: 1 },
        ];
        let said = one_line(&text(&answer, Style::PLAIN));
        for part in [
            "No death of vite is recorded.",
            "There are records of vitest.",
            "holds 41 deaths of 2 programs: node (40), vitest (1).",
            "Not everything was seen:",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        answer.recorded = 0;
        assert!(one_line(&text(&answer, Style::PLAIN)).contains("holds no death at all."));
    }

    #[test]
    fn hostile_words_reach_no_terminal() {
        let mut answer = answer();
        answer.asked = vec!["\x1b[2J\u{202e}".to_owned()];
        answer.deaths[0].host.hostname = "ar\x1b]0;x\x07gos\n".to_owned();
        answer.gaps[0].host.hostname = "\u{9b}31m".to_owned();
        for _ in 0..2 {
            let said = text(&answer, Style::PLAIN) + &json(&answer).unwrap();
            assert!(said.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'), "{said}");
            answer.deaths.clear();
        }
    }
}
