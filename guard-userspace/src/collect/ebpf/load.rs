//! Loads the programs, attaches them, and says in plain words why the kernel refused.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use aya::maps::{MapData, PerCpuArray, RingBuf};
use aya::programs::{ProgramError, ProgramType, RawTracePoint, TracePoint};
use aya::sys::{SyscallError, is_program_supported};
use aya::{Ebpf, EbpfError, EbpfLoader, VerifierLogLevel};
use guard_ebpf::Probe;
use guard_ebpf::settings::{SETTINGS, Settings};
use nix::sched::{CloneFlags, unshare};

use super::Options;
use super::kernel::Kernel;
use crate::collect::CollectError;

/// The compiled programs, made by `cargo xtask build-ebpf`.
static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/bpf/killtrace.bpf.o"));

/// Room for diagnostics. Without them the buffer is made all the same, and one page must do.
const LOG_RING_BYTES: u32 = 1 << 17;
const UNUSED_RING_BYTES: u32 = 1 << 12;

/// Programs at work.
pub(super) struct Loaded {
    pub(super) programs: Ebpf,
    pub(super) ring: RingBuf<MapData>,
    pub(super) lost: PerCpuArray<MapData, u64>,
    pub(super) tracepoints: Vec<OwnedFd>,
}

/// The settings as bytes, which is how a global is overridden.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct SettingsBytes(Settings);

// SAFETY: `#[repr(C)]` and nothing but `u32`.
unsafe impl aya::Pod for SettingsBytes {}

