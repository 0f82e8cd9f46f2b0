//! A real systemd, and a user's systemd below it: that of this machine, where it is a guest that systemd has booted,
//! otherwise one that is init of namespaces of its own.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::unistd::User;

use crate::needs::skip;
use crate::procs::{children, comm, eventually};
use crate::sandbox::die_with_this_thread;

const BOOT: &str = include_str!("systemd.sh");

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manager {
    System,
    User,
}

/// All of it is killed when this is dropped, or the test is. On a machine of its own, its units are.
#[derive(Debug)]
pub struct Systemd {
    place: Place,
    /// Its pid outside.
    pub init: u32,
    /// Where its cgroups are. To whoever looks from outside they are those of a slice.
    cgroup: PathBuf,
    uid: u32,
}

#[derive(Debug)]
enum Place {
    /// Namespaces, which live as long as this.
    Namespaces(Child),
    /// This machine, and what was made on it.
    Guest(RefCell<Vec<PathBuf>>),
}

impl Systemd {
    /// The user of [`Manager::User`]: one that every machine has.
    pub const USER: &str = "daemon";

    /// Boots one, without the user's; says why not where this machine cannot.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn boot() -> Option<Self> {
        Self::boot_with("")
    }

    /// Boots one on which anything can be installed, as on a machine of its own: all that is written is gone with it.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn boot_with_own_root() -> Option<Self> {
        Self::boot_with("yes")
    }

    /// This machine was made for a test, and systemd has booted it.
    #[must_use]
    pub fn is_of_a_guest() -> bool {
        std::env::var_os("KILLTRACE_VM").is_some() && comm(1).as_deref() == Some("systemd")
    }

    fn boot_with(own_root: &str) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let uid = User::from_name(Self::USER).expect("users can be looked up").expect("it is everywhere");
        let uid = uid.uid.as_raw();
        if Self::is_of_a_guest() {
            let place = Place::Guest(RefCell::default());
            return Some(Self { place, init: 1, cgroup: PathBuf::from("/sys/fs/cgroup"), uid });
        }
        if !Path::new("/lib/systemd/systemd").exists() {
            skip("systemd is not installed; `cargo xtask setup` installs it");
            return None;
        }
        let Some(hierarchy) = unified() else {
            skip("no cgroup v2 hierarchy is mounted here");
            return None;
        };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let cgroup = hierarchy.join(format!("killtrace{}test{number}.slice", std::process::id()));
        if let Err(error) = fs::create_dir(&cgroup) {
            skip(&format!("cannot make cgroup {}: {error}", cgroup.display()));
            return None;
        }
        let mut command = Command::new("sh");
        command.args(["-c", "echo 0 > \"$0/cgroup.procs\" && exec unshare \"$@\""]).arg(&cgroup);
        command.args(["--pid", "--mount", "--mount-proc", "--uts", "--ipc", "--net", "--cgroup"]);
        command.args(["--fork", "--kill-child", "--", "sh", "-c", BOOT]);
        command.env("OWN_ROOT", own_root).stdin(Stdio::null());
        die_with_this_thread(&mut command);
        let mut unshare = command.spawn().expect("cannot run sh");
        let init = eventually(20, "systemd to be up", || {
            if let Some(status) = unshare.try_wait().expect("a child can be waited for") {
                panic!("the namespaces of systemd ended ({status})");
            }
            let init = *children(unshare.id()).first()?;
            let listens = Path::new(&format!("/proc/{init}/root/run/systemd/private")).exists();
            (comm(init)? == "systemd" && listens).then_some(init)
        });
        Some(Self { place: Place::Namespaces(unshare), init, cgroup, uid })
    }

    /// A command that will run inside, as whoever `manager` is for.
    #[must_use]
    pub fn command(&self, manager: Manager, program: &str) -> Command {
        let mut words: Vec<String> = Vec::new();
        let mut add = |more: &[&str]| words.extend(more.iter().map(ToString::to_string));
        if let Place::Namespaces(_) = self.place {
            let init = self.init.to_string();
            add(&["nsenter", "--target", &init, "--pid", "--mount", "--uts", "--ipc", "--net"]);
            add(&["--cgroup", "--root", "--wd", "--"]);
        }
        if manager == Manager::User {
            let uid = self.uid.to_string();
            add(&["setpriv", "--reuid", &uid, "--regid", &uid, "--clear-groups", "--"]);
            add(&["env", &format!("XDG_RUNTIME_DIR=/run/user/{uid}")]);
        }
        add(&[program]);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null());
        command
    }

    /// Runs `systemctl`, to its end.
    ///
    /// # Panics
    /// When it cannot be run.
    pub fn ask(&self, manager: Manager, args: &[&str]) -> Output {
        let mut command = self.command(manager, "systemctl");
        if manager == Manager::User {
            command.arg("--user");
        }
        command.args(args).output().expect("cannot run nsenter (util-linux)")
    }

    /// Like [`Self::ask`], of what has to succeed.
    ///
    /// # Panics
    /// When it fails.
    pub fn systemctl(&self, manager: Manager, args: &[&str]) {
        let output = self.ask(manager, args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "systemctl {args:?} failed ({}): {said}", output.status);
    }

    /// Runs a script inside, as `root`, to its end.
    ///
    /// # Panics
    /// When it fails.
    pub fn run_script(&self, name: &str, text: &str) {
        fs::write(self.outside("/run").join(name), text).expect("cannot write a script");
        let status = self.command(Manager::System, "sh").arg(format!("/run/{name}")).status();
        let status = status.expect("cannot run nsenter (util-linux)");
        assert!(status.success(), "{name} failed: {status}");
    }

    /// Starts the journal: from here on it has what both systemds say.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_journal(&self) {
        self.systemctl(Manager::System, &["start", "systemd-journald.service"]);
    }

    /// Starts the user's systemd.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn log_in(&self) -> u32 {
        let (uid, unit) = (self.uid, format!("user@{}.service", self.uid));
        self.run_script("log-in.sh", &LOG_IN.replace("UID", &uid.to_string()));
        let service = USERS_SERVICE.replace("UID", &uid.to_string());
        self.unit(Manager::System, &unit, "", &service);
        self.systemctl(Manager::System, &["start", &unit]);
        let own = self.cgroup.join(format!("user.slice/user-{}.slice/{unit}/init.scope", self.uid));
        // Whoever is to close its sessions is its child.
        let members = members(&own);
        members.into_iter().min().unwrap_or_else(|| panic!("{} is empty", own.display()))
    }

    /// Makes a unit of these lines of `[Service]`, `\n` between them.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn unit(&self, manager: Manager, name: &str, unit: &str, service: &str) {
        let dir = match manager {
            Manager::System => "/etc/systemd/system",
            Manager::User => "/etc/systemd/user",
        };
        let text = format!("[Unit]\nDefaultDependencies=no\n{unit}\n[Service]\n{service}\n");
        let path = self.outside(dir).join(name);
        fs::create_dir_all(self.outside(dir)).expect("cannot make a directory for units");
        fs::write(&path, text).expect("cannot write a unit");
        if let Place::Guest(made) = &self.place {
            made.borrow_mut().push(path);
        }
    }

    /// Makes a service, starts it, and tells its processes.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(&self, manager: Manager, name: &str, service: &str) -> Vec<u32> {
        self.unit(manager, name, "", &format!("Type=exec\n{service}"));
        self.systemctl(manager, &["start", name]);
        self.members(manager, name)
    }

    /// The pids, outside, of a service's processes.
    #[must_use]
    pub fn members(&self, manager: Manager, name: &str) -> Vec<u32> {
        let uid = self.uid;
        members(&self.cgroup.join(match manager {
            Manager::System => format!("system.slice/{name}"),
            Manager::User => format!("user.slice/user-{uid}.slice/user@{uid}.service/app.slice/{name}"),
        }))
    }

    /// A path inside, as it is reached from outside.
    #[must_use]
    pub fn outside(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.init))
    }
}

