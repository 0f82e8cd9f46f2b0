//! `sock:inet_sock_set_state` (net/ipv4/af_inet.c, `inet_sk_set_state`), since Linux 4.16.
//!
//! `TP_PROTO(const struct sock *sk, const int oldstate, const int newstate)`
//!
//! `current` is the task that calls `listen` or closes the socket; for other changes of state, which are
//! dropped here, it is whoever the packet interrupted.

use aya_ebpf::programs::TracePointContext;
use guard_ebpf::{Probe, record::SockState};

use super::fields;
use crate::maps::{Record, Wake, emit, setting};

/// `TCP_LISTEN` (include/net/tcp_states.h).
const TCP_LISTEN: i32 = 10;
const IPPROTO_TCP: u16 = 6;

// SAFETY: `#[repr(C)]` integers, header first.
unsafe impl Record for SockState {}

classic!(sock_state);

#[inline(always)]
fn classic(ctx: TracePointContext) {
    let fields = fields(&ctx);
    let before: i32 = fields.read_or_zero(setting!(sock_state.oldstate));
    let after: i32 = fields.read_or_zero(setting!(sock_state.newstate));
    if (before == TCP_LISTEN) == (after == TCP_LISTEN) {
        return;
    }
    let protocol: u16 = fields.read(setting!(sock_state.protocol)).unwrap_or(IPPROTO_TCP);
    if protocol != IPPROTO_TCP {
        return;
    }
    emit(Probe::SockState, Wake::Soon, |record: &mut SockState| {
        record.port = u32::from(fields.read_or_zero::<u16>(setting!(sock_state.sport)));
        record.listening = u32::from(after == TCP_LISTEN);
    });
}
