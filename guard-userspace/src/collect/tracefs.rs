//! tracefs: where the kernel describes its tracepoints.
//!
//! Offsets, sizes and even the set of fields differ between kernels and stable backports, so each event's
//! `format` file is read and nothing is assumed from a version number.

#![allow(unsafe_code, reason = "system calls")]

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open, openat};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::sys::statfs::{FsType, fstatfs};

use super::CollectError;

const TRACEFS_MAGIC: FsType = FsType(0x7472_6163);

/// Where tracefs usually is.
const USUAL_PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// An open tracefs.
#[derive(Debug)]
pub struct Tracefs {
    root: OwnedFd,
    /// For messages.
    path: PathBuf,
}

impl Tracefs {
    /// Finds tracefs; where it is not mounted, mounts it for this process only.
    ///
    /// Such a mount is in nobody's mount table (or for a moment, on kernels without the new mount calls)
    /// and goes away with the returned value.
    ///
    /// # Errors
    /// [`CollectError::Tracefs`] when it is not mounted and cannot be.
    pub fn open() -> Result<Self, CollectError> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let places = USUAL_PLACES.iter().map(PathBuf::from).chain(mounted_at(&mounts));
        for path in places {
            if let Some(root) = open_if_tracefs(&path) {
                return Ok(Self { root, path });
            }
        }
        Self::mount_privately().map_err(CollectError::Tracefs)
    }

    /// Mounts an own tracefs that nobody else sees.
    ///
    /// # Errors
    /// When the kernel has no tracefs or this process may not mount.
    fn mount_privately() -> io::Result<Self> {
        let root = mount_detached().or_else(|_| mount_briefly())?;
        Ok(Self { root, path: PathBuf::from("tracefs") })
    }

    /// Where it is, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The description of one tracepoint; `None` when this kernel does not have it.
    ///
    /// # Errors
    /// When it exists and cannot be read or understood.
    pub fn format(&self, category: &str, name: &str) -> Result<Option<Format>, CollectError> {
        let relative = PathBuf::from("events").join(category).join(name).join("format");
        let path = self.path.join(&relative);
        let text = match self.read(&relative) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(CollectError::Read { path, source }),
        };
        match Format::parse(&text) {
            Ok(format) => Ok(Some(format)),
            Err(problem) => Err(CollectError::Format { path, problem }),
        }
    }

    fn read(&self, relative: &Path) -> io::Result<String> {
        let fd = openat(&self.root, relative, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        let mut text = String::new();
        File::from(fd).read_to_string(&mut text)?;
        Ok(text)
    }
}

fn open_if_tracefs(path: &Path) -> Option<OwnedFd> {
    let fd = open_directory(path).ok()?;
    let is_tracefs = fstatfs(&fd).is_ok_and(|stat| stat.filesystem_type() == TRACEFS_MAGIC);
    is_tracefs.then_some(fd)
}

fn open_directory(path: &Path) -> nix::Result<OwnedFd> {
    open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

/// Mount points of tracefs, from `/proc/self/mountinfo`.
///
/// `36 35 98:0 /root /mount/point options [optional fields] - type source super-options`
fn mounted_at(mountinfo: &str) -> Vec<PathBuf> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (mount, filesystem) = line.split_once(" - ")?;
            let point = mount.split(' ').nth(4)?;
            (filesystem.split(' ').next() == Some("tracefs")).then(|| PathBuf::from(unescape(point)))
        })
        .collect()
}

/// Undoes the kernel's `\040` for a space and the like.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let octal = tail
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { &tail[3..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Mounts tracefs without a place in the file tree (`fsopen`, `fsmount`; Linux 5.2).
fn mount_detached() -> io::Result<OwnedFd> {
    const FSOPEN_CLOEXEC: libc::c_uint = 1;
    const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
    const FSMOUNT_CLOEXEC: libc::c_uint = 1;
    let null: *const libc::c_char = std::ptr::null();
    // SAFETY: the name is NUL-terminated; the kernel copies it.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, c"tracefs".as_ptr(), FSOPEN_CLOEXEC) })?;
    // SAFETY: this command takes no key and no value.
    let created =
        unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), FSCONFIG_CMD_CREATE, null, null, 0) };
    if created < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: plain integers.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, 0) })
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    match RawFd::try_from(result) {
        // SAFETY: a system call that makes descriptors has just returned this one; nobody else owns it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Mounts tracefs on a temporary directory, opens it and takes the mount away again; the open directory
/// keeps it alive.
fn mount_briefly() -> io::Result<OwnedFd> {
    const TRACEFS: Option<&CStr> = Some(c"tracefs");
    let directory = tempfile::Builder::new().prefix("killtrace-").tempdir()?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(TRACEFS, directory.path(), TRACEFS, flags, None::<&CStr>)?;
    let root = open_directory(directory.path());
    umount2(directory.path(), MntFlags::MNT_DETACH)?;
    Ok(root?)
}

/// A tracepoint's `format` file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// What `perf_event_open` calls the tracepoint.
    pub id: u64,
    pub fields: Vec<Field>,
}

