//! Records as the ring buffer hands them over: decoded or refused, and what was decoded is explained.
//!
//! The input is a row of records, each with its length before it in two bytes.

#![no_main]

use std::sync::LazyLock;

use killtrace::collect::decode::Decoder;
use killtrace::collect::syscalls::Arch;
use killtrace::explain::invariants::explain_and_check;
use killtrace::model::select::Selectors;
use killtrace::model::{Event, Header};
use libfuzzer_sys::fuzz_target;

static HEADER: LazyLock<Header> = LazyLock::new(|| {
    serde_json::from_value(serde_json::json!({
        "schema": Header::SCHEMA,
        "tool": {"name": "killtrace", "version": "0"},
        "host": {"hostname": "host", "kernel": "6.12.0", "arch": "x86_64", "page_size": 4096, "cpus": 2},
        "backend": "ebpf",
        "degraded": [],
        "capabilities": {"exit_status": true, "group_dead": true, "syscalls": true, "target_tgid": true},
        "started_at": "2026-01-01T00:00:00Z",
        "wall_minus_boottime_ns": 1,
        "selectors": [],
        "own_tgid": 1,
    }))
    .expect("a header")
});

fuzz_target!(|data: &[u8]| {
    let decoder = Decoder { arch: Some(Arch::X86_64), page_size: 4096 };
    let mut events: Vec<Event> = Vec::new();
    let mut rest = data;
    while let Some((length, tail)) = rest.split_at_checked(2) {
        let length = usize::from(u16::from_le_bytes([length[0], length[1]])).min(tail.len());
        let (record, tail) = tail.split_at(length);
        rest = tail;
        if let Ok(event) = decoder.decode(record) {
            events.push(Event { id: events.len() as u64 + 1, ..event });
        }
    }
    // The first that dies is watched, and so is all that descends from it.
    let pids = events.iter().filter_map(|event| event.current?.tgid).take(2).collect();
    let _report = explain_and_check(&HEADER, &Selectors { pids, ..Selectors::default() }, &events);
});
