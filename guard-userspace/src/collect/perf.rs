//! The perf backend: the same tracepoints through the kernel's sampling buffers, for kernels that run no tracing
//! programs.
//!
//! The stock Raspberry Pi 5 kernel is one: without CONFIG_BPF_EVENTS it refuses them all. It sees what the eBPF
//! backend sees without BTF, but for the name and user of `current`: see `names` and `look_up`.
//! Everything hangs on file descriptors, so nothing stays behind in the kernel however killtrace ends.

mod decode;
mod events;
mod names;
mod ring;
mod sample;

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};

use guard_ebpf::{EXEC_DATA_LEN, PROBES, Probe};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use self::decode::Layout;
use self::events::{Cpu, Plan};
use self::names::Names;
use self::ring::Next;
use self::sample::Record;
use super::privileges::{Needed, PERFMON, TRACEFS};
use super::procfs::Procfs;
use super::tracepoints::Tracepoints;
use super::{CollectError, Options, Source, Upkeep, host};
use crate::model::event::{Current, Event, Fact};
use crate::model::header::Capabilities;

const NEEDED: Needed = Needed(&[PERFMON, TRACEFS]);

/// How often it looks without having been woken: for CPUs that came online, for records that nobody was in a hurry
/// for, and because wakeups of per-CPU buffers have been seen to get lost in virtual machines.
const LOOK: Duration = Duration::from_secs(5);
/// How often the loss counters are read when little comes in.
const LOSS_INTERVAL: Duration = Duration::from_secs(1);
/// Least room per CPU, unless less was asked for; as much as may be locked without privileges
/// (perf_event_mlock_kb).
const LEAST_RING: usize = 512 << 10;
/// Times that a drain looks again because all it found was newer than its beginning.
const ROUNDS: usize = 4;

/// The tracepoints at work. Dropping it closes them.
#[derive(Debug)]
pub struct PerfSource {
    tracepoints: Tracepoints,
    layout: Layout,
    plan: Plan,
    cpus: Vec<Cpu>,
    /// Readable when any CPU's buffer is, or when [`LOOK`] has passed.
    epoll: Epoll,
    look: TimerFd,
    clock: Clock,
    names: Names,
    procfs: Procfs,
    losses_read_at: Instant,
    /// Records that found no room, not yet told.
    lost: [u64; PROBES],
    /// The same, of unknown kind.
    lost_somehow: u64,
    /// Tracepoints that another program may keep from this one.
    hidden: Vec<Probe>,
    /// Records that made no sense.
    refused: u64,
    degraded: Vec<String>,
}

impl PerfSource {
    /// Opens every tracepoint on every CPU. Events are collected from here on.
    ///
    /// # Errors
    /// [`CollectError`] says whether privileges or a tracepoint are missing.
    pub fn open(options: &Options) -> Result<Self, CollectError> {
        Self::open_with(options).map_err(|error| NEEDED.or_privileges(error))
    }

    fn open_with(options: &Options) -> Result<Self, CollectError> {
        let tracepoints = Tracepoints::read(options.listen)?;
        let numbers = host::online_cpus().map_err(listen)?;
        allow_descriptors(numbers.len().saturating_mul(PROBES));
        let page_size = usize::try_from(host::page_size()).unwrap_or(4096);
        let all = usize::try_from(options.ring_bytes).unwrap_or(usize::MAX);
        let each = (all / numbers.len().max(1)).max(LEAST_RING.min(all)).max(page_size);
        // The largest power of two in it.
        let ring_bytes = 1 << each.ilog2();
        let plan = Plan { ring_bytes, page_size, counts_losses: true };
        let mut degraded = tracepoints.degraded.clone();
        degraded.push(NO_STRUCTURES.to_owned());
        let mut this = Self {
            layout: Layout::new(&tracepoints),
            tracepoints,
            plan,
            cpus: Vec::with_capacity(numbers.len()),
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(|error| listen(error.into()))?,
            look: timer().map_err(listen)?,
            clock: Clock::default(),
            names: Names::default(),
            procfs: Procfs::new(),
            losses_read_at: Instant::now(),
            lost: [0; PROBES],
            lost_somehow: 0,
            hidden: Vec::new(),
            refused: 0,
            degraded,
        };
        let readable = EpollEvent::new(EpollFlags::EPOLLIN, 0);
        this.epoll.add(this.look.as_fd(), readable).map_err(|error| listen(error.into()))?;
        for number in numbers {
            this.watch(number).map_err(listen)?;
        }
        let lacks = this.newly_hidden().into_iter().map(|probe| {
            let name = probe.tracepoint().1;
            format!("another eBPF program is attached to {name}: it may hide events from the perf backend")
        });
        this.degraded.extend(lacks);
        Ok(this)
    }

