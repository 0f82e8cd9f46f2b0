//! Where this kernel keeps the fields of the tracepoints, whichever backend reads them.

use guard_ebpf::settings::{
    CgroupAttachFields, MarkVictimFields, NewTaskFields, ProcessExecFields, ProcessExitFields, Settings,
    SignalDeliverFields, SignalGenerateFields, SockStateFields, TaskRenameFields,
};
use guard_ebpf::{ABSENT, Probe};

use super::CollectError;
use super::tracefs::{Format, Tracefs};

/// The tracepoints of this kernel.
#[derive(Debug)]
pub(super) struct Tracepoints {
    /// Offsets of their fields; nothing else in it is set.
    pub(super) fields: Settings,
    /// Those that exist, with what `perf_event_open` calls them.
    pub(super) found: Vec<(Probe, u64)>,
    /// What is lost for lack of the others, in plain sentences.
    pub(super) degraded: Vec<String>,
}

impl Tracepoints {
    const NONE: Self = Self { fields: Settings::UNKNOWN, found: Vec::new(), degraded: Vec::new() };

    /// Whether the kernel has it.
    pub(super) fn has(&self, probe: Probe) -> bool {
        self.found.iter().any(|&(known, _)| known == probe)
    }

    /// Those of the given `format` files, for tests.
    #[cfg(test)]
    pub(super) fn of(formats: &[(Probe, Format)]) -> Self {
        let mut this = Self::NONE;
        for (probe, format) in formats {
            this.read_format(*probe, format).unwrap();
            this.found.push((*probe, format.id));
        }
        this
    }

    /// Reads the `format` file of every tracepoint that the kernel has; `listen` asks for sockets too.
    ///
    /// # Errors
    /// When one is missing without which nothing can be said, or lacks a field.
    pub(super) fn read(listen: bool) -> Result<Self, CollectError> {
        let tracefs = Tracefs::open()?;
        let mut this = Self::NONE;
        for probe in Probe::ALL {
            if probe == Probe::SockState && !listen {
                continue;
            }
            let (category, name) = probe.tracepoint();
            let Some(format) = tracefs.format(category, name)? else {
                match without(probe) {
                    Some(loss) => {
                        this.degraded.push(format!("the kernel has no tracepoint {category}:{name}: {loss}"));
                        continue;
                    }
                    None => {
                        return Err(CollectError::NoTracepoint { tracepoint: format!("{category}:{name}") });
                    }
                }
            };
            this.read_format(probe, &format).map_err(|field| CollectError::Format {
                path: format!("events/{category}/{name}/format").into(),
                problem: format!("it has no field {field} of the expected size"),
            })?;
            this.found.push((probe, format.id));
        }
        Ok(this)
    }

