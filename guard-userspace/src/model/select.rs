//! Which processes the user asked about.

use std::collections::BTreeSet;

use regex::Regex;

use super::event::Cgroups;
use super::text::Comm;

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
    #[must_use]
    pub fn matches(&self, _subject: &Subject<'_>) -> bool {
        false
    }
}

/// Basename of the script that an interpreter runs, `None` when the process is no interpreter running one.
#[must_use]
pub fn script<'a>(_exe: Option<&str>, _cmdline: &'a [String]) -> Option<&'a str> {
    None
}
