//! The eBPF backend: loads the programs of `guard-ebpf`, attaches them and reads their ring buffer.

mod handover;
mod kernel;
mod load;
mod raw_tracepoint;

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use guard_ebpf::Probe;

use self::handover::Objects;
use self::kernel::Kernel;
use self::load::Log;
use super::decode::{Decoder, split_args};
use super::host;
use super::syscalls::Arch;
use super::{CollectError, Options, Source, Upkeep};
use crate::model::event::{Event, Fact};
use crate::model::header::Capabilities;

/// How often the loss counters are read when little comes in.
const LOSS_INTERVAL: Duration = Duration::from_secs(1);

/// The programs at work. Dropping it detaches them, unless they were handed over.
pub struct EbpfSource {
    objects: Objects,
    kernel: Kernel,
    losses_read_at: Instant,
    /// Bytes taken from the ring buffer since the loss counters were read.
    bytes_since: usize,
    ring_bytes: usize,
    decoder: Decoder,
    capabilities: Capabilities,
    /// Records that made no sense.
    refused: u64,
    log: Option<Log>,
}

impl std::fmt::Debug for EbpfSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EbpfSource").field("capabilities", &self.capabilities).finish_non_exhaustive()
    }
}

impl EbpfSource {
    /// Loads and attaches the programs, or goes on with those of an earlier watch. Events are collected from here on.
    ///
    /// # Errors
    /// [`CollectError`] says whether privileges, a tracepoint or tracing programs altogether are missing.
    pub fn open(options: &Options) -> Result<Self, CollectError> {
        let mut kernel = Kernel::inspect(options).map_err(|error| load::NEEDED.or_privileges(error))?;
        kernel.settings.wake_bytes = options.ring_bytes / 16;
        // Diagnostics are of programs that were loaded to give them.
        let inherited = Objects::inherit(&kernel, &options.inherited).filter(|_| !options.verbose);
        let (objects, log) = match inherited {
            Some(objects) => (objects, None),
            None => loop {
                match load::load(&kernel, options) {
                    Err(CollectError::Load(reason)) if kernel.ask_for_less(reason.as_ref()) => {}
                    result => {
                        let (at_work, log) = result?;
                        break (Objects::new(at_work), log);
                    }
                }
            },
        };
        let exists = |probe| kernel.tracepoints.iter().any(|&(known, _)| known == probe);
        Ok(Self {
            objects,
            losses_read_at: Instant::now(),
            bytes_since: 0,
            ring_bytes: usize::try_from(options.ring_bytes).unwrap_or(usize::MAX),
            decoder: Decoder { arch: Arch::HOST, page_size: host::page_size() },
            capabilities: Capabilities {
                exit_status: kernel.has_btf,
                group_dead: kernel.has_btf || kernel.settings.exit_has_group_dead != 0,
                syscalls: kernel.settings.has_task_regs != 0,
                target_tgid: kernel.has_btf,
                exec_args: kernel.has_btf,
                taskstats: false,
                kernel_log: false,
                cgroup_attach: exists(Probe::CgroupAttach),
                listen: exists(Probe::SockState),
            },
            kernel,
            refused: 0,
            log,
        })
    }

    /// Becomes readable when the programs have diagnostics; only with [`Options::verbose`].
    #[must_use]
    pub fn log_fd(&self) -> Option<BorrowedFd<'_>> {
        self.log.as_ref().map(AsFd::as_fd)
    }

    /// Hands the programs' diagnostics to the `log` crate.
    pub fn flush_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.flush();
        }
    }

    /// Appends what was lost since the last time.
    ///
    /// # Errors
    /// When the kernel does not show the counters.
    pub fn drain_losses(&mut self, out: &mut Vec<Event>) -> Result<(), CollectError> {
        self.losses_read_at = Instant::now();
        self.bytes_since = 0;
        let before = out.len();
        for (place, probe) in Probe::ALL.into_iter().enumerate() {
            let total = self.objects.lost(probe).map_err(|error| CollectError::Load(error.into()))?;
            let told = &mut self.objects.told.counts[place];
            let count = total.saturating_sub(*told);
            if count > 0 {
                *told = total;
                let fact = Fact::Lost { probe: probe.tracepoint().1.to_owned(), count };
                out.push(Event { id: 0, t_ns: host::boottime_ns(), cpu: None, current: None, fact });
            }
        }
        if out.len() > before {
            self.objects.told.save();
        }
        Ok(())
    }

    /// Whether records can have been lost unnoticed.
    ///
    /// They are lost only while the ring buffer is full, and after that a whole ring buffer is read; so as
    /// long as little was read the counters need no look, which spares a system call per probe.
    fn losses_are_due(&self) -> bool {
        self.bytes_since >= self.ring_bytes / 4 || self.losses_read_at.elapsed() >= LOSS_INTERVAL
    }
}

impl Source for EbpfSource {
    fn name(&self) -> &'static str {
        "ebpf"
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn degraded(&self) -> &[String] {
        &self.kernel.degraded
    }

    /// The ring buffer. Wait for it with a level-triggered poll: the kernel side leaves records that can
    /// wait without a wakeup, and a poll that starts anew sees them.
    fn fd(&self) -> BorrowedFd<'_> {
        self.objects.at_work.ring.as_fd()
    }

    fn drain(&mut self, out: &mut Vec<Event>) -> Result<(), CollectError> {
        // A flood could keep this going for ever; what is left makes the next poll return at once.
        let mut budget = self.ring_bytes;
        while let Some(record) = self.objects.at_work.ring.next() {
            budget = budget.saturating_sub(record.len());
            self.bytes_since = self.bytes_since.saturating_add(record.len());
            match self.decoder.decode(&record) {
                Ok(mut event) => {
                    read_args_if_missing(&mut event);
                    out.push(event);
                }
                Err(error) => {
                    self.refused += 1;
                    log::warn!("a record from the kernel makes no sense: {error}");
                }
            }
            if budget == 0 {
                break;
            }
        }
        self.flush_log();
        if self.losses_are_due() { self.drain_losses(out) } else { Ok(()) }
    }

    fn refused(&self) -> u64 {
        self.refused
    }

    fn hand_over(&mut self) -> Vec<(String, BorrowedFd<'_>)> {
        if self.log.is_some() { Vec::new() } else { self.objects.hand_over(&self.kernel) }
    }

    fn is_continued(&self) -> bool {
        self.objects.inherited
    }

    fn upkeep(&self) -> Upkeep {
        Upkeep::ReadMaps
    }
}

/// Reads the arguments of a program that has just started from /proc, where the kernel side could not.
///
/// May be too late, or see what the program has written over them since. By then the pid may be another's, which
/// has another name.
fn read_args_if_missing(event: &mut Event) {
    let (Fact::Exec(exec), Some(current)) = (&mut event.fact, event.current) else { return };
    if exec.args.is_none() {
        let pid = current.tgid.unwrap_or(current.tid);
        let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).ok();
        let args = read("cmdline").filter(|bytes| !bytes.is_empty()).map(|bytes| split_args(&bytes));
        let name = read("comm");
        let name = name.as_deref().map(<[u8]>::trim_ascii_end);
        exec.args = args.filter(|_| current.comm.is_none_or(|comm| name == Some(comm.bytes())));
    }
}
