//! The `format` files of tracepoints, and the table of mounts that says where they are: read, or refused.

#![no_main]

use killtrace::collect::tracefs::{Format, read_as_mounts};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    read_as_mounts(&text);
    match Format::parse(&text) {
        Ok(format) => {
            for field in &format.fields {
                assert_eq!(format.field(&field.name).map(|first| &first.name), Some(&field.name));
            }
        }
        Err(why) => assert!(!why.is_empty()),
    }
});