impl Systemd {
    /// Leaves a guest as it was.
    fn clear_up(&self, made: &[PathBuf]) {
        let names = made.iter().filter_map(|path| path.file_name()?.to_str());
        // Those of a user are stopped with the user's systemd.
        for name in names.rev() {
            let _ = self.ask(Manager::System, &["stop", name]);
        }
        for path in made {
            let _ = fs::remove_file(path);
        }
        let _ = self.ask(Manager::System, &["daemon-reload"]);
        let _ = self.ask(Manager::System, &["reset-failed"]);
    }
}

/// What a user's systemd begins and ends with.
const LOG_IN: &str = "\
set -e
mkdir -p -m 755 /run/user
mkdir -p -m 700 /run/user/UID
chown UID /run/user/UID
mkdir -p /etc/systemd/user
cd /etc/systemd/user
printf '[Unit]\\nDefaultDependencies=no\\n' >nothing.target
cp /usr/lib/systemd/user/exit.target /usr/lib/systemd/user/shutdown.target /usr/lib/systemd/user/systemd-exit.service .
";

/// A user's systemd, with only the units that are made for it. `UID` is the user's number.
const USERS_SERVICE: &str = "\
User=UID
Type=notify
Slice=user-UID.slice
Delegate=yes
TimeoutStopSec=5
KillMode=mixed
Environment=HOME=/tmp XDG_RUNTIME_DIR=/run/user/UID
Environment=SYSTEMD_UNIT_PATH=/etc/systemd/user SYSTEMD_GENERATOR_PATH=/nonexistent
ExecStart=/lib/systemd/systemd --user --unit=nothing.target --log-target=journal";

impl Drop for Systemd {
    fn drop(&mut self) {
        let unshare = match &mut self.place {
            Place::Namespaces(unshare) => unshare,
            Place::Guest(made) => {
                let made = made.take();
                return self.clear_up(&made);
            }
        };
        // `--kill-child`: its death is the init's death, and that is everybody's.
        let _ = unshare.kill();
        let _ = unshare.wait();
        let removed = (0..250).any(|_| {
            remove(&self.cgroup);
            std::thread::sleep(std::time::Duration::from_millis(20));
            !self.cgroup.exists()
        });
        assert!(removed || std::thread::panicking(), "{} is left", self.cgroup.display());
    }
}

/// Cgroups are refused to whoever removes them while somebody is in them.
fn remove(cgroup: &Path) {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(cgroup);
}

fn members(cgroup: &Path) -> Vec<u32> {
    let pids = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    pids.lines().filter_map(|pid| pid.parse().ok()).collect()
}

/// Where cgroup v2 is mounted.
fn unified() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    mounts.find(|fields| fields.get(2) == Some(&"cgroup2")).map(|fields| PathBuf::from(fields[1]))
}
