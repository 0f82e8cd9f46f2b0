//! Every read of a kernel structure, in one place.

use aya_ebpf::helpers::{
    bpf_probe_read_kernel, bpf_probe_read_kernel_buf,
    generated::{
        bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_task, bpf_get_current_task_btf,
        bpf_get_current_uid_gid, bpf_get_smp_processor_id, bpf_ktime_get_boot_ns, bpf_task_pt_regs,
    },
};
use guard_ebpf::{
    ABSENT, COMM_LEN, Probe,
    record::{CURRENT_EXITING, CURRENT_FLAGS_KNOWN, Header, SYSCALL_KNOWN, SignalGenerate},
};

use crate::maps::setting;

/// `PF_EXITING`, `PF_IO_WORKER`, `PF_KTHREAD` (include/linux/sched.h), the same on every kernel since 5.12.
const PF_EXITING: u32 = 0x4;
const PF_IO_WORKER: u32 = 0x10;
const PF_KTHREAD: u32 = 0x0020_0000;

/// An address in the kernel; reads through it may fail but never fault.
#[derive(Clone, Copy)]
pub(crate) struct Kernel(u64);

impl Kernel {
    #[inline(always)]
    pub(crate) fn at(address: u64) -> Self {
        Self(address)
    }

    #[inline(always)]
    pub(crate) fn address(self) -> u64 {
        self.0
    }

    /// The integer `offset` bytes further on; `None` when the kernel has no such field.
    #[inline(always)]
    pub(crate) fn read<T: Copy>(self, offset: u32) -> Option<T> {
        if offset == ABSENT {
            return None;
        }
        let address = self.0.wrapping_add(u64::from(offset)) as *const T;
        // SAFETY: the helper checks the address; `T` is an integer, so that any bytes are valid.
        unsafe { bpf_probe_read_kernel(address) }.ok()
    }

    /// Like [`Kernel::read`], 0 when it cannot be read.
    #[inline(always)]
    pub(crate) fn read_or_zero<T: Copy + Default>(self, offset: u32) -> T {
        self.read(offset).unwrap_or_default()
    }

    /// Two 32-bit fields, in one go where they are neighbours, as they are on every kernel so far.
    #[inline(always)]
    pub(crate) fn read_pair(self, first: u32, second: u32) -> (u32, u32) {
        if second == first.wrapping_add(4) {
            let both: u64 = self.read_or_zero(first);
            (both as u32, (both >> 32) as u32)
        } else {
            (self.read_or_zero(first), self.read_or_zero(second))
        }
    }

    /// The structure that the pointer `offset` bytes further on points to; address 0 when unknown.
    #[inline(always)]
    pub(crate) fn follow(self, offset: u32) -> Kernel {
        Kernel(self.read_or_zero(offset))
    }

    /// Copies a `comm` from `offset` bytes further on.
    #[inline(always)]
    pub(crate) fn read_comm(self, offset: u32, comm: &mut [u8; COMM_LEN]) {
        if offset != ABSENT {
            let address = self.0.wrapping_add(u64::from(offset)) as *const u8;
            // SAFETY: the helper checks the address and zeroes the buffer when it fails.
            let _ = unsafe { bpf_probe_read_kernel_buf(address, comm) };
        }
    }
}

/// Fills in who is `current`, when and where.
#[inline(always)]
pub(crate) fn describe_current(probe: Probe, header: &mut Header) {
    // SAFETY: helpers without preconditions.
    let (now_ns, ids, user, cpu) = unsafe {
        (
            bpf_ktime_get_boot_ns(),
            bpf_get_current_pid_tgid(),
            bpf_get_current_uid_gid(),
            bpf_get_smp_processor_id(),
        )
    };
    header.t_boottime_ns = now_ns;
    header.probe = probe as u32;
    header.cpu = cpu;
    header.tid = ids as u32;
    header.tgid = (ids >> 32) as u32;
    header.uid = user as u32;
    if let Some(flags) = current_flags() {
        header.flags = CURRENT_FLAGS_KNOWN | if flags & PF_EXITING != 0 { CURRENT_EXITING } else { 0 };
    }
    // SAFETY: the buffer is COMM_LEN bytes of the record.
    unsafe { bpf_get_current_comm(header.comm.as_mut_ptr().cast(), COMM_LEN as u32) };
}

