//! One watch from arming to report.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::signal::Signal;

use super::agent::Agent;
use super::args::Backend;
use super::child::Child;
use super::confine::{Plans, confine};
use super::failure::{Failure, exit};
use super::keeper::Store;
use super::output::Output;
use super::safe_file::directory_of;
use super::select::Selection;
use super::service::{self, ServiceManager};
use super::signals::{Arrived, Blocked, Signals};
use super::sources::Sources;
use super::sys;
use crate::collect::Options;
use crate::model::signal::Signo;

/// What a session is to do.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) selection: Selection,
    pub(crate) output: Output,
    /// Where to record every event.
    pub(crate) events: Option<File>,
    /// Where to keep what dies on the whole machine.
    pub(crate) store: Option<Store>,
    pub(crate) backend: Backend,
    pub(crate) collect: Options,
    pub(crate) job: Job,
}

/// When it ends.
#[derive(Debug)]
pub(crate) enum Job {
    Watch { once: bool, duration: Option<Duration> },
    Run(Child),
}

/// Why it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Signal,
    Once,
    Duration,
    /// Nobody reads what it says.
    Closed,
    /// The command did, with this status.
    Command(u8),
}

/// What a command may be sent through killtrace, and how it is heard of that it ended. SIGTSTP and its like are not
/// among them: killtrace stops with the command, as the shell that started both expects.
const FOR_COMMAND: &[Signal] = &[
    Signal::SIGCHLD,
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
    Signal::SIGPWR,
];

impl Session {
    /// Watches, and returns the exit code.
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let signals = match self.job {
            Job::Watch { .. } => &[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP][..],
            Job::Run(_) => FOR_COMMAND,
        };
        let blocked = Blocked::new(signals)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("cannot start the event loop")?;
        runtime.block_on(async {
            let signals = blocked.listen().context("cannot wait for signals")?;
            self.watch(&signals).await
        })
    }

    async fn watch(self, signals: &Signals) -> Result<u8, Failure> {
        let began = Instant::now();
        let (mut sources, abilities) = Sources::arm(self.backend, &self.collect)?;
        log::debug!("armed after {:?}", began.elapsed());
        if self.store.is_some() {
            // What it missed while nobody watched, nobody can tell it later.
            service::keep(&self.collect.inherited, &sources.hand_over());
        }
        outlive_oom();
        if !abilities.capabilities.exec_args {
            go_first();
        }
        confine(&self.plans(&sources));
        let Self { selection, output, events, store, collect, .. } = self;
        drop(collect);
        let mut agent = Agent::new(sources, abilities, selection, output, events, store)?;
        agent.seed()?;
        log::debug!("seeded after {:?}", began.elapsed());
        let mut job = self.job;
        if let Job::Run(child) = &mut job {
            child.start()?;
        } else {
            agent.announce();
        }
        ServiceManager::ready(&agent.status());
        let ended = agent.follow(signals, &mut job).await;
        ServiceManager::stopping();
        let ended = match ended {
            Ok(ended) => ended,
            Err(failure) => {
                // What was found is not lost with the source of more.
                agent.finish(signals, true).await;
                return Err(failure);
            }
        };
        let nothing_died = agent.deaths == 0;
        let failed = !matches!(ended, Ended::Command(0));
        let written = agent.finish(signals, failed).await;
        Ok(match (ended, job) {
            (Ended::Command(status), _) => status,
            _ if !written => exit::FAILED,
            (Ended::Closed, _) => 0,
            (_, Job::Watch { once, duration }) if nothing_died && (once || duration.is_some()) => {
                exit::NOTHING_DIED
            }
            _ => 0,
        })
    }

    /// What is still to be done once everything is armed.
    fn plans(&self, sources: &Sources) -> Plans {
        let mut writes: Vec<PathBuf> = self.output.places().map(Path::to_owned).collect();
        if let Some(store) = &self.store {
            writes.push(store.directory.clone());
            writes.extend(store.exports.metrics.as_deref().map(directory_of));
        }
        Plans {
            upkeep: sources.upkeep(),
            writes,
            signals_command: matches!(self.job, Job::Run(_)),
            asks_journal: self.store.is_none(),
            sends: self.store.as_ref().is_some_and(|store| store.exports.otlp.is_some()),
        }
    }
}

/// Ends the watch, or passes the signal on to the command, unless that `has_it`: many programs take a second Ctrl-C for
/// an order to drop everything.
pub(super) fn answer_signal(
    arrived: Arrived,
    job: &mut Job,
    has_it: impl FnOnce(u32) -> bool,
) -> Result<Option<Ended>, Failure> {
    match job {
        Job::Watch { .. } => Ok(Some(Ended::Signal)),
        Job::Run(child) if arrived.signo == Signo::CHLD => Ok(child.ended()?.map(Ended::Command)),
        Job::Run(child) => {
            // What was typed at the terminal, the command has had itself.
            if !arrived.from_terminal && !has_it(child.pid()) {
                child.signal(arrived.signo);
            }
            Ok(None)
        }
    }
}

/// Whoever is to tell what the OOM killer did must not be what it takes. This takes no memory without bound. The command
/// of `run` was forked before.
fn outlive_oom() {
    // OOM_SCORE_ADJ_MIN: never, also where the kernel takes whoever asks (mm/oom_kill.c, `out_of_memory`).
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", "-1000") {
        log::info!(
            "the OOM killer may take killtrace itself: cannot write /proc/self/oom_score_adj: {error}"
        );
    }
}

/// Arguments that do not come with the exec event are read from /proc, of a program that may live for a millisecond:
/// where others wait for a processor, this must not wait behind them. The command of `run` was forked before.
fn go_first() {
    const NICE: i32 = -10;
    if sys::set_nice(NICE).is_err() {
        log::info!(
            "no CAP_SYS_NICE: when the machine is busy, arguments of short-lived programs may be missed"
        );
    }
}
