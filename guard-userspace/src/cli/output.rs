//! What killtrace says and where: deaths as they happen, the report in its file, notes on stderr.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::task::{JoinError, JoinHandle};

use super::args::OutputArgs;
use super::failure::Failure;
use super::safe_file::SafeFile;
use super::step_summary::StepSummary;
use crate::model;
use crate::model::report::{Death, JournalLine, Kind, Pattern};
use crate::model::units;
use crate::report::{self, Options, Report, Style};

/// Longest that a death waits to be saved.
const SAVE_WITHIN: Duration = Duration::from_secs(1);
/// Saving takes at most one part in this many of the time, unless [`SAVE_WITHIN`] demands more.
const SAVE_SHARE: u32 = 10;

/// Says a line on stderr, where nobody listening is no error.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// How to write to a stream: colours only on a terminal whose user has not said no to them.
pub(crate) fn style(terminal: bool) -> Style {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    if terminal && !unwanted && !dumb { Style::COLOR } else { Style::PLAIN }
}

/// A standard stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn style(self) -> Style {
        style(match self {
            Self::Stdout => io::stdout().is_terminal(),
            Self::Stderr => io::stderr().is_terminal(),
        })
    }

    fn write(self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(bytes)?;
                stdout.flush()
            }
            Self::Stderr => io::stderr().lock().write_all(bytes),
        }
    }
}

/// Where the report goes at the end.
#[derive(Debug)]
enum Target {
    Stream(Stream),
    /// Saved at every death as well.
    File(SafeFile),
}

/// Whose output it is: a watch owns stdout, a command that is run owns it itself. The flight recorder tells a line a
/// death, for a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Watch,
    Command {
        /// Nothing is said before it has ended, and nothing at all unless it failed.
        on_failure: bool,
    },
    Record,
}

impl Owner {
    fn is_command(self) -> bool {
        matches!(self, Self::Command { .. })
    }
}

/// The output of a session.
#[derive(Debug)]
pub(crate) struct Output {
    owner: Owner,
    /// Deaths as they happen; `None` when nobody reads them (any more).
    live: Option<Stream>,
    live_style: Style,
    /// `None` when the live text is all that was asked for.
    target: Option<Target>,
    format: &'static dyn Report,
    /// Of a command that is run by a workflow.
    summary: Option<StepSummary>,
    /// Something died that should not have.
    abnormal: bool,
    /// Requests to stop that the command has had.
    requests: u32,
    /// A death is not saved yet.
    unsaved: bool,
    saving: Option<JoinHandle<(anyhow::Result<()>, Duration)>>,
    /// Before it, saving again would take too large a share of the time.
    save_after: Instant,
    /// The last attempt failed; said once, tried again.
    save_failed: bool,
    /// Something could not be written where it was asked for.
    failed: bool,
}

impl Output {
    /// Decides where everything goes, and checks that it can.
    pub(crate) fn new(args: &OutputArgs, owner: Owner) -> Result<Self, Failure> {
        let text = report::by_name("text").context("no text format")?;
        let json = report::by_name("json").context("no json format")?;
        let asked = match &args.format {
            Some(name) => Some(report::by_name(name).context("no such format")?),
            None => args.json.then_some(json),
        };
        let mut live = Some(if owner.is_command() { Stream::Stderr } else { Stream::Stdout });
        let (format, target) = match &args.output {
            Some(path) if path == Path::new("-") => {
                live = Some(Stream::Stderr);
                (asked.unwrap_or(json), Some(Target::Stream(Stream::Stdout)))
            }
            Some(path) => {
                let format = asked.or_else(|| report::by_extension(path)).unwrap_or(json);
                (format, Some(Target::File(SafeFile::check(path)?)))
            }
            None => match asked.filter(|format| format.name() != text.name()) {
                None => (text, None),
                Some(format) if owner == Owner::Watch => {
                    live = Some(Stream::Stderr);
                    (format, Some(Target::Stream(Stream::Stdout)))
                }
                // stdout is the command's, and stderr cannot hold both.
                Some(format) => {
                    live = None;
                    (format, Some(Target::Stream(Stream::Stderr)))
                }
            },
        };
        let summary = StepSummary::from_env().filter(|_| owner.is_command());
        Ok(Self {
            owner,
            summary,
            abnormal: false,
            requests: 0,
            live,
            live_style: live.map_or(Style::PLAIN, Stream::style),
            target,
            format,
            unsaved: false,
            saving: None,
            save_after: Instant::now(),
            save_failed: false,
            failed: false,
        })
    }

