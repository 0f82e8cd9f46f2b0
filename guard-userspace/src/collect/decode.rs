//! From the bytes of the ring buffer to events.
//!
//! Length and kind are checked before anything is believed; what makes no sense is refused, never guessed.

#![allow(unsafe_code, reason = "it reads records from bytes")]

use std::mem::{offset_of, size_of};

use guard_ebpf::Probe;
use guard_ebpf::record::{
    CURRENT_EXITING, CURRENT_FLAGS_KNOWN, CgroupAttach, EXIT_CODE_KNOWN, GROUP_DEAD, GROUP_DEAD_KNOWN,
    Header, MarkVictim, NewTask, ProcessExec, ProcessExit, SIGNALED, SYSCALL_KNOWN, SignalDeliver,
    SignalGenerate, SockState, TaskRename,
};

use super::syscalls::{self, Arch};
use crate::model::event::{
    Current, Deliver, Disposition, Event, Exec, Exit, Fact, Fork, Limits, OomDetails, OomVictim, Signal,
    SignalResult, Syscall, WaitStatus,
};
use crate::model::text::Comm;

/// `CLONE_THREAD` (include/uapi/linux/sched.h).
const CLONE_THREAD: u64 = 0x1_0000;
/// `SIGNAL_GROUP_EXIT` (include/linux/sched/signal.h).
const SIGNAL_GROUP_EXIT: u32 = 4;

/// What a record does not say about the machine it comes from.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    /// Whose system call numbers; `None` when unknown, and then no system call is reported.
    pub arch: Option<Arch>,
    /// In bytes.
    pub page_size: u64,
}

/// Why a record was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("a record of {len} bytes is too short")]
    Short { len: usize },
    #[error("a record is of unknown kind {probe}")]
    UnknownProbe { probe: u32 },
    #[error("a record's field {field} holds {value}, which means nothing")]
    Field { field: &'static str, value: u64 },
}

/// A record whose fields are integers only, so that any bytes of its size are one.
///
/// # Safety
/// `#[repr(C)]`, every bit pattern valid.
unsafe trait Wire: Copy {}
// SAFETY: integers and arrays of integers, for all of these.
unsafe impl Wire for u32 {}
// SAFETY: as above.
unsafe impl Wire for u64 {}
// SAFETY: as above.
unsafe impl Wire for Header {}
// SAFETY: as above.
unsafe impl Wire for SignalGenerate {}
// SAFETY: as above.
unsafe impl Wire for SignalDeliver {}
// SAFETY: as above.
unsafe impl Wire for MarkVictim {}
// SAFETY: as above.
unsafe impl Wire for ProcessExit {}
// SAFETY: as above.
unsafe impl Wire for NewTask {}
// SAFETY: as above.
unsafe impl Wire for TaskRename {}
// SAFETY: as above.
unsafe impl Wire for SockState {}
// SAFETY: as above.
unsafe impl Wire for CgroupAttach {}

