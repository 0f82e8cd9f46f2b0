//! What happens to people, with the programs that it happens to: each file is a story of one of them.

mod cleanup;
mod container;
mod heap;
mod runtimes;
