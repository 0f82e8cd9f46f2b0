//! What `journalctl` answers, and anybody may have written: read, or refused.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    killtrace::collect::journal::read_as_answer(data);
});
