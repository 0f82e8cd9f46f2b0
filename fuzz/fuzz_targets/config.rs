//! The configuration file of the flight recorder: read, or refused with a reason.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    killtrace::cli::read_as_config(&String::from_utf8_lossy(data));
});
