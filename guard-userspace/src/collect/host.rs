//! Placeholder: written on another branch.

use crate::model::header::Host;

/// Placeholder.
#[must_use]
pub fn boottime_ns() -> u64 {
    0
}
/// Placeholder.
#[must_use]
pub fn wall_minus_boottime_ns() -> i64 {
    0
}
/// Placeholder.
#[must_use]
pub fn host() -> Host {
    Host {
        hostname: String::new(),
        kernel: String::new(),
        arch: String::new(),
        page_size: 0,
        boot_id: None,
        cpus: 0,
        memory_bytes: None,
    }
}