    /// Watches one CPU more.
    fn watch(&mut self, number: u32) -> io::Result<()> {
        let cpu = match Cpu::open(number, &self.tracepoints, &mut self.plan) {
            // It has just gone offline.
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(()),
            result => result?,
        };
        if let Some(fd) = cpu.fd() {
            self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        }
        self.cpus.push(cpu);
        Ok(())
    }

    /// Appends what happened until `until_ns`. False when there is more.
    ///
    /// CPUs are read one after the other, and nobody stands still meanwhile: an event read from the last one may have
    /// been caused by one that the first one had not had yet when it was read. What is older than the beginning of
    /// the reading is complete; the rest stays where it is.
    fn take(&mut self, until_ns: u64, out: &mut Vec<Event>) -> bool {
        let mut complete = true;
        let Self { layout, clock, .. } = self;
        for cpu in &mut self.cpus {
            let (mut refused, mut lost) = (0, 0);
            let result = cpu.ring.read(|record| {
                match Record::parse(record) {
                    Some(Record::Sample(sample)) if sample.t_mono_ns > until_ns => {
                        complete = false;
                        return Next::Stop;
                    }
                    Some(Record::Sample(sample)) => match layout.fact(&sample) {
                        Ok(fact) => out.push(Event {
                            id: 0,
                            t_ns: clock.boottime_ns(sample.t_mono_ns),
                            cpu: Some(sample.cpu),
                            current: Some(Current {
                                tid: sample.tid,
                                tgid: Some(sample.tgid),
                                uid: None,
                                comm: None,
                                exiting: None,
                            }),
                            fact,
                        }),
                        Err(error) => {
                            refused += 1;
                            log::warn!("a record from the kernel makes no sense: {error}");
                        }
                    },
                    Some(Record::Lost(count)) => lost += count,
                    Some(Record::Other) => {}
                    None => refused += 1,
                }
                Next::Go
            });
            match result {
                Ok(bytes) => cpu.taken = cpu.taken.saturating_add(bytes),
                Err(ring::Damaged) => {
                    log::warn!("the buffer of CPU {} is damaged", cpu.number);
                    (refused, lost) = (refused + 1, lost + 1);
                }
            }
            self.refused += refused;
            if !self.plan.counts_losses {
                self.lost_somehow += lost;
            }
        }
        complete
    }

    /// Adds to events in time order what their records do not carry.
    fn look_up(&mut self, events: &mut [Event]) {
        // A program that has been replaced by another within one reading cannot be asked for its arguments any more.
        let mut replaced: Vec<u32> = Vec::new();
        for event in events.iter_mut().rev() {
            let (Fact::Exec(exec), Some(current)) = (&mut event.fact, &mut event.current) else { continue };
            let tgid = current.tgid.unwrap_or(current.tid);
            if !replaced.contains(&tgid) {
                (exec.args, current.uid) = self.procfs.started(tgid);
                exec.args_truncated = exec.args.as_mut().is_some_and(cut);
                replaced.push(tgid);
            }
        }
        for event in events {
            let Some(current) = &mut event.current else { continue };
            current.comm = self.names.get(current.tid, event.cpu.unwrap_or(0));
            match &event.fact {
                Fact::Fork(fork) => {
                    if let Some(comm) = current.comm {
                        self.names.born(fork.child_tid, comm);
                    }
                }
                Fact::Rename { tid, comm } => self.names.set(*tid, *comm),
                Fact::Exit(_) => self.names.ended(current.tid),
                _ => {}
            }
        }
    }

