//! Loads the programs, attaches them, and says in plain words why the kernel refused.

#![allow(unsafe_code, reason = "it hands settings to the programs as bytes")]

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use aya::maps::{Map, MapData, PerCpuArray, RingBuf};
use aya::programs::{ProgramError, ProgramType, RawTracePoint, TracePoint};
use aya::sys::{SyscallError, is_program_supported};
use aya::{Ebpf, EbpfError, EbpfLoader, VerifierLogLevel};
use aya_log::EbpfLogger;
use guard_ebpf::Probe;
use guard_ebpf::settings::{SETTINGS, Settings};
use nix::sched::{CloneFlags, unshare};

use super::kernel::Kernel;
use super::raw_tracepoint;
use crate::collect::perf_event;
use crate::collect::privileges::{BPF, Needed, PERFMON, TRACEFS};
use crate::collect::{CollectError, Options};

/// The compiled programs, made by `cargo xtask build-ebpf`.
pub(super) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/bpf/killtrace.bpf.o"));

/// Room for diagnostics. Without them the buffer is made all the same, and one page must do.
const LOG_RING_BYTES: u32 = 1 << 17;
const UNUSED_RING_BYTES: u32 = 1 << 12;

/// What loading and attaching needs.
pub(super) const NEEDED: Needed = Needed(&[BPF, PERFMON, TRACEFS]);

/// Programs at work. They and their other maps live for as long as their links.
pub(super) struct AtWork {
    pub(super) ring: RingBuf<MapData>,
    pub(super) lost: PerCpuArray<MapData, u64>,
    pub(super) lost_fd: OwnedFd,
    pub(super) links: Vec<OwnedFd>,
}

/// The programs' diagnostics.
pub(super) type Log = EbpfLogger<&'static dyn log::Log>;

/// The settings as bytes, which is how a global is overridden.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct SettingsBytes(Settings);

// SAFETY: `#[repr(C)]` and nothing but `u32`.
unsafe impl aya::Pod for SettingsBytes {}

pub(super) fn load(kernel: &Kernel, options: &Options) -> Result<(AtWork, Option<Log>), CollectError> {
    let settings = SettingsBytes(kernel.settings);
    let (log_level, log_bytes) = if options.verbose {
        (aya_log::Level::Trace as u8, LOG_RING_BYTES)
    } else {
        (0_u8, UNUSED_RING_BYTES)
    };
    let mut loader = loader_without_kernel_btf();
    loader
        // The programs carry no relocations against the kernel's types: their offsets are settings.
        .btf(None)
        .override_global(SETTINGS, &settings, true)
        .override_global(aya_log::LEVEL, &log_level, true)
        .map_max_entries("EVENTS", options.ring_bytes)
        .map_max_entries("AYA_LOGS", log_bytes)
        .verifier_log_level(VerifierLogLevel::DEBUG);
    let mut programs = loader.load(OBJECT).map_err(refused)?;
    let ring = take(&mut programs, "EVENTS")?;
    let ring = RingBuf::try_from(ring).map_err(|error| refused(error.into()))?;
    let lost = take(&mut programs, "LOST")?;
    let lost_fd = match &lost {
        Map::PerCpuArray(data) => data.fd().as_fd().try_clone_to_owned(),
        _ => Err(io::ErrorKind::InvalidData.into()),
    };
    let lost_fd = lost_fd.map_err(|error| CollectError::Load(error.into()))?;
    let lost = PerCpuArray::try_from(lost).map_err(|error| refused(error.into()))?;
    let mut links = Vec::new();
    for &(probe, id) in &kernel.tracepoints {
        links.push(match raw_program(probe).filter(|_| kernel.has_btf) {
            Some(name) => attach_raw(&mut programs, probe, name)?,
            None => attach_classic(&mut programs, probe, id)?,
        });
    }
    let log = options.verbose.then(|| EbpfLogger::init(&mut programs)).transpose();
    let log = log.map_err(|error| CollectError::Load(error.into()))?;
    Ok((AtWork { ring, lost, lost_fd, links }, log))
}

/// A loader that has not parsed the kernel's BTF.
///
/// `EbpfLoader::new` parses all of `/sys/kernel/btf/vmlinux`, which is of no use here: it takes longer than
/// everything else at start-up and leaves the heap 12 MiB larger for good. There is no other constructor,
/// so it is called where that file cannot be found: on a thread whose root directory is /proc. Where the
/// thread may not do that (it needs CAP_SYS_CHROOT), it parses.
fn loader_without_kernel_btf() -> EbpfLoader<'static> {
    let without_sysfs = || {
        let hidden = unshare(CloneFlags::CLONE_FS).and_then(|()| nix::unistd::chroot("/proc"));
        if let Err(error) = hidden {
            log::debug!("cannot keep aya from parsing the kernel's BTF: {error}");
        }
        EbpfLoader::new()
    };
    let thread = std::thread::Builder::new().name("killtrace-load".to_owned()).spawn(without_sysfs);
    thread.ok().and_then(|thread| thread.join().ok()).unwrap_or_default()
}

fn take(programs: &mut Ebpf, name: &str) -> Result<aya::maps::Map, CollectError> {
    programs
        .take_map(name)
        .ok_or_else(|| CollectError::Load(format!("the embedded object has no map {name}").into()))
}

