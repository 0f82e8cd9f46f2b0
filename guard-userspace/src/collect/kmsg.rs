//! The kernel log, for what no tracepoint says: whose limit an OOM kill enforced, where a program faulted.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use super::host::boottime_ns;
use super::procfs::event;
use super::{CollectError, Source};
use crate::model::header::Capabilities;
use crate::model::kernel_log::bears_on_deaths;
use crate::model::{Event, Fact};

/// Follows /dev/kmsg from its end.
#[derive(Debug)]
pub struct KmsgSource {
    file: File,
    buffer: Vec<u8>,
}

impl KmsgSource {
    /// The largest record the kernel hands out (kernel/printk/internal.h, `PRINTK_MESSAGE_MAX`), doubled.
    const RECORD_MAX: usize = 4096;

    /// Starts to listen: lines from now on count.
    ///
    /// # Errors
    /// When /dev/kmsg does not exist or may not be read (CAP_SYSLOG with `kernel.dmesg_restrict`).
    pub fn open() -> Result<Self, CollectError> {
        let open = || {
            let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg")?;
            file.seek(SeekFrom::End(0))?;
            Ok(file)
        };
        let file =
            open().map_err(|source| CollectError::Listen { what: "the kernel log (/dev/kmsg)", source })?;
        Ok(Self { file, buffer: vec![0; Self::RECORD_MAX] })
    }
}

impl Source for KmsgSource {
    fn name(&self) -> &'static str {
        "kmsg"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { kernel_log: true, ..Capabilities::default() }
    }

    fn degraded(&self) -> &[String] {
        &[]
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Events carry the time they were read: the log's own clock (`local_clock`) stops in suspend, drifts from
    /// CLOCK_MONOTONIC and cannot be read from user space. It is at most late, so it never precedes its cause.
    fn drain(&mut self, out: &mut Vec<Event>) -> Result<(), CollectError> {
        loop {
            match self.file.read(&mut self.buffer) {
                Ok(0) => return Ok(()),
                Ok(len) => {
                    let text = record(&self.buffer[..len]).filter(|text| bears_on_deaths(text));
                    out.extend(text.map(|text| event(boottime_ns(), Fact::KernelLog { text })));
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => return Ok(()),
                    Some(libc::EINTR) => {}
                    // Records were overwritten before we read them; the next read goes on with the oldest left.
                    Some(libc::EPIPE) => {
                        out.push(event(boottime_ns(), Fact::Lost { probe: "kmsg".to_owned(), count: 1 }));
                    }
                    // Only a record larger than the buffer; it is skipped (kernel/printk/printk.c, `devkmsg_read`).
                    Some(libc::EINVAL) => {}
                    _ => return Err(CollectError::Read { path: "/dev/kmsg".into(), source: error }),
                },
            }
        }
    }
}

/// Whether /dev/kmsg may be read, for `doctor`.
///
/// # Errors
/// What opening it says.
pub fn available() -> io::Result<()> {
    File::open("/dev/kmsg").map(drop)
}

/// The text of a record, `6,427,2282573567,-;text` and lines of ` KEY=value` (Documentation/ABI/testing/dev-kmsg).
///
/// `None` for what a program wrote into the log: only the kernel itself has facility 0.
fn record(record: &[u8]) -> Option<String> {
    let record = String::from_utf8_lossy(record);
    let (prefix, text) = record.split_once(';')?;
    let priority: u32 = prefix.split(',').next()?.parse().ok()?;
    if priority >> 3 != 0 {
        return None;
    }
    Some(unescape(text.lines().next()?))
}

/// Undoes the log's `\x0a` escapes of unprintable bytes and backslashes.
fn unescape(text: &str) -> String {
    if !text.contains("\\x") {
        return text.to_owned();
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let escaped = match rest {
            [b'\\', b'x', high, low, ..] => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        bytes.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { &rest[4..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Reads bytes as records of the kernel log, one a line, and what those are read for: for the fuzz targets.
#[cfg(fuzzing)]
pub fn read_as_records(bytes: &[u8]) {
    use crate::model::kernel_log;
    for text in bytes.split(|&byte| byte == b'\n').filter_map(record) {
        let found = kernel_log::oom_kill(&text).is_some() || kernel_log::killed(&text).is_some();
        assert!(!found || bears_on_deaths(&text), "it would not have been handed on: {text}");
        let _ = kernel_log::manual_oom(&text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_kernel_record_is_its_first_line() {
        let text = record(b"3,428,2282573587,-;Out of memory: Killed process 1\n SUBSYSTEM=x\n DEVICE=y\n");
        assert_eq!(text.as_deref(), Some("Out of memory: Killed process 1"));
        assert_eq!(record(b"6,1,2,-;a;b\n").as_deref(), Some("a;b"));
    }

    #[test]
    fn what_a_program_wrote_is_not_the_kernels_word() {
        assert_eq!(record(b"12,428,1,-;Out of memory: Killed process 1 (init)\n"), None);
        assert_eq!(record(b"nonsense"), None);
    }

    #[test]
    fn escapes_are_undone() {
        assert_eq!(unescape("a\\x0ab\\x5cx41"), "a\nb\\x41");
        assert_eq!(unescape("caf\\xc3\\xa9 \\xzz \\x4"), "café \\xzz \\x4");
    }
}
