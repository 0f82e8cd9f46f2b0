//! Questions to stores and saved reports: which deaths match, newest first. However much there is, no more is held
//! in memory than one segment's index and the deaths that are shown.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use regex::Regex;

use super::entry::{Entry, Kind, Who, name_hash, unit_hash};
use super::{StoreError, index, segment, segments};
use crate::model::record::{DeathRecord, Gap};
use crate::model::text::Comm;
use crate::model::time::Timestamp;
use crate::recording::{self, RecordingError};

/// Deaths beyond those that are asked for, in case the record of one does not keep what its index entry promised.
const SPARE: usize = 4;
/// Most gaps, and most names, that are told.
const TOLD: usize = 1000;

/// What is asked.
#[derive(Debug, Default)]
pub struct Ask {
    /// All of these must hold, each by any of its alternatives.
    pub conditions: Vec<Vec<Condition>>,
    /// Died no earlier.
    pub since: Option<Timestamp>,
    /// Died before that.
    pub until: Option<Timestamp>,
    /// How many of them are wanted.
    pub newest: usize,
}

/// What a victim can be asked for by.
#[derive(Debug)]
pub enum Condition {
    Name(String),
    Unit(String),
    Pid(u32),
    User { name: String, uid: Option<u32> },
    Cmdline(Regex),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Likely {
    No,
    /// Only the record itself can tell.
    Maybe,
    Yes,
}

impl Condition {
    /// As far as the index tells.
    fn by_entry(&self, entry: &Entry) -> Likely {
        let has = |hash: u32| entry.words.contains(&hash);
        let yes = match self {
            Self::Name(name) => has(name_hash(name)) || has(name_hash(&Comm::from(name.as_str()).to_text())),
            Self::Unit(name) => has(unit_hash(name)),
            Self::Pid(pid) => entry.pid == *pid || entry.inner_pid == *pid,
            Self::User { uid: Some(uid), .. } if entry.uid == Some(*uid) => true,
            Self::User { .. } | Self::Cmdline(_) => return Likely::Maybe,
        };
        match yes {
            true => Likely::Yes,
            false if entry.more_words && matches!(self, Self::Name(_) | Self::Unit(_)) => Likely::Maybe,
            false => Likely::No,
        }
    }

    fn holds(&self, who: &Who) -> bool {
        match self {
            Self::Name(name) => who.answers_to(name),
            Self::Unit(name) => who.is_in_unit(name),
            Self::Pid(pid) => who.pid == *pid || who.pid_in_namespace == Some(*pid),
            Self::User { name, uid } => who.is_of_user(name) || uid.is_some() && who.uid == *uid,
            Self::Cmdline(regex) => who.cmdline.as_ref().is_some_and(|args| regex.is_match(&args.join(" "))),
        }
    }
}

impl Ask {
    fn by_entry(&self, entry: &Entry) -> Likely {
        let at = Timestamp(entry.at_ns);
        if self.since.is_some_and(|since| at < since) || self.until.is_some_and(|until| at >= until) {
            return Likely::No;
        }
        let any = |any: &Vec<Condition>| any.iter().map(|condition| condition.by_entry(entry)).max();
        self.conditions.iter().filter_map(any).min().unwrap_or(Likely::Yes)
    }

    fn holds(&self, who: &Who) -> bool {
        self.conditions.iter().all(|any| any.is_empty() || any.iter().any(|condition| condition.holds(who)))
    }

    /// Whether a gap bears on what is asked.
    fn reaches(&self, gap: &Gap) -> bool {
        let before = self.until.is_some_and(|until| gap.from.is_some_and(|from| from >= until));
        !before && self.since.is_none_or(|since| gap.until >= since)
    }
}

/// Something that holds records.
#[derive(Debug)]
enum Source {
    /// A segment of a store: it has an index.
    Segment(PathBuf),
    /// A file of records: a copy of a segment, several of them, standard input.
    Lines(File, PathBuf),
    Report(Vec<DeathRecord>),
}

/// Where the answers are looked for.
#[derive(Debug, Default)]
pub struct Sources {
    sources: Vec<Source>,
}

/// Why something cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    File(#[from] RecordingError),
}

