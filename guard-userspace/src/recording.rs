//! The recording of an event stream, `killtrace.events/1`, and its replay into a report.
//!
//! JSON Lines: the first line is the [`Header`], every other one an [`Event`]. A recording ends with
//! `Fact::End`; one that does not was cut off by a crash or a full disk, and says so in its report.
//! Replaying feeds the events to the same [`Explainer`] as the live watch did, so it yields the same report.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use regex::Regex;
use serde::Deserialize;

use crate::explain::Explainer;
use crate::model::select::{Everybody, Selectors};
use crate::model::{Event, Fact, Header, Report};

/// Longest line that is read, in bytes. The longest that is written is an exec's: 4 KiB of arguments, escaped.
const MAX_LINE_BYTES: u64 = 4 << 20;

/// What `killtrace report FILE` can be given.
#[derive(Debug)]
pub enum Loaded {
    /// A saved report, as it was.
    Report(Report),
    /// The report that a recording's events lead to.
    Recording(Report),
}

impl Loaded {
    /// The report, whichever way it came.
    #[must_use]
    pub fn into_report(self) -> Report {
        match self {
            Self::Report(report) | Self::Recording(report) => report,
        }
    }
}

/// Reads a report or replays a recording, whichever the file holds; `-` is stdin.
///
/// # Errors
/// When the file cannot be read, is neither, is damaged, or was written by a newer killtrace.
pub fn load(path: &Path) -> Result<Loaded, RecordingError> {
    let named = |source| RecordingError::Open { path: path.to_owned(), source };
    if path == Path::new("-") {
        return load_from(BufReader::new(io::stdin().lock()), Path::new("standard input"));
    }
    let file = File::open(path).map_err(named)?;
    load_from(BufReader::with_capacity(1 << 16, file), path)
}

/// Reads what `input` holds; `path` is for the messages.
///
/// # Errors
/// Like [`load`]'s.
pub fn load_from(mut input: impl BufRead, path: &Path) -> Result<Loaded, RecordingError> {
    let mut first = Vec::new();
    read_line(&mut input, &mut first).map_err(|source| RecordingError::read(path, source))?;
    if first.iter().all(u8::is_ascii_whitespace) && first.len() < usize::try_from(MAX_LINE_BYTES).unwrap_or(0)
    {
        return Err(RecordingError::Empty { path: path.to_owned() });
    }
    // A recording's header is one whole line; a report is one line or many.
    if schema_of(&first).is_some_and(|schema| schema.starts_with(family(Header::SCHEMA))) {
        return replay_from(&first, input, path).map(Loaded::Recording);
    }
    let mut text = first;
    input.read_to_end(&mut text).map_err(|source| RecordingError::read(path, source))?;
    report(&text, path).map(Loaded::Report)
}

fn report(text: &[u8], path: &Path) -> Result<Report, RecordingError> {
    let path = path.to_owned();
    let schema = match serde_json::from_slice::<Schema>(text) {
        Ok(Schema { schema }) => schema,
        // Ours, and cut off: the schema is its first key.
        Err(source) if source.is_eof() && mentions(text, family(Report::SCHEMA)) => {
            return Err(RecordingError::CutOff { path, what: "report", source });
        }
        Err(source) if source.is_eof() && mentions(text, family(Header::SCHEMA)) => {
            return Err(RecordingError::CutOff { path, what: "recording", source });
        }
        Err(source) => return Err(RecordingError::NotOurs { path, source: Some(source) }),
    };
    check_schema(&schema, Report::SCHEMA, &path)?;
    serde_json::from_slice(text).map_err(|source| RecordingError::Damaged { path, source })
}

fn mentions(text: &[u8], what: &str) -> bool {
    text[..text.len().min(256)].windows(what.len()).any(|window| window == what.as_bytes())
}

#[derive(Deserialize)]
struct Schema {
    schema: String,
}

fn schema_of(json: &[u8]) -> Option<String> {
    serde_json::from_slice::<Schema>(json).ok().map(|found| found.schema)
}

/// `killtrace.events/` of `killtrace.events/1`.
fn family(schema: &str) -> &str {
    schema.split_inclusive('/').next().unwrap_or(schema)
}

fn check_schema(found: &str, ours: &'static str, path: &Path) -> Result<(), RecordingError> {
    let number = |schema: &str| schema.strip_prefix(family(ours))?.parse::<u32>().ok();
    match number(found) {
        Some(version) if Some(version) > number(ours) => {
            Err(RecordingError::Newer { path: path.to_owned(), found: found.to_owned(), ours })
        }
        Some(1..) => Ok(()),
        _ => Err(RecordingError::NotOurs { path: path.to_owned(), source: None }),
    }
}

