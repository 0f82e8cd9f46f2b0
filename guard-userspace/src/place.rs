//! The way to a file that is to be written, walked so that nobody can lead it elsewhere.
//!
//! Root writes a report into /tmp, or into a user's home. Whoever may make files there can make a symbolic link of that
//! name, to /etc/passwd. `fs.protected_symlinks` forbids to follow it in some directories, on systems that set it; here a
//! link is followed only if it belongs to root or to whoever runs killtrace, also by sudo, wherever it stands. Each step
//! is made from a descriptor of the directory before, so nothing changes under way.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{FcntlArg, OFlag, fcntl, open, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::unistd::geteuid;

/// As many links as the kernel follows (include/linux/namei.h, `MAXSYMLINKS`).
const MOST_LINKS: u32 = 40;
const STEP: OFlag = OFlag::O_PATH.union(OFlag::O_CLOEXEC);

/// A place for a file. What it is called cannot be made to mean another one any more.
#[derive(Debug)]
pub(crate) struct Place {
    /// The directory that it is in; what it is itself where it has no name, as a pipe has none.
    fd: OwnedFd,
    name: Option<OsString>,
    found: Option<FileStat>,
}

impl Place {
    /// Walks there. The file need not exist, its directory must.
    ///
    /// # Errors
    /// When a part of the way is missing or is no directory, or is a link that belongs to somebody else.
    pub(crate) fn find(path: &Path) -> io::Result<Self> {
        let mut way: Vec<OsString> = Vec::new();
        let mut at = begin(path, &mut way)?;
        let mut links = 0;
        while let Some(name) = way.pop() {
            let is_last = way.is_empty();
            let step = match openat(&at, name.as_os_str(), STEP | OFlag::O_NOFOLLOW, Mode::empty()) {
                Err(nix::Error::ENOENT) if is_last => {
                    return Ok(Self { fd: at, name: Some(name), found: None });
                }
                step => step?,
            };
            let found = fstat(&step)?;
            if kind(&found) != SFlag::S_IFLNK {
                if is_last && name != ".." {
                    return Ok(Self { fd: at, name: Some(name), found: Some(found) });
                }
                at = step;
                continue;
            }
            links += 1;
            if links > MOST_LINKS {
                return Err(nix::Error::ELOOP.into());
            }
            if !is_trusted(found.st_uid) {
                return Err(foreign(&name, "symbolic link", found.st_uid));
            }
            if is_last && let Some(special) = nameless(&at, &name)? {
                return Ok(special);
            }
            let target = readlinkat(&step, "")?;
            if let Some(root) = push(Path::new(&target), &mut way)? {
                at = root;
            }
        }
        let found = fstat(&at)?;
        Ok(Self { fd: at, name: None, found: Some(found) })
    }

    /// A path that leads there as long as this lives.
    pub(crate) fn path(&self) -> PathBuf {
        let directory = self.directory();
        self.name.as_ref().map_or(directory.clone(), |name| directory.join(name))
    }

    /// A path that leads to its directory as long as this lives.
    pub(crate) fn directory(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))
    }

    /// What there is, if there is anything.
    pub(crate) fn kind(&self) -> Option<SFlag> {
        self.found.as_ref().map(kind)
    }

    /// Opens what there is to write to it, and makes a file if `options` say so. Nobody is waited for: a pipe needs a
    /// reader.
    ///
    /// # Errors
    /// When that is impossible, or somebody else's pipe is in its place.
    pub(crate) fn open(&self, options: &mut OpenOptions) -> io::Result<File> {
        // What has no name is a link to follow, of the kernel's own making.
        let follow = if self.name.is_some() { libc::O_NOFOLLOW } else { 0 };
        let file = options.write(true).custom_flags(follow | libc::O_NONBLOCK).open(self.path())?;
        let found = file.metadata()?;
        let is_pipe = found.file_type().is_fifo() || found.file_type().is_socket();
        // One without a name was given to this process, and nobody has put it there.
        if let Some(name) = self.name.as_deref().filter(|_| is_pipe && !is_trusted(found.uid())) {
            return Err(foreign(name, "pipe", found.uid()));
        }
        let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL)?);
        fcntl(&file, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
        Ok(file)
    }
}

/// Root can do all that a link of root's could be meant for. Whoever runs killtrace by sudo has said where it writes.
pub(crate) fn is_trusted(owner: u32) -> bool {
    let by_sudo = || std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse().ok());
    trusts(owner, geteuid().as_raw(), by_sudo)
}

fn trusts(owner: u32, user: u32, by_sudo: impl Fn() -> Option<u32>) -> bool {
    // Only root runs in another's name.
    owner == 0 || owner == user || (user == 0 && by_sudo() == Some(owner))
}

/// What is not touched because it belongs to somebody else.
pub(crate) fn foreign(name: &OsStr, what: &str, owner: u32) -> io::Error {
    let name = name.to_string_lossy();
    io::Error::other(format!("{name} is a {what} that belongs to somebody else (user {owner})"))
}

/// Where the walk begins.
fn begin(path: &Path, way: &mut Vec<OsString>) -> nix::Result<OwnedFd> {
    match push(path, way)? {
        Some(root) => Ok(root),
        None => open(".", STEP | OFlag::O_DIRECTORY, Mode::empty()),
    }
}

/// Puts the parts of a path on the way, and gives the root if it begins there.
fn push(path: &Path, way: &mut Vec<OsString>) -> nix::Result<Option<OwnedFd>> {
    let parts = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    way.extend(parts.rev().map(|part| part.as_os_str().to_owned()));
    path.has_root().then(|| open("/", STEP | OFlag::O_DIRECTORY, Mode::empty())).transpose()
}

