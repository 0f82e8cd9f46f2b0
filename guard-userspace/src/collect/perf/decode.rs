//! From a tracepoint's bytes to a fact, by the offsets of its `format` file.

use guard_ebpf::settings::Settings;
use guard_ebpf::{ABSENT, COMM_LEN, Probe};

use super::sample::Sample;
use crate::collect::decode::{DecodeError, child_tgid, disposition, signal_result, text};
use crate::collect::tracepoints::Tracepoints;
use crate::model::event::{Deliver, Exec, Exit, Fact, Fork, OomDetails, OomVictim, Signal};
use crate::model::text::Comm;

/// `TCP_LISTEN` (include/net/tcp_states.h).
const TCP_LISTEN: u32 = 10;

/// Knows what the samples mean.
#[derive(Debug)]
pub(super) struct Layout {
    fields: Settings,
    /// What the first two bytes of a sample say.
    kinds: Vec<(u16, Probe)>,
}

impl Layout {
    pub(super) fn new(tracepoints: &Tracepoints) -> Self {
        let kind = |&(probe, id)| Some((u16::try_from(id).ok()?, probe));
        Self { fields: tracepoints.fields, kinds: tracepoints.found.iter().filter_map(kind).collect() }
    }

    /// What a sample tells.
    ///
    /// # Errors
    /// When it is of no known kind, too short, or makes no sense.
    pub(super) fn fact(&self, sample: &Sample<'_>) -> Result<Fact, DecodeError> {
        let raw = Raw(sample.raw);
        let kind = u16::from_ne_bytes(raw.bytes(0)?);
        let probe = self.kinds.iter().find(|&&(known, _)| known == kind).map(|&(_, probe)| probe);
        Ok(match probe.ok_or(DecodeError::UnknownProbe { probe: kind.into() })? {
            Probe::SignalGenerate => Fact::Signal(self.signal(raw)?),
            Probe::SignalDeliver => Fact::Deliver(self.deliver(raw)?),
            Probe::MarkVictim => Fact::OomVictim(self.oom_victim(raw)?),
            Probe::ProcessExit => Fact::Exit(self.exit(raw)?),
            Probe::ProcessExec => Fact::Exec(Box::new(self.exec(raw)?)),
            Probe::NewTask => Fact::Fork(self.fork(raw, sample.tgid)?),
            Probe::TaskRename => {
                let at = &self.fields.task_rename;
                let tid = if at.pid == ABSENT { sample.tid } else { raw.u32(at.pid)? };
                Fact::Rename { tid, comm: raw.comm(at.newcomm)? }
            }
            Probe::SockState => {
                let at = &self.fields.sock_state;
                let port = u16::from_ne_bytes(raw.bytes(at.sport)?);
                Fact::Listen { port, listening: raw.u32(at.newstate)? == TCP_LISTEN }
            }
            Probe::CgroupAttach => {
                let at = &self.fields.cgroup_attach;
                let path = raw.text(at.dst_path)?;
                Fact::CgroupAttach { tid: raw.u32(at.pid)?, hierarchy: raw.u32(at.dst_root)?, path }
            }
        })
    }

    fn signal(&self, raw: Raw<'_>) -> Result<Signal, DecodeError> {
        let at = &self.fields.signal_generate;
        Ok(Signal {
            signo: raw.i32(at.sig)?,
            code: raw.i32(at.code)?,
            errno: raw.i32(at.errno)?,
            group: raw.u32(at.group)? != 0,
            result: signal_result(raw.u32(at.result)?)?,
            target_tid: raw.u32(at.pid)?,
            target_tgid: None,
            target_sid: None,
            target_comm: Some(raw.comm(at.comm)?).filter(|comm| !comm.is_empty()),
            syscall: None,
        })
    }

    fn deliver(&self, raw: Raw<'_>) -> Result<Deliver, DecodeError> {
        let at = &self.fields.signal_deliver;
        Ok(Deliver {
            signo: raw.i32(at.sig)?,
            code: raw.i32(at.code)?,
            errno: raw.i32(at.errno)?,
            disposition: disposition(raw.u64(at.sa_handler)?),
        })
    }

