//! What can happen to a stream between the kernel and the explainer.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::Index;

use crate::model::event::ProcessFacts;
use crate::model::{Event, Fact};

/// One millisecond.
const MS: u64 = 1_000_000;
/// A busy agent drains its buffers this seldom.
const DRAIN_MS: u64 = 50;

/// A stream's own choices, cycled: a short one disturbs a long stream as well.
pub(super) fn choices() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 1..160)
}

fn choice(choices: &[u8], index: usize) -> u32 {
    choices.get(index % choices.len().max(1)).copied().unwrap_or_default().into()
}

/// Numbers events in the order in which they come.
fn renumber(events: &mut [Event]) {
    for (id, event) in (1..).zip(events) {
        event.id = id;
    }
}

/// The same events, of tasks that run on any CPU, as buffers that are drained one after another give them: each CPU's
/// in order, those of one late by up to `late_ms` against those of another. What /proc tells is a stream of its own.
pub(super) fn interleave(events: &[Event], choices: &[u8], late_ms: u64) -> Vec<Event> {
    const CPUS: u32 = 4;
    let mut arrivals = [0; 1 + CPUS as usize];
    let mut arrived: Vec<(u64, Event)> = Vec::with_capacity(events.len());
    for (index, event) in events.iter().enumerate() {
        let (place, late) = (choice(choices, 2 * index), u64::from(choice(choices, 2 * index + 1)));
        let mut event = event.clone();
        event.cpu = event.cpu.map(|_| place % CPUS);
        let stream = event.cpu.map_or(0, |cpu| cpu as usize + 1);
        let arrival = match event.fact {
            Fact::End => u64::MAX,
            _ => arrivals[stream].max(event.t_ns + late * late_ms * MS / 255),
        };
        arrivals[stream] = arrival;
        arrived.push((arrival, event));
    }
    arrived.sort_by_key(|(arrival, _)| *arrival);
    let mut events: Vec<Event> = arrived.into_iter().map(|(_, event)| event).collect();
    renumber(&mut events);
    events
}

/// Without some of the kernel's events; each loss is told by the drain that would have brought it, ahead of the rest.
pub(super) fn lose(events: &[Event], places: &[Index], choices: &[u8]) -> Vec<Event> {
    let lost: Vec<usize> =
        places.iter().map(|place| place.index(events.len())).filter(|&at| events[at].cpu.is_some()).collect();
    let mut left = Vec::with_capacity(events.len());
    for (index, event) in events.iter().enumerate() {
        let mut event = event.clone();
        if lost.contains(&index) {
            event.t_ns += u64::from(choice(choices, index)) * DRAIN_MS * MS / 255;
            event.fact = Fact::Lost { probe: "signal_generate".to_owned(), count: 1 };
            (event.cpu, event.current) = (None, None);
        }
        left.push(event);
    }
    left
}

pub(super) fn without(events: &[Event], gone: impl Fn(usize, &Event) -> bool) -> Vec<Event> {
    let kept = events.iter().enumerate().filter(|(index, event)| !gone(*index, event));
    kept.map(|(_, event)| event.clone()).collect()
}

/// As a watch that begins later has it: what lives then is read from /proc.
pub(super) fn begin_at(events: &[Event], start: usize) -> Vec<Event> {
    let (before, after) = events.split_at(start);
    let mut scan = Vec::new();
    let mut living: BTreeMap<u32, ProcessFacts> = BTreeMap::new();
    for event in before {
        let tgid = event.current.and_then(|current| current.tgid);
        match &event.fact {
            Fact::Process(_) | Fact::User { .. } => scan.push(event.clone()),
            Fact::Fork(fork) if fork.child_tid == fork.child_tgid => {
                let facts = ProcessFacts {
                    tgid: fork.child_tgid,
                    seeded: true,
                    ppid: fork.ppid,
                    start_boottime_ns: fork.start_boottime_ns,
                    comm: event.current.and_then(|current| current.comm),
                    ..ProcessFacts::default()
                };
                living.insert(fork.child_tgid, facts);
            }
            Fact::Exec(exec) => {
                if let Some(facts) = tgid.and_then(|tgid| living.get_mut(&tgid)) {
                    facts.comm = event.current.and_then(|current| current.comm);
                    facts.cmdline = exec.args.clone();
                }
            }
            Fact::Exit(exit) if exit.group_dead != Some(false) => {
                living.remove(&tgid.unwrap_or_default());
            }
            _ => {}
        }
    }
    let t_ns = after.first().map_or(0, |event| event.t_ns);
    let mut seeded = |fact| scan.push(Event { id: 0, t_ns, cpu: None, current: None, fact });
    living.into_values().for_each(|facts| seeded(Fact::Process(Box::new(facts))));
    seeded(Fact::Seeded { processes: 0 });
    scan.extend_from_slice(after);
    renumber(&mut scan);
    scan
}

/// What no kernel has to tell: what is read from /proc and the kernel log, and exit statuses from taskstats.
pub(super) fn is_optional(fact: &Fact) -> bool {
    matches!(
        fact,
        Fact::Process(_)
            | Fact::ProcessGone { .. }
            | Fact::User { .. }
            | Fact::Memory(_)
            | Fact::CgroupMemory(_)
            | Fact::KernelLog { .. }
            | Fact::Journal(_)
            | Fact::Taskstats(_)
            | Fact::Tick
    )
}

/// Some events twice, the second time anywhere later.
pub(super) fn duplicate(events: &[Event], picks: &[(Index, Index)]) -> Vec<Event> {
    let mut out = events.to_vec();
    for (which, place) in picks {
        let event = events[which.index(events.len() - 1)].clone();
        let from = out.iter().position(|one| *one == event).unwrap_or_default() + 1;
        out.insert(from + place.index(out.len() - from), event);
    }
    renumber(&mut out);
    out
}

/// Some events in another place, whatever their time.
pub(super) fn displace(events: &[Event], moves: &[(Index, Index)]) -> Vec<Event> {
    let mut out = events.to_vec();
    for (from, to) in moves {
        // The end of a stream is last, whatever comes.
        let event = out.remove(from.index(events.len() - 1));
        out.insert(to.index(events.len() - 1), event);
    }
    renumber(&mut out);
    out
}
