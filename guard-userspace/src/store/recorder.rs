//! Writes to the store on a thread of its own: a slow disk must not keep events waiting.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;

use super::{Seen, Writer};
use crate::model::header::{Host, Tool};
use crate::model::record::{DeathRecord, Gap, Why};
use crate::model::time::Timestamp;
use crate::report::escape;

/// Most that waits for the disk, in bytes: a thousand deaths.
const WAITING: usize = 4 << 20;
/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// The store's writer, as the agent sees it.
#[derive(Debug)]
pub struct Recorder {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<String>,
    bytes: usize,
    /// Deaths for which there was no room, and when the first and the last of them died.
    refused: u64,
    refused_from: Timestamp,
    refused_until: Timestamp,
    seen: Option<Timestamp>,
    ending: bool,
    failed: bool,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recorder {
    /// Starts to write. `say` gets what the user has to know: that the store cannot be written to, and that it can
    /// again; `written` is called when there is something new in the store.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(
        writer: Writer,
        seen: Seen,
        tool: Tool,
        host: Host,
        say: impl Fn(&str) + Send + 'static,
        written: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let work =
            Work { shared: Arc::clone(&shared), writer, seen, tool, host, say, written, failed: false };
        let thread = std::thread::Builder::new().name("store".to_owned()).spawn(move || work.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Keeps a death.
    pub fn death(&self, record: &DeathRecord) {
        let died_at = record.death.died_at;
        self.put(record, died_at);
    }

    /// Keeps a gap.
    pub fn gap(&self, gap: &Gap) {
        self.put(gap, gap.until);
    }

    fn put(&self, record: &impl Serialize, at: Timestamp) {
        // Names cannot break a line in JSON, nor reach a terminal as more than text.
        let Ok(line) = serde_json::to_string(record).map(escape::json) else { return };
        let mut queue = self.shared.queue();
        if queue.bytes + line.len() > WAITING {
            if queue.refused == 0 {
                queue.refused_from = at;
            }
            queue.refused += 1;
            queue.refused_until = at;
        } else {
            queue.bytes += line.len();
            queue.lines.push_back(line);
        }
        drop(queue);
        self.shared.wake.notify_one();
    }

    /// Notes that it watches.
    pub fn seen(&self, at: Timestamp) {
        self.shared.queue().seen = Some(at);
        self.shared.wake.notify_one();
    }

    /// Writes what is left. False when something could not be written.
    pub fn finish(mut self, at: Timestamp) -> bool {
        let mut queue = self.shared.queue();
        queue.seen = Some(at);
        queue.ending = true;
        drop(queue);
        self.shared.wake.notify_one();
        let ended = self.thread.take().is_none_or(|thread| thread.join().is_ok());
        ended && !self.shared.queue().failed
    }
}

struct Work<F, G> {
    shared: Arc<Shared>,
    writer: Writer,
    seen: Seen,
    tool: Tool,
    host: Host,
    say: F,
    written: G,
    /// The last attempt failed, and that has been said.
    failed: bool,
}

impl<F: Fn(&str), G: Fn()> Work<F, G> {
    fn run(mut self) {
        let mut lines = VecDeque::new();
        loop {
            let mut queue = self.shared.queue();
            let idle = |queue: &Queue| queue.lines.is_empty() && queue.seen.is_none() && !queue.ending;
            while idle(&queue) && lines.is_empty() {
                queue = self.shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            if !lines.is_empty() && !queue.ending {
                // Not with every new death: on a machine in trouble there are many.
                let waited = self.shared.wake.wait_timeout_while(queue, RETRY, |queue| !queue.ending);
                queue = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            lines.append(&mut queue.lines);
            let (seen, ending) = (queue.seen.take(), queue.ending);
            drop(queue);
            self.write(&mut lines);
            if let Some(at) = seen {
                // Too late a mark would deny a gap: deaths that are not written yet have not been kept.
                let marked = if lines.is_empty() { self.seen.mark(at, ending) } else { Ok(()) };
                if let Err(error) = marked {
                    log::warn!("cannot note until when was watched: {error}");
                }
            }
            if ending {
                self.shared.queue().failed = !lines.is_empty();
                return;
            }
        }
    }

    fn write(&mut self, lines: &mut VecDeque<String>) {
        let waiting = lines.len();
        let result = self.writer.append(lines);
        if lines.len() < waiting {
            (self.written)();
        }
        let mut queue = self.shared.queue();
        queue.bytes = lines.iter().chain(&queue.lines).map(String::len).sum();
        let refused = if result.is_ok() { std::mem::take(&mut queue.refused) } else { 0 };
        let (from, until) = (queue.refused_from, queue.refused_until);
        drop(queue);
        match result {
            Err(error) if !self.failed => {
                self.failed = true;
                (self.say)(&format!(
                    "cannot write to the store: {error}; what dies now is kept in memory as far as it has room, and \
                     written when that is possible again"
                ));
            }
            Ok(()) if self.failed => {
                self.failed = false;
                (self.say)("the store can be written to again");
            }
            _ => {}
        }
        if refused > 0 {
            let gap = Gap {
                schema: Gap::SCHEMA.to_owned(),
                tool: self.tool.clone(),
                host: self.host.clone(),
                from: Some(from),
                until,
                why: Why::NotWritten,
                count: Some(refused),
            };
            if let Ok(line) = serde_json::to_string(&gap) {
                lines.push_back(escape::json(line));
                let _ = self.writer.append(lines);
            }
        }
    }
}
