//! From events to deaths. Pure: no clock, no files, no /proc, no globals.

use crate::model::report::Death;
use crate::model::select::Selectors;
use crate::model::want::Want;
use crate::model::{Event, Header, Report};

/// Reads a stream of events and answers for every death in a watched tree.
#[derive(Debug)]
pub struct Explainer {
    header: Header,
    selectors: Selectors,
}

impl Explainer {
    #[must_use]
    pub fn new(header: Header, selectors: Selectors) -> Self {
        Self { header, selectors }
    }

    /// Takes the next event. Events come in stream order, with rising ids.
    pub fn apply(&mut self, _event: &Event) {
        let _ = (&self.header, &self.selectors);
    }

    /// What the collector should read now, since the last call.
    pub fn take_wants(&mut self) -> Vec<Want> {
        Vec::new()
    }

    /// Deaths answered since the last call, in order.
    pub fn take_deaths(&mut self) -> Vec<Death> {
        Vec::new()
    }

    /// A verdict waits for time to pass: feed a `Fact::Tick` when nothing else happens for a few milliseconds.
    #[must_use]
    pub fn is_settling(&self) -> bool {
        false
    }

    /// Roots of watched trees that are alive now, as `(pid, name)`.
    #[must_use]
    pub fn live_roots(&self) -> Vec<(u32, String)> {
        Vec::new()
    }

    /// Everything so far. Its `generated_at` is the time of the last event.
    #[must_use]
    pub fn report(&self) -> Report {
        unimplemented!()
    }
}