    fn oom_victim(&self, raw: Raw<'_>) -> Result<OomVictim, DecodeError> {
        // Older kernels tell nothing but the pid.
        Ok(OomVictim { tid: raw.u32(self.fields.mark_victim.pid)?, details: self.oom_details(raw).ok() })
    }

    fn oom_details(&self, raw: Raw<'_>) -> Result<OomDetails, DecodeError> {
        let at = &self.fields.mark_victim;
        let bytes = |kb: u32| raw.u64(kb).map(|kb| kb.saturating_mul(1024));
        Ok(OomDetails {
            total_vm_bytes: bytes(at.total_vm)?,
            anon_rss_bytes: bytes(at.anon_rss)?,
            file_rss_bytes: bytes(at.file_rss)?,
            shmem_rss_bytes: bytes(at.shmem_rss)?,
            pgtables_bytes: bytes(at.pgtables)?,
            uid: raw.u32(at.uid)?,
            oom_score_adj: i16::from_ne_bytes(raw.bytes(at.oom_score_adj)?).into(),
        })
    }

    fn exit(&self, raw: Raw<'_>) -> Result<Exit, DecodeError> {
        let at = self.fields.process_exit.group_dead;
        let group_dead = if at == ABSENT { None } else { Some(raw.bytes::<1>(at)? != [0]) };
        Ok(Exit { group_dead, ..Exit::default() })
    }

    fn exec(&self, raw: Raw<'_>) -> Result<Exec, DecodeError> {
        let at = &self.fields.process_exec;
        Ok(Exec { old_tid: raw.u32(at.old_pid)?, path: raw.text(at.filename)?, ..Exec::default() })
    }

    fn fork(&self, raw: Raw<'_>, creator_tgid: u32) -> Result<Fork, DecodeError> {
        let at = &self.fields.new_task;
        let (child_tid, clone_flags) = (raw.u32(at.pid)?, raw.u64(at.clone_flags)?);
        let child_tgid = child_tgid(clone_flags, child_tid, creator_tgid);
        Ok(Fork { child_tid, child_tgid, clone_flags, ppid: None, ns_tgid: None, start_boottime_ns: None })
    }
}

/// The bytes of a tracepoint's record, read by offset.
#[derive(Clone, Copy)]
struct Raw<'a>(&'a [u8]);

impl<'a> Raw<'a> {
    fn short(self) -> DecodeError {
        DecodeError::Short { len: self.0.len() }
    }

    fn bytes<const N: usize>(self, at: u32) -> Result<[u8; N], DecodeError> {
        let tail = usize::try_from(at).ok().and_then(|at| self.0.get(at..));
        tail.and_then(|tail| tail.first_chunk()).copied().ok_or_else(|| self.short())
    }

    fn u32(self, at: u32) -> Result<u32, DecodeError> {
        self.bytes(at).map(u32::from_ne_bytes)
    }

    fn i32(self, at: u32) -> Result<i32, DecodeError> {
        self.bytes(at).map(i32::from_ne_bytes)
    }

    fn u64(self, at: u32) -> Result<u64, DecodeError> {
        self.bytes(at).map(u64::from_ne_bytes)
    }

    fn comm(self, at: u32) -> Result<Comm, DecodeError> {
        self.bytes::<COMM_LEN>(at).map(Comm::from)
    }