    /// Asks for losses where there can have been any.
    ///
    /// A record is lost only while a buffer is full, and after that a whole buffer is read; so as long as little was
    /// read there is nothing to ask, which spares a system call per event and CPU.
    fn count_losses(&mut self) -> Result<(), CollectError> {
        if !self.plan.counts_losses {
            return Ok(());
        }
        let all = self.losses_read_at.elapsed() >= LOSS_INTERVAL;
        for cpu in &mut self.cpus {
            if cpu.taken >= cpu.ring.len() / 4 || (all && cpu.taken > 0) {
                let lost = &mut self.lost;
                cpu.losses(|probe, count| lost[probe as usize] += count).map_err(listen)?;
            }
        }
        if all {
            self.losses_read_at = Instant::now();
        }
        Ok(())
    }

    fn tell_losses(&mut self, out: &mut Vec<Event>) {
        let kinds = Probe::ALL.map(|probe| probe.tracepoint().1);
        let losses = kinds.into_iter().zip(std::mem::take(&mut self.lost));
        for (probe, count) in losses.chain([("perf", std::mem::take(&mut self.lost_somehow))]) {
            if count > 0 {
                self.names.forget();
                let fact = Fact::Lost { probe: probe.to_owned(), count };
                out.push(Event { id: 0, t_ns: host::boottime_ns(), cpu: None, current: None, fact });
            }
        }
    }

    /// Tracepoints that another program has been attached to since the last time.
    fn newly_hidden(&mut self) -> Vec<Probe> {
        let hidden: Vec<Probe> = self.cpus.first().map(|cpu| cpu.hidden().collect()).unwrap_or_default();
        let new = hidden.iter().filter(|probe| !self.hidden.contains(probe)).copied().collect();
        self.hidden = hidden;
        new
    }

    /// Notices CPUs that went and CPUs that came, of which the latter were not watched until now. Also those that went and
    /// came back between two looks, as all but one do when the machine is suspended.
    fn follow_cpus(&mut self, out: &mut Vec<Event>) -> io::Result<()> {
        let online = host::online_cpus()?;
        let watched = |cpu: &Cpu| online.contains(&cpu.number) && cpu.is_alive();
        if !self.cpus.iter().all(watched) {
            // What they had recorded until they went.
            let now_ns = self.clock.read();
            self.take(now_ns, out);
            self.cpus.retain(watched);
        }
        for number in online {
            if !self.cpus.iter().any(|cpu| cpu.number == number) {
                self.watch(number)?;
                log::warn!("CPU {number} came online; what happened on it until now was not seen");
                self.lost_somehow += 1;
            }
        }
        Ok(())
    }
}

impl Source for PerfSource {
    fn name(&self) -> &'static str {
        "perf"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            group_dead: self.tracepoints.fields.exit_has_group_dead != 0,
            cgroup_attach: self.tracepoints.has(Probe::CgroupAttach),
            listen: self.tracepoints.has(Probe::SockState),
            ..Capabilities::default()
        }
    }

    fn degraded(&self) -> &[String] {
        &self.degraded
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    /// What came while it was at it stays for the next time, so whoever got something has to ask again.
    fn drain(&mut self, out: &mut Vec<Event>) -> Result<(), CollectError> {
        let start = out.len();
        let mut looked = self.look.wait().is_ok();
        for _ in 0..ROUNDS {
            let now_ns = self.clock.read();
            if self.take(now_ns, out) || out.len() > start {
                break;
            }
        }
        looked |= std::mem::take(&mut self.clock.was_suspended);
        if looked {
            self.follow_cpus(out).map_err(listen)?;
            for probe in self.newly_hidden() {
                log::warn!("another eBPF program may hide {} from the perf backend", probe.tracepoint().1);
                self.lost[probe as usize] += 1;
            }
        }
        let new = out.get_mut(start..).unwrap_or_default();
        // Stable, and fast for what it is: a few sorted runs.
        new.sort_by_key(|event| event.t_ns);
        self.look_up(new);
        self.count_losses()?;
        self.tell_losses(out);
        Ok(())
    }

    fn refused(&self) -> u64 {
        self.refused
    }

    fn upkeep(&self) -> Upkeep {
        Upkeep::OpenEvents
    }
}