    /// Finds the fields of one tracepoint, or names the one that is missing.
    fn read_format(&mut self, probe: Probe, format: &Format) -> Result<(), &'static str> {
        let maybe = |name: &str, size: u32| {
            format.field(name).filter(|field| field.size == size).map_or(ABSENT, |field| field.offset)
        };
        let field = |name: &'static str, size: u32| match maybe(name, size) {
            ABSENT => Err(name),
            offset => Ok(offset),
        };
        let settings = &mut self.fields;
        match probe {
            Probe::SignalGenerate => {
                settings.signal_generate = SignalGenerateFields {
                    sig: field("sig", 4)?,
                    errno: field("errno", 4)?,
                    code: field("code", 4)?,
                    comm: field("comm", 16)?,
                    pid: field("pid", 4)?,
                    group: field("group", 4)?,
                    result: field("result", 4)?,
                };
            }
            Probe::SignalDeliver => {
                settings.signal_deliver = SignalDeliverFields {
                    sig: field("sig", 4)?,
                    errno: field("errno", 4)?,
                    code: field("code", 4)?,
                    sa_handler: field("sa_handler", 8)?,
                };
            }
            Probe::MarkVictim => {
                settings.mark_victim = MarkVictimFields {
                    pid: field("pid", 4)?,
                    total_vm: maybe("total_vm", 8),
                    anon_rss: maybe("anon_rss", 8),
                    file_rss: maybe("file_rss", 8),
                    shmem_rss: maybe("shmem_rss", 8),
                    pgtables: maybe("pgtables", 8),
                    uid: maybe("uid", 4),
                    oom_score_adj: maybe("oom_score_adj", 2),
                };
            }
            Probe::ProcessExit => {
                settings.process_exit = ProcessExitFields { group_dead: maybe("group_dead", 1) };
                settings.exit_has_group_dead = u32::from(settings.process_exit.group_dead != ABSENT);
            }
            Probe::ProcessExec => {
                settings.process_exec =
                    ProcessExecFields { filename: field("filename", 4)?, old_pid: field("old_pid", 4)? };
            }
            Probe::NewTask => {
                settings.new_task =
                    NewTaskFields { pid: field("pid", 4)?, clone_flags: field("clone_flags", 8)? };
            }
            Probe::TaskRename => {
                settings.task_rename =
                    TaskRenameFields { pid: maybe("pid", 4), newcomm: field("newcomm", 16)? };
            }
            Probe::SockState => {
                settings.sock_state = SockStateFields {
                    oldstate: field("oldstate", 4)?,
                    newstate: field("newstate", 4)?,
                    sport: field("sport", 2)?,
                    // One byte until Linux 5.6.
                    protocol: maybe("protocol", 2),
                };
            }
            Probe::CgroupAttach => {
                settings.cgroup_attach = CgroupAttachFields {
                    dst_root: field("dst_root", 4)?,
                    pid: field("pid", 4)?,
                    dst_path: field("dst_path", 4)?,
                };
            }
        }
        Ok(())
    }
}

/// What is lost without this probe; `None` when nothing works without it.
fn without(probe: Probe) -> Option<&'static str> {
    match probe {
        Probe::SockState => Some("programs that start to listen on a port are noticed late"),
        Probe::CgroupAttach => Some("moves between cgroups are not seen"),
        Probe::TaskRename => Some("programs that rename themselves are noticed late"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(fields: &[(&str, u32, u32)]) -> Format {
        let fields = fields
            .iter()
            .map(|(name, offset, size)| {
                format!("\tfield:int {name};\toffset:{offset};\tsize:{size};\tsigned:0;\n")
            })
            .collect::<String>();
        Format::parse(&format!("ID: 7\nformat:\n{fields}")).unwrap()
    }

    #[test]
    fn the_short_mark_victim_of_older_kernels_has_no_details() {
        let mut known = Tracepoints::NONE;
        known.read_format(Probe::MarkVictim, &format(&[("pid", 8, 4)])).unwrap();
        assert_eq!(known.fields.mark_victim, MarkVictimFields { pid: 8, ..MarkVictimFields::ABSENT });
    }

    #[test]
    fn group_dead_is_used_where_the_kernel_has_it() {
        let mut known = Tracepoints::NONE;
        known.read_format(Probe::ProcessExit, &format(&[("prio", 28, 4)])).unwrap();
        assert_eq!(known.fields.exit_has_group_dead, 0);
        known.read_format(Probe::ProcessExit, &format(&[("group_dead", 32, 1)])).unwrap();
        assert_eq!((known.fields.exit_has_group_dead, known.fields.process_exit.group_dead), (1, 32));
    }

    #[test]
    fn a_field_that_is_missing_or_of_another_size_is_named() {
        let rename = format(&[("pid", 8, 4), ("newcomm", 28, 4)]);
        let mut known = Tracepoints::NONE;
        assert_eq!(known.read_format(Probe::TaskRename, &rename), Err("newcomm"));
        assert_eq!(known.read_format(Probe::NewTask, &format(&[])), Err("pid"));
    }
}
