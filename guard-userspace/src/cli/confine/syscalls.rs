//! System calls: a list of what killtrace does from now on, and one of what nobody here will ever want.
//!
//! What is on neither is answered as by a kernel that does not know it (ENOSYS), for which every C library has another
//! way: a library of tomorrow must not end the flight recorder. What is on the second ends it at once: that is an
//! intruder, and one who may try again sooner or later finds a way. Programs that are started, which is `journalctl`
//! where the journal is asked, inherit both.

use std::collections::BTreeMap;

use anyhow::Context as _;
use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition as Condition,
    SeccompFilter, SeccompRule, TargetArch,
};

use super::Plans;
use crate::collect::Upkeep;

/// Files, memory, threads, time and waiting: what C libraries, Rust's and Tokio do, and what `journalctl` needs to read.
const HARMLESS: &[c_long] = &[
    // Files and directories, as far as their permissions allow.
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_lseek,
    libc::SYS_newfstatat,
    libc::SYS_fstat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_fchmod,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    libc::SYS_memfd_create,
    // Waiting.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_timerfd_settime,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_restart_syscall,
    // Memory that does not become code, see below.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mincore,
    libc::SYS_membarrier,
    // Threads and signals of its own.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // What it is and where.
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getgroups,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_capget,
    libc::SYS_getrusage,
    libc::SYS_getrandom,
    libc::SYS_getcpu,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    // Talking on sockets that it has; which ones it can make, see below.
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_shutdown,
];

