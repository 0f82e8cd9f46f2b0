//! Placeholder: written on another branch.

use std::os::fd::BorrowedFd;

use super::{CollectError, Source};
use crate::model::Event;
use crate::model::header::Capabilities;

/// Placeholder.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub hide_btf: bool,
    pub verbose: bool,
    pub listen: bool,
    pub ring_bytes: u32,
}

macro_rules! placeholder {
    ($name:ident, $open:ident) => {
        /// Placeholder.
        #[derive(Debug)]
        pub enum $name {}
        impl Source for $name {
            fn name(&self) -> &'static str {
                match *self {}
            }
            fn capabilities(&self) -> Capabilities {
                match *self {}
            }
            fn degraded(&self) -> &[String] {
                match *self {}
            }
            fn fd(&self) -> BorrowedFd<'_> {
                match *self {}
            }
            fn drain(&mut self, _: &mut Vec<Event>) -> Result<(), CollectError> {
                match *self {}
            }
        }
    };
}
pub(crate) use placeholder;
placeholder!(EbpfSource, open);
impl EbpfSource {
    /// Placeholder.
    ///
    /// # Errors
    /// Always.
    pub fn open(_: Options) -> Result<Self, CollectError> {
        Err(CollectError::NoTracingPrograms)
    }
}
