//! What recurs: the same death again and again.

use std::collections::BTreeMap;

use crate::model::report::{Actor, Death, Kind, Pattern, PatternKind};

use crate::model::units::elapsed;

/// Deaths further apart than this are not one loop.
const LOOP_GAP_NS: i64 = 600_000_000_000;
/// From the third round on, it is a loop.
const ROUNDS: usize = 3;

/// Finds the patterns in a list of deaths in time order.
#[must_use]
pub(super) fn find(deaths: &[Death]) -> Vec<Pattern> {
    let mut by_name: BTreeMap<&str, Vec<&Death>> = BTreeMap::new();
    for death in deaths.iter().filter(|death| death.victim.root) {
        by_name.entry(&death.victim.name).or_default().push(death);
    }
    by_name.into_iter().filter_map(|(name, deaths)| restart_loop(name, &deaths)).collect()
}

/// The same program, dying and coming back, never by its own successful exit.
fn restart_loop(name: &str, deaths: &[&Death]) -> Option<Pattern> {
    let start = deaths.windows(2).rposition(|pair| pair[1].died_at.0 - pair[0].died_at.0 > LOOP_GAP_NS);
    let deaths = &deaths[start.map_or(0, |index| index + 1)..];
    let well = |death: &&Death| death.cause.kind == Kind::Exited && death.exit.code == Some(0);
    if deaths.len() < ROUNDS || deaths.iter().any(well) {
        return None;
    }
    let (first, last) = (deaths.first()?, deaths.last()?);
    let mut gaps: Vec<i64> = deaths.windows(2).map(|pair| pair[1].died_at.0 - pair[0].died_at.0).collect();
    gaps.sort_unstable();
    let median_ns = u64::try_from(*gaps.get(gaps.len() / 2)?).ok()?;
    let span = u64::try_from(last.died_at.0 - first.died_at.0).ok()?;
    let by = same(deaths.iter().map(|death| death.killer.as_ref().map(line)));
    let each = by.as_ref().map_or_else(String::new, |by| format!(", each time by {by}"));
    let text = format!(
        "{name} died {} times in {}, every {} or so{each}",
        deaths.len(),
        elapsed(span),
        elapsed(median_ns)
    );
    Some(Pattern {
        kind: PatternKind::RestartLoop,
        name: name.to_owned(),
        count: u64::try_from(deaths.len()).ok()?,
        first_at: first.died_at,
        last_at: last.died_at,
        median_interval_ms: Some(median_ns / 1_000_000),
        by,
        text,
    })
}

/// The one value that all have.
fn same(mut values: impl Iterator<Item = Option<String>>) -> Option<String> {
    let first = values.next()??;
    values.all(|value| value.as_ref() == Some(&first)).then_some(first)
}

/// `pkill < sh < npm run kill-dev < keepalive-dev.sh`, up to the first of its parents that is a service manager.
fn line(killer: &Actor) -> String {
    let ancestors = killer.ancestry.iter().take_while(|ancestor| ancestor.pid > 1).take(5);
    let names: Vec<&str> = std::iter::once(killer.name.as_str())
        .chain(ancestors.map(|ancestor| ancestor.name.as_str()))
        .collect();
    names.join(" < ")
}