    /// A `__data_loc`: the length with its NUL in the upper half, where it is in the lower.
    fn text(self, at: u32) -> Result<String, DecodeError> {
        let location = self.u32(at)?;
        let range = |start: u32, len: u32| {
            let start = usize::try_from(start).ok()?;
            self.0.get(start..start.checked_add(usize::try_from(len).ok()?)?)
        };
        let bytes = range(location & 0xffff, location >> 16).ok_or_else(|| self.short())?;
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        Ok(text(bytes.get(..end).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::Record;
    use super::*;
    use crate::collect::tracefs::Format;
    use crate::model::event::{Disposition, SignalResult};

    /// What a kernel wrote, and how it described it: `python3` listens, renames itself and starts `sleep`, which it
    /// then ends with SIGTERM.
    const CAPTURED: &str = include_str!("captured-6.18-x86_64.txt");

    fn layout() -> Layout {
        let mut formats: Vec<(Probe, String)> = Vec::new();
        for line in CAPTURED.lines() {
            if let Some(name) = line.strip_prefix("tracepoint ") {
                let known = |probe: &Probe| {
                    let (category, tracepoint) = probe.tracepoint();
                    name == format!("{category}:{tracepoint}")
                };
                formats.push((Probe::ALL.into_iter().find(known).unwrap(), String::new()));
            } else if let Some((_, text)) = formats.last_mut() {
                text.push_str(line);
                text.push('\n');
            }
        }
        let formats: Vec<_> =
            formats.into_iter().map(|(probe, text)| (probe, Format::parse(&text).unwrap())).collect();
        Layout::new(&Tracepoints::of(&formats))
    }

    fn records() -> Vec<Vec<u8>> {
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        let lines = CAPTURED.lines().filter_map(|line| line.strip_prefix("record "));
        lines.map(|line| line.as_bytes().chunks(2).map(byte).collect()).collect()
    }

    fn sample(bytes: &[u8]) -> Sample<'_> {
        match Record::parse(bytes) {
            Some(Record::Sample(sample)) => sample,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_a_kernel_wrote_is_understood() {
        const PYTHON: u32 = 20228;
        const SLEEP: u32 = 20271;
        let (layout, records) = (layout(), records());
        let facts: Vec<(u32, Fact)> = records
            .iter()
            .map(|record| sample(record))
            .map(|sample| (sample.tid, layout.fact(&sample).unwrap()))
            .collect();
        let signal = |signo, code, result, target_tid, comm: &str| {
            Fact::Signal(Signal {
                signo,
                code,
                errno: 0,
                group: true,
                result,
                target_tid,
                target_tgid: None,
                target_sid: None,
                target_comm: Some(Comm::from(comm)),
                syscall: None,
            })
        };
        let dead = Fact::Exit(Exit { group_dead: Some(true), ..Exit::default() });
        let by_default =
            Deliver { signo: libc::SIGKILL, code: 0, errno: 0, disposition: Disposition::Default };
        let (python, sleep) = (Comm::from("kt-renamed"), Comm::from("sleep"));
        let expected = [
            (PYTHON, Fact::Listen { port: 47721, listening: true }),
            (PYTHON, Fact::Listen { port: 47721, listening: false }),
            (PYTHON, Fact::Rename { tid: PYTHON, comm: python }),
            (
                PYTHON,
                Fact::Fork(Fork {
                    child_tid: SLEEP,
                    child_tgid: SLEEP,
                    clone_flags: 18_874_368,
                    ppid: None,
                    ns_tgid: None,
                    start_boottime_ns: None,
                }),
            ),
            (SLEEP, Fact::Rename { tid: SLEEP, comm: sleep }),
            (
                SLEEP,
                Fact::Exec(Box::new(Exec {
                    old_tid: SLEEP,
                    path: "/bin/sleep".to_owned(),
                    ..Exec::default()
                })),
            ),
            (PYTHON, signal(libc::SIGTERM, 0, SignalResult::Delivered, SLEEP, "sleep")),
            (SLEEP, Fact::Deliver(by_default)),
            (SLEEP, dead.clone()),
            (SLEEP, signal(libc::SIGCHLD, 2, SignalResult::Ignored, PYTHON, "kt-renamed")),
            (PYTHON, dead),
        ];
        assert_eq!(facts[..expected.len()], expected);
        assert_eq!(facts.len(), expected.len() + 1, "and the SIGCHLD of its own end");
        let order = records.iter().map(|record| sample(record).t_mono_ns);
        assert!(order.is_sorted());
    }

    #[test]
    fn a_record_cut_short_anywhere_is_refused() {
        let layout = layout();
        for record in records() {
            for len in 0..record.len() {
                match Record::parse(&record[..len]) {
                    None => {}
                    Some(Record::Sample(sample)) => panic!("{len} bytes were enough for {sample:?}"),
                    Some(other) => panic!("{other:?}"),
                }
            }
            let Sample { raw, .. } = sample(&record);
            for len in 0..raw.len() {
                // Padding may be missing; nothing may panic.
                let _ = layout.fact(&Sample { raw: &raw[..len], ..sample(&record) });
            }
            assert!(layout.fact(&Sample { raw: &raw[..12], ..sample(&record) }).is_err());
        }
    }
}
