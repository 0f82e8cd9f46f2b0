//! The perf events of one CPU: every tracepoint, all writing to one buffer.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd};

use guard_ebpf::settings::Settings;
use guard_ebpf::{ABSENT, Probe};

use super::ring::Ring;
use super::sample::SAMPLE_TYPE;
use crate::collect::perf_event::{self, bindings};
use crate::collect::tracepoints::Tracepoints;

/// One CPU, watched.
#[derive(Debug)]
pub(super) struct Cpu {
    pub(super) number: u32,
    pub(super) ring: Ring,
    /// Bytes taken from the ring since its losses were asked for.
    pub(super) taken: usize,
    /// The first one owns the ring.
    events: Vec<Event>,
}

#[derive(Debug)]
struct Event {
    probe: Probe,
    fd: File,
    /// What was reported of its losses.
    lost: u64,
}

/// What all CPUs' events have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// Wanted for records, a power of two.
    pub(super) ring_bytes: usize,
    pub(super) page_size: usize,
    /// Every event counts its losses (`PERF_FORMAT_LOST`, Linux 6.0); where it cannot, the buffer says when it has
    /// room again how many records it refused, whatever their kind.
    pub(super) counts_losses: bool,
}

impl Cpu {
    /// Opens every tracepoint on one CPU. Records are made from here on.
    pub(super) fn open(number: u32, tracepoints: &Tracepoints, plan: &mut Plan) -> io::Result<Self> {
        let mut events: Vec<Event> = Vec::with_capacity(tracepoints.found.len());
        for &(probe, id) in &tracepoints.found {
            let fd = open_event(probe, id, number, plan)?;
            events.push(Event { probe, fd, lost: 0 });
        }
        let owner = events.first().ok_or(io::ErrorKind::NotFound)?.fd.as_fd();
        let ring = map(owner, plan)?;
        for Event { fd, .. } in events.get(1..).unwrap_or_default() {
            perf_event::set_output(fd.as_fd(), owner)?;
        }
        for Event { probe, fd, .. } in &events {
            if let Some(filter) = filter(*probe, &tracepoints.fields) {
                perf_event::set_filter(fd.as_fd(), &filter)?;
            }
            perf_event::enable(fd.as_fd())?;
        }
        Ok(Self { number, ring, taken: 0, events })
    }

    /// Becomes readable when a record came that cannot wait, or many that can.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.events.first().map(|event| event.fd.as_fd())
    }

    /// False when the CPU has been offline since: the kernel takes its events away then, and gives none back
    /// (kernel/events/core.c, `perf_event_exit_cpu_context`). The time of an event that counts goes on between two looks.
    pub(super) fn is_alive(&self) -> bool {
        let Some(event) = self.events.first() else { return false };
        let time = || {
            // Its value, the time that it was enabled, and what it lost where that is counted.
            let mut counters = [0; 24];
            (&event.fd).read(&mut counters).ok().filter(|&read| read >= 16)?;
            counters.get(8..).and_then(|rest| rest.first_chunk::<8>().copied())
        };
        time() != time()
    }

    /// Tracepoints that an eBPF program sits on. One that returns 0, as most do, keeps the event from everybody who
    /// samples it (kernel/events/core.c, `perf_trace_run_bpf_submit`), and nobody counts that.
    pub(super) fn hidden(&self) -> impl Iterator<Item = Probe> {
        let is_hidden = |event: &&Event| perf_event::programs(event.fd.as_fd()).is_ok_and(|count| count > 0);
        self.events.iter().filter(is_hidden).map(|event| event.probe)
    }

    /// Calls `tell` for every kind of record of which some found no room since the last time.
    pub(super) fn losses(&mut self, mut tell: impl FnMut(Probe, u64)) -> io::Result<()> {
        self.taken = 0;
        for event in &mut self.events {
            // The value of the event, the time that it was enabled, and what it lost.
            let mut counters = [0; 24];
            event.fd.read_exact(&mut counters)?;
            let total = counters.last_chunk().copied().map_or(0, u64::from_ne_bytes);
            let new = total.saturating_sub(event.lost);
            if new > 0 {
                event.lost = total;
                tell(event.probe, new);
            }
        }
        Ok(())
    }
}

fn open_event(probe: Probe, tracepoint: u64, cpu: u32, plan: &mut Plan) -> io::Result<File> {
    loop {
        let mut attributes = perf_event::attributes(tracepoint);
        attributes.sample_period = 1;
        attributes.sample_type = SAMPLE_TYPE;
        attributes.set_use_clockid(1);
        // The clock of events, CLOCK_BOOTTIME, is not among those that may be read anywhere in the kernel
        // (kernel/events/core.c, `perf_event_set_clock`).
        attributes.clockid = libc::CLOCK_MONOTONIC;
        attributes.read_format = bindings::PERF_FORMAT_TOTAL_TIME_ENABLED.into();
        if plan.counts_losses {
            attributes.read_format |= u64::from(bindings::PERF_FORMAT_LOST);
        }
        if is_urgent(probe) {
            attributes.wakeup_events = 1;
        } else {
            attributes.set_watermark(1);
            attributes.wakeup_watermark = u32::try_from(plan.ring_bytes / 8).unwrap_or(u32::MAX);
        }
        match perf_event::open(&mut attributes, cpu) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && plan.counts_losses => {
                plan.counts_losses = false;
            }
            result => return result.map(File::from),
        }
    }
}

/// Somebody died, or /proc must be read before a process is gone.
fn is_urgent(probe: Probe) -> bool {
    matches!(probe, Probe::ProcessExit | Probe::ProcessExec | Probe::MarkVictim)
}

/// Maps as much as wanted, or as much as may be locked: without CAP_IPC_LOCK that is perf_event_mlock_kb.
fn map(owner: BorrowedFd<'_>, plan: &mut Plan) -> io::Result<Ring> {
    loop {
        match Ring::map(owner, plan.ring_bytes, plan.page_size) {
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOMEM))
                    && plan.ring_bytes > plan.page_size =>
            {
                plan.ring_bytes /= 2;
            }
            result => return result,
        }
    }
}

/// What the kernel shall not even record: the noise that the eBPF programs drop too.
///
/// No SIGCHLD of a death is dropped where signals are generated: it says how the process ended.
fn filter(probe: Probe, fields: &Settings) -> Option<CString> {
    let text = match probe {
        Probe::SignalGenerate => format!("sig != {}", libc::SIGURG),
        Probe::SignalDeliver => format!(
            "sig != {} && sig != {} && sig != {} && sig != {}",
            libc::SIGCHLD,
            libc::SIGURG,
            libc::SIGWINCH,
            libc::SIGCONT
        ),
        Probe::SockState => {
            // Into or out of TCP_LISTEN.
            let tcp = if fields.sock_state.protocol == ABSENT { "" } else { " && protocol == 6" };
            format!("((oldstate == 10 && newstate != 10) || (oldstate != 10 && newstate == 10)){tcp}")
        }
        _ => return None,
    };
    CString::new(text).ok()
}
