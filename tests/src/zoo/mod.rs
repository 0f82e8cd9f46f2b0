//! The kill zoo: what really happened in a case, and whether a report says so.
//!
//! The `zoo` program plays a death and tells the truth about it, learned from `waitpid` and from having done it;
//! [`check`] compares a report with that truth. Nothing here knows how killtrace finds its answers.

mod check;
mod director;
mod kinds;
mod truth;

pub use check::{answer, check};
pub use director::{Director, Listed, listed, zoo_path};
pub use kinds::kinds;
pub use truth::{Expected, Memory, Survivor, Truth, Who};
