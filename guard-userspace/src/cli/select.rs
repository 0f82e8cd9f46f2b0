//! Checks what the user selected, before anything is armed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::args::SelectArgs;
use super::failure::{Failure, exit};
use crate::collect::host;
use crate::model::event::ProcessFacts;
use crate::model::select::{Everybody, Selectors, Subject};
use crate::model::{Event, Fact};
use crate::recording;

/// The user's selectors, checked.
#[derive(Debug)]
pub(crate) struct Selection {
    pub(crate) selectors: Selectors,
    /// As the report and the recording's header name them, `comm=vite`.
    pub(crate) texts: Vec<String>,
}

impl Selection {
    /// Selects one process.
    pub(crate) fn pid(pid: u32) -> Result<Self, Failure> {
        Self::new(vec![format!("pid={pid}")])
    }

    /// Selects every process of the machine, for what is worth a word.
    pub(crate) fn everybody(everybody: Everybody) -> Result<Self, Failure> {
        Self::new(vec![format!("everybody={}", everybody.word())])
    }

    /// Checks what was given on the command line.
    pub(crate) fn from_args(args: &SelectArgs) -> Result<Self, Failure> {
        let mut texts = Vec::new();
        texts.extend(args.comm.iter().map(|name| format!("comm={name}")));
        for pid in &args.pid {
            texts.push(format!("pid={}", existing(*pid)?));
        }
        texts.extend(args.cmdline.iter().map(|regex| format!("cmdline={regex}")));
        texts.extend(args.port.iter().map(|port| format!("port={port}")));
        texts.extend(args.unit.iter().map(|unit| format!("unit={unit}")));
        texts.extend(args.cgroup.iter().map(|path| format!("cgroup={}", cgroup(path, &cgroup_mounts()))));
        for name in &args.user {
            texts.push(format!("user={}", user(name)?));
        }
        if texts.is_empty() {
            return Err(Failure::usage(
                "nothing to watch: no process is selected",
                "say which one, for example:\n\
                 killtrace watch --comm vite          by name\n\
                 killtrace watch --pid 4021           by process id\n\
                 killtrace watch --port 5173          whoever listens on a port\n\
                 killtrace watch --unit web.service   a systemd unit\n\
                 --cmdline, --cgroup and --user work too: see `killtrace watch --help`",
            ));
        }
        Self::new(texts)
    }

    fn new(texts: Vec<String>) -> Result<Self, Failure> {
        let selectors = recording::selectors(&texts).map_err(|error| {
            Failure::new(anyhow::anyhow!("{}", error.problem).context(format!("cannot understand --{}", error.selector)))
                .with_code(exit::USAGE)
                .help("--cmdline takes a regular expression (https://docs.rs/regex); `\\` before a character takes it literally")
        })?;
        Ok(Self { selectors, texts })
    }
}

/// The selected units and cgroups that no process of the first scan is in, `unit web.service`. A misspelt name
/// would wait for ever without a word.
pub(crate) fn absent(texts: &[String], scanned: &[Event]) -> Vec<String> {
    let places = texts.iter().filter(|text| text.starts_with("unit=") || text.starts_with("cgroup="));
    places
        .filter(|text| {
            let Ok(selectors) = recording::selectors(&[text.to_string()]) else { return false };
            !scanned.iter().any(|event| match &event.fact {
                Fact::Process(facts) => selectors.matches(&subject(facts)),
                _ => false,
            })
        })
        .map(|text| text.replacen('=', " ", 1))
        .collect()
}

/// What a unit or cgroup selector looks at.
fn subject(facts: &ProcessFacts) -> Subject<'_> {
    static NO_PORTS: BTreeSet<u16> = BTreeSet::new();
    Subject {
        tgid: facts.tgid,
        comm: facts.comm.unwrap_or_default(),
        exe: facts.exe.as_deref(),
        cmdline: facts.cmdline.as_deref(),
        uid: facts.uid,
        cgroups: facts.cgroups.as_ref(),
        listening: &NO_PORTS,
    }
}

/// A process id that exists and is no thread's.
fn existing(pid: u32) -> Result<u32, Failure> {
    let path = format!("/proc/{pid}/status");
    let status = match fs::read(&path) {
        Ok(status) => status,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Failure::usage(
                format!("there is no process {pid}"),
                "`ps -e` lists them; to wait for one that is yet to start, select it by --comm or --cmdline",
            ));
        }
        Err(error) => {
            return Err(Failure::new(anyhow::Error::new(error).context(format!("cannot read {path}"))));
        }
    };
    // The name in the first line is its owner's choice and may be anything but a line break.
    let status = String::from_utf8_lossy(&status);
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    match field("Tgid:").and_then(|tgid| tgid.parse::<u32>().ok()) {
        Some(tgid) if tgid != pid => Err(Failure::usage(
            format!("{pid} is a thread, not a process"),
            format!("watch the process it belongs to: --pid {tgid}"),
        )),
        _ => Ok(pid),
    }
}

