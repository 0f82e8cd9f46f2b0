//! `killtrace why`

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use chrono::Utc;
use regex::Regex;

use super::args::WhyArgs;
use super::config::Config;
use super::failure::{Failure, exit};
use super::output::style;
use crate::collect::host;
use crate::model::answer::{Answer, Program};
use crate::model::time::Timestamp;
use crate::report;
use crate::store::ask::{Ask, Condition, Sources};

/// Answers from what was recorded; returns the exit code.
///
/// # Errors
/// When nothing that was recorded can be read.
pub fn run(args: &WhyArgs) -> Result<u8, Failure> {
    let (target, files) = target_and_files(args);
    let question = Question::new(target, args)?;
    let mut sources = Sources::default();
    for store in &args.store {
        sources.store(store)?;
    }
    if args.store.is_empty() && files.is_empty() {
        sources.store(Config::read(None)?.store())?;
    }
    for file in files {
        sources.any(file)?;
    }
    let answer = answer(&sources, question)?;
    let terminal = io::stdout().is_terminal();
    let said = if args.json {
        report::why::json(&answer).context("cannot write the answer as JSON")?
    } else {
        report::why::text(&answer, style(terminal))
    };
    let mut stdout = io::stdout().lock();
    match stdout.write_all(said.as_bytes()).and_then(|()| stdout.flush()) {
        // A pager that was left early had enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let error = anyhow::Error::new(error).context("cannot write to standard output");
            Err(Failure::new(error))
        }
        _ if answer.deaths.is_empty() => Ok(exit::NOTHING_MATCHES),
        _ => Ok(0),
    }
}

/// The first word is what is asked about, unless it names a file: `killtrace why report.json` means all of it.
fn target_and_files(args: &WhyArgs) -> (Option<&str>, Vec<&Path>) {
    let mut words = args.words.iter().map(PathBuf::as_path).peekable();
    let target = words.next_if(|word| !is_file(word)).and_then(Path::to_str);
    (target, words.collect())
}

fn is_file(word: &Path) -> bool {
    let looks_so = word.components().count() > 1
        || word.extension().is_some_and(|extension| extension == "json" || extension == "jsonl");
    word == Path::new("-") || looks_so && word.exists()
}

/// What is asked, for the store and in words.
#[derive(Debug)]
struct Question {
    ask: Ask,
    words: Vec<String>,
    /// What a name could have been meant to be.
    name: Option<String>,
}

impl Question {
    fn new(target: Option<&str>, args: &WhyArgs) -> Result<Self, Failure> {
        let mut words = Vec::new();
        let mut conditions = Vec::new();
        if let Some(target) = target {
            words.push(target.to_owned());
            conditions.push(any_of(target));
        }
        let select = &args.select;
        let mut add = |kind: &str, values: Vec<String>, meant: Vec<Condition>| {
            if !meant.is_empty() {
                words.push(format!("{kind} {}", values.join(" or ")));
                conditions.push(meant);
            }
        };
        add("name", select.comm.clone(), select.comm.iter().cloned().map(Condition::Name).collect());
        let pids = select.pid.iter().map(u32::to_string).collect();
        add("pid", pids, select.pid.iter().copied().map(Condition::Pid).collect());
        add("unit", select.unit.clone(), select.unit.iter().cloned().map(Condition::Unit).collect());
        let user =
            |name: &String| Condition::User { name: name.clone(), uid: host::user_id(name).ok().flatten() };
        add("user", select.user.clone(), select.user.iter().map(user).collect());
        let regexes = select.cmdline.iter().map(|text| regex(text)).collect::<Result<Vec<_>, _>>()?;
        add("command line", select.cmdline.clone(), regexes);
        let name = target.map(str::to_owned).or_else(|| select.comm.first().cloned());
        let ask = Ask { conditions, since: args.since, until: args.until, newest: args.last };
        Ok(Self { ask, words, name })
    }
}

