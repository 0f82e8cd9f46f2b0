//! A memory cgroup with a limit, in whichever hierarchy this machine has.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Removed when dropped; nobody may be left in it by then.
#[derive(Debug)]
pub struct MemoryCgroup {
    dir: PathBuf,
    /// The directory above it, where that was made for it.
    above: Option<PathBuf>,
    /// Its path inside the hierarchy, as /proc/PID/cgroup shows it.
    pub path: String,
    pub limit_bytes: u64,
}

impl MemoryCgroup {
    /// A new cgroup of at most `limit_bytes`; the reason when this machine cannot have one.
    ///
    /// # Errors
    /// No memory controller, or none that may be changed.
    pub fn new(name: &str, limit_bytes: u64) -> Result<Self, String> {
        Self::at(format!("/killtrace-test-{name}-{}", std::process::id()), limit_bytes)
    }

    /// One that is named as systemd names those of its services; the unit's name comes with it.
    ///
    /// # Errors
    /// Like [`MemoryCgroup::new`]'s.
    pub fn service(name: &str, limit_bytes: u64) -> Result<(Self, String), String> {
        let unit = format!("killtrace-test-{name}-{}.service", std::process::id());
        Ok((Self::at(format!("/{unit}"), limit_bytes)?, unit))
    }

    /// One that is named as docker names those of its containers; the container's id comes with it.
    ///
    /// # Errors
    /// Like [`MemoryCgroup::new`]'s.
    pub fn docker(limit_bytes: u64) -> Result<(Self, String), String> {
        let id = format!("{:0<64}", format!("4f3c{:08x}", std::process::id()));
        Ok((Self::at(format!("/docker/{id}"), limit_bytes)?, id))
    }

    fn at(path: String, limit_bytes: u64) -> Result<Self, String> {
        let hierarchy = Hierarchy::find().ok_or("no cgroup hierarchy here has the memory controller")?;
        let dir = hierarchy.root().join(&path[1..]);
        let make = |dir: &Path| {
            fs::create_dir(dir).map_err(|error| format!("cannot make cgroup {}: {error}", dir.display()))
        };
        let above = dir.parent().filter(|above| !above.exists()).map(Path::to_owned);
        if let Some(above) = &above {
            make(above)?;
            if matches!(hierarchy, Hierarchy::V2(_)) {
                Hierarchy::enable_memory(above);
            }
        }
        make(&dir)?;
        let cgroup = Self { dir, above, path, limit_bytes };
        let (limit, swap, no_swap) = match hierarchy {
            Hierarchy::V1(_) => ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", limit_bytes),
            Hierarchy::V2(_) => ("memory.max", "memory.swap.max", 0),
        };
        cgroup.write(limit, limit_bytes)?;
        // Absent where swap is not accounted; then there is no swap to escape to, or the limit still holds.
        if cgroup.dir.join(swap).exists() {
            cgroup.write(swap, no_swap)?;
        }
        Ok(cgroup)
    }

    /// The file that takes the pids of new members.
    #[must_use]
    pub fn procs(&self) -> PathBuf {
        self.dir.join("cgroup.procs")
    }

    fn write(&self, file: &str, value: u64) -> Result<(), String> {
        let path = self.dir.join(file);
        fs::write(&path, value.to_string()).map_err(|error| format!("cannot set {}: {error}", path.display()))
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        // The kernel lets a dead member go a little after its parent has reaped it.
        for _ in 0..100 {
            if fs::remove_dir(&self.dir).is_ok() {
                if let Some(above) = &self.above {
                    let _ = fs::remove_dir(above);
                }
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

enum Hierarchy {
    V1(PathBuf),
    V2(PathBuf),
}

impl Hierarchy {
    fn find() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
        mounts.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            let (root, kind, options) = (Path::new(fields.get(1)?), *fields.get(2)?, *fields.get(3)?);
            match kind {
                "cgroup" if options.split(',').any(|option| option == "memory") => {
                    Some(Self::V1(root.into()))
                }
                "cgroup2" if Self::enable_memory(root) => Some(Self::V2(root.into())),
                _ => None,
            }
        })
    }

    /// Children have the controller only if their parent hands it down.
    fn enable_memory(root: &Path) -> bool {
        let has = |file: &str| {
            let text = fs::read_to_string(root.join(file)).unwrap_or_default();
            text.split_whitespace().any(|controller| controller == "memory")
        };
        has("cgroup.controllers")
            && (has("cgroup.subtree_control")
                || fs::write(root.join("cgroup.subtree_control"), "+memory").is_ok())
    }

    fn root(&self) -> &Path {
        match self {
            Self::V1(root) | Self::V2(root) => root,
        }
    }
}
