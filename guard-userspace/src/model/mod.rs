//! Plain data: what the kernel said, what killtrace makes of it. No I/O, no clock.

pub mod answer;
pub mod event;
pub mod header;
mod interpreter;
pub mod journal;
pub mod kernel_log;
mod name;
pub mod record;
pub mod report;
pub mod select;
pub mod signal;
pub mod text;
pub mod time;
pub mod unit;
pub mod units;
pub mod want;

pub use event::{Event, Fact};
pub use header::Header;
pub use report::Report;