#[inline(always)]
fn current_flags() -> Option<u32> {
    current_word(setting!(task.flags))
}

/// A word of the current task; `None` where its place is not known.
#[inline(always)]
fn current_word(offset: u32) -> Option<u32> {
    if setting!(has_task_regs) == 0 {
        return current().read(offset);
    }
    if offset == ABSENT {
        return None;
    }
    // SAFETY: the verifier knows what the helper returns and checks the load like any other.
    Some(unsafe { load(bpf_get_current_task_btf().cast(), offset) })
}

/// Loads from a structure whose type the verifier knows: ten times cheaper than a checked copy.
///
/// # Safety
/// `structure` comes straight from a helper that returns such a pointer, and `offset` is a setting.
#[inline(always)]
unsafe fn load<T: Copy>(structure: *const u8, offset: u32) -> T {
    // SAFETY: the caller's promise. Volatile, so that it happens where it is written.
    unsafe { core::ptr::read_volatile(structure.add(offset as usize).cast()) }
}

/// The task that runs.
#[inline(always)]
pub(crate) fn current() -> Kernel {
    // SAFETY: a helper without preconditions.
    Kernel(unsafe { bpf_get_current_task() })
}

/// Fills in the system call that `current` entered the kernel with, from its saved registers.
///
/// Left out where they would lie: in a 32-bit system call, whose numbers mean something else, and in an
/// io_uring worker, which keeps a copy of its creator's registers.
#[inline(always)]
pub(crate) fn describe_syscall(record: &mut SignalGenerate) {
    record.syscall = -1;
    if setting!(has_task_regs) == 0 {
        return;
    }
    let Some(flags) = current_flags() else { return };
    if flags & PF_KTHREAD != 0 {
        record.flags |= SYSCALL_KNOWN;
        return;
    }
    if flags & PF_IO_WORKER != 0 {
        return;
    }
    if current_word(setting!(task_compat_word)).unwrap_or(0) & setting!(compat_mask) != 0 {
        return;
    }
    let (compat_word, nr, nr_size) =
        (setting!(regs.compat_word), setting!(regs.nr), setting!(syscall_nr_size));
    let args = [setting!(regs.arg0), setting!(regs.arg1), setting!(regs.arg2)];
    let compat_mask = setting!(compat_mask);
    // SAFETY: the first helper returns the task that the second one wants; it returns the registers, and
    // the settings say where in them the numbers are.
    unsafe {
        let regs = bpf_task_pt_regs(bpf_get_current_task_btf()) as *const u8;
        if compat_word != ABSENT && load::<u64>(regs, compat_word) as u32 & compat_mask != 0 {
            return;
        }
        record.syscall = if nr_size == 4 { i64::from(load::<i32>(regs, nr)) } else { load(regs, nr) };
        record.args = [load(regs, args[0]), load(regs, args[1]), load(regs, args[2])];
    }
    record.flags |= SYSCALL_KNOWN;
}

/// `tgid` of the task's `real_parent`; 0 where unknown.
#[inline(always)]
pub(crate) fn parent_tgid(task: Kernel) -> u32 {
    let parent = task.follow(setting!(task.real_parent));
    if parent.address() == 0 { 0 } else { parent.read_or_zero(setting!(task.tgid)) }
}

/// The session of the task's process; 0 where unknown. Whether the kernel's SIGHUP hangs up a session leader, follows
/// from its end or is for an orphaned group shows in it.
#[inline(always)]
pub(crate) fn session(task: Kernel) -> u32 {
    /// `PIDTYPE_SID` (include/linux/pid_types.h), as a place in an array of pointers.
    const SID: u32 = 3 * 8;
    let (pids, numbers) = (setting!(signal.pids), setting!(pid.numbers));
    if pids == ABSENT || numbers == ABSENT {
        return 0;
    }
    // The first of `pid.numbers` is that of the initial namespace, and begins with `nr`.
    let pid = task.follow(setting!(task.signal)).follow(pids.wrapping_add(SID));
    if pid.address() == 0 { 0 } else { pid.read_or_zero(numbers) }
}

/// `start_boottime` of the task's process, in nanoseconds; 0 where unknown.
#[inline(always)]
pub(crate) fn process_start(task: Kernel) -> u64 {
    let leader = task.follow(setting!(task.group_leader));
    if leader.address() == 0 { 0 } else { leader.read_or_zero(setting!(task.start_boottime)) }
}
