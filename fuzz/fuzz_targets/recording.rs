//! A file that claims to be a recording or a report: it is read and shown, or refused.

#![no_main]

use std::path::Path;

use killtrace::recording::load_from;
use killtrace::report::{Options, REPORTS, Style};
use killtrace_fuzz::mutate_lines;
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate_lines(data, size, max_size, seed)
});

fuzz_target!(|data: &[u8]| {
    let report = match load_from(data, Path::new("file")) {
        Ok(loaded) => loaded.into_report(),
        Err(refused) => {
            let _said = (refused.to_string(), refused.help());
            return;
        }
    };
    for format in REPORTS {
        let mut out = Vec::new();
        let options = Options { style: Style::PLAIN };
        format.write(&report, &options, &mut out).expect("memory does not fail");
        let text = String::from_utf8(out).expect("reports are UTF-8");
        let control = text.chars().find(|letter| letter.is_control() && *letter != '\n');
        assert_eq!(control, None, "control characters reach the terminal");
    }
});