/// A pipe, socket or terminal behind a link of /proc, whose text may not be a path at all: `pipe:[4711]`.
fn nameless(at: &OwnedFd, name: &OsStr) -> nix::Result<Option<Place>> {
    if fstatfs(at)?.filesystem_type() != PROC_SUPER_MAGIC {
        return Ok(None);
    }
    let fd = openat(at, name, STEP, Mode::empty())?;
    let found = fstat(&fd)?;
    let has_name = matches!(kind(&found), SFlag::S_IFREG | SFlag::S_IFDIR);
    Ok((!has_name).then_some(Place { fd, name: None, found: Some(found) }))
}

fn kind(found: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{lchown, symlink};

    use nix::unistd::mkfifo;

    use super::*;

    const NOBODY: Option<u32> = Some(65534);

    /// Where it leads, as the kernel sees it.
    fn real(place: &Place) -> PathBuf {
        let directory = fs::read_link(place.directory()).unwrap();
        place.name.as_ref().map_or(directory.clone(), |name| directory.join(name))
    }

    fn refused(path: &Path) -> String {
        Place::find(path).map(|place| place.path()).unwrap_err().to_string()
    }

    #[test]
    fn own_links_are_followed_whatever_they_look_like() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().canonicalize().unwrap();
        fs::create_dir(base.join("real")).unwrap();
        symlink("real", base.join("directory")).unwrap();
        symlink("../directory/./file", base.join("real/file-link")).unwrap();
        symlink(base.join("directory/new"), base.join("absolute")).unwrap();
        symlink("loop", base.join("loop")).unwrap();
        for (path, expected) in [
            ("real/file", "real/file"),
            ("directory/file", "real/file"),
            ("directory/file-link", "real/file"),
            ("absolute", "real/new"),
            ("directory/../directory/../x", "x"),
        ] {
            let place = Place::find(&base.join(path)).unwrap();
            assert_eq!(real(&place), base.join(expected), "{path}");
            assert_eq!(place.kind(), None);
        }
        assert!(refused(&base.join("loop")).contains("Too many levels"));
        assert_eq!(Place::find(&base.join("no/file")).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(Place::find(&base.join("real/")).unwrap().kind(), Some(SFlag::S_IFDIR));
        assert_eq!(Place::find(Path::new("/")).unwrap().kind(), Some(SFlag::S_IFDIR));
        assert!(Place::find(Path::new("relative")).is_ok());
    }

    #[test]
    fn links_of_others_lead_nowhere() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path();
        fs::write(base.join("precious"), "").unwrap();
        symlink(base.join("precious"), base.join("file")).unwrap();
        symlink(base, base.join("directory")).unwrap();
        assert!(Place::find(&base.join("directory/file")).is_ok());
        if !geteuid().is_root() {
            return;
        }
        lchown(base.join("file"), NOBODY, NOBODY).unwrap();
        assert!(refused(&base.join("file")).starts_with("file is a symbolic link that belongs to somebody"));
        lchown(base.join("directory"), NOBODY, NOBODY).unwrap();
        assert!(refused(&base.join("directory/precious")).starts_with("directory is a symbolic link"));
    }

    #[test]
    fn whoever_calls_sudo_is_trusted_by_root_alone() {
        let sudo = || Some(1000);
        assert!(trusts(0, 1001, || None) && trusts(1001, 1001, || None) && trusts(1000, 0, sudo));
        assert!(!trusts(1000, 0, || None) && !trusts(1001, 0, sudo) && !trusts(1000, 1001, sudo));
    }

    #[test]
    fn nobody_is_waited_for_and_no_pipe_of_others_is_fed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        mkfifo(&path, Mode::from_bits_truncate(0o666)).unwrap();
        let place = Place::find(&path).unwrap();
        let without_reader = place.open(&mut OpenOptions::new()).unwrap_err();
        assert_eq!(without_reader.raw_os_error(), Some(libc::ENXIO));
        let _reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
        let pipe = place.open(&mut OpenOptions::new()).unwrap();
        let flags = OFlag::from_bits_retain(fcntl(&pipe, FcntlArg::F_GETFL).unwrap());
        assert!(!flags.contains(OFlag::O_NONBLOCK), "what is written waits for room");
        if geteuid().is_root() {
            lchown(&path, NOBODY, NOBODY).unwrap();
            let error = place.open(&mut OpenOptions::new()).unwrap_err().to_string();
            assert!(error.starts_with("pipe is a pipe that belongs to somebody else"), "{error}");
        }
    }

    #[test]
    fn what_has_no_name_is_reached_through_proc() {
        let (_reader, writer) = nix::unistd::pipe().unwrap();
        let place = Place::find(Path::new(&format!("/dev/fd/{}", writer.as_raw_fd()))).unwrap();
        assert_eq!(place.kind(), Some(SFlag::S_IFIFO));
        place.open(&mut OpenOptions::new()).unwrap();
        if geteuid().is_root() {
            // `sudo killtrace ... -o /dev/stdout | less`: the pipe is the shell's.
            nix::unistd::fchown(&writer, NOBODY.map(nix::unistd::Uid::from_raw), None).unwrap();
            place.open(&mut OpenOptions::new()).unwrap();
        }
        assert_eq!(Place::find(Path::new("/dev/null")).unwrap().kind(), Some(SFlag::S_IFCHR));
    }
}
