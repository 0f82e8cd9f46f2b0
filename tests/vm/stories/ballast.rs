//! Memory that belongs to nobody: files in a file system that has nothing but memory.

use std::fs::{self, File};
use std::io::Write;
use std::process::Command;
use std::time::Duration;

const PATH: &str = "/dev/shm/ballast";
const STEP: usize = 4 << 20;

/// Thrown off when dropped.
pub(crate) struct Ballast(File);

impl Ballast {
    /// None yet.
    pub(crate) fn new() -> Self {
        // By default such a file system takes half of the memory.
        let status = Command::new("mount").args(["-o", "remount,size=100%", "/dev/shm"]).status();
        assert!(status.expect("cannot run mount").success(), "/dev/shm cannot grow");
        Self(File::create(PATH).expect("/dev/shm can be written to"))
    }

    /// Takes memory until so little is left.
    pub(crate) fn leave(&mut self, bytes: u64) {
        while available() > bytes {
            self.more();
        }
    }

    /// Takes some more, not faster than others notice.
    pub(crate) fn more(&mut self) {
        self.0.write_all(&vec![1; STEP]).expect("there is memory left");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        let _ = fs::remove_file(PATH);
    }
}

/// What the kernel would still hand out.
fn available() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").expect("/proc is mounted");
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.expect("every kernel says what is available") << 10
}