/// The program that needs no BTF.
fn classic_program(probe: Probe) -> &'static str {
    match probe {
        Probe::SignalGenerate => "signal_generate",
        Probe::SignalDeliver => "signal_deliver",
        Probe::MarkVictim => "mark_victim",
        Probe::ProcessExit => "process_exit",
        Probe::ProcessExec => "process_exec",
        Probe::NewTask => "new_task",
        Probe::TaskRename => "task_rename",
        Probe::SockState => "sock_state",
        Probe::CgroupAttach => "cgroup_attach",
    }
}

/// The program that needs BTF, for the hooks that have one.
fn raw_program(probe: Probe) -> Option<&'static str> {
    match probe {
        Probe::SignalGenerate => Some("signal_generate_btf"),
        Probe::SignalDeliver => Some("signal_deliver_btf"),
        Probe::ProcessExit => Some("process_exit_btf"),
        Probe::ProcessExec => Some("process_exec_btf"),
        Probe::NewTask => Some("new_task_btf"),
        Probe::MarkVictim | Probe::TaskRename | Probe::SockState | Probe::CgroupAttach => None,
    }
}

/// Loads and attaches a raw program.
///
/// Not aya's `attach`: its link does not show its descriptor, which another killtrace may need.
fn attach_raw(programs: &mut Ebpf, probe: Probe, name: &str) -> Result<OwnedFd, CollectError> {
    let program: &mut RawTracePoint = program(programs, name)?;
    program.load().map_err(|error| refused(error.into()))?;
    let attach = || -> Result<OwnedFd, ProgramError> {
        let call = "bpf_raw_tracepoint_open";
        let link = raw_tracepoint::open(probe.tracepoint().1, program.fd()?.as_fd());
        Ok(link.map_err(|io_error| SyscallError { call, io_error })?)
    };
    attach().map_err(|error| not_attached(probe, error))
}

/// Loads and attaches a classic program by the tracepoint's number.
///
/// Not aya's `attach`: it looks for tracefs at the usual places only.
fn attach_classic(programs: &mut Ebpf, probe: Probe, id: u64) -> Result<OwnedFd, CollectError> {
    let program: &mut TracePoint = program(programs, classic_program(probe))?;
    program.load().map_err(|error| refused(error.into()))?;
    let attach = || -> Result<OwnedFd, ProgramError> {
        let fd = program.fd()?;
        Ok(perf_attach(id, fd.as_fd()).map_err(|(call, io_error)| SyscallError { call, io_error })?)
    };
    attach().map_err(|error| not_attached(probe, error))
}

fn program<'a, T>(programs: &'a mut Ebpf, name: &str) -> Result<T, CollectError>
where
    T: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    programs
        .program_mut(name)
        .ok_or_else(|| CollectError::Load(format!("the embedded object has no program {name}").into()))?
        .try_into()
        .map_err(|error: ProgramError| CollectError::Load(error.into()))
}

/// Opens a tracepoint as a perf event and hangs the program on it. It runs on every CPU, whichever the
/// event is opened for (kernel/events/core.c, `perf_event_set_bpf_prog`).
fn perf_attach(id: u64, program: BorrowedFd<'_>) -> Result<OwnedFd, (&'static str, io::Error)> {
    let mut attributes = perf_event::attributes(id);
    let event = perf_event::open(&mut attributes, 0).map_err(|error| ("perf_event_open", error))?;
    perf_event::set_program(event.as_fd(), program).map_err(|error| ("ioctl", error))?;
    perf_event::enable(event.as_fd()).map_err(|error| ("ioctl", error))?;
    Ok(event)
}

fn not_attached(probe: Probe, error: ProgramError) -> CollectError {
    match refused(error.into()) {
        CollectError::Load(source) => {
            let (category, name) = probe.tracepoint();
            CollectError::Attach { probe: format!("{category}:{name}"), source }
        }
        other => other,
    }
}

/// Tells the reasons for a refusal apart: privileges, a kernel without tracing programs, anything else.
fn refused(error: EbpfError) -> CollectError {
    if let EbpfError::ProgramError(ProgramError::LoadError { io_error, verifier_log }) = &error {
        // Refused before the verifier looked at it, although programs as such are possible.
        let bare = io_error.raw_os_error() == Some(libc::EINVAL) && verifier_log.to_string().is_empty();
        if bare
            && is_program_supported(ProgramType::SocketFilter).unwrap_or(false)
            && !is_program_supported(ProgramType::TracePoint).unwrap_or(true)
        {
            return CollectError::NoTracingPrograms;
        }
    }
    NEEDED.or_privileges(CollectError::Load(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_probe_has_its_programs_in_the_object() {
        let has = |name: &str| {
            OBJECT.windows(name.len() + 2).any(|window| {
                window[0] == 0 && &window[1..=name.len()] == name.as_bytes() && window[name.len() + 1] == 0
            })
        };
        for probe in Probe::ALL {
            assert!(has(classic_program(probe)), "{probe:?}");
            assert!(raw_program(probe).is_none_or(has), "{probe:?}");
        }
    }
}