    /// What it will write to by name: files of others, and directories that it makes files in.
    pub(crate) fn places(&self) -> impl Iterator<Item = &Path> {
        let target = match &self.target {
            Some(Target::File(file)) => Some(file.place()),
            _ => None,
        };
        target.into_iter().chain(self.summary.as_ref().map(StepSummary::path))
    }

    /// Tells a death. Of what a command started, not those that were no more than done: a test run starts
    /// thousands, and the report has them all.
    pub(crate) fn death(&mut self, death: &Death) {
        self.unsaved = true;
        self.abnormal |= death.is_abnormal();
        let done = death.cause.kind == Kind::Exited && death.exit.code == Some(0);
        let untold = self.owner.is_command() && done && !death.victim.root;
        if self.owner == Owner::Record {
            self.say(&format!("{}\n", report::escape::text(&death.summary)));
        } else if !self.waits() && self.live.is_some() && !untold {
            let mut text = report::text::death(death, self.live_style);
            text.push('\n');
            self.say(&text);
        }
    }

    /// Tells what the journal says of a death that has been told, when it has been read.
    pub(crate) fn journal(&mut self, death: &Death, lines: &[JournalLine]) {
        self.unsaved = true;
        if self.waits() {
            return;
        }
        let mut text = report::text::journal(death, lines, self.live_style);
        text.push('\n');
        self.say(&text);
    }

    /// Tells a pattern, when it is recognised.
    pub(crate) fn pattern(&mut self, pattern: &Pattern) {
        self.unsaved = true;
        if self.waits() {
            return;
        }
        let mut text = report::text::pattern(pattern, self.live_style);
        text.push('\n');
        self.say(&text);
    }

    /// The command may ignore that, and then SIGKILL comes for all: what is known by now is written at once.
    pub(crate) fn asked_to_stop(&mut self) {
        self.unsaved = true;
        self.requests += 1;
    }

    /// Nothing is said while the command runs.
    fn waits(&self) -> bool {
        self.owner == Owner::Command { on_failure: true }
    }