const NO_STRUCTURES: &str = "the perf backend cannot read the kernel's structures, with or without BTF: exit statuses \
                             come from SIGCHLD and taskstats, arguments and users from /proc, and a sender's system \
                             call is not known";

/// Keeps no more of the arguments than the eBPF programs would. True when there was more.
fn cut(args: &mut Vec<String>) -> bool {
    let mut room = EXEC_DATA_LEN;
    // Each with the byte that ends it.
    let fits = args.iter().take_while(|arg| {
        let fits = arg.len() < room;
        room = room.saturating_sub(arg.len() + 1);
        fits
    });
    let fitting = fits.count();
    if fitting == args.len() {
        return false;
    }
    let used: usize = args.iter().take(fitting).map(|arg| arg.len() + 1).sum();
    args.truncate(fitting + 1);
    if let Some(last) = args.last_mut() {
        let room = EXEC_DATA_LEN.saturating_sub(used);
        let end = (0..=room).rev().find(|&end| last.is_char_boundary(end)).unwrap_or(0);
        last.truncate(end);
    }
    true
}

/// From the clock of the records to that of events.
#[derive(Debug, Default)]
struct Clock {
    /// CLOCK_BOOTTIME minus CLOCK_MONOTONIC: the time that the machine was suspended.
    offset_ns: i64,
    /// It has been since somebody asked.
    was_suspended: bool,
}

impl Clock {
    /// Differences below this are the time it takes to read two clocks.
    const SUSPENDED_NS: u64 = 1_000_000;

    /// The time, in the records' clock.
    ///
    /// What was recorded before the machine was suspended and read after gets a time after the suspension; that is
    /// little, as a death wakes the reader at once.
    fn read(&mut self) -> u64 {
        let (mono_ns, offset_ns) = host::monotonic_and_offset_ns();
        if offset_ns.abs_diff(self.offset_ns) > Self::SUSPENDED_NS {
            self.offset_ns = offset_ns;
            self.was_suspended = true;
        }
        mono_ns
    }

    fn boottime_ns(&self, mono_ns: u64) -> u64 {
        mono_ns.saturating_add_signed(self.offset_ns)
    }
}

/// By the clock that runs while the machine is suspended: it is due when the machine wakes up.
fn timer() -> io::Result<TimerFd> {
    let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?;
    timer.set(Expiration::Interval(TimeSpec::from(LOOK)), TimerSetTimeFlags::empty())?;
    Ok(timer)
}

/// Raises the limit of open files as far as needed and allowed: there is one per tracepoint and CPU.
fn allow_descriptors(events: usize) {
    const OTHERS: u64 = 256;
    let needed = u64::try_from(events).unwrap_or(u64::MAX).saturating_add(OTHERS);
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < needed
    {
        // Where that is refused, opening will say what is missing.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, needed.min(hard), hard);
    }
}

fn listen(source: io::Error) -> CollectError {
    CollectError::Listen { what: "the kernel's tracepoints (perf_event_open)", source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_without_end_are_cut_and_say_so() {
        let mut args = vec!["node".to_owned(), "x".repeat(10)];
        assert!(!cut(&mut args));
        assert_eq!(args.len(), 2);
        let mut args = vec!["node".to_owned(), "é".repeat(EXEC_DATA_LEN), "more".to_owned()];
        assert!(cut(&mut args));
        assert_eq!((args.len(), args[1].len()), (2, EXEC_DATA_LEN - 6));
        let mut args = vec![String::new(); EXEC_DATA_LEN + 9];
        assert!(cut(&mut args));
        assert_eq!(args.len(), EXEC_DATA_LEN + 1);
    }

    #[test]
    fn a_suspension_shifts_what_comes_after_it() {
        let mut clock = Clock { offset_ns: -7_000_000_000, was_suspended: false };
        let mono_ns = clock.read();
        let now_ns = host::boottime_ns();
        assert!(now_ns.abs_diff(clock.boottime_ns(mono_ns)) < 1_000_000_000);
        assert!(std::mem::take(&mut clock.was_suspended));
        let offset_ns = clock.offset_ns;
        clock.read();
        assert_eq!(clock.offset_ns, offset_ns, "nothing moves while nobody sleeps");
        assert!(!clock.was_suspended);
    }
}
