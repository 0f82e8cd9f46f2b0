//! Every source of events of a session, read as one.

use std::future::poll_fn;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::task::Poll;

use tokio::io::unix::AsyncFd;

use super::args::Backend;
use super::failure::Failure;
use super::output::note;
use super::sys::register;
use crate::collect::journal::{self, Journal};
use crate::collect::kmsg::KmsgSource;
use crate::collect::taskstats::TaskstatsSource;
use crate::collect::{CollectError, Options, Source, Upkeep, host, open_best};
use crate::model::header::Capabilities;
use crate::model::{Event, Fact};

/// Sources that are armed: from here on, what happens is kept for the next [`Sources::drain`].
#[derive(Debug)]
pub(crate) struct Sources {
    /// The first one is the backend, without which there is nothing to say.
    list: Vec<Armed>,
    /// Takes questions whose answers come out of one of these.
    journal: Option<Journal>,
}

struct Armed {
    source: Box<dyn Source>,
    /// A duplicate of the source's descriptor, so that it lives as long as it is registered.
    fd: AsyncFd<OwnedFd>,
}

/// What the sources together can and cannot do.
#[derive(Debug)]
pub(crate) struct Abilities {
    pub(crate) backend: &'static str,
    pub(crate) capabilities: Capabilities,
    pub(crate) degraded: Vec<String>,
    /// The backend goes on with what an earlier watch has left.
    pub(crate) continued: bool,
}

impl Sources {
    /// Arms the kernel's probes, and what makes up for those that it lacks.
    pub(crate) fn arm(backend: Backend, options: &Options) -> Result<(Self, Abilities), Failure> {
        let backend = open(backend, options)?;
        let needs_status = !backend.capabilities().exit_status;
        let mut opened = vec![backend];
        let mut missing = Vec::new();
        let mut add = |what: &str, source: Result<Box<dyn Source>, CollectError>| match source {
            Ok(source) => opened.push(source),
            Err(error) => missing.push(format!("{what}: {:#}", anyhow::Error::new(error))),
        };
        add(
            "the kernel log is not read, so an OOM kill's limit may stay unknown",
            KmsgSource::open().map(|source| Box::new(source) as Box<dyn Source>),
        );
        if needs_status {
            add(
                "exit statuses come from SIGCHLD alone",
                TaskstatsSource::open().map(|source| Box::new(source) as Box<dyn Source>),
            );
        }
        let journal = journal::open().map(|(journal, source)| {
            opened.push(Box::new(source));
            journal
        });
        let (mut sources, mut abilities) = Self::new(opened)
            .map_err(|error| Failure::new(anyhow::Error::new(error).context("cannot wait for events")))?;
        sources.journal = journal.ok();
        abilities.degraded.extend(missing);
        Ok((sources, abilities))
    }

    /// Reads from sources; the first is the backend. Needs a runtime.
    pub(crate) fn new(opened: Vec<Box<dyn Source>>) -> io::Result<(Self, Abilities)> {
        let mut abilities = Abilities {
            backend: opened.first().map_or("none", |source| source.name()),
            capabilities: Capabilities::default(),
            degraded: Vec::new(),
            continued: opened.first().is_some_and(|source| source.is_continued()),
        };
        let mut list = Vec::with_capacity(opened.len());
        for source in opened {
            abilities.capabilities = either(abilities.capabilities, source.capabilities());
            abilities.degraded.extend_from_slice(source.degraded());
            let fd = register(source.fd().try_clone_to_owned()?)?;
            list.push(Armed { source, fd });
        }
        Ok((Self { list, journal: None }, abilities))
    }

    /// Whom to ask what the systemd journal says, for whoever reads the answers here.
    pub(crate) fn take_journal(&mut self) -> Option<Journal> {
        self.journal.take()
    }

    /// What another killtrace needs to go on with this backend.
    pub(crate) fn hand_over(&mut self) -> Vec<(String, BorrowedFd<'_>)> {
        self.list.first_mut().map_or_else(Vec::new, |armed| armed.source.hand_over())
    }

    /// What they still ask of the kernel.
    pub(crate) fn upkeep(&self) -> Vec<Upkeep> {
        self.list.iter().map(|armed| armed.source.upkeep()).collect()
    }

    /// Waits until a source has events. Nothing wakes up meanwhile.
    ///
    /// Readiness is edge-triggered and forgotten here, before the sources are drained: what arrives later
    /// makes a new edge.
    pub(crate) async fn ready(&self) -> io::Result<()> {
        poll_fn(|cx| {
            let mut ready = false;
            for armed in &self.list {
                if let Poll::Ready(guard) = armed.fd.poll_read_ready(cx) {
                    guard?.clear_ready();
                    ready = true;
                }
            }
            if ready { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
        .await
    }

    /// Appends what all sources have, so that none is ahead of another: the backend before those that tell of what it
    /// sees next, as the kernel's log does, and behind those that tell of what it has seen.
    pub(crate) fn drain(&mut self, out: &mut Vec<Event>) -> Result<(), CollectError> {
        let mut told_after = Vec::new();
        self.drain_helpers(true, &mut told_after);
        let read = self.list.first_mut().map_or(Ok(()), |backend| backend.source.drain(out));
        out.append(&mut told_after);
        self.drain_helpers(false, out);
        read
    }

    /// All but the backend, of one kind. One that fails is read no more.
    fn drain_helpers(&mut self, follows_backend: bool, out: &mut Vec<Event>) {
        let mut index = 1;
        while let Some(Armed { source, .. }) = self.list.get_mut(index) {
            if source.follows_backend() != follows_backend {
                index += 1;
                continue;
            }
            match source.drain(out) {
                Ok(()) => index += 1,
                Err(error) => {
                    let name = source.name();
                    note(&format!("warning: {name} gives no more events: {:#}", anyhow::Error::new(error)));
                    let fact = Fact::Lost { probe: name.to_owned(), count: 1 };
                    out.push(Event { id: 0, t_ns: host::boottime_ns(), cpu: None, current: None, fact });
                    self.list.remove(index);
                }
            }
        }
    }
}

/// Arms the backend that was asked for, or the best there is.
fn open(backend: Backend, options: &Options) -> Result<Box<dyn Source>, CollectError> {
    if let Some(backend) = backend.named() {
        return (backend.open)(options);
    }
    let (source, refusals) = open_best(options)?;
    for error in refusals {
        note(&format!("using the {} backend: {}", source.name(), in_one_line(error)));
    }
    Ok(source)
}

/// An error with its reasons. Whoever wants all that a verifier has to say asks for that backend.
fn in_one_line(error: CollectError) -> String {
    let text = format!("{:#}", anyhow::Error::new(error));
    let line = text.lines().next().unwrap_or_default();
    crate::report::escape::cut_middle(line, 200)
}

/// What at least one of two sources can see.
fn either(a: Capabilities, b: Capabilities) -> Capabilities {
    Capabilities {
        exit_status: a.exit_status || b.exit_status,
        group_dead: a.group_dead || b.group_dead,
        syscalls: a.syscalls || b.syscalls,
        target_tgid: a.target_tgid || b.target_tgid,
        exec_args: a.exec_args || b.exec_args,
        taskstats: a.taskstats || b.taskstats,
        kernel_log: a.kernel_log || b.kernel_log,
        cgroup_attach: a.cgroup_attach || b.cgroup_attach,
        listen: a.listen || b.listen,
    }
}

impl std::fmt::Debug for Armed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.source.name())
    }
}
