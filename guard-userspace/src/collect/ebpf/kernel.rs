//! Finds out where this kernel keeps what the programs read.

use aya::programs::ProgramType;
use aya::sys::{BpfHelper, is_helper_supported};
use guard_ebpf::settings::{
    BinprmFields, CgroupAttachFields, MarkVictimFields, MmFields, NewTaskFields, PidFields,
    ProcessExecFields, ProcessExitFields, RegsFields, Settings, SiginfoFields, SignalDeliverFields,
    SignalGenerateFields, SignalStructFields, SockStateFields, TaskFields, TaskRenameFields,
};
use guard_ebpf::{ABSENT, Probe};

use super::Options;
use crate::collect::btf::{self, Structs};
use crate::collect::tracefs::{Format, Tracefs};
use crate::collect::{CollectError, syscalls::Arch};

/// x86 `TS_COMPAT` (arch/x86/include/asm/thread_info.h).
const TS_COMPAT: u32 = 2;
/// arm64 `PSR_MODE32_BIT` (arch/arm64/include/uapi/asm/ptrace.h).
const PSR_MODE32_BIT: u32 = 0x10;

/// What the programs are told, and which of them this kernel can run.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) settings: Settings,
    /// The tracepoints that exist, with what `perf_event_open` calls them.
    pub(super) tracepoints: Vec<(Probe, u64)>,
    /// Structures were found in BTF, so that the raw tracepoint programs work.
    pub(super) has_btf: bool,
    /// What is missing, in plain sentences.
    pub(super) degraded: Vec<String>,
}

impl Kernel {
    pub(super) fn inspect(options: &Options) -> Result<Self, CollectError> {
        let mut this = Self {
            settings: Settings::UNKNOWN,
            tracepoints: Vec::new(),
            has_btf: false,
            degraded: Vec::new(),
        };
        this.read_formats(&Tracefs::open()?, options)?;
        if !options.hide_btf {
            this.read_btf();
        }
        if !this.has_btf {
            this.degraded.push(NO_BTF.to_owned());
        } else if this.settings.has_task_regs == 0 {
            this.degraded.push(NO_REGISTERS.to_owned());
        }
        Ok(this)
    }

    /// Gives up the most demanding thing that is used, after the kernel refused the programs for `reason`;
    /// false when there is nothing left to give up.
    ///
    /// Verifiers differ, and a vendor's kernel that refuses one of the cleverer programs must not cost the
    /// user everything else.
    pub(super) fn ask_for_less(&mut self, reason: &dyn std::error::Error) -> bool {
        let lost = if self.settings.has_task_regs != 0 {
            self.settings.has_task_regs = 0;
            NO_REGISTERS
        } else if self.has_btf {
            self.has_btf = false;
            self.settings.exit_status_known = 0;
            self.settings.task = TaskFields::ABSENT;
            NO_BTF
        } else {
            return false;
        };
        log::warn!("the kernel refused a program, trying a simpler one: {reason}");
        self.degraded.push(lost.to_owned());
        true
    }

    fn read_formats(&mut self, tracefs: &Tracefs, options: &Options) -> Result<(), CollectError> {
        for probe in Probe::ALL {
            if probe == Probe::SockState && !options.listen {
                continue;
            }
            let (category, name) = probe.tracepoint();
            let Some(format) = tracefs.format(category, name)? else {
                match without(probe) {
                    Some(loss) => {
                        self.degraded.push(format!("the kernel has no tracepoint {category}:{name}: {loss}"));
                        continue;
                    }
                    None => {
                        return Err(CollectError::NoTracepoint { tracepoint: format!("{category}:{name}") });
                    }
                }
            };
            self.read_format(probe, &format).map_err(|field| CollectError::Format {
                path: format!("events/{category}/{name}/format").into(),
                problem: format!("it has no field {field} of the expected size"),
            })?;
            self.tracepoints.push((probe, format.id));
        }
        Ok(())
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
        let settings = &mut self.settings;
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

    fn read_btf(&mut self) {
        let bytes = match btf::read_kernel() {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return,
            Err(error) => {
                self.degraded.push(format!("the kernel's type information (BTF) cannot be read: {error}"));
                return;
            }
        };
        let Some(structs) = Structs::find(&bytes, &STRUCTS) else {
            self.degraded.push("the kernel's type information (BTF) is damaged".to_owned());
            return;
        };
        match self.read_structs(&structs) {
            Ok(()) => self.has_btf = true,
            Err((structure, member)) => self.degraded.push(format!(
                "the kernel's type information (BTF) has no {structure}.{member}: it is not used"
            )),
        }
    }

    /// Finds every member that the raw tracepoint programs read, or names the one that is missing.
    fn read_structs(&mut self, structs: &Structs<'_>) -> Result<(), (&'static str, &'static str)> {
        let member = |structure: &'static str, path: &'static str| {
            structs.member(structure, path).ok_or((structure, path))
        };
        let task = |path| member("task_struct", path);
        let signal = |path| member("signal_struct", path);
        let settings = &mut self.settings;
        settings.task = TaskFields {
            pid: task("pid")?,
            tgid: task("tgid")?,
            comm: task("comm")?,
            flags: task("flags")?,
            exit_code: task("exit_code")?,
            signal: task("signal")?,
            group_leader: task("group_leader")?,
            real_parent: task("real_parent")?,
            start_boottime: task("start_boottime")?,
            mm: task("mm")?,
            pending: task("pending.signal")?,
            thread_pid: task("thread_pid")?,
            seccomp_mode: task("seccomp.mode").unwrap_or(ABSENT),
            blocked: task("blocked")?,
        };
        settings.signal = SignalStructFields {
            flags: signal("flags")?,
            group_exit_code: signal("group_exit_code")?,
            live: signal("live.counter")?,
            shared_pending: signal("shared_pending.signal")?,
            maxrss: signal("maxrss")?,
            rlim: signal("rlim")?,
            pids: signal("pids")?,
        };
        settings.siginfo = SiginfoFields {
            si_errno: member("kernel_siginfo", "si_errno")?,
            si_code: member("kernel_siginfo", "si_code")?,
        };
        settings.pid = PidFields {
            level: member("pid", "level")?,
            numbers: member("pid", "numbers")?,
            upid_size: structs.size("upid").ok_or(("upid", "nr"))?,
        };
        settings.mm = MmFields {
            arg_start: member("mm_struct", "arg_start")?,
            arg_end: member("mm_struct", "arg_end")?,
        };
        settings.binprm = BinprmFields {
            filename: member("linux_binprm", "filename")?,
            interp: member("linux_binprm", "interp")?,
        };
        settings.exit_status_known = 1;
        if can_read_registers() && read_registers(settings, structs).is_some() {
            settings.has_task_regs = 1;
        }
        Ok(())
    }
}

const NO_BTF: &str = "the kernel's type information (BTF) is missing or of no use: exit statuses come from \
                      SIGCHLD and taskstats, and a sender's system call is not known";
const NO_REGISTERS: &str = "the kernel does not show a program the sender's registers (Linux 5.15 and later \
                            do): a sender's system call is not known";

/// The structures whose members are looked up.
const STRUCTS: [&str; 9] = [
    "task_struct",
    "signal_struct",
    "kernel_siginfo",
    "pid",
    "upid",
    "mm_struct",
    "linux_binprm",
    "pt_regs",
    "thread_info",
];

/// What is lost without this probe; `None` when nothing works without it.
fn without(probe: Probe) -> Option<&'static str> {
    match probe {
        Probe::SockState => Some("programs that start to listen on a port are noticed late"),
        Probe::CgroupAttach => Some("moves between cgroups are not seen"),
        Probe::TaskRename => Some("programs that rename themselves are noticed late"),
        _ => None,
    }
}