/// Replays a recording into the report that the live watch gave.
///
/// # Errors
/// Like [`load`]'s.
pub fn replay(path: &Path) -> Result<Report, RecordingError> {
    let file = File::open(path).map_err(|source| RecordingError::Open { path: path.to_owned(), source })?;
    let mut input = BufReader::with_capacity(1 << 16, file);
    let mut first = Vec::new();
    read_line(&mut input, &mut first).map_err(|source| RecordingError::read(path, source))?;
    replay_from(&first, input, path)
}

fn replay_from(first: &[u8], input: impl BufRead, path: &Path) -> Result<Report, RecordingError> {
    let header = header(first, path)?;
    let selectors = selectors(&header.selectors).map_err(|problem| {
        let source = serde::de::Error::custom(problem);
        RecordingError::Line { path: path.to_owned(), number: 1, source }
    })?;
    let mut explainer = Explainer::new(header, selectors);
    let mut events = Events::new(input, path);
    let mut last = Event { id: 0, t_ns: 0, cpu: None, current: None, fact: Fact::Tick };
    while let Some(event) = events.next()? {
        explainer.apply(&event);
        // The answers are in the stream already, and the report keeps the deaths.
        drop((explainer.take_wants(), explainer.take_deaths()));
        last = event;
    }
    let ended = last.fact == Fact::End;
    if !ended {
        explainer.apply(&Event { id: last.id + 1, cpu: None, current: None, fact: Fact::End, ..last });
    }
    let mut report = explainer.report();
    if events.torn {
        report.collector.degraded.push(
            "the last line of the recording is cut off: what happened at its end is missing".to_owned(),
        );
    } else if !ended {
        report.collector.degraded.push(
            "the recording has no end: killtrace was stopped before it could write the last events"
                .to_owned(),
        );
    }
    Ok(report)
}

fn header(first: &[u8], path: &Path) -> Result<Header, RecordingError> {
    match schema_of(first) {
        Some(schema) => check_schema(&schema, Header::SCHEMA, path)?,
        None => return Err(RecordingError::NotOurs { path: path.to_owned(), source: None }),
    }
    serde_json::from_slice(first).map_err(|source| RecordingError::Line {
        path: path.to_owned(),
        number: 1,
        source,
    })
}

/// The events of a recording, one at a time, so that its size does not matter.
#[derive(Debug)]
struct Events<'a, R> {
    input: R,
    path: &'a Path,
    line: Vec<u8>,
    /// Number of the line in `line`, from 1; the header was line 1.
    number: u64,
    last_id: u64,
    /// The last line was cut off.
    torn: bool,
}

impl<'a, R: BufRead> Events<'a, R> {
    fn new(input: R, path: &'a Path) -> Self {
        Self { input, path, line: Vec::new(), number: 1, last_id: 0, torn: false }
    }

    fn next(&mut self) -> Result<Option<Event>, RecordingError> {
        let read = read_line(&mut self.input, &mut self.line);
        read.map_err(|source| RecordingError::read(self.path, source))?;
        self.number += 1;
        if self.line.is_empty() {
            return Ok(None);
        }
        match serde_json::from_slice::<Event>(&self.line) {
            Ok(event) if event.id <= self.last_id => {
                let text = format!("event {} comes after event {}", event.id, self.last_id);
                Err(self.line_error(serde::de::Error::custom(text)))
            }
            Ok(event) => {
                self.last_id = event.id;
                Ok(Some(event))
            }
            // Lines end with a newline, and are written in one piece: only the last can lack it.
            Err(_) if !self.line.ends_with(b"\n") && self.line.len() < max_line() => {
                self.torn = true;
                Ok(None)
            }
            Err(source) => Err(self.line_error(source)),
        }
    }

    fn line_error(&self, source: serde_json::Error) -> RecordingError {
        RecordingError::Line { path: self.path.to_owned(), number: self.number, source }
    }
}

fn max_line() -> usize {
    usize::try_from(MAX_LINE_BYTES).unwrap_or(usize::MAX)
}

/// Reads one line, newline included, into `line`; empty at the end of the file, cut at [`MAX_LINE_BYTES`].
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<()> {
    line.clear();
    input.take(MAX_LINE_BYTES).read_until(b'\n', line).map(drop)
}

/// Writes a recording.
#[derive(Debug)]
pub struct Writer<W: Write> {
    out: BufWriter<W>,
}

