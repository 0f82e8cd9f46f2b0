//! Files of /proc, parts of which whoever runs a process chooses: read, or refused.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    killtrace::collect::procfs::read_as_anything(data);
});
