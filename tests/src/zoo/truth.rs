//! What a case of the zoo knows about the deaths it made.

use killtrace::model::report::{Confidence, Kind, Mechanism, OomScope, Role};
use serde::{Deserialize, Serialize};

/// What happened in one case, as its director knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truth {
    pub case: String,
    pub deaths: Vec<Expected>,
    /// Processes that did not die, whatever was done to them.
    pub alive: Vec<u32>,
}

/// Who was behind a death.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// The case does not say.
    #[default]
    Unsaid,
    /// No process: the kernel, the hardware or the victim itself.
    Nobody,
    /// This one. What is `None` is not compared.
    Process { pid: u32, comm: Option<String>, cmdline: Option<Vec<String>> },
}

/// One death, and what a right report says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Expected {
    pub pid: u32,
    /// As `waitpid` gave it; `None` when nobody could wait for it.
    pub status: Option<i32>,
    pub kind: Kind,
    pub confidence: Confidence,
    pub mechanism: Option<Mechanism>,
    pub detail: Option<String>,
    pub graceful: bool,
    pub killer: Who,
    pub killer_uid: Option<u32>,
    /// `root_cause.actor`.
    pub actor: Who,
    pub role: Option<Role>,
    /// Text that `root_cause.action` contains.
    pub action: Option<String>,
    /// The killer's ancestors, nearest first; more may follow.
    pub ancestry: Vec<u32>,
    /// Texts that the chain's steps contain, in this order; other steps may stand between.
    pub chain: Vec<String>,
    /// Texts that the summary contains.
    pub summary: Vec<String>,
    /// Processes that must be neither killer nor root cause.
    pub innocent: Vec<u32>,
    /// Signals that were sent and did not kill, `SIGWINCH`.
    pub other_signals: Vec<String>,
    /// Deaths of the same incident, each with the death it followed from (a pid); `None` for one act.
    pub also_died: Vec<(u32, Option<u32>)>,
    /// Nothing else died in the same incident.
    pub alone: bool,
    pub survivors: Vec<Survivor>,
    pub pid_in_namespace: Option<u32>,
    /// `victim.cgroup`.
    pub cgroup: Option<String>,
    pub oom: Option<Memory>,
    /// What may be said instead where the kernel's structures cannot be read (no BTF): a humbler answer.
    pub without_btf: Option<(Kind, Confidence)>,
    /// And there nobody may be named: only the call would tell who it was.
    pub nobody_without_btf: bool,
}

impl Default for Expected {
    fn default() -> Self {
        Self {
            pid: 0,
            status: None,
            kind: Kind::Unknown,
            confidence: Confidence::Certain,
            mechanism: None,
            detail: None,
            graceful: false,
            killer: Who::Unsaid,
            killer_uid: None,
            actor: Who::Unsaid,
            role: None,
            action: None,
            ancestry: Vec::new(),
            chain: Vec::new(),
            summary: Vec::new(),
            innocent: Vec::new(),
            other_signals: Vec::new(),
            also_died: Vec::new(),
            alone: false,
            survivors: Vec::new(),
            pid_in_namespace: None,
            cgroup: None,
            oom: None,
            without_btf: None,
            nobody_without_btf: false,
        }
    }
}

/// A descendant that lived on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survivor {
    pub pid: u32,
    pub reparented_to: Option<u32>,
    pub listening: Vec<u16>,
}

/// Whose memory had run out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    pub scope: OomScope,
    /// The cgroup whose limit was hit.
    pub cgroup: Option<String>,
    pub limit_bytes: Option<u64>,
    /// Who asked for memory; `None` is not compared.
    pub allocating: Option<u32>,
}