/// One field of a tracepoint's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    /// From the start of the record, in bytes.
    pub offset: u32,
    /// In bytes.
    pub size: u32,
    pub signed: bool,
    /// The field holds offset and length of the text, which follows the record (`__data_loc`).
    pub data_loc: bool,
}

impl Format {
    /// Reads the text of a `format` file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let id = text
            .lines()
            .find_map(|line| line.strip_prefix("ID:"))
            .ok_or("it has no ID line")?
            .trim()
            .parse()
            .map_err(|error| format!("its ID is not a number: {error}"))?;
        let fields = text
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix("field:"))
            .map(|line| Field::parse(line).ok_or_else(|| format!("field `{line}` is damaged")))
            .collect::<Result<_, _>>()?;
        Ok(Self { id, fields })
    }

    /// The field of that name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

impl Field {
    /// `__data_loc char[] filename; offset:8; size:4; signed:0;`, with tabs between the parts.
    fn parse(line: &str) -> Option<Self> {
        let mut parts = line.split(';').map(str::trim);
        let declaration = parts.next()?;
        let (mut offset, mut size, mut signed) = (None, None, false);
        for part in parts {
            match part.split_once(':') {
                Some(("offset", number)) => offset = number.parse().ok(),
                Some(("size", number)) => size = number.parse().ok(),
                Some(("signed", flag)) => signed = flag == "1",
                _ => {}
            }
        }
        let name = declaration.split_whitespace().next_back()?.split('[').next()?;
        Some(Self {
            name: name.trim_start_matches('*').to_owned(),
            offset: offset?,
            size: size?,
            signed,
            data_loc: declaration.starts_with("__data_loc"),
        })
    }
}

/// Reads the table of mounts, for the fuzz targets.
#[cfg(fuzzing)]
pub fn read_as_mounts(text: &str) {
    let _ = mounted_at(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXEC: &str = "name: sched_process_exec
ID: 365
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:__data_loc char[] filename;\toffset:8;\tsize:4;\tsigned:0;
\tfield:pid_t pid;\toffset:12;\tsize:4;\tsigned:1;
\tfield:char comm[16];\toffset:20;\tsize:16;\tsigned:0;
\tfield:const void * skaddr;\toffset:40;\tsize:8;\tsigned:0;

print fmt: \"filename=%s pid=%d\", __get_str(filename), REC->pid
";

    #[test]
    fn a_format_file_is_read() {
        let format = Format::parse(EXEC).unwrap();
        assert_eq!(format.id, 365);
        assert_eq!(format.fields.len(), 6);
        let filename = format.field("filename").unwrap();
        assert_eq!((filename.offset, filename.size, filename.data_loc), (8, 4, true));
        let pid = format.field("pid").unwrap();
        assert_eq!((pid.offset, pid.size, pid.signed, pid.data_loc), (12, 4, true, false));
        assert_eq!(format.field("comm").unwrap().size, 16);
        assert_eq!(format.field("skaddr").unwrap().offset, 40);
        assert_eq!(format.field("nope"), None);
    }

    #[test]
    fn a_damaged_format_file_is_an_error() {
        assert!(Format::parse("").is_err());
        assert!(Format::parse("ID: many\n").is_err());
        let problem = Format::parse("ID: 1\n\tfield:int pid;\toffset:x;\tsize:4;\n").unwrap_err();
        assert!(problem.contains("int pid"), "{problem}");
    }

    #[test]
    fn mounts_are_found_wherever_they_are() {
        let mountinfo = "21 1 0:20 / /proc rw - proc proc rw\n\
                         36 35 0:12 / /mnt/my\\040trace rw,nosuid shared:7 - tracefs none rw\n\
                         37 35 0:12 / /damaged";
        assert_eq!(mounted_at(mountinfo), [PathBuf::from("/mnt/my trace")]);
        assert_eq!(unescape("a\\04"), "a\\04");
        assert_eq!(unescape("\\134x\\"), "\\x\\");
    }

    #[test]
    fn live_a_private_mount_shows_the_same_as_the_public_one() {
        if !nix::unistd::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI runs this as root");
            println!("skipped: needs root");
            return;
        }
        let own = Tracefs::mount_privately().unwrap().format("signal", "signal_generate").unwrap().unwrap();
        let public = Tracefs::open().unwrap().format("signal", "signal_generate").unwrap().unwrap();
        assert_eq!(own, public);
        assert!(own.field("result").is_some());
        let brief = Tracefs { root: mount_briefly().unwrap(), path: PathBuf::new() };
        assert_eq!(brief.format("signal", "signal_generate").unwrap().unwrap(), public);
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains("killtrace-"), "the temporary mount is still there");
        assert_eq!(brief.format("signal", "no_such_tracepoint").unwrap(), None);
    }
}
