//! Placeholder: written on another branch.

use std::os::fd::BorrowedFd;

use super::{CollectError, Source};
use crate::model::Event;
use crate::model::header::Capabilities;

super::ebpf::placeholder!(KmsgSource, open);
impl KmsgSource {
    /// Placeholder.
    ///
    /// # Errors
    /// Always.
    pub fn open() -> Result<Self, CollectError> {
        Err(CollectError::NoTracingPrograms)
    }
}
