//! A file that is always whole: replaced in one step, or not at all.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nix::sys::stat::SFlag;

use super::failure::{Failure, exit};
use crate::place::{self, Place};

/// A place for a file that was found fit before anything depends on it.
#[derive(Clone, Debug)]
pub(crate) struct SafeFile {
    path: PathBuf,
    /// The directory that a temporary file is made in; `None` for a device or pipe, which is written to as it
    /// is: renaming over /dev/null would take it from everybody.
    directory: Option<PathBuf>,
    mode: u32,
}

impl SafeFile {
    /// Only its owner reads it.
    const OWNER: u32 = 0o600;
    const EVERYBODY: u32 = 0o644;

    /// Checks that the file can be made or replaced.
    pub(crate) fn check(path: &Path) -> Result<Self, Failure> {
        // A link stays, and what it leads to is replaced.
        let place = find(path)?;
        let this = Self { path: path.to_owned(), directory: None, mode: Self::OWNER };
        match place.kind() {
            Some(SFlag::S_IFDIR) => {
                let help = format!("name a file in it: -o {}", path.join("report.json").display());
                Err(Failure::usage(format!("{} is a directory", path.display()), help))
            }
            None | Some(SFlag::S_IFREG) => {
                let directory = fs::read_link(place.directory()).unwrap_or_else(|_| directory_of(path));
                temporary(&place).map_err(|error| unusable_directory(&directory, path, error))?;
                Ok(Self { directory: Some(directory), ..this })
            }
            Some(_) => {
                place.open(&mut OpenOptions::new()).map_err(|error| unusable(path, error))?;
                Ok(this)
            }
        }
    }

    /// What is written to by name: its directory, or itself where it is no file.
    pub(crate) fn place(&self) -> &Path {
        self.directory.as_deref().unwrap_or(&self.path)
    }

    /// Lets everybody read it, whatever the umask.
    pub(crate) fn for_everybody(self) -> Self {
        Self { mode: Self::EVERYBODY, ..self }
    }

    /// Replaces its content by what `fill` writes. On failure the old content stays.
    pub(crate) fn write(&self, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> anyhow::Result<()> {
        self.replace(fill).with_context(|| format!("cannot save {}", self.path.display()))
    }

    /// Removes it, if it is there. A device or pipe stays.
    pub(crate) fn remove(&self) -> anyhow::Result<()> {
        if self.directory.is_none() {
            return Ok(());
        }
        let removed = Place::find(&self.path).and_then(|place| match place.kind() {
            Some(SFlag::S_IFREG) => fs::remove_file(place.path()),
            _ => Ok(()),
        });
        removed.with_context(|| format!("cannot remove {}", self.path.display()))
    }

    fn replace(&self, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let place = Place::find(&self.path)?;
        if self.directory.is_none() {
            let mut out = BufWriter::new(place.open(&mut OpenOptions::new())?);
            fill(&mut out)?;
            return out.flush();
        }
        let mut file = temporary(&place)?;
        let mut out = BufWriter::new(file.as_file_mut());
        fill(&mut out)?;
        out.flush()?;
        drop(out);
        file.as_file().set_permissions(Permissions::from_mode(self.mode))?;
        file.as_file().sync_all()?;
        file.persist(place.path()).map_err(|error| error.error)?;
        // The name is safe only once the directory is; some file systems cannot, and lose nothing by it.
        let _ = File::open(place.directory()).and_then(|directory| directory.sync_all());
        Ok(())
    }
}

/// Opens a file that is written as it goes, for its owner only. What it held stays until it is cut.
pub(crate) fn open_growing(path: &Path) -> Result<File, Failure> {
    let place = find(path)?;
    let opened = place.open(OpenOptions::new().create(true).truncate(false).mode(0o600)).and_then(|file| {
        let found = file.metadata()?;
        let name = path.file_name().unwrap_or_default();
        // Whoever owns it reads along.
        if found.is_file() && !place::is_trusted(found.uid()) {
            return Err(place::foreign(name, "file", found.uid()));
        }
        // One of several names may have been given to a file that is dear to somebody.
        if found.is_file() && found.nlink() > 1 {
            let name = name.to_string_lossy();
            return Err(io::Error::other(format!("{name} has another name as well (a hard link)")));
        }
        Ok(file)
    });
    opened.map_err(|error| unusable(path, error))
}

fn find(path: &Path) -> Result<Place, Failure> {
    Place::find(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            unusable_directory(&directory_of(path), path, error)
        }
        _ => unusable(path, error),
    })
}

/// An empty file, 0600, that vanishes unless it is given its name.
fn temporary(place: &Place) -> io::Result<tempfile::NamedTempFile> {
    let made = tempfile::Builder::new().prefix(".killtrace-").suffix(".tmp").tempfile_in(place.directory());
    // Its errors name the temporary file, which is nobody's business.
    made.map_err(|error| {
        let text = error.to_string();
        let cause = text.split(" at path ").next().unwrap_or(&text);
        io::Error::new(error.kind(), cause)
    })
}

/// The directory that a file is in.
pub(crate) fn directory_of(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new(".")).to_owned()
}