/// Asks the kernel by loading a tiny program for each helper.
fn can_read_registers() -> bool {
    [BpfHelper::BPF_FUNC_get_current_task_btf, BpfHelper::BPF_FUNC_task_pt_regs]
        .into_iter()
        .all(|helper| is_helper_supported(ProgramType::RawTracePoint, helper).unwrap_or(false))
}

/// Where the number and arguments of a system call are in the saved registers.
fn read_registers(settings: &mut Settings, structs: &Structs<'_>) -> Option<()> {
    let register = |path| structs.member("pt_regs", path);
    match Arch::HOST? {
        Arch::X86_64 => {
            settings.regs = RegsFields {
                nr: register("orig_ax")?,
                arg0: register("di")?,
                arg1: register("si")?,
                arg2: register("dx")?,
                compat_word: ABSENT,
            };
            settings.syscall_nr_size = 8;
            settings.task_compat_word = structs.member("task_struct", "thread_info.status")?;
            settings.compat_mask = TS_COMPAT;
        }
        Arch::Aarch64 => {
            // The first argument's own register holds the result by the time the call ends.
            let registers = register("regs")?;
            settings.regs = RegsFields {
                nr: register("syscallno")?,
                arg0: register("orig_x0")?,
                arg1: registers + 8,
                arg2: registers + 16,
                compat_word: register("pstate")?,
            };
            settings.syscall_nr_size = 4;
            settings.compat_mask = PSR_MODE32_BIT;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel() -> Kernel {
        Kernel { settings: Settings::UNKNOWN, tracepoints: Vec::new(), has_btf: false, degraded: Vec::new() }
    }

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
        let mut kernel = kernel();
        kernel.read_format(Probe::MarkVictim, &format(&[("pid", 8, 4)])).unwrap();
        assert_eq!(kernel.settings.mark_victim, MarkVictimFields { pid: 8, ..MarkVictimFields::ABSENT });
    }

    #[test]
    fn group_dead_is_used_where_the_kernel_has_it() {
        let mut kernel = kernel();
        kernel.read_format(Probe::ProcessExit, &format(&[("prio", 28, 4)])).unwrap();
        assert_eq!(kernel.settings.exit_has_group_dead, 0);
        kernel.read_format(Probe::ProcessExit, &format(&[("group_dead", 32, 1)])).unwrap();
        assert_eq!((kernel.settings.exit_has_group_dead, kernel.settings.process_exit.group_dead), (1, 32));
    }

    #[test]
    fn what_the_kernel_refuses_is_given_up_step_by_step() {
        let mut kernel = kernel();
        kernel.has_btf = true;
        kernel.settings.has_task_regs = 1;
        let reason = std::io::Error::other("refused");
        assert!(kernel.ask_for_less(&reason));
        assert_eq!((kernel.settings.has_task_regs, kernel.has_btf), (0, true));
        assert!(kernel.ask_for_less(&reason));
        assert!(!kernel.has_btf);
        assert!(!kernel.ask_for_less(&reason));
        assert_eq!(kernel.degraded, [NO_REGISTERS, NO_BTF]);
    }

    #[test]
    fn a_field_that_is_missing_or_of_another_size_is_named() {
        let rename = format(&[("pid", 8, 4), ("newcomm", 28, 4)]);
        assert_eq!(kernel().read_format(Probe::TaskRename, &rename), Err("newcomm"));
        assert_eq!(kernel().read_format(Probe::NewTask, &format(&[])), Err("pid"));
    }
}
