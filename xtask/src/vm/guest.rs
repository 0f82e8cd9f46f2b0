//! One guest: QEMU, what it says, and the end of it, which a guest does not always find by itself.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::matrix::{Ports, Run};
use super::plan::Machine;
use crate::dist::Arch;

/// Longer than any case is silent, on an emulated processor that shares its host.
const SILENCE: Duration = Duration::from_secs(150);
/// No set of cases takes this long.
const LIMIT: Duration = Duration::from_secs(90 * 60);

/// How a guest ended.
#[derive(Debug)]
pub(super) enum End {
    /// QEMU ended: the guest switched itself off, or its kernel panicked.
    Off(ExitStatus),
    /// Nothing came for this long.
    Silent(Duration),
    /// It went on and on.
    TooLong(Duration),
}

/// What a guest left.
pub(super) struct Ran {
    pub(super) end: End,
    pub(super) results: String,
    pub(super) console: String,
    /// An archive of the files it was to keep; empty when there are none.
    pub(super) files: PathBuf,
    pub(super) took: Duration,
}

/// Boots a guest and waits for its end. `heard` is given each piece of the results as it comes.
///
/// # Errors
/// When QEMU cannot be run.
pub(super) fn boot(
    (run, machine): (&Run, Machine),
    image: &Path,
    initramfs: &[u8],
    dir: &Path,
    heard: &mut dyn FnMut(&str),
) -> Result<Ran> {
    let [initrd, console, results, files] =
        ["initramfs.cpio", "console", "results", "files.tar.gz"].map(|name| dir.join(name));
    fs::write(&initrd, initramfs).with_context(|| format!("cannot write {}", initrd.display()))?;
    let mut qemu = qemu(run, machine, &console, &results, &files);
    // It is unpacked into memory.
    qemu.args(["-m", if initramfs.len() > 200 << 20 { "2G" } else { "1G" }]);
    qemu.arg("-kernel").arg(image).arg("-initrd").arg(&initrd);
    let start = Instant::now();
    let mut guest = Guest(qemu.spawn().with_context(|| format!("cannot run {:?}", qemu.get_program()))?);
    let mut results = Growing::new(results);
    let mut console = Growing::new(console);
    let mut last_word = Instant::now();
    let end = loop {
        let ended = guest.0.try_wait().context("cannot wait for QEMU")?;
        let (news, chatter) = (results.read()?, console.read()?);
        if !news.is_empty() || !chatter.is_empty() {
            last_word = Instant::now();
        }
        heard(&news);
        if let Some(status) = ended {
            break End::Off(status);
        }
        if last_word.elapsed() > SILENCE {
            break End::Silent(SILENCE);
        }
        if start.elapsed() > LIMIT {
            break End::TooLong(LIMIT);
        }
        thread::sleep(Duration::from_millis(100));
    };
    Ok(Ran { end, results: results.text(), console: console.text(), files, took: start.elapsed() })
}

fn qemu(run: &Run, machine: Machine, console: &Path, results: &Path, files: &Path) -> Command {
    let kernel = run.kernel;
    let (program, board, processor, tty) = match kernel.arch {
        Arch::X86_64 => ("qemu-system-x86_64", "pc", "max", "ttyS0"),
        // The processor of a Raspberry Pi 5.
        Arch::Aarch64 => ("qemu-system-aarch64", "virt", "cortex-a76", "ttyAMA0"),
    };
    let mut qemu = Command::new(program);
    qemu.args(["-M", board, "-accel", "tcg,thread=multi", "-cpu", processor, "-smp", "2"]);
    qemu.args(["-display", "none", "-monitor", "none", "-nic", "none", "-no-reboot"]);
    // Emulation has no speculation to guard against, and its other clocks are slow to read.
    let faster = match kernel.arch {
        Arch::X86_64 => "mitigations=off tsc=reliable clocksource=tsc",
        Arch::Aarch64 => "mitigations=off",
    };
    // What systemd-oomd goes by, which some kernels count only for those who ask.
    let pressure = if machine == Machine::Systemd { "psi=1" } else { "" };
    // A panic reboots at once, which ends QEMU.
    let parameters =
        format!("console={tty} panic=-1 quiet rdinit=/init {faster} {pressure} {}", kernel.parameters);
    qemu.arg("-append").arg(parameters.trim());
    let serial = |path: &Path| format!("file:{}", path.display());
    qemu.arg("-serial").arg(serial(console));
    let bus = match kernel.ports {
        Ports::Serial => {
            qemu.arg("-serial").arg(serial(results)).arg("-serial").arg(serial(files));
            None
        }
        Ports::VirtioPci => Some("virtio-serial-pci"),
        Ports::VirtioMmio => Some("virtio-serial-device"),
    };
    if let Some(bus) = bus {
        qemu.args(["-device", bus]);
        for (name, path) in [("results", results), ("files", files)] {
            qemu.arg("-chardev").arg(format!("file,id={name},path={}", path.display()));
            qemu.arg("-device").arg(format!("virtserialport,chardev={name}"));
        }
    }
    die_with_this_thread(qemu.stdin(Stdio::null()));
    qemu
}

/// However this program ends, no guest stays behind.
fn die_with_this_thread(command: &mut Command) {
    // SAFETY: prctl is async-signal-safe and the closure touches no memory.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
}

/// A guest that does not outlive its test.
struct Guest(Child);

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A file that QEMU appends to.
struct Growing {
    path: PathBuf,
    read: Vec<u8>,
    /// Up to here it was handed out: whole characters only.
    told: usize,
}

impl Growing {
    fn new(path: PathBuf) -> Self {
        Self { path, read: Vec::new(), told: 0 }
    }

    /// What is new in it, up to the last whole line.
    fn read(&mut self) -> Result<String> {
        // QEMU makes it when it starts.
        let Ok(mut file) = File::open(&self.path) else { return Ok(String::new()) };
        file.seek(SeekFrom::Start(u64::try_from(self.read.len())?))?;
        file.read_to_end(&mut self.read).with_context(|| format!("cannot read {}", self.path.display()))?;
        let whole = self.read.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let news = String::from_utf8_lossy(self.read.get(self.told..whole).unwrap_or_default()).into_owned();
        self.told = whole.max(self.told);
        Ok(news)
    }

    fn text(self) -> String {
        String::from_utf8_lossy(&self.read).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_growing_file_is_told_line_by_line() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("results");
        let mut growing = Growing::new(path.clone());
        assert_eq!(growing.read().expect("it is not there yet"), "");
        fs::write(&path, "test a ... ok\ntest b").expect("there is room");
        assert_eq!(growing.read().expect("it is there"), "test a ... ok\n");
        fs::write(&path, "test a ... ok\ntest b ... ok\n").expect("there is room");
        assert_eq!(growing.read().expect("it is there"), "test b ... ok\n");
        assert_eq!(growing.read().expect("it is there"), "");
        assert_eq!(growing.text(), "test a ... ok\ntest b ... ok\n");
    }
}