fn unusable(path: &Path, error: io::Error) -> Failure {
    let what = format!("cannot write to {}", path.display());
    // A pipe without a reader says so in words that nobody else uses (fs/pipe.c, `fifo_open`).
    let (error, help) = match error.raw_os_error() {
        Some(libc::ENXIO) => {
            (io::Error::other("it is a pipe that nobody reads"), "start the one who reads it first")
        }
        _ => (error, "choose another file"),
    };
    Failure::new(anyhow::Error::new(error).context(what)).help(help).with_code(exit::USAGE)
}

fn unusable_directory(directory: &Path, path: &Path, error: io::Error) -> Failure {
    let shown = directory.display();
    // /proc says "not found" to whoever makes a file in it.
    if error.kind() == io::ErrorKind::NotFound && !directory.exists() {
        return Failure::usage(
            format!("cannot write {}: the directory {shown} does not exist", path.display()),
            format!("make it first: mkdir -p {shown}"),
        );
    }
    let help = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room there, or choose another directory"
        }
        _ => "choose a directory that you can write to",
    };
    let what = format!("cannot write to the directory {shown}");
    Failure::new(anyhow::Error::new(error).context(what)).help(help).with_code(exit::USAGE)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{lchown, symlink};

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_is_its_owners_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report.json");
        fs::write(&path, "old").unwrap();
        let file = SafeFile::check(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old", "checking changes nothing");
        file.write(|out| out.write_all(b"new")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        file.for_everybody().write(|out| out.write_all(b"newer")).unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), mode()), ("newer", 0o644));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file stays behind");
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report.json");
        fs::write(&path, "old").unwrap();
        let file = SafeFile::check(&path).unwrap();
        let result = file.write(|out| {
            out.write_all(b"half")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert!(result.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_stays_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let (real, link) = (directory.path().join("real"), directory.path().join("link"));
        fs::write(&real, "old").unwrap();
        symlink(&real, &link).unwrap();
        SafeFile::check(&link).unwrap().write(|out| out.write_all(b"new")).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&real).unwrap(), "new");
    }

    /// As anybody can prepare it in /tmp for a report of root's.
    #[test]
    fn what_others_have_put_there_is_neither_followed_nor_fed() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        const NOBODY: Option<u32> = Some(65534);
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o1777)).unwrap();
        let (precious, planted) = (directory.path().join("precious"), directory.path().join("planted"));
        fs::write(&precious, "old").unwrap();
        let refused = |planted: &Path| {
            let report = SafeFile::check(planted).unwrap_err();
            let events = open_growing(planted).unwrap_err();
            for failure in [report, events] {
                assert_eq!(failure.code(), exit::USAGE);
                assert!(failure.to_string().contains("belongs to somebody else (user 65534)"), "{failure}");
            }
            assert_eq!(fs::read_to_string(&precious).unwrap(), "old");
        };
        symlink(&precious, &planted).unwrap();
        // Planted while killtrace runs.
        let file = SafeFile::check(&planted).unwrap();
        lchown(&planted, NOBODY, NOBODY).unwrap();
        assert!(file.write(|out| out.write_all(b"new")).is_err() && file.remove().is_err());
        refused(&planted);
        fs::remove_file(&planted).unwrap();
        nix::unistd::mkfifo(&planted, nix::sys::stat::Mode::from_bits_truncate(0o622)).unwrap();
        let failure = SafeFile::check(&planted).unwrap_err();
        assert!(failure.to_string().contains("a pipe that nobody reads"), "{failure}");
        lchown(&planted, NOBODY, NOBODY).unwrap();
        let _reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&planted).unwrap();
        refused(&planted);
        fs::remove_file(&planted).unwrap();
        // A file of theirs is replaced by one of ours, and never written to.
        fs::write(&planted, "").unwrap();
        lchown(&planted, NOBODY, NOBODY).unwrap();
        assert!(open_growing(&planted).is_err());
        let mut theirs = File::open(&planted).unwrap();
        SafeFile::check(&planted).unwrap().write(|out| out.write_all(b"new")).unwrap();
        assert_eq!(fs::metadata(&planted).unwrap().uid(), 0);
        assert_eq!(io::read_to_string(&mut theirs).unwrap(), "");
        // A second name of another file.
        fs::remove_file(&planted).unwrap();
        fs::hard_link(&precious, &planted).unwrap();
        let failure = open_growing(&planted).unwrap_err();
        assert!(failure.to_string().contains("planted has another name as well"), "{failure}");
        SafeFile::check(&planted).unwrap().write(|out| out.write_all(b"new")).unwrap();
        assert_eq!(fs::read_to_string(&precious).unwrap(), "old");
    }

    #[test]
    fn a_device_is_written_to_and_never_replaced() {
        let file = SafeFile::check(Path::new("/dev/null")).unwrap();
        file.write(|out| out.write_all(b"gone")).unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn an_impossible_place_is_named() {
        let missing = SafeFile::check(Path::new("/no/such/place/r.json")).unwrap_err();
        assert_eq!(missing.code(), exit::USAGE);
        assert!(missing.to_string().contains("mkdir -p /no/such/place"), "{missing}");
        let directory = SafeFile::check(Path::new("/tmp")).unwrap_err();
        assert!(directory.to_string().contains("is a directory"), "{directory}");
        let below_a_file = SafeFile::check(Path::new("/etc/passwd/r.json")).unwrap_err();
        assert_eq!(below_a_file.code(), exit::USAGE);
        assert!(!below_a_file.to_string().contains(".killtrace-"), "{below_a_file}");
    }
}
