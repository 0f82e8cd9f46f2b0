//! Placeholder: written on another branch.

use super::procfs::Procfs;
use crate::model::Event;
use crate::model::want::Want;

/// Placeholder.
#[derive(Debug, Default)]
pub struct Enricher {
    procfs: Procfs,
}
impl Enricher {
    /// Placeholder.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    /// Placeholder.
    pub fn procfs(&mut self) -> &mut Procfs {
        &mut self.procfs
    }
    /// Placeholder.
    pub fn answer(&mut self, _: &Want, _: &mut Vec<Event>) {}
}
