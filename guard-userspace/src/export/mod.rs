//! What else is done with what the flight recorder keeps: told to the journal, to a collector, to a monitor.
//!
//! Each exporter follows the store at its own pace, on a thread of its own. What it could not pass on is still in
//! the store, and is passed on later; nothing waits for it, and nothing is kept in memory for it.

mod journal;
mod otlp;
mod prometheus;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

pub use journal::Journal;
pub use otlp::{Otlp, endpoint};
pub use prometheus::Prometheus;

use crate::store::StoreError;
use crate::store::tail::{Bookmark, Record, Tail};

/// Where records go.
pub trait Sink: Send + 'static {
    /// What it is called, in messages: `the journal`.
    fn name(&self) -> String;

    /// The file in the store that remembers what has been passed on; `None` for one that counts only what comes.
    fn bookmark(&self) -> Option<&'static str>;

    /// Passes records on. After an error, those that went through already may be passed on twice.
    ///
    /// # Errors
    /// When that is not possible now; the same records come again.
    fn take(&mut self, records: &[Record]) -> Result<(), Refused>;
}

/// Why records could not be passed on.
#[derive(Debug)]
pub struct Refused {
    pub why: String,
    /// How long the other side asks to be left alone.
    pub wait: Option<Duration>,
}

impl Refused {
    pub(crate) fn new(why: impl ToString) -> Self {
        Self { why: why.to_string(), wait: None }
    }
}

/// The first wait after a failure, and the longest.
const WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// A sink that is being fed.
#[derive(Debug)]
pub struct Exporter {
    wake: SyncSender<()>,
    thread: JoinHandle<()>,
}

/// Tells exporters that the store has grown.
#[derive(Clone, Debug, Default)]
pub struct Bell(Arc<Vec<SyncSender<()>>>);

impl Bell {
    /// One for all of these.
    #[must_use]
    pub fn of(exporters: &[Exporter]) -> Self {
        Self(Arc::new(exporters.iter().map(|exporter| exporter.wake.clone()).collect()))
    }

    /// One that is told already looks again when it is done.
    pub fn ring(&self) {
        for wake in self.0.iter() {
            let _ = wake.try_send(());
        }
    }
}

impl Exporter {
    /// Feeds a sink with what the store gets from now on, and what it could not be given before. `say` gets what the
    /// user has to know.
    ///
    /// # Errors
    /// When the store cannot be used, or there is no thread to be had.
    pub fn start(
        directory: &Path,
        sink: impl Sink,
        say: impl Fn(&str) + Send + 'static,
    ) -> Result<Self, StoreError> {
        let end = Tail::from_end(directory)?;
        let (tail, bookmark) = match sink.bookmark() {
            None => (end, None),
            Some(name) => {
                let (bookmark, place) = Bookmark::open(directory, name)?;
                // Whoever begins to export wants to hear of what comes, not of what was months ago.
                let place = place.unwrap_or(end.place());
                bookmark.set(place).map_err(StoreError::io("write to the bookmark of", directory))?;
                (Tail::new(directory, place), Some(bookmark))
            }
        };
        let (wake, woken) = sync_channel(1);
        let work = Work { tail, bookmark, sink, say, woken, failing: false };
        let thread = std::thread::Builder::new().name("export".to_owned()).spawn(move || work.run());
        let thread = thread.map_err(StoreError::io("start a thread for", directory))?;
        Ok(Self { wake, thread })
    }

    /// Passes on what is left, as far as that is possible now. Every [`Bell`] must be gone.
    pub fn finish(self) {
        drop(self.wake);
        let _ = self.thread.join();
    }
}

struct Work<S, F> {
    tail: Tail,
    bookmark: Option<Bookmark>,
    sink: S,
    say: F,
    woken: Receiver<()>,
    /// The last attempt failed, and that has been said.
    failing: bool,
}

impl<S: Sink, F: Fn(&str)> Work<S, F> {
    fn run(mut self) {
        let mut wait = None;
        loop {
            let ending = match wait {
                None => self.woken.recv().is_err(),
                Some(time) => self.sleep(time),
            };
            wait = match self.pass_on() {
                Ok(()) => None,
                Err(refused) => {
                    let longer = wait.map_or(WAIT, |wait: Duration| wait.saturating_mul(2));
                    Some(refused.wait.unwrap_or(longer).clamp(WAIT, LONGEST_WAIT))
                }
            };
            if ending {
                return;
            }
        }
    }

    /// Waits, however often it is woken; true when it is time to end.
    fn sleep(&self, time: Duration) -> bool {
        let until = std::time::Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(std::time::Instant::now());
            match self.woken.recv_timeout(left) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => return false,
                Err(RecvTimeoutError::Disconnected) => return true,
            }
        }
    }

    /// Passes on all that there is.
    fn pass_on(&mut self) -> Result<(), Refused> {
        loop {
            let passed = self.pass_batch();
            match &passed {
                Err(refused) if !self.failing => {
                    self.failing = true;
                    let name = self.sink.name();
                    (self.say)(&format!(
                        "{name} cannot be reached: {}; what dies is in the store, and is passed on when that is possible \
                         again",
                        refused.why
                    ));
                }
                Ok(_) if self.failing => {
                    self.failing = false;
                    (self.say)(&format!("{} can be reached again", self.sink.name()));
                }
                _ => {}
            }
            if !passed? {
                return Ok(());
            }
        }
    }

    /// Passes on some; true when there are more.
    fn pass_batch(&mut self) -> Result<bool, Refused> {
        let batch = self.tail.next().map_err(Refused::new)?;
        if batch.segments_missed > 0 {
            (self.say)(&format!(
                "the store made room for new deaths before {} of its segments had been passed on to {}",
                batch.segments_missed,
                self.sink.name()
            ));
        }
        if !batch.records.is_empty() {
            self.sink.take(&batch.records)?;
        }
        self.tail.advance(batch.until);
        if let Some(Err(error)) = self.bookmark.as_ref().map(|bookmark| bookmark.set(batch.until)) {
            log::warn!("cannot note what was passed on to {}: {error}", self.sink.name());
        }
        Ok(batch.more)
    }
}

/// A word of the model as it stands in JSON: `oom_kill`.
fn word(value: impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// The role of whoever is held responsible; `kernel` where nobody else is.
fn killer_role(death: &crate::model::report::Death) -> String {
    match (&death.killer, &death.sender) {
        (Some(killer), _) => word(killer.role),
        (None, Some(sender)) if sender.kernel => "kernel".to_owned(),
        _ => "none".to_owned(),
    }
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
