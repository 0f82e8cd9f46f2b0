//! Finds out where this kernel keeps what the programs read.

use aya::programs::ProgramType;
use aya::sys::{BpfHelper, is_helper_supported};
use guard_ebpf::settings::{
    BinprmFields, MmFields, PidFields, RegsFields, Settings, SiginfoFields, SignalStructFields, TaskFields,
};
use guard_ebpf::{ABSENT, Probe};

use crate::collect::Options;
use crate::collect::btf::{self, Structs};
use crate::collect::tracepoints::Tracepoints;
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
        let Tracepoints { fields, found, degraded } = Tracepoints::read(options.listen)?;
        let mut this = Self { settings: fields, tracepoints: found, has_btf: false, degraded };
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
}