impl AskError {
    /// What the user can do about it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.help(),
            Self::File(error) => error.help(),
        }
    }
}

/// The answer.
#[derive(Debug, Default)]
pub struct Found {
    /// The newest, newest first.
    pub deaths: Vec<DeathRecord>,
    /// How many match in all.
    pub matching: u64,
    /// How many there are, whatever is asked.
    pub kept: u64,
    /// The first moment that anything is recorded of.
    pub first: Option<Timestamp>,
    /// Times of which nothing is known, within what is asked; the newest of them, in order.
    pub gaps: Vec<Gap>,
    /// Lines that are damaged, and lines of a newer killtrace.
    pub damaged: u64,
    pub newer: u64,
}

/// A match: when, where, and which line. Ordered by time, then as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Hit {
    at_ns: i64,
    source: usize,
    offset: u64,
    len: u32,
}

impl Sources {
    /// Adds a store.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn store(&mut self, directory: &Path) -> Result<(), AskError> {
        self.sources.extend(segments(directory)?.into_iter().map(Source::Segment));
        Ok(())
    }

    /// Adds whatever it is: a store, a file of records, a report, a recording; `-` is standard input.
    ///
    /// # Errors
    /// When it cannot be read, or is none of these.
    pub fn any(&mut self, path: &Path) -> Result<(), AskError> {
        if path.is_dir() {
            return self.store(path);
        }
        let opening = |source| RecordingError::Open { path: path.to_owned(), source };
        let reading = |source| RecordingError::Read { path: path.to_owned(), source };
        let mut file = if path == Path::new("-") {
            let mut copy = tempfile::tempfile().map_err(opening)?;
            io::copy(&mut io::stdin().lock(), &mut copy).map_err(reading)?;
            copy
        } else {
            File::open(path).map_err(opening)?
        };
        file.seek(SeekFrom::Start(0)).map_err(reading)?;
        let mut first = Vec::new();
        let mut input = BufReader::new(&file);
        io::Read::take(&mut input, 64).read_until(b'\n', &mut first).map_err(reading)?;
        file.seek(SeekFrom::Start(0)).map_err(reading)?;
        let holds = |word: &str| first.windows(word.len()).any(|window| window == word.as_bytes());
        if holds("\"killtrace.death/") || holds("\"killtrace.gap/") {
            self.sources.push(Source::Lines(file, path.to_owned()));
        } else {
            let report = recording::load_from(BufReader::new(file), path)?.into_report();
            self.sources.push(Source::Report(DeathRecord::of_report(report).collect()));
        }
        Ok(())
    }

    /// Answers.
    ///
    /// # Errors
    /// When a file cannot be read. One that has been removed meanwhile, because the store was full, is left out.
    pub fn ask(&self, ask: &Ask) -> Result<Found, AskError> {
        let mut found = Found::default();
        let mut hits: BTreeSet<Hit> = BTreeSet::new();
        for number in 0..self.sources.len() {
            let Some(opened) = self.open(number)? else { continue };
            found.damaged += opened.damaged;
            found.newer += opened.newer;
            for entry in &opened.entries {
                let at = Timestamp(entry.at_ns);
                found.first = Some(found.first.map_or(at, |first| first.min(at)));
                if entry.kind == Kind::Gap {
                    let gap = opened.line(entry).and_then(|line| serde_json::from_slice::<Gap>(&line).ok());
                    found.gaps.extend(gap.filter(|gap| ask.reaches(gap)));
                    continue;
                }
                found.kept += 1;
                let matches = match ask.by_entry(entry) {
                    Likely::No => false,
                    Likely::Maybe => opened.who(entry).is_some_and(|who| ask.holds(&who)),
                    Likely::Yes => true,
                };
                if !matches {
                    continue;
                }
                found.matching += 1;
                hits.insert(Hit { at_ns: entry.at_ns, source: number, offset: entry.offset, len: entry.len });
                if hits.len() > ask.newest.saturating_add(SPARE) {
                    hits.pop_first();
                }
            }
        }
        found.gaps.sort_by_key(|gap| gap.until);
        found.gaps.drain(..found.gaps.len().saturating_sub(TOLD));
        for hit in hits.iter().rev() {
            if found.deaths.len() == ask.newest {
                break;
            }
            match self.read(hit, ask)? {
                Some(record) => found.deaths.push(record),
                None => found.matching -= 1,
            }
        }
        Ok(found)
    }

    /// What programs there are records of, each with how many: the names, most frequent first.
    ///
    /// # Errors
    /// Like [`Self::ask`]'s.
    pub fn names(&self) -> Result<Vec<(String, u64)>, AskError> {
        let mut counts: BTreeMap<u32, (u64, String)> = BTreeMap::new();
        for number in 0..self.sources.len() {
            let Some(opened) = self.open(number)? else { continue };
            for entry in opened.entries.iter().filter(|entry| entry.kind == Kind::Death) {
                if let Some((count, _)) = counts.get_mut(&entry.words[0]) {
                    *count += 1;
                } else if counts.len() < TOLD
                    && let Some(who) = opened.who(entry)
                {
                    counts.insert(entry.words[0], (1, who.name));
                }
            }
        }
        let mut names: Vec<_> = counts.into_values().map(|(count, name)| (name, count)).collect();
        names.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        Ok(names)
    }

    fn open(&self, number: usize) -> Result<Option<Opened<'_>>, StoreError> {
        let (file, contents) = match &self.sources[number] {
            Source::Report(records) => return Ok(Some(Opened::of(records))),
            Source::Lines(file, path) => {
                let reading = StoreError::io("read", path);
                (file.try_clone(), index::scanned(file).map_err(reading)?)
            }
            Source::Segment(path) => {
                let file = match segment::open(path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    opened => opened.map_err(StoreError::io("open", path))?,
                };
                let contents = index::contents(path, &file).map_err(StoreError::io("read", path))?;
                (Ok(file), contents)
            }
        };
        let file = file.map_err(StoreError::io("open", PathBuf::from("the records")))?;
        let index::Contents { entries, damaged, newer, .. } = contents;
        Ok(Some(Opened { entries, damaged, newer, place: Place::File(file) }))
    }

    fn read(&self, hit: &Hit, ask: &Ask) -> Result<Option<DeathRecord>, AskError> {
        let record = match &self.sources[hit.source] {
            Source::Report(records) => {
                usize::try_from(hit.offset).ok().and_then(|index| records.get(index)).cloned()
            }
            Source::Lines(file, _) => line_at(file, hit),
            Source::Segment(path) => segment::open(path).ok().and_then(|file| line_at(&file, hit)),
        };
        let who = |record: &DeathRecord| serde_json::to_vec(record).ok().and_then(|line| Who::of_line(&line));
        Ok(record.filter(|record| who(record).is_some_and(|who| ask.holds(&who))))
    }
}

