//! killtrace: what killed this process, and why?
//!
//! Data flows one way: [`collect`] takes events from the kernel, [`explain`] turns them into deaths,
//! [`report`] writes them. [`model`] is the plain data between them.

// Where it is needed, a module says so, and why.
#![deny(unsafe_code)]

pub mod cli;
pub mod collect;
pub mod explain;
pub mod export;
pub mod model;
mod place;
pub mod recording;
pub mod report;
pub mod store;
