//! The systemd journal, asked once somebody has died whose killer writes to it. Nothing is followed: without a question
//! it costs nothing.
//!
//! `journalctl` answers, for the format of the files is its own, and it may be slow: it has a thread to wait for it, and
//! a limit.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use serde_json::Value;

use super::host::{boottime_ns, wall_minus_boottime_ns};
use super::procfs::event;
use super::{CollectError, Source};
use crate::model::header::Capabilities;
use crate::model::journal::{Entry, Query, Writer};
use crate::model::report::UnitScope;
use crate::model::unit::Unit;
use crate::model::{Event, Fact};

/// systemd says what became of a unit once it has reaped its processes, and journald a moment later has it.
const SAID_WITHIN: Duration = Duration::from_millis(200);
/// Between two runs of `journalctl`, however many die.
const PAUSE: Duration = Duration::from_secs(2);
/// Longest that it may take, on a slow disk with years of journal.
const LIMIT: Duration = Duration::from_secs(5);
/// Questions that may wait; those beyond stay unanswered.
const WAITING: usize = 256;
/// Most bytes that are read of an answer.
const ANSWER: usize = 1 << 20;
/// Most lines of an answer, the last ones.
const LINES: &str = "--lines=500";
/// Where journald has the machine's own journal.
const PLACES: [&str; 2] = ["/run/log/journal", "/var/log/journal"];

/// Takes questions.
#[derive(Debug)]
pub struct Journal {
    questions: Option<SyncSender<Query>>,
    answers: Sender<Event>,
    wake: Arc<EventFd>,
    open: Arc<AtomicUsize>,
}

/// Where the answers come out.
#[derive(Debug)]
pub struct JournalSource {
    answers: Receiver<Event>,
    wake: Arc<EventFd>,
}

/// Both ends.
///
/// # Errors
/// When there are no more descriptors.
pub fn open() -> Result<(Journal, JournalSource), CollectError> {
    let wake = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)
        .map_err(|errno| CollectError::Listen { what: "the systemd journal", source: errno.into() })?;
    let (wake, (sender, receiver)) = (Arc::new(wake), channel());
    let journal = Journal { questions: None, answers: sender, wake: Arc::clone(&wake), open: Arc::default() };
    Ok((journal, JournalSource { answers: receiver, wake }))
}

