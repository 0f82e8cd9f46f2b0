//! The eBPF backend: loads the programs of `guard-ebpf`, attaches them and reads their ring buffer.

mod kernel;
mod load;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use aya::Ebpf;
use aya::maps::{MapData, PerCpuArray, RingBuf};
use aya_log::EbpfLogger;
use guard_ebpf::Probe;

use self::kernel::Kernel;
use super::decode::{Decoder, split_args};
use super::host;
use super::syscalls::Arch;
use super::{CollectError, Options, Source};
use crate::model::event::{Event, Fact};
use crate::model::header::Capabilities;

/// How often the loss counters are read when little comes in.
const LOSS_INTERVAL: Duration = Duration::from_secs(1);

/// The programs at work. Dropping it detaches them.
pub struct EbpfSource {
    ring: RingBuf<MapData>,
    lost: PerCpuArray<MapData, u64>,
    /// What was reported of each counter, in [`Probe::ALL`]'s order.
    lost_reported: [u64; guard_ebpf::PROBES],
    losses_read_at: Instant,
    /// Bytes taken from the ring buffer since the loss counters were read.
    bytes_since: usize,
    ring_bytes: usize,
    decoder: Decoder,
    capabilities: Capabilities,
    degraded: Vec<String>,
    /// Records that made no sense.
    refused: u64,
    log: Option<EbpfLogger<&'static dyn log::Log>>,
    /// Perf events that hold the classic programs.
    _tracepoints: Vec<OwnedFd>,
    /// Owns the programs and the links of the raw ones.
    _programs: Ebpf,
}

impl std::fmt::Debug for EbpfSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EbpfSource").field("capabilities", &self.capabilities).finish_non_exhaustive()
    }
}

impl EbpfSource {
    /// Loads and attaches the programs. Events are collected from here on.
    ///
    /// # Errors
    /// [`CollectError`] says whether privileges, a tracepoint or tracing programs altogether are missing.
    pub fn open(options: &Options) -> Result<Self, CollectError> {
        let mut kernel = Kernel::inspect(options).map_err(|error| load::NEEDED.or_privileges(error))?;
        kernel.settings.wake_bytes = options.ring_bytes / 16;
        let mut loaded = loop {
            match load::load(&kernel, options) {
                Err(CollectError::Load(reason)) if kernel.ask_for_less(reason.as_ref()) => {}
                result => break result?,
            }
        };
        let log = options.verbose.then(|| EbpfLogger::init(&mut loaded.programs)).transpose();
        let exists = |probe| kernel.tracepoints.iter().any(|&(known, _)| known == probe);
        Ok(Self {
            ring: loaded.ring,
            lost: loaded.lost,
            lost_reported: [0; guard_ebpf::PROBES],
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
            degraded: kernel.degraded,
            refused: 0,
            log: log.map_err(|error| CollectError::Load(error.into()))?,
            _tracepoints: loaded.tracepoints,
            _programs: loaded.programs,
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
        for (probe, reported) in Probe::ALL.into_iter().zip(&mut self.lost_reported) {
            let per_cpu =
                self.lost.get(&(probe as u32), 0).map_err(|error| CollectError::Load(error.into()))?;
            let total = per_cpu.iter().sum::<u64>();
            let count = total.saturating_sub(*reported);
            if count > 0 {
                *reported = total;
                let fact = Fact::Lost { probe: probe.tracepoint().1.to_owned(), count };
                out.push(Event { id: 0, t_ns: host::boottime_ns(), cpu: None, current: None, fact });
            }
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
        &self.degraded
    }

    /// The ring buffer. Wait for it with a level-triggered poll: the kernel side leaves records that can
    /// wait without a wakeup, and a poll that starts anew sees them.
    fn fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }

    fn drain(&mut self, out: &mut Vec<Event>) -> Result<(), CollectError> {
        // A flood could keep this going for ever; what is left makes the next poll return at once.
        let mut budget = self.ring_bytes;
        while let Some(record) = self.ring.next() {
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