pub(super) fn load(kernel: &Kernel, options: &Options) -> Result<Loaded, CollectError> {
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
    let lost = PerCpuArray::try_from(lost).map_err(|error| refused(error.into()))?;
    let mut tracepoints = Vec::new();
    for &(probe, id) in &kernel.tracepoints {
        if let Some(name) = raw_program(probe).filter(|_| kernel.has_btf) {
            attach_raw(&mut programs, probe, name)?;
        } else {
            tracepoints.push(attach_classic(&mut programs, probe, id)?);
        }
    }
    Ok(Loaded { programs, ring, lost, tracepoints })
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

fn attach_raw(programs: &mut Ebpf, probe: Probe, name: &str) -> Result<(), CollectError> {
    let program: &mut RawTracePoint = program(programs, name)?;
    program.load().map_err(|error| refused(error.into()))?;
    program.attach(probe.tracepoint().1).map_err(|error| not_attached(probe, error))?;
    Ok(())
}

/// Loads and attaches a classic program by the tracepoint's number.
///
/// Not aya's `attach`: it looks for tracefs at the usual places only.
fn attach_classic(programs: &mut Ebpf, probe: Probe, id: u64) -> Result<OwnedFd, CollectError> {
    let program: &mut TracePoint = program(programs, classic_program(probe))?;
    program.load().map_err(|error| refused(error.into()))?;
    let attach = || -> Result<OwnedFd, ProgramError> {
        let fd = program.fd()?;
        Ok(perf_attach(id, std::os::fd::AsFd::as_fd(fd))
            .map_err(|(call, io_error)| SyscallError { call, io_error })?)
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
    let event = perf_event_open(id).map_err(|error| ("perf_event_open", error))?;
    for (request, argument) in [(PERF_EVENT_IOC_SET_BPF, program.as_raw_fd()), (PERF_EVENT_IOC_ENABLE, 0)] {
        // SAFETY: both requests take an integer.
        if unsafe { libc::ioctl(event.as_raw_fd(), request, argument) } != 0 {
            return Err(("ioctl", io::Error::last_os_error()));
        }
    }
    Ok(event)
}

/// `_IOW('$', 8, __u32)` and `_IO('$', 0)` (include/uapi/linux/perf_event.h).
const PERF_EVENT_IOC_SET_BPF: libc::Ioctl = 0x4004_2408;
const PERF_EVENT_IOC_ENABLE: libc::Ioctl = 0x2400;

fn perf_event_open(id: u64) -> io::Result<OwnedFd> {
    /// `struct perf_event_attr` up to its first version's length; the kernel takes the rest as zero.
    #[repr(C)]
    struct Attributes {
        kind: u32,
        size: u32,
        config: u64,
        sample_period: u64,
        sample_type: u64,
        read_format: u64,
        flags: u64,
        wakeup_events: u32,
        bp_type: u32,
        config1: u64,
    }
    const PERF_TYPE_TRACEPOINT: u32 = 2;
    const PERF_ATTR_SIZE_VER0: u32 = 64;
    const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 8;
    const _: () = assert!(size_of::<Attributes>() == PERF_ATTR_SIZE_VER0 as usize);
    let attributes = Attributes {
        kind: PERF_TYPE_TRACEPOINT,
        size: PERF_ATTR_SIZE_VER0,
        config: id,
        sample_period: 0,
        sample_type: 0,
        read_format: 0,
        flags: 0,
        wakeup_events: 0,
        bp_type: 0,
        config1: 0,
    };
    let (any_process, cpu, no_group) = (-1, 0, -1);
    // SAFETY: the attributes are as long as they say; the rest is integers.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            any_process,
            cpu,
            no_group,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    match RawFd::try_from(fd) {
        // SAFETY: the call has just returned this descriptor; nobody else owns it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
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
    or_privileges(CollectError::Load(error.into()))
}

/// The same error, unless the kernel said "not permitted" and capabilities are missing.
pub(super) fn or_privileges(error: CollectError) -> CollectError {
    let mut source = Some(&error as &(dyn std::error::Error + 'static));
    while let Some(reason) = source {
        let io_error = reason.downcast_ref::<io::Error>();
        if io_error.is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied) {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
            let missing = missing_capabilities(&status);
            return if missing.is_empty() { error } else { CollectError::Privileges { missing } };
        }
        source = reason.source();
    }
    error
}

/// The capabilities that this process needs and does not have, from `/proc/thread-self/status`.
fn missing_capabilities(status: &str) -> Vec<String> {
    const CAP_DAC_READ_SEARCH: u64 = 1 << 2;
    const CAP_SYS_ADMIN: u64 = 1 << 21;
    const CAP_PERFMON: u64 = 1 << 38;
    const CAP_BPF: u64 = 1 << 39;
    let held = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .unwrap_or_default();
    [
        ("CAP_BPF", CAP_BPF | CAP_SYS_ADMIN),
        ("CAP_PERFMON", CAP_PERFMON | CAP_SYS_ADMIN),
        // tracefs belongs to root; CAP_DAC_OVERRIDE (bit 1) opens it as well.
        ("CAP_DAC_READ_SEARCH", CAP_DAC_READ_SEARCH | 1 << 1),
    ]
    .into_iter()
    .filter(|(_, any_of)| held & any_of == 0)
    .map(|(name, _)| name.to_owned())
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_capabilities_are_named() {
        let missing = |bits: &str| missing_capabilities(&format!("Name:\tx\nCapEff:\t{bits}\n"));
        assert_eq!(missing("000001ffffffffff"), [""; 0]);
        assert_eq!(missing("0000000000000000"), ["CAP_BPF", "CAP_PERFMON", "CAP_DAC_READ_SEARCH"]);
        assert_eq!(missing("0000008000000000"), ["CAP_PERFMON", "CAP_DAC_READ_SEARCH"]);
        assert_eq!(missing("0000000000200004"), [""; 0], "CAP_SYS_ADMIN includes both");
        assert_eq!(missing_capabilities("nonsense").len(), 3);
    }

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

    #[test]
    fn permission_denied_with_all_capabilities_stays_what_it_is() {
        let error = CollectError::Tracefs(io::Error::from_raw_os_error(libc::ENOENT));
        assert!(matches!(or_privileges(error), CollectError::Tracefs(_)));
    }
}
