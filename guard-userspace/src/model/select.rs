//! Which processes the user asked about.

use std::collections::BTreeSet;

use regex::Regex;

use super::event::Cgroups;
use super::name;
use super::text::Comm;
use super::unit;

pub use super::name::{answers_to, basename, name, names, script};

/// The user's selectors. A process that any of them matches is a root of a watched tree.
#[derive(Clone, Debug, Default)]
pub struct Selectors {
    pub comms: Vec<String>,
    pub pids: Vec<u32>,
    pub cmdlines: Vec<Regex>,
    pub ports: Vec<u16>,
    pub units: Vec<String>,
    pub cgroups: Vec<String>,
    pub uids: Vec<u32>,
    /// Of every process of the machine, the deaths that are worth a word. None of them is the root of a tree.
    pub everybody: Option<Everybody>,
}

/// Which ends are worth a word where nobody was selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Everybody {
    /// By a signal, by the OOM killer, or after a request to stop.
    Killed,
    /// Those that ended by themselves and say that they failed as well.
    KilledOrFailed,
}

impl Everybody {
    /// As the report names it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::KilledOrFailed => "killed-or-failed",
        }
    }
}

/// What a selector can look at.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub tgid: u32,
    pub comm: Comm,
    pub exe: Option<&'a str>,
    pub cmdline: Option<&'a [String]>,
    pub uid: Option<u32>,
    pub cgroups: Option<&'a Cgroups>,
    pub listening: &'a BTreeSet<u16>,
}

impl Selectors {
    /// Whether any selector matches.
    #[must_use]
    pub fn matches(&self, subject: &Subject<'_>) -> bool {
        self.pids.contains(&subject.tgid)
            || self.uids.iter().any(|&uid| subject.uid == Some(uid))
            || self.ports.iter().any(|port| subject.listening.contains(port))
            || self.comms.iter().any(|wanted| name::answers_to(subject, wanted))
            || self.matches_cmdline(subject)
            || self.matches_cgroups(subject)
    }

    fn matches_cmdline(&self, subject: &Subject<'_>) -> bool {
        // Joined only when somebody asks: this runs for every exec of the machine.
        let Some(cmdline) = subject.cmdline.filter(|args| !args.is_empty() && !self.cmdlines.is_empty())
        else {
            return false;
        };
        let line = cmdline.join(" ");
        self.cmdlines.iter().any(|pattern| pattern.is_match(&line))
    }

    fn matches_cgroups(&self, subject: &Subject<'_>) -> bool {
        let Some(cgroups) = subject.cgroups else { return false };
        self.units.iter().any(|name| unit::belongs_to(cgroups, name))
            || self.cgroups.iter().any(|wanted| unit::paths(cgroups).any(|path| is_in(path, wanted)))
    }

    /// No selector was given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { comms, pids, cmdlines, ports, units, cgroups, uids, everybody } = self;
        comms.is_empty()
            && pids.is_empty()
            && cmdlines.is_empty()
            && ports.is_empty()
            && units.is_empty()
            && cgroups.is_empty()
            && uids.is_empty()
            && everybody.is_none()
    }

    /// Each selector as the report shows it, `comm=vite`.
    #[must_use]
    pub fn describe(&self) -> Vec<String> {
        let Self { comms, pids, cmdlines, ports, units, cgroups, uids, everybody } = self;
        let comms = comms.iter().map(|comm| format!("comm={comm}"));
        let pids = pids.iter().map(|pid| format!("pid={pid}"));
        let cmdlines = cmdlines.iter().map(|pattern| format!("cmdline={pattern}"));
        let ports = ports.iter().map(|port| format!("port={port}"));
        let units = units.iter().map(|unit| format!("unit={unit}"));
        let cgroups = cgroups.iter().map(|cgroup| format!("cgroup={cgroup}"));
        let uids = uids.iter().map(|uid| format!("user={uid}"));
        let everybody = everybody.iter().map(|everybody| format!("everybody={}", everybody.word()));
        let one_by_one =
            comms.chain(pids).chain(cmdlines).chain(ports).chain(units).chain(cgroups).chain(uids);
        one_by_one.chain(everybody).collect()
    }
}

