//! The maps and the settings, and how a record gets to the agent.

use aya_ebpf::{
    Global,
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::generated::bpf_ringbuf_output,
    macros::map,
    maps::{Array, PerCpuArray, RingBuf},
    programs::TracePointContext,
};
use aya_log_ebpf::warn;
use guard_ebpf::{PROBES, Probe, record::Header, settings::Settings};

use crate::task;

/// What the loader knows of this kernel. Read field by field with [`setting!`].
#[unsafe(no_mangle)]
pub(crate) static SETTINGS: Global<Settings> = Global::new(Settings::UNKNOWN);

/// Reads one field of the settings, so that the verifier sees a known number.
///
/// `Global::load` would copy all of them to the stack first, and the verifier loses track there.
macro_rules! setting {
    ($($field:ident).+) => {{
        let settings: *const guard_ebpf::settings::Settings = (&raw const $crate::maps::SETTINGS).cast();
        // SAFETY: `Global` is a transparent wrapper of the settings, which are plain integers. Volatile,
        // because the compiler must not assume the value that the loader replaces.
        unsafe { core::ptr::read_volatile(&raw const (*settings).$($field).+) }
    }};
}
pub(crate) use setting;

/// Every record of every probe. The loader sets the size.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(4 << 20, 0);

/// Records that [`EVENTS`] had no room for, per CPU and probe.
#[map]
static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(PROBES as u32, 0);

/// When the agent was last woken, in CLOCK_BOOTTIME nanoseconds. Races between CPUs cost one wakeup.
#[map]
static LAST_WAKE: Array<u64> = Array::with_max_entries(1, 0);

/// How urgently the agent needs a record.
#[derive(Clone, Copy)]
pub(crate) enum Wake {
    /// At once: somebody died, or /proc must be read before a process is gone.
    Now,
    /// Soon, but a flood of these wakes the agent once per millisecond only.
    Soon,
    /// Together with the next one that matters, or when much has piled up.
    Later,
}

const WAKE_INTERVAL_NS: u64 = 1_000_000;

impl Wake {
    /// The flag for submitting a record.
    ///
    /// The kernel's own rule (wake when the reader has caught up) is not used: a record sent with
    /// `NO_WAKEUP` leaves the reader behind, and then no later record would wake it.
    #[inline(always)]
    fn flag(self, now_ns: u64) -> u64 {
        let wake = match self {
            Wake::Now => true,
            Wake::Soon => due(now_ns) || piled_up(),
            Wake::Later => piled_up(),
        };
        u64::from(if wake { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP })
    }
}

#[inline(always)]
fn due(now_ns: u64) -> bool {
    let Some(last) = LAST_WAKE.get_ptr_mut(0) else { return false };
    // SAFETY: the pointer is to a live map value; a torn or lost update costs one wakeup.
    unsafe {
        if now_ns.wrapping_sub(*last) < WAKE_INTERVAL_NS {
            return false;
        }
        *last = now_ns;
    }
    true
}

#[inline(always)]
fn piled_up() -> bool {
    EVENTS.query(u64::from(BPF_RB_AVAIL_DATA)) >= u64::from(setting!(wake_bytes))
}

/// A record that starts with a [`Header`] and is nothing but integers.
///
/// # Safety
/// `#[repr(C)]`, the header first, every bit pattern valid.
pub(crate) unsafe trait Record: 'static {}

/// Makes a record and hands it to the agent, or counts it as lost.
///
/// `fill` gets the record zeroed but for its header.
#[inline(always)]
pub(crate) fn emit<T: Record>(probe: Probe, wake: Wake, fill: impl FnOnce(&mut T)) {
    let Some(mut entry) = EVENTS.reserve::<T>(0) else {
        lost(probe);
        return;
    };
    // SAFETY: a `Record` is valid when it is all zeroes.
    let record = entry.write(unsafe { core::mem::zeroed() });
    // SAFETY: a `Record` starts with its header.
    let header = unsafe { &mut *core::ptr::from_mut(record).cast::<Header>() };
    task::describe_current(probe, header);
    let now_ns = header.t_boottime_ns;
    fill(record);
    entry.submit(wake.flag(now_ns));
}

/// Hands over the first `len` bytes at `record`, or counts them as lost.
///
/// # Safety
/// `record` points to at least `len` bytes of a map value, and the verifier can see that.
#[inline(always)]
pub(crate) unsafe fn emit_bytes(probe: Probe, wake: Wake, now_ns: u64, record: *const u8, len: u64) {
    let ring = (&raw const EVENTS).cast_mut().cast();
    // SAFETY: the caller's promise; the first argument is the map.
    let result = unsafe { bpf_ringbuf_output(ring, record.cast_mut().cast(), len, wake.flag(now_ns)) };
    if result != 0 {
        lost(probe);
    }
}

#[inline(always)]
fn lost(probe: Probe) {
    if let Some(count) = LOST.get_ptr_mut(probe as u32) {
        // SAFETY: the pointer is to this CPU's own live map value.
        unsafe { *count += 1 };
    }
    let no_context = TracePointContext::new(core::ptr::null_mut());
    warn!(&no_context, "ring buffer full: record of probe {} lost", probe as u32);
}
