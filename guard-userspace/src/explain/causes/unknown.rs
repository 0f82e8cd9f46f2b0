//! Nobody claims it: the evidence does not decide.

use super::{Case, Finding};
use crate::model::report::{Confidence, Kind, Mechanism};

/// What is left to say.
#[must_use]
pub fn finding(case: &Case<'_>) -> Finding {
    let kernel = case.blow().is_some_and(|blow| blow.other().is_none() && !blow.own);
    let detail = match case.decisive {
        None if case.ended_without_signal().is_some() => Some("no_signal_sent"),
        None if case.death_signal().is_some() => Some("no_signal_seen"),
        None => Some("no_status"),
        Some(_) => None,
    };
    Finding {
        confidence: Confidence::Unknown,
        kernel,
        detail,
        ..Finding::kernel(Kind::Unknown).mechanism(Mechanism::None)
    }
}