impl<W: Write> Writer<W> {
    /// Starts a recording.
    ///
    /// # Errors
    /// When `out` cannot be written to.
    pub fn new(out: W, header: &Header) -> io::Result<Self> {
        let mut writer = Self { out: BufWriter::with_capacity(1 << 16, out) };
        serde_json::to_writer(&mut writer.out, header)?;
        writer.out.write_all(b"\n")?;
        writer.out.flush()?;
        Ok(writer)
    }

    /// Adds events, and hands them to the system so that a crash of killtrace loses none of them.
    ///
    /// # Errors
    /// When `out` cannot be written to.
    pub fn write(&mut self, events: &[Event]) -> io::Result<()> {
        for event in events {
            serde_json::to_writer(&mut self.out, event)?;
            self.out.write_all(b"\n")?;
        }
        self.out.flush()
    }
}

/// Reads selectors as a header holds them: `comm=vite`, `user=kali(1000)`.
///
/// The live watch goes through here too, so that a replay cannot select otherwise than it did.
///
/// # Errors
/// Says which one cannot be understood, and why.
pub fn selectors(texts: &[String]) -> Result<Selectors, SelectorError> {
    let mut selectors = Selectors::default();
    for text in texts {
        let wrong = |problem: String| SelectorError { selector: text.clone(), problem };
        let (kind, value) = text.split_once('=').ok_or_else(|| wrong("it has no value".to_owned()))?;
        let not_a_number = |_| wrong(format!("{value:?} is not a number"));
        match kind {
            "comm" => selectors.comms.push(value.to_owned()),
            "pid" => selectors.pids.push(value.parse().map_err(not_a_number)?),
            "cmdline" => {
                selectors.cmdlines.push(Regex::new(value).map_err(|error| wrong(error.to_string()))?)
            }
            "port" => selectors.ports.push(value.parse().map_err(not_a_number)?),
            "unit" => selectors.units.push(value.to_owned()),
            "cgroup" => selectors.cgroups.push(value.to_owned()),
            // The number decides: the name may be another user's on the machine that replays it.
            "user" => {
                let uid = value.split_once('(').map_or(value, |(_name, uid)| uid.trim_end_matches(')'));
                selectors.uids.push(uid.parse().map_err(not_a_number)?);
            }
            "everybody" => {
                let known = [Everybody::Killed, Everybody::KilledOrFailed];
                let meant = known.into_iter().find(|everybody| everybody.word() == value);
                selectors.everybody = Some(meant.ok_or_else(|| wrong(format!("{value:?} is not known")))?);
            }
            _ => return Err(wrong(format!("there is no selector {kind:?}"))),
        }
    }
    Ok(selectors)
}

/// A selector that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("cannot understand {selector}: {problem}")]
pub struct SelectorError {
    pub selector: String,
    pub problem: String,
}

/// Why a recording or a report cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    #[error("cannot open {}", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is empty", path.display())]
    Empty { path: PathBuf },
    #[error("{} is neither a report nor a recording of killtrace", path.display())]
    NotOurs {
        path: PathBuf,
        #[source]
        source: Option<serde_json::Error>,
    },
    #[error("{} was written by a newer killtrace ({found}); this one reads up to {ours}", path.display())]
    Newer { path: PathBuf, found: String, ours: &'static str },
    #[error("the {what} {} is cut off", path.display())]
    CutOff {
        path: PathBuf,
        what: &'static str,
        #[source]
        source: serde_json::Error,
    },
    #[error("the report {} is damaged", path.display())]
    Damaged {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("line {number} of the recording {} is damaged", path.display())]
    Line {
        path: PathBuf,
        number: u64,
        #[source]
        source: serde_json::Error,
    },
}

impl RecordingError {
    fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }

    /// What the user can do about it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::Open { source, .. } | Self::Read { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => {
                    "files of killtrace belong to whoever ran it: try sudo".to_owned()
                }
                io::ErrorKind::IsADirectory => "name a file in it".to_owned(),
                _ => return None,
            },
            Self::Empty { .. } | Self::NotOurs { .. } => {
                "`killtrace report` reads what `watch -o FILE` or `watch --events FILE` wrote".to_owned()
            }
            Self::Newer { .. } => "upgrade killtrace, or read it where it was written".to_owned(),
            Self::CutOff { .. } | Self::Damaged { .. } => {
                "it was not completely copied or has been edited: get it again from where it was written"
                    .to_owned()
            }
            Self::Line { number, path, .. } if *number > 2 => format!(
                "to read what comes before it: head -n {} {} | killtrace report -",
                number - 1,
                path.display()
            ),
            Self::Line { .. } => "it has been edited: get it again from where it was written".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests;
