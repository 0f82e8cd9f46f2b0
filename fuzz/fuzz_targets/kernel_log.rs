//! Records of the kernel log, which name processes: read, or refused.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    killtrace::collect::kmsg::read_as_records(data);
});