fn read_at<T: Wire>(bytes: &[u8], at: usize) -> Result<T, DecodeError> {
    let short = DecodeError::Short { len: bytes.len() };
    let end = at.checked_add(size_of::<T>()).ok_or(short)?;
    let bytes = bytes.get(at..end).ok_or(short)?;
    // SAFETY: there are as many bytes as `T` has, any of them make a `T`, and the read needs no alignment.
    Ok(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

impl Decoder {
    /// The event that a record tells, with id 0.
    ///
    /// # Errors
    /// When the record is too short or makes no sense.
    pub fn decode(&self, bytes: &[u8]) -> Result<Event, DecodeError> {
        let header: Header = read_at(bytes, 0)?;
        let probe = Probe::ALL
            .into_iter()
            .find(|&probe| probe as u32 == header.probe)
            .ok_or(DecodeError::UnknownProbe { probe: header.probe })?;
        let fact = match probe {
            Probe::SignalGenerate => Fact::Signal(self.signal(&read_at(bytes, 0)?)?),
            Probe::SignalDeliver => Fact::Deliver(deliver(&read_at(bytes, 0)?)),
            Probe::MarkVictim => Fact::OomVictim(oom_victim(&read_at(bytes, 0)?)),
            Probe::ProcessExit => Fact::Exit(self.exit(&read_at(bytes, 0)?)),
            Probe::ProcessExec => Fact::Exec(Box::new(exec(bytes)?)),
            Probe::NewTask => Fact::Fork(fork(&read_at(bytes, 0)?)),
            Probe::TaskRename => {
                let record: TaskRename = read_at(bytes, 0)?;
                Fact::Rename { tid: record.tid, comm: Comm::from(record.comm) }
            }
            Probe::SockState => listen(&read_at(bytes, 0)?)?,
            Probe::CgroupAttach => cgroup_attach(&read_at(bytes, 0)?)?,
        };
        Ok(Event {
            id: 0,
            t_ns: header.t_boottime_ns,
            cpu: Some(header.cpu),
            current: Some(current(&header)),
            fact,
        })
    }

    fn signal(&self, record: &SignalGenerate) -> Result<Signal, DecodeError> {
        let result = signal_result(record.result)?;
        let syscall = self.arch.filter(|_| record.flags & SYSCALL_KNOWN != 0).map(|arch| Syscall {
            call: syscalls::call(arch, record.syscall),
            nr: record.syscall,
            args: record.args,
        });
        Ok(Signal {
            signo: record.signo,
            code: record.code,
            errno: record.errno,
            group: record.group != 0,
            result,
            target_tid: record.target_tid,
            target_tgid: known(record.target_tgid),
            target_comm: Some(Comm::from(record.target_comm)).filter(|comm| !comm.is_empty()),
            syscall,
            target_sid: known(record.target_sid),
        })
    }

    fn exit(&self, record: &ProcessExit) -> Exit {
        let group_dead = (record.flags & GROUP_DEAD_KNOWN != 0).then_some(record.flags & GROUP_DEAD != 0);
        if record.flags & EXIT_CODE_KNOWN == 0 {
            return Exit { group_dead, ..Exit::default() };
        }
        // What `wait` reports (kernel/exit.c, wait_task_zombie); another thread's end is its own.
        let group_exit = record.signal_flags & SIGNAL_GROUP_EXIT != 0;
        let by_group = group_dead == Some(true) && group_exit;
        let status = if by_group { record.group_exit_code } else { record.exit_code };
        let killed = WaitStatus(status).signal().is_some();
        let signaled = record.flags & SIGNALED != 0;
        Exit {
            status: Some(WaitStatus(status)),
            group_dead,
            ppid: known(record.ppid),
            pending: Some(record.pending | record.shared_pending),
            start_boottime_ns: known(record.start_boottime_ns),
            max_rss_bytes: known(record.max_rss_pages.saturating_mul(self.page_size)),
            signaled: Some(signaled),
            ended_all: !signaled && group_exit && record.group_exit_code & 0x7f == 0,
            blocked: Some(record.blocked),
            seccomp_mode: killed.then_some(record.seccomp_mode),
            limits: killed.then(|| Limits {
                cpu_s: limited(record.cpu_limit_s),
                rttime_us: limited(record.rttime_limit_us),
            }),
        }
    }
}

fn current(header: &Header) -> Current {
    Current {
        tid: header.tid,
        tgid: Some(header.tgid),
        uid: Some(header.uid),
        comm: Some(Comm::from(header.comm)),
        exiting: (header.flags & CURRENT_FLAGS_KNOWN != 0).then_some(header.flags & CURRENT_EXITING != 0),
    }
}

/// `TRACE_SIGNAL_*` (include/trace/events/signal.h).
pub(super) fn signal_result(value: u32) -> Result<SignalResult, DecodeError> {
    Ok(match value {
        0 => SignalResult::Delivered,
        1 => SignalResult::Ignored,
        2 => SignalResult::AlreadyPending,
        3 => SignalResult::OverflowFail,
        4 => SignalResult::LoseInfo,
        value => return Err(DecodeError::Field { field: "result", value: value.into() }),
    })
}

/// What `sa_handler` means.
pub(super) fn disposition(handler: u64) -> Disposition {
    match handler {
        0 => Disposition::Default,
        1 => Disposition::Ignore,
        _ => Disposition::Handler,
    }
}

fn deliver(record: &SignalDeliver) -> Deliver {
    let disposition = disposition(record.handler);
    Deliver { signo: record.signo, code: record.code, errno: record.errno, disposition }
}

fn oom_victim(record: &MarkVictim) -> OomVictim {
    let bytes = |kb: u64| kb.saturating_mul(1024);
    let details = (record.details != 0).then(|| OomDetails {
        total_vm_bytes: bytes(record.total_vm_kb),
        anon_rss_bytes: bytes(record.anon_rss_kb),
        file_rss_bytes: bytes(record.file_rss_kb),
        shmem_rss_bytes: bytes(record.shmem_rss_kb),
        pgtables_bytes: bytes(record.pgtables_kb),
        uid: record.uid,
        oom_score_adj: record.oom_score_adj,
    });
    OomVictim { tid: record.tid, details }
}

/// The process of a new task: its creator's for a thread, otherwise one of its own.
pub(super) fn child_tgid(clone_flags: u64, child_tid: u32, creator_tgid: u32) -> u32 {
    if clone_flags & CLONE_THREAD != 0 { creator_tgid } else { child_tid }
}

fn fork(record: &NewTask) -> Fork {
    let by_flags = child_tgid(record.clone_flags, record.child_tid, record.header.tgid);
    Fork {
        child_tid: record.child_tid,
        child_tgid: known(record.child_tgid).unwrap_or(by_flags),
        clone_flags: record.clone_flags,
        ppid: known(record.ppid),
        ns_tgid: known(record.ns_tgid).filter(|_| record.ns_level > 0),
        start_boottime_ns: known(record.start_boottime_ns),
    }
}

fn exec(bytes: &[u8]) -> Result<Exec, DecodeError> {
    let field = |at| read_at::<u32>(bytes, at);
    let mut rest =
        bytes.get(offset_of!(ProcessExec, data)..).ok_or(DecodeError::Short { len: bytes.len() })?;
    let mut part = |len: u32| {
        let short = DecodeError::Short { len: bytes.len() };
        let (part, tail) =
            usize::try_from(len).ok().and_then(|len| rest.split_at_checked(len)).ok_or(short)?;
        rest = tail;
        Ok(part)
    };
    let path = text(part(field(offset_of!(ProcessExec, path_len))?)?);
    let interp = part(field(offset_of!(ProcessExec, interp_len))?)?;
    let args_len = field(offset_of!(ProcessExec, args_len))?;
    let args = part(args_len)?;
    Ok(Exec {
        old_tid: field(offset_of!(ProcessExec, old_tid))?,
        ppid: known(field(offset_of!(ProcessExec, ppid))?),
        start_boottime_ns: known(read_at(bytes, offset_of!(ProcessExec, start_boottime_ns))?),
        path,
        interp: (!interp.is_empty()).then(|| text(interp)),
        args: (!args.is_empty()).then(|| split_args(args)),
        args_truncated: args_len > 0 && field(offset_of!(ProcessExec, args_total))? > args_len,
    })
}

fn listen(record: &SockState) -> Result<Fact, DecodeError> {
    let unknown = DecodeError::Field { field: "port", value: record.port.into() };
    let port = u16::try_from(record.port).ok().ok_or(unknown)?;
    Ok(Fact::Listen { port, listening: record.listening != 0 })
}

fn cgroup_attach(record: &CgroupAttach) -> Result<Fact, DecodeError> {
    let path = usize::try_from(record.path_len)
        .ok()
        .and_then(|len| record.path.get(..len))
        .ok_or(DecodeError::Field { field: "path_len", value: record.path_len.into() })?;
    Ok(Fact::CgroupAttach { tid: record.tid, hierarchy: record.hierarchy, path: text(path) })
}

/// Arguments as the kernel keeps them: each ended by a NUL, but for one that was cut.
#[must_use]
pub fn split_args(bytes: &[u8]) -> Vec<String> {
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    bytes.split(|&byte| byte == 0).map(text).collect()
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `RLIM_INFINITY` is no limit, and 0 could not be read.
fn limited(limit: u64) -> Option<u64> {
    Some(limit).filter(|&limit| limit != u64::MAX && limit != 0)
}

/// Records say 0 for what could not be read.
fn known<T: PartialEq + Default>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}

#[cfg(test)]
mod tests;