/// `kali(1000)`, or the number alone when that is what was given.
fn user(name: &str) -> Result<String, Failure> {
    match host::user_id(name) {
        Ok(Some(uid)) if name == uid.to_string() => Ok(uid.to_string()),
        Ok(Some(uid)) => Ok(format!("{name}({uid})")),
        Ok(None) => Err(Failure::usage(
            format!("there is no user {name:?}"),
            "`cut -d: -f1 /etc/passwd` lists them; a user from elsewhere (LDAP) is found by number: `id -u NAME`",
        )),
        Err(error) => {
            let error = anyhow::Error::new(error).context(format!("cannot look up the user {name:?}"));
            Err(Failure::new(error).help("give the user's number instead: `id -u NAME` prints it"))
        }
    }
}

/// A cgroup's path inside its hierarchy, for a path that may be one in the file system.
fn cgroup(path: &str, mounts: &[PathBuf]) -> String {
    let inside = mounts
        .iter()
        .filter_map(|mount| Path::new(path).strip_prefix(mount).ok())
        .min_by_key(|rest| rest.as_os_str().len());
    let inside = inside.and_then(Path::to_str).unwrap_or(path);
    format!("/{}", inside.trim_matches('/'))
}

/// Where cgroup hierarchies are mounted.
fn cgroup_mounts() -> Vec<PathBuf> {
    fs::read_to_string("/proc/self/mountinfo").map(|text| parse_cgroup_mounts(&text)).unwrap_or_default()
}

/// `35 24 0:30 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw` (`man 5 proc_pid_mountinfo`)
fn parse_cgroup_mounts(mountinfo: &str) -> Vec<PathBuf> {
    let mount = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let kind = after.split(' ').next()?;
        matches!(kind, "cgroup" | "cgroup2").then(|| before.split(' ').nth(4).map(PathBuf::from))?
    };
    mountinfo.lines().filter_map(mount).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &str = "\
24 1 0:22 / /proc rw,nosuid shared:12 - proc proc rw
32 31 0:27 / /sys/fs/cgroup/memory rw,nosuid shared:9 - cgroup cgroup rw,memory
33 31 0:28 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw
broken line
";

    #[test]
    fn a_cgroup_is_found_wherever_its_hierarchy_is_mounted() {
        let mounts = parse_cgroup_mounts(MOUNTINFO);
        assert_eq!(mounts, [Path::new("/sys/fs/cgroup/memory"), Path::new("/sys/fs/cgroup/unified")]);
        let cases = [
            ("/sys/fs/cgroup/memory/a/b", "/a/b"),
            ("/sys/fs/cgroup/unified/a/", "/a"),
            ("/system.slice/web.service", "/system.slice/web.service"),
            ("user.slice", "/user.slice"),
            ("/", "/"),
            ("/sys/fs/cgroup/unified", "/"),
            ("/sys/fs/cgroup/memoryless/a", "/sys/fs/cgroup/memoryless/a"),
        ];
        for (given, inside) in cases {
            assert_eq!(cgroup(given, &mounts), inside, "{given}");
        }
    }

    #[test]
    fn a_user_is_known_by_name_or_number() {
        assert_eq!(user("root").unwrap(), "root(0)");
        assert_eq!(user("4242").unwrap(), "4242");
        let failure = user("no such user").unwrap_err();
        assert_eq!(failure.code(), exit::USAGE);
    }

    #[test]
    fn a_selection_says_what_is_wrong_with_it() {
        let args = |cmdline: &str| SelectArgs { cmdline: vec![cmdline.to_owned()], ..SelectArgs::default() };
        assert_eq!(Selection::from_args(&args("vite|tsx")).unwrap().texts, ["cmdline=vite|tsx"]);
        let failure = Selection::from_args(&args("(vite")).unwrap_err();
        assert_eq!(failure.code(), exit::USAGE);
        assert!(failure.to_string().contains("unclosed group"), "{failure}");
        let failure = Selection::from_args(&SelectArgs::default()).unwrap_err();
        assert!(failure.to_string().contains("--comm vite"), "{failure}");
    }

    #[test]
    fn a_thread_is_no_process() {
        let own = std::process::id();
        assert_eq!(existing(own).unwrap(), own);
        let (tid_in, tid_out) = std::sync::mpsc::channel();
        let (done_in, done_out) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            tid_in.send(nix::unistd::gettid().as_raw()).unwrap();
            let _ = done_out.recv();
        });
        let tid = u32::try_from(tid_out.recv().unwrap()).unwrap();
        let failure = existing(tid).unwrap_err();
        drop(done_in);
        thread.join().unwrap();
        assert!(failure.to_string().contains(&format!("--pid {own}")), "{failure}");
    }
}
