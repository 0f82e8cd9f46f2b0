//! The explainer on damaged recordings: whatever the events say, the answer keeps its promises.

#![no_main]

use killtrace::explain::invariants::explain_and_check;
use killtrace::model::{Event, Header};
use killtrace::recording::selectors;
use killtrace_fuzz::mutate_lines;
use libfuzzer_sys::{Corpus, fuzz_mutator, fuzz_target};

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate_lines(data, size, max_size, seed)
});

fuzz_target!(|data: &[u8]| -> Corpus {
    let mut lines = data.split(|&byte| byte == b'\n');
    let Some(Ok(header)) = lines.next().map(serde_json::from_slice::<Header>) else { return Corpus::Reject };
    let Ok(selectors) = selectors(&header.selectors) else { return Corpus::Reject };
    let mut events: Vec<Event> = lines.filter_map(|line| serde_json::from_slice(line).ok()).collect();
    for (id, event) in (1..).zip(&mut events) {
        event.id = id;
    }
    let _report = explain_and_check(&header, &selectors, &events);
    Corpus::Keep
});