/// Whether a cgroup path is the wanted one or below it. The wanted one may be given as a directory under
/// /sys/fs/cgroup, with the directory of a v1 controller in front, because that is what people copy.
fn is_in(path: &str, wanted: &str) -> bool {
    const CONTROLLERS: [&str; 15] = [
        "unified",
        "systemd",
        "memory",
        "cpu",
        "cpuacct",
        "cpu,cpuacct",
        "cpuset",
        "pids",
        "devices",
        "freezer",
        "blkio",
        "net_cls",
        "net_cls,net_prio",
        "perf_event",
        "hugetlb",
    ];
    let is_below = |wanted: &str| {
        let wanted = wanted.trim_matches('/');
        let path = path.trim_start_matches('/');
        wanted.is_empty()
            || path.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let Some(directory) =
        wanted.strip_prefix("/sys/fs/cgroup").filter(|rest| rest.is_empty() || rest.starts_with('/'))
    else {
        return is_below(wanted);
    };
    let directory = directory.trim_start_matches('/');
    let (first, rest) = directory.split_once('/').unwrap_or((directory, ""));
    is_below(directory) || CONTROLLERS.contains(&first) && is_below(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject() -> Subject<'static> {
        static NO_PORTS: BTreeSet<u16> = BTreeSet::new();
        Subject {
            tgid: 4021,
            comm: Comm::from("node"),
            exe: Some("/usr/bin/node"),
            cmdline: None,
            uid: Some(1000),
            cgroups: None,
            listening: &NO_PORTS,
        }
    }

    #[test]
    fn no_selector_matches_nobody() {
        assert!(Selectors::default().is_empty());
        assert!(!Selectors::default().matches(&subject()));
    }

    #[test]
    fn any_selector_is_enough() {
        let selectors = Selectors { pids: vec![1, 4021], uids: vec![0], ..Selectors::default() };
        assert!(!selectors.is_empty());
        assert!(selectors.matches(&subject()));
        assert!(!selectors.matches(&Subject { tgid: 5, ..subject() }));
        assert!(selectors.matches(&Subject { tgid: 5, uid: Some(0), ..subject() }));
        assert!(!selectors.matches(&Subject { tgid: 5, uid: None, ..subject() }));
    }

    #[test]
    fn ports_and_names_are_matched() {
        let selectors =
            Selectors { ports: vec![5173], comms: vec!["vite".to_owned()], ..Selectors::default() };
        assert!(!selectors.matches(&subject()));
        let ports = BTreeSet::from([80, 5173]);
        assert!(selectors.matches(&Subject { listening: &ports, ..subject() }));
        let cmdline = ["node", "/app/node_modules/.bin/vite"].map(str::to_owned);
        assert!(selectors.matches(&Subject { cmdline: Some(&cmdline), ..subject() }));
    }

    #[test]
    fn a_regex_sees_the_arguments_joined_by_spaces() {
        let cmdline = ["node", "server.js", "--port", "80"].map(str::to_owned);
        let subject = Subject { cmdline: Some(&cmdline), ..subject() };
        let with = |pattern: &str| Selectors {
            cmdlines: vec![Regex::new(pattern).unwrap()],
            ..Selectors::default()
        };
        assert!(with(r"^node server\.js --port \d+$").matches(&subject));
        assert!(!with("vite").matches(&subject));
        // A kernel thread has no arguments, which even an empty pattern does not match.
        assert!(!with("").matches(&Subject { cmdline: Some(&[]), ..subject }));
    }

    #[test]
    fn a_cgroup_selects_what_is_in_it_and_below() {
        for wanted in
            ["/a/b", "a/b/", "/a", "/", "/sys/fs/cgroup/a/b", "/sys/fs/cgroup/memory/a", "/sys/fs/cgroup"]
        {
            assert!(is_in("/a/b", wanted), "{wanted}");
        }
        for wanted in
            ["/a/b/c", "/a/bb", "/b", "/sys/fs/cgroup/memory/b", "/sys/fs/cgroupx/a", "/sys/fs/cgroup/x/a"]
        {
            assert!(!is_in("/a/b", wanted), "{wanted}");
        }
        assert!(is_in("/memory/x", "/sys/fs/cgroup/memory/x"));
        assert!(!is_in("/a/bc", "/a/b"));
    }

    #[test]
    fn units_and_cgroups_of_any_hierarchy_count() {
        let cgroups = Cgroups {
            v2: Some("/".to_owned()),
            systemd: Some("/system.slice/cron.service".to_owned()),
            memory: Some("/limited".to_owned()),
            ..Cgroups::default()
        };
        let subject = Subject { cgroups: Some(&cgroups), ..subject() };
        let unit = Selectors { units: vec!["cron".to_owned()], ..Selectors::default() };
        let cgroup = Selectors { cgroups: vec!["/limited".to_owned()], ..Selectors::default() };
        assert!(unit.matches(&subject) && cgroup.matches(&subject));
        let other = Selectors { units: vec!["limited".to_owned()], ..Selectors::default() };
        assert!(!other.matches(&subject));
    }

    #[test]
    fn selectors_describe_themselves() {
        let selectors = Selectors {
            comms: vec!["vite".to_owned()],
            cmdlines: vec![Regex::new("a.b").unwrap()],
            ports: vec![5173],
            uids: vec![1000],
            ..Selectors::default()
        };
        assert_eq!(selectors.describe(), ["comm=vite", "cmdline=a.b", "port=5173", "user=1000"]);
    }
}