/// The same under names that newer architectures were not given any more.
#[cfg(target_arch = "x86_64")]
const HARMLESS_OLD: &[c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_unlink,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_epoll_wait,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_getrlimit,
    libc::SYS_time,
    // The C library's per-thread data, in a program that starts; of the rest none is of use to anybody.
    libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const HARMLESS_OLD: &[c_long] = &[];

/// What takes over machines. Nothing that killtrace or `journalctl` do comes near it.
const HOSTILE: &[c_long] = &[
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // The kernel.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // What the machine consists of.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_mknodat,
    libc::SYS_fchownat,
    libc::SYS_open_by_handle_at,
    // Who it is.
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    libc::SYS_capset,
    libc::SYS_personality,
    libc::SYS_execveat,
];

/// From linux/bpf.h, linux/prctl.h and asm-generic/ioctls.h.
const BPF_MAP_LOOKUP_ELEM: u64 = 1;
const PR_SET_VMA: u64 = 0x5356_4d41;
const TIOCSTI: u64 = 0x5412;
const TIOCLINUX: u64 = 0x541c;
/// Of clone(2), all kinds of namespaces.
const NEW_NAMESPACE: u64 = 0x7e02_0000;

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

/// The filters, to be installed in this order.
#[derive(Debug)]
pub(super) struct Filters([BpfProgram; 2]);

impl Filters {
    /// What these plans need.
    pub(super) fn of(plans: &Plans) -> anyhow::Result<Self> {
        let arch = TargetArch::try_from(std::env::consts::ARCH).context("not for this kind of processor")?;
        let compile = |rules, otherwise, then| -> anyhow::Result<BpfProgram> {
            Ok(SeccompFilter::new(rules, otherwise, then, arch)?.try_into()?)
        };
        let unknown = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
        Ok(Self([
            compile(hostile(plans)?, SeccompAction::Allow, SeccompAction::KillProcess)?,
            compile(allowed(plans)?, unknown, SeccompAction::Allow)?,
        ]))
    }

    /// Has the kernel enforce them, for all threads and for good.
    pub(super) fn install(&self) -> Result<(), seccompiler::Error> {
        self.0.iter().try_for_each(|program| seccompiler::apply_filter_all_threads(program))
    }
}

/// What ends it, whatever else is allowed.
fn hostile(plans: &Plans) -> anyhow::Result<Rules> {
    let mut rules: Rules = HOSTILE.iter().map(|&call| (call, Vec::new())).collect();
    let looks_up = plans.upkeep.contains(&Upkeep::ReadMaps);
    let bpf = if looks_up { vec![rule(&[(0, Op::Ne, BPF_MAP_LOOKUP_ELEM)])?] } else { Vec::new() };
    rules.insert(libc::SYS_bpf, bpf);
    if !plans.upkeep.contains(&Upkeep::OpenEvents) {
        rules.insert(libc::SYS_perf_event_open, Vec::new());
    }
    if !plans.asks_journal {
        rules.insert(libc::SYS_execve, Vec::new());
    }
    Ok(rules)
}

/// What it may do.
fn allowed(plans: &Plans) -> anyhow::Result<Rules> {
    let mut rules: Rules = HARMLESS.iter().chain(HARMLESS_OLD).map(|&call| (call, Vec::new())).collect();
    let own_pid = u64::from(std::process::id());
    let (write, exec) = (bits(libc::PROT_WRITE), bits(libc::PROT_EXEC));

    // No memory is both written and executed, or becomes code later.
    let both = Op::MaskedEq(write | exec);
    let not_both = [0, write, exec].map(|kept| rule(&[(2, both.clone(), kept)]));
    rules.insert(libc::SYS_mmap, not_both.into_iter().collect::<Result<_, _>>()?);
    rules.insert(libc::SYS_mprotect, vec![rule(&[(2, Op::MaskedEq(exec), 0)])?]);

    // Threads; and processes only where it starts one. With clone3, whose flags no filter can see, C libraries do without.
    let mut clone = vec![(0, Op::MaskedEq(NEW_NAMESPACE), 0)];
    if !plans.asks_journal {
        let thread = bits(libc::CLONE_THREAD);
        clone.push((0, Op::MaskedEq(thread), thread));
    }
    rules.insert(libc::SYS_clone, vec![rule(&clone)?]);
    rules.insert(libc::SYS_tgkill, vec![rule(&[(0, Op::Eq, own_pid)])?]);

    // The limits of its own alone.
    rules.insert(libc::SYS_prlimit64, vec![rule(&[(0, Op::Eq, 0)])?, rule(&[(0, Op::Eq, own_pid)])?]);

    // Nothing is typed into anybody's terminal.
    let typing = [TIOCSTI, TIOCLINUX].map(|request| (1, Op::Ne, request));
    rules.insert(libc::SYS_ioctl, vec![rule(&typing)?]);

    let mut families = vec![libc::AF_UNIX];
    if plans.sends {
        // The last is how C libraries learn which addresses this machine has.
        families.extend([libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK]);
    }
    let families = families.into_iter().map(|family| rule(&[(0, Op::Eq, bits(family))]));
    rules.insert(libc::SYS_socket, families.collect::<Result<_, _>>()?);

    let mut controls = vec![bits(libc::PR_SET_NAME), bits(libc::PR_GET_NAME), PR_SET_VMA];
    if plans.asks_journal {
        let asked = [libc::PR_CAPBSET_READ, libc::PR_GET_SECUREBITS, libc::PR_GET_NO_NEW_PRIVS];
        controls.extend(asked.map(bits));
        rules.insert(libc::SYS_execve, Vec::new());
        #[cfg(target_arch = "x86_64")]
        rules.insert(libc::SYS_vfork, Vec::new());
    }
    let controls = controls.into_iter().map(|control| rule(&[(0, Op::Eq, control)]));
    rules.insert(libc::SYS_prctl, controls.collect::<Result<_, _>>()?);

    if plans.asks_journal || plans.signals_command {
        let ends = [libc::SYS_kill, libc::SYS_wait4, libc::SYS_waitid];
        rules.extend(ends.map(|call| (call, Vec::new())));
    }
    for upkeep in &plans.upkeep {
        match upkeep {
            Upkeep::None => {}
            Upkeep::ReadMaps => {
                rules.insert(libc::SYS_bpf, vec![rule(&[(0, Op::Eq, BPF_MAP_LOOKUP_ELEM)])?]);
            }
            Upkeep::OpenEvents => {
                rules.insert(libc::SYS_perf_event_open, Vec::new());
            }
        }
    }
    Ok(rules)
}

/// A number of the C library's as the kernel gets it.
fn bits(value: i32) -> u64 {
    u64::from(value.unsigned_abs())
}

/// Arguments by number that all have to be so. The kernel looks at 32 bits of each that is compared here.
fn rule(arguments: &[(u8, Op, u64)]) -> anyhow::Result<SeccompRule> {
    let conditions = arguments.iter().cloned();
    let conditions = conditions.map(|(number, op, value)| Condition::new(number, Len::Dword, op, value));
    Ok(SeccompRule::new(conditions.collect::<Result<_, _>>()?)?)
}

#[cfg(test)]
mod tests;
