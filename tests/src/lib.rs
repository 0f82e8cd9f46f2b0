//! What the live tests share: killtrace under test, processes to kill, and places to kill them in.
//!
//! A live test starts killtrace, makes a real process die, learns the truth from `waitpid`, and compares it with
//! the report. Every report is validated against the published schema, and replaying the recording has to give
//! the same bytes.

mod cases;
mod cgroup;
mod needs;
mod procs;
mod sandbox;
mod sleeper;
mod systemd;
mod terminal;
mod tsx;
mod under_test;
mod victim;
mod vite;
pub mod zoo;

pub use cases::{Case, run_cases};
pub use cgroup::MemoryCgroup;
pub use needs::{live, skip};
pub use procs::{
    children, cmdline, comm, eventually, free_port, listener, namespace_pid, parent, patient, status_field,
};
pub use sandbox::Sandbox;
pub use sleeper::Sleeper;
pub use systemd::{Manager, Systemd};
pub use terminal::Terminal;
pub use tsx::tsx_app;
pub use under_test::{Outcome, Watch, ancestry, killtrace_path};
pub use victim::{Truth, Victim, strike, striker_path, victim_path};
pub use vite::Vite;