    /// Everything that could be said has nowhere to go any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.live.is_none() && self.target.is_none()
    }

    /// When the report should be saved next; `None` when there is nothing new, or it is being saved.
    pub(crate) fn save_at(&self) -> Option<Instant> {
        let worth = !self.waits() || self.abnormal || self.requests > 0;
        let place =
            matches!(self.target, Some(Target::File(_))) || self.summary.is_some() && self.requests > 1;
        (self.unsaved && self.saving.is_none() && worth && place).then_some(self.save_after)
    }

    /// Begins to save, on a thread of its own: a slow disk must not keep events waiting.
    pub(crate) fn save(&mut self, report: model::Report) {
        self.unsaved = false;
        if let Some(summary) = self.summary.as_mut().filter(|_| self.requests > 1) {
            summary.write(&report);
        }
        let Some(Target::File(file)) = &self.target else { return };
        let (file, format) = (file.clone(), self.format);
        self.saving = Some(tokio::task::spawn_blocking(move || {
            let start = Instant::now();
            let result = file.write(|out| format.write(&report, &Options::default(), out));
            (result, start.elapsed())
        }));
    }

    /// Waits until the report is saved; for ever when it is not being saved.
    pub(crate) async fn saved(&mut self) {
        let Some(saving) = &mut self.saving else { return std::future::pending().await };
        let result = saving.await;
        self.saving = None;
        self.finish_save(result);
    }

    fn finish_save(&mut self, result: Result<(anyhow::Result<()>, Duration), JoinError>) {
        let (result, took) = result.unwrap_or_else(|error| (Err(error.into()), SAVE_WITHIN));
        self.save_after = Instant::now() + (took * (SAVE_SHARE - 1)).min(SAVE_WITHIN);
        if let Err(error) = result {
            self.unsaved = true;
            // Tried again at a decent distance: the disk may have room by then.
            self.save_after = Instant::now() + SAVE_WITHIN * 10;
            if !std::mem::replace(&mut self.save_failed, true) {
                let failure = Failure::new(error)
                    .help("nothing is lost: it is tried again until the end, so make it possible until then");
                note(&failure.to_string());
            }
        }
    }

    /// Writes the report for the last time. False when something could not be written where it was asked for.
    /// `failed` is the command's own word.
    pub(crate) async fn finish(mut self, report: &model::Report, failed: bool) -> bool {
        if self.saving.is_some() {
            self.saved().await;
        }
        if let Some(mut summary) = self.summary.take() {
            if failed { summary.write(report) } else { summary.withdraw() }
        }
        if self.waits() {
            if !failed && !self.abnormal {
                return self.withdraw();
            }
            self.owner = Owner::Command { on_failure: false };
            let told = report.deaths.iter().filter(|death| death.is_abnormal() || death.victim.root);
            told.for_each(|death| self.death(death));
        }
        // stdout is the report's, the deaths' or the command's; runners read standard error as well.
        let markdown = || crate::report::by_name("markdown").filter(|_| self.owner.is_command());
        if failed {
            let annotations = annotations(markdown().unwrap_or(self.format), report);
            let _ = Stream::Stderr.write(annotations.as_bytes());
        }
        let stream = match &self.target {
            None => {
                self.closing(report);
                return !self.failed;
            }
            Some(Target::Stream(stream)) => {
                let stream = *stream;
                self.closing(report);
                stream
            }
            Some(Target::File(file)) => {
                let result = file.write(|out| self.format.write(report, &Options::default(), out));
                self.closing(report);
                let Err(error) = result else { return !self.failed };
                note(&Failure::new(error).help("the report follows here instead").to_string());
                self.failed = true;
                if self.live == Some(Stream::Stdout) { Stream::Stdout } else { Stream::Stderr }
            }
        };
        let mut bytes = Vec::new();
        let style = stream.style();
        let written =
            self.format.write(report, &Options { style }, &mut bytes).and_then(|()| stream.write(&bytes));
        if let Err(error) = written {
            // A reader that has gone away had enough.
            if error.kind() != io::ErrorKind::BrokenPipe {
                self.stream_failed(stream, error);
                if stream == Stream::Stdout {
                    let _ = Stream::Stderr.write(&bytes);
                }
            }
        }
        !self.failed
    }

    /// Takes back what was saved when the command had been told to stop, and then did so without a failure.
    fn withdraw(&self) -> bool {
        let Some(Target::File(file)) = self.target.as_ref().filter(|_| self.requests > 0) else {
            return true;
        };
        file.remove().inspect_err(|error| note(&format!("{error:#}"))).is_ok()
    }

    /// What only the end can tell, for those who read along.
    fn closing(&mut self, report: &model::Report) {
        if self.live.is_none() {
            return;
        }
        let mut patterns = String::new();
        for pattern in &report.patterns {
            patterns.push_str(&report::escape::text(&pattern.text));
            patterns.push('\n');
        }
        self.say(&patterns);
        let lost = report.collector.lost_events;
        if lost != 0 {
            let lost = units::counted(lost, "event was", "events were");
            note(&format!(
                "warning: {lost} lost, the machine was too busy: answers that depend on them say so"
            ));
        }
        if report.deaths.is_empty() && self.owner == Owner::Watch {
            note(match report.watch.roots_seen {
                0 => "nothing died, and nothing that matches was running",
                _ => "nothing died of what was watched",
            });
        }
    }

    fn say(&mut self, text: &str) {
        let Some(stream) = self.live.filter(|_| !text.is_empty()) else { return };
        let for_runner = on_github().then(|| report::escape::workflow_commands(text));
        let text = for_runner.as_deref().unwrap_or(text);
        let Err(error) = stream.write(text.as_bytes()) else { return };
        match (stream, error.kind()) {
            (Stream::Stdout, io::ErrorKind::BrokenPipe) | (Stream::Stderr, _) => self.live = None,
            (Stream::Stdout, _) => {
                self.stream_failed(stream, error);
                self.live = Some(Stream::Stderr);
                self.live_style = Stream::Stderr.style();
                let _ = Stream::Stderr.write(text.as_bytes());
            }
        }
    }

    fn stream_failed(&mut self, stream: Stream, error: io::Error) {
        self.failed = true;
        if stream == Stream::Stdout {
            let failure = Failure::new(anyhow::Error::new(error).context("cannot write to standard output"));
            note(&failure.help("what it should have got follows on standard error").to_string());
        }
    }
}