/// A name, a unit, and if it is a number also a process id.
fn any_of(target: &str) -> Vec<Condition> {
    let mut any = vec![Condition::Name(target.to_owned()), Condition::Unit(target.to_owned())];
    any.extend(target.parse().ok().map(Condition::Pid));
    any
}

fn regex(text: &str) -> Result<Condition, Failure> {
    Regex::new(text).map(Condition::Cmdline).map_err(|error| {
        Failure::usage(format!("cannot understand --cmdline {text}"), "it takes a regular expression (https://docs.rs/regex); `\\` before a character takes it literally")
            .because(error)
    })
}

fn answer(sources: &Sources, question: Question) -> Result<Answer, Failure> {
    let found = sources.ask(&question.ask)?;
    let mut answer = Answer {
        schema: Answer::SCHEMA.to_owned(),
        asked_at: Timestamp(Utc::now().timestamp_nanos_opt().unwrap_or(i64::MAX)),
        asked: question.words,
        since: question.ask.since,
        until: question.ask.until,
        matching: found.matching,
        deaths: found.deaths,
        recorded: found.kept,
        recorded_since: found.first,
        gaps: found.gaps,
        programs: Vec::new(),
        similar: Vec::new(),
        damaged_lines: found.damaged,
        newer_lines: found.newer,
    };
    if answer.deaths.is_empty() {
        let names = sources.names()?;
        if let Some(wanted) = &question.name {
            let similar = names.iter().filter(|(name, _)| are_similar(name, wanted));
            answer.similar = similar.take(5).map(|(name, _)| name.clone()).collect();
        }
        answer.programs = names.into_iter().map(|(name, deaths)| Program { name, deaths }).collect();
    }
    Ok(answer)
}

/// Whether one may have been meant where the other was said.
fn are_similar(one: &str, other: &str) -> bool {
    let (one, other) = (one.to_lowercase(), other.to_lowercase());
    let holds = |long: &str, short: &str| short.len() > 2 && long.contains(short);
    holds(&one, &other) || holds(&other, &one) || one.len() > 3 && distance(&one, &other) <= 2
}

/// How many letters differ (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.chars().take(64).enumerate() {
        let mut before = std::mem::replace(&mut row[0], index + 1);
        for (column, &known) in other.iter().enumerate() {
            let changed = before + usize::from(letter != known);
            before = row[column + 1];
            row[column + 1] = changed.min(before + 1).min(row[column] + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_is_recognised() {
        for (one, other) in [("vite", "vitest"), ("vite", "vit"), ("Node", "node"), ("chrome", "chrmoe")] {
            assert!(are_similar(one, other) && are_similar(other, one), "{one} {other}");
        }
        for (one, other) in [("vite", "bash"), ("sh", "zsh"), ("node", "chrome")] {
            assert!(!are_similar(one, other), "{one} {other}");
        }
        assert_eq!((distance("kitten", "sitting"), distance("", "abc"), distance("abc", "")), (3, 3, 3));
    }

    #[test]
    fn the_first_word_is_asked_about_unless_it_is_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("report.json");
        std::fs::write(&file, "").unwrap();
        let split = |words: &[&Path]| {
            let words = words.iter().map(|word| word.to_path_buf()).collect();
            let args = WhyArgs { words, ..WhyArgs::default() };
            let (target, files) = target_and_files(&args);
            (target.map(str::to_owned), files.len())
        };
        let vite = Path::new("vite");
        assert_eq!(split(&[]), (None, 0));
        assert_eq!(split(&[vite]), (Some("vite".to_owned()), 0));
        assert_eq!(split(&[vite, &file, &file]), (Some("vite".to_owned()), 2));
        assert_eq!(split(&[&file]), (None, 1));
        assert_eq!(split(&[Path::new("-")]), (None, 1));
        assert_eq!(split(&[Path::new("server.json")]), (Some("server.json".to_owned()), 0));
    }
}
