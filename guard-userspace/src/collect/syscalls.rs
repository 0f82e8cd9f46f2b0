//! System call numbers, which every architecture has its own of.

use crate::model::event::Call;

/// A machine whose system calls are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    X86_64,
    Aarch64,
}

impl Arch {
    /// The machine this program was built for; `None` for one whose numbers are not known.
    pub const HOST: Option<Arch> = if cfg!(target_arch = "x86_64") {
        Some(Arch::X86_64)
    } else if cfg!(target_arch = "aarch64") {
        Some(Arch::Aarch64)
    } else {
        None
    };
}

/// The call, its number on x86_64 (arch/x86/entry/syscalls/syscall_64.tbl) and on aarch64
/// (include/uapi/asm-generic/unistd.h).
const CALLS: [(Call, i64, i64); 24] = [
    (Call::Kill, 62, 129),
    (Call::Tkill, 200, 130),
    (Call::Tgkill, 234, 131),
    (Call::RtSigqueueinfo, 129, 138),
    (Call::RtTgsigqueueinfo, 297, 240),
    (Call::PidfdSendSignal, 424, 424),
    (Call::Ptrace, 101, 117),
    (Call::Reboot, 169, 142),
    (Call::Write, 1, 64),
    (Call::Writev, 20, 66),
    (Call::Pwrite64, 18, 68),
    (Call::Sendfile, 40, 71),
    (Call::Splice, 275, 76),
    (Call::Ioctl, 16, 29),
    (Call::Close, 3, 57),
    (Call::ExitGroup, 231, 94),
    (Call::Exit, 60, 93),
    (Call::Execve, 59, 221),
    (Call::Execveat, 322, 281),
    (Call::MqTimedsend, 242, 182),
    (Call::Vhangup, 153, 58),
    (Call::Setsid, 112, 157),
    (Call::ProcessMrelease, 448, 448),
    (Call::IoUringEnter, 426, 426),
];

/// What the system call number `nr` means; -1 is "not in a system call".
#[must_use]
pub fn call(arch: Arch, nr: i64) -> Call {
    if nr < 0 {
        return Call::None;
    }
    CALLS
        .iter()
        .find(|&&(_, x86_64, aarch64)| {
            nr == match arch {
                Arch::X86_64 => x86_64,
                Arch::Aarch64 => aarch64,
            }
        })
        .map_or(Call::Other, |&(call, ..)| call)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_this_machine_are_those_of_its_c_library() {
        let Some(arch) = Arch::HOST else { return };
        for (known, nr) in [
            (Call::Kill, libc::SYS_kill),
            (Call::Tkill, libc::SYS_tkill),
            (Call::Tgkill, libc::SYS_tgkill),
            (Call::RtSigqueueinfo, libc::SYS_rt_sigqueueinfo),
            (Call::RtTgsigqueueinfo, libc::SYS_rt_tgsigqueueinfo),
            (Call::PidfdSendSignal, libc::SYS_pidfd_send_signal),
            (Call::Ptrace, libc::SYS_ptrace),
            (Call::Reboot, libc::SYS_reboot),
            (Call::Write, libc::SYS_write),
            (Call::Writev, libc::SYS_writev),
            (Call::Pwrite64, libc::SYS_pwrite64),
            (Call::Sendfile, libc::SYS_sendfile),
            (Call::Splice, libc::SYS_splice),
            (Call::Ioctl, libc::SYS_ioctl),
            (Call::Close, libc::SYS_close),
            (Call::ExitGroup, libc::SYS_exit_group),
            (Call::Exit, libc::SYS_exit),
            (Call::Execve, libc::SYS_execve),
            (Call::Execveat, libc::SYS_execveat),
            (Call::MqTimedsend, libc::SYS_mq_timedsend),
            (Call::Vhangup, libc::SYS_vhangup),
            (Call::Setsid, libc::SYS_setsid),
            (Call::ProcessMrelease, libc::SYS_process_mrelease),
            (Call::IoUringEnter, libc::SYS_io_uring_enter),
            (Call::Other, libc::SYS_getpid),
        ] {
            assert_eq!(call(arch, nr), known, "{nr}");
        }
    }

    #[test]
    fn a_number_means_what_its_architecture_says() {
        assert_eq!(call(Arch::X86_64, 129), Call::RtSigqueueinfo);
        assert_eq!(call(Arch::Aarch64, 129), Call::Kill);
        assert_eq!(call(Arch::Aarch64, 94), Call::ExitGroup);
        assert_eq!(call(Arch::X86_64, -1), Call::None);
        assert_eq!(call(Arch::Aarch64, i64::MAX), Call::Other);
    }

    #[test]
    fn no_number_is_listed_twice() {
        for (index, &(_, x86_64, aarch64)) in CALLS.iter().enumerate() {
            assert!(
                !CALLS[..index].iter().any(|&(_, x, a)| x == x86_64 || a == aarch64),
                "{x86_64} {aarch64}"
            );
        }
    }
}