impl Journal {
    /// Asks, without waiting for the answer.
    pub fn ask(&mut self, query: &Query) {
        let questions = self.questions.get_or_insert_with(|| {
            let (sender, questions) = sync_channel(WAITING);
            let (answers, wake, open) =
                (self.answers.clone(), Arc::clone(&self.wake), Arc::clone(&self.open));
            std::thread::spawn(move || answer_all(&questions, &answers, &wake, &open));
            sender
        });
        self.open.fetch_add(1, Ordering::SeqCst);
        if questions.try_send(query.clone()).is_err() {
            self.open.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// An answer is to come.
    #[must_use]
    pub fn is_asking(&self) -> bool {
        self.open.load(Ordering::SeqCst) > 0
    }
}

impl Source for JournalSource {
    fn name(&self) -> &'static str {
        "journal"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn degraded(&self) -> &[String] {
        &[]
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    fn drain(&mut self, out: &mut Vec<Event>) -> Result<(), CollectError> {
        // Nothing to read is no error: it is drained with the others.
        let _ = self.wake.read();
        out.extend(self.answers.try_iter());
        Ok(())
    }
}

fn answer_all(questions: &Receiver<Query>, answers: &Sender<Event>, wake: &EventFd, open: &AtomicUsize) {
    while let Ok(first) = questions.recv() {
        std::thread::sleep(SAID_WITHIN);
        let queries: Vec<Query> = std::iter::once(first).chain(questions.try_iter()).collect();
        for entry in read(&queries) {
            let _ = answers.send(event(boottime_ns(), Fact::Journal(Box::new(entry))));
        }
        open.fetch_sub(queries.len(), Ordering::SeqCst);
        let _ = wake.write(1);
        std::thread::sleep(PAUSE);
    }
}

/// What there is, by journal.
fn read(queries: &[Query]) -> Vec<Entry> {
    let mut roots: Vec<Option<u32>> = queries.iter().map(|query| query.writer.root_of).collect();
    roots.sort_unstable();
    roots.dedup();
    let mut entries = Vec::new();
    for root_of in roots {
        let root = root_of.map(|pid| PathBuf::from(format!("/proc/{pid}/root")));
        let inside = root.as_deref().unwrap_or(Path::new("/"));
        if !PLACES.iter().any(|place| inside.join(&place[1..]).exists()) {
            continue;
        }
        let of_root: Vec<&Query> = queries.iter().filter(|query| query.writer.root_of == root_of).collect();
        match run(command(root.as_deref(), &of_root), LIMIT) {
            Ok(answer) => {
                let offset = wall_minus_boottime_ns();
                let lines = String::from_utf8_lossy(&answer);
                entries.extend(lines.lines().filter_map(|line| entry(line, root_of, offset)));
            }
            Err(error) => log::info!("cannot ask the systemd journal: journalctl: {error}"),
        }
    }
    entries
}

fn command(root: Option<&Path>, queries: &[&Query]) -> Command {
    let mut command = Command::new("journalctl");
    // Warnings among the answers would be none of them.
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.args(["--quiet", "--no-pager", "--all", "--output=json", LINES]);
    if let Some(root) = root {
        command.arg("--root").arg(root);
    }
    let since = queries.iter().map(|query| query.since_boottime_ns).min().unwrap_or_default();
    let since = wall_minus_boottime_ns().saturating_add_unsigned(since) / 1_000_000_000;
    command.arg(format!("--since=@{since}"));
    let mut asked: Vec<Vec<String>> = queries.iter().map(|query| matches(query)).collect();
    asked.sort();
    asked.dedup();
    // Fields in a row are all to match, `+` is "or" (journalctl(1)).
    command.args(asked.join(&"+".to_owned()));
    command
}

fn matches(query: &Query) -> Vec<String> {
    let unit = query.unit.as_ref().map(|unit| match unit.scope {
        UnitScope::System => format!("UNIT={}", unit.name),
        UnitScope::User => format!("USER_UNIT={}", unit.name),
    });
    std::iter::once(format!("_PID={}", query.writer.pid)).chain(unit).collect()
}

/// What a command says, as far as it gets in time.
fn run(mut command: Command, limit: Duration) -> io::Result<Vec<u8>> {
    let until = Instant::now() + limit;
    let mut child = command.spawn()?;
    let mut answer = Vec::new();
    if let Some(mut stdout) = child.stdout.take() {
        let mut buffer = vec![0; 1 << 16];
        while answer.len() < ANSWER {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            match poll(&mut [PollFd::new(stdout.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(0) => break,
                Err(nix::Error::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
                Ok(_) => {}
            }
            match stdout.read(&mut buffer)? {
                0 => break,
                len => answer.extend_from_slice(&buffer[..len]),
            }
        }
    }
    let _ = child.kill();
    child.wait()?;
    Ok(answer)
}

/// An entry of `--output=json`, one a line; `None` for what is cut off or lacks what matters.
fn entry(line: &str, root_of: Option<u32>, wall_minus_boottime_ns: i64) -> Option<Entry> {
    let fields: Value = serde_json::from_str(line).ok()?;
    let text = |name: &str| field(&fields, name);
    let at_wall_ns = text("__REALTIME_TIMESTAMP")?.parse::<i64>().ok()?.checked_mul(1_000)?;
    let unit = |name: &str, scope| text(name).map(|name| Unit { name, scope });
    Some(Entry {
        at_boottime_ns: u64::try_from(at_wall_ns.checked_sub(wall_minus_boottime_ns)?).ok()?,
        writer: Writer { pid: text("_PID")?.parse().ok()?, root_of },
        comm: text("_COMM"),
        unit: unit("UNIT", UnitScope::System).or_else(|| unit("USER_UNIT", UnitScope::User)),
        priority: text("PRIORITY").and_then(|priority| priority.parse().ok()),
        message_id: text("MESSAGE_ID"),
        text: text("MESSAGE")?,
    })
}

/// A field's text. One that is not UTF-8 is an array of bytes, one that is there twice an array of texts (systemd's
/// docs/JOURNAL_EXPORT_FORMATS.md).
fn field(fields: &Value, name: &str) -> Option<String> {
    match fields.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Array(items) => {
            let byte = |item: &Value| item.as_u64().and_then(|byte| u8::try_from(byte).ok());
            let bytes: Option<Vec<u8>> = items.iter().map(byte).collect();
            bytes
                .filter(|bytes| !bytes.is_empty())
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .or_else(|| items.iter().find_map(Value::as_str).map(str::to_owned))
        }
        _ => None,
    }
}

/// Reads bytes as an answer of `journalctl`, for the fuzz targets: anybody can write to the journal.
#[cfg(fuzzing)]
pub fn read_as_answer(bytes: &[u8]) {
    for line in String::from_utf8_lossy(bytes).lines() {
        if let Some(entry) = entry(line, None, 1_763_823_000_000_000_000) {
            let _ = (entry.is_result(), entry.is_remarkable(), entry.tells_of(4711, &["/a.service"]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From systemd 252.
    const TIMEOUT: &str = r#"{"__REALTIME_TIMESTAMP":"1763823335123456","_PID":"1","_COMM":"systemd","PRIORITY":"4",
        "UNIT":"kiosk.service","MESSAGE_ID":"d9b373ed55a64feb8242e02dbe79a49c","UNIT_RESULT":"timeout",
        "MESSAGE":"kiosk.service: Failed with result 'timeout'."}"#;

    #[test]
    fn an_entry_is_read_with_what_journald_says_of_its_writer() {
        let entry = entry(TIMEOUT, None, 1_763_823_000_000_000_000).unwrap();
        assert_eq!((entry.at_boottime_ns, entry.writer.pid), (335_123_456_000, 1));
        assert_eq!((entry.comm.as_deref(), entry.priority), (Some("systemd"), Some(4)));
        let unit = Unit { name: "kiosk.service".to_owned(), scope: UnitScope::System };
        assert_eq!(entry.unit, Some(unit));
        assert!(entry.is_result() && entry.is_remarkable());
        assert_eq!(entry.text, "kiosk.service: Failed with result 'timeout'.");
    }

    #[test]
    fn a_field_may_be_bytes_or_there_twice() {
        let fields = serde_json::json!({"MESSAGE": [75, 255, 10], "_COMM": ["a", "b"], "X": null, "Y": []});
        assert_eq!(field(&fields, "MESSAGE").as_deref(), Some("K\u{fffd}\n"));
        assert_eq!(field(&fields, "_COMM").as_deref(), Some("a"));
        assert_eq!((field(&fields, "X"), field(&fields, "Y"), field(&fields, "Z")), (None, None, None));
    }

    #[test]
    fn what_is_cut_off_or_says_nothing_is_no_entry() {
        for line in ["", "{", "[]", "{\"MESSAGE\":\"x\"}", &TIMEOUT[..80]] {
            assert_eq!(entry(line, None, 0), None, "{line}");
        }
    }

    #[test]
    fn questions_are_asked_together_and_each_once() {
        let unit = |scope| Some(Unit { name: "kiosk.service".to_owned(), scope });
        let query = |pid, unit, since| Query {
            writer: Writer { pid, root_of: None },
            unit,
            since_boottime_ns: since,
        };
        let queries = [
            query(1, unit(UnitScope::System), 9),
            query(812, None, 7),
            query(1, unit(UnitScope::System), 8),
            query(60, unit(UnitScope::User), 8),
        ];
        let command = command(None, &queries.iter().collect::<Vec<_>>());
        let args: Vec<&str> = command.get_args().filter_map(|arg| arg.to_str()).collect();
        let from = args.iter().position(|arg| arg.starts_with("--since=")).unwrap() + 1;
        let expected =
            ["_PID=1", "UNIT=kiosk.service", "+", "_PID=60", "USER_UNIT=kiosk.service", "+", "_PID=812"];
        assert_eq!(args[from..], expected);
    }

    #[test]
    fn who_does_not_answer_in_time_is_not_waited_for_and_not_left_behind() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; exec sleep 1000"]).stdout(Stdio::piped());
        let (began, limit) = (Instant::now(), Duration::from_secs(2));
        assert_eq!(run(command, limit).unwrap(), b"one\n");
        // poll(2) counts whole milliseconds.
        let waited = began.elapsed() + Duration::from_millis(1);
        assert!(waited >= limit && waited < Duration::from_secs(100));
        assert!(run(Command::new("/nonexistent"), limit).is_err());
    }
}
