//! What killtrace says about itself, on stderr: warnings always, more with `-v`, all with `-vv`.

use log::{Level, LevelFilter, Log, Metadata, Record};

use super::output::note;
use crate::report::escape;

#[derive(Debug)]
struct Stderr {
    /// Libraries speak too, and the kernel side through aya-log.
    everybody: bool,
}

/// Begins to log. A second call changes nothing.
pub(crate) fn init(verbose: u8) {
    let logger = Box::new(Stderr { everybody: verbose > 1 });
    if log::set_boxed_logger(logger).is_ok() {
        log::set_max_level(match verbose {
            0 => LevelFilter::Warn,
            1 => LevelFilter::Debug,
            _ => LevelFilter::Trace,
        });
    }
}

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        // The loader tells every step it takes, which buries what the programs have to say.
        let loader = target.starts_with("aya") && metadata.level() > Level::Warn;
        target.starts_with("killtrace") || (self.everybody && !loader)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let level = match record.level() {
                Level::Error => "error",
                Level::Warn => "warning",
                Level::Info => "info",
                Level::Debug | Level::Trace => "debug",
            };
            note(&format!("{level}: {}", escape::text(&record.args().to_string())));
        }
    }

    fn flush(&self) {}
}