/// What a GitHub workflow shows where it is seen; nothing outside of one.
pub(crate) fn annotations(format: &dyn Report, report: &model::Report) -> String {
    if on_github() { format.annotations(report) } else { String::new() }
}

/// A workflow of GitHub's reads along.
fn on_github() -> bool {
    std::env::var_os("GITHUB_ACTIONS").is_some_and(|set| !set.is_empty() && set != "false")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::report::sample;

    fn output(path: &Path) -> Output {
        let args = OutputArgs { output: Some(path.to_owned()), ..OutputArgs::default() };
        Output { live: None, ..Output::new(&args, Owner::Watch).unwrap() }
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn a_death_is_saved_and_nothing_is_saved_twice() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report.json");
        runtime().block_on(async {
            let mut output = output(&path);
            let report = sample::report();
            assert!(output.save_at().is_none(), "nothing has died yet");
            output.death(&report.deaths[0]);
            assert!(output.save_at().unwrap() <= Instant::now(), "the first is saved at once");
            output.save(report.clone());
            assert!(output.save_at().is_none(), "it is being saved");
            output.saved().await;
            assert!(output.save_at().is_none(), "it is saved");
            assert_eq!(serde_json::from_slice::<model::Report>(&fs::read(&path).unwrap()).unwrap(), report);
            output.death(&report.deaths[0]);
            assert!(output.save_at().is_some());
        });
    }

    #[test]
    fn saving_takes_a_tenth_of_the_time_but_no_death_waits_longer_than_a_second() {
        let directory = tempfile::tempdir().unwrap();
        let mut output = output(&directory.path().join("report.json"));
        output.unsaved = true;
        let wait_after = |output: &mut Output, took: u64| {
            output.finish_save(Ok((Ok(()), Duration::from_millis(took))));
            output.save_at().unwrap() - Instant::now()
        };
        let short = wait_after(&mut output, 50);
        assert!(short <= Duration::from_millis(450) && short > Duration::from_millis(400), "{short:?}");
        assert!(wait_after(&mut output, 5000) <= SAVE_WITHIN);
    }

    #[test]
    fn a_failed_save_is_tried_again_and_the_last_one_decides() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("place");
        fs::create_dir(&place).unwrap();
        let path = place.join("report.json");
        runtime().block_on(async {
            let mut output = output(&path);
            fs::remove_dir(&place).unwrap();
            output.unsaved = true;
            output.save(sample::report());
            output.saved().await;
            assert!(output.save_failed && output.save_at().unwrap() > Instant::now());
            fs::create_dir(&place).unwrap();
            assert!(output.finish(&sample::report(), true).await, "in the end it was saved");
            assert!(path.exists());
        });
    }

    #[test]
    fn everything_has_one_place() {
        let new = |args: OutputArgs, owner| Output::new(&args, owner).unwrap();
        let json = || OutputArgs { json: true, ..OutputArgs::default() };
        let to = |path: &str| OutputArgs { output: Some(path.into()), ..OutputArgs::default() };
        let plain = new(OutputArgs::default(), Owner::Watch);
        assert!(plain.live == Some(Stream::Stdout) && plain.target.is_none());
        let machine = new(json(), Owner::Watch);
        assert!(
            machine.live == Some(Stream::Stderr)
                && matches!(machine.target, Some(Target::Stream(Stream::Stdout)))
        );
        let dash = new(to("-"), Owner::Watch);
        assert!(
            dash.live == Some(Stream::Stderr) && matches!(dash.target, Some(Target::Stream(Stream::Stdout)))
        );
        assert_eq!(dash.format.name(), "json");
        // stdout is the command's own.
        let command = new(OutputArgs::default(), Owner::Command { on_failure: false });
        assert!(command.live == Some(Stream::Stderr) && command.target.is_none());
        let command = new(json(), Owner::Command { on_failure: false });
        assert!(command.live.is_none() && matches!(command.target, Some(Target::Stream(Stream::Stderr))));
        let directory = tempfile::tempdir().unwrap();
        let named =
            |name: &str| new(to(directory.path().join(name).to_str().unwrap()), Owner::Watch).format.name();
        assert_eq!((named("r.json"), named("r.txt"), named("r")), ("json", "text", "json"));
    }
}