fn line_at(file: &File, hit: &Hit) -> Option<DeathRecord> {
    let line = index::read_line(file, hit.offset, hit.len).ok()?;
    serde_json::from_slice(&line).ok()
}

/// A source, as long as it is looked through.
struct Opened<'a> {
    entries: Vec<Entry>,
    damaged: u64,
    newer: u64,
    place: Place<'a>,
}

enum Place<'a> {
    File(File),
    Report(&'a [DeathRecord]),
}

impl<'a> Opened<'a> {
    /// The offset of a report's death is its place in the report.
    fn of(records: &'a [DeathRecord]) -> Self {
        let entry = |(index, record): (usize, &DeathRecord)| {
            let line = serde_json::to_vec(record).ok()?;
            Entry::of_line(&line, index as u64).ok()
        };
        let entries = records.iter().enumerate().filter_map(entry).collect();
        Self { entries, damaged: 0, newer: 0, place: Place::Report(records) }
    }

    fn line(&self, entry: &Entry) -> Option<Vec<u8>> {
        match &self.place {
            Place::File(file) => index::read_line(file, entry.offset, entry.len).ok(),
            Place::Report(records) => {
                serde_json::to_vec(records.get(usize::try_from(entry.offset).ok()?)?).ok()
            }
        }
    }

    fn who(&self, entry: &Entry) -> Option<Who> {
        Who::of_line(&self.line(entry)?)
    }
}
