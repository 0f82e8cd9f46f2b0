//! The report: `killtrace.report/1`. These types are the JSON; the schema in docs/ is generated from them.
//!
//! Adding keys is compatible, changing them is not. Unknown is `null`, never a missing key and never a guess.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::event::{Call, MachineMemory, SignalResult};
use super::header::{Host, Tool};
use super::time::Timestamp;

/// Everything killtrace has to say about one watch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// Always `killtrace.report/1`.
    pub schema: String,
    pub tool: Tool,
    pub generated_at: Timestamp,
    pub host: Host,
    pub collector: Collector,
    pub watch: Watch,
    pub deaths: Vec<Death>,
    pub patterns: Vec<Pattern>,
    /// Every event the answers rest on, and the watched trees' forks, execs, signals and exits, in time order.
    pub timeline: Vec<TimelineEntry>,
    /// Timeline entries left out to keep the report bounded.
    pub timeline_omitted: u64,
    /// Deaths left out to keep the report bounded, the oldest.
    pub deaths_omitted: u64,
}

impl Report {
    /// Name and version of the format.
    pub const SCHEMA: &str = "killtrace.report/1";
}

/// How the events were collected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Collector {
    /// `ebpf`, `perf`.
    pub backend: String,
    pub started_at: Timestamp,
    pub ended_at: Timestamp,
    /// Events seen, of the whole machine.
    pub events: u64,
    /// Events the kernel side had no room for.
    pub lost_events: u64,
    /// What this kernel could not give.
    pub degraded: Vec<String>,
}

/// What was watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Watch {
    pub selectors: Vec<String>,
    /// Processes that matched a selector.
    pub roots_seen: u64,
}

/// One death record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Death {
    /// From 1, in order of death.
    pub id: u64,
    pub died_at: Timestamp,
    /// How long the process had lived; `null` when its start is unknown.
    pub uptime_ms: Option<u64>,
    pub victim: Victim,
    pub exit: ExitStatus,
    pub cause: Cause,
    /// Who generated the fatal signal; `null` when there was none, or it was not seen.
    pub sender: Option<Sender>,
    /// The process whose act it was, following the chain back; `null` when it was the kernel, the hardware or
    /// the victim itself.
    pub killer: Option<Actor>,
    /// Who decided it, one step further up the ancestry.
    pub root_cause: Option<RootCause>,
    /// The answer in one sentence.
    pub summary: String,
    /// What led to it, root cause first.
    pub chain: Vec<ChainStep>,
    /// The timeline entries the verdict rests on.
    pub evidence: Vec<u64>,
    /// Signals that were sent to it and did not kill it.
    pub other_signals: Vec<OtherSignal>,
    pub ruled_out: Vec<RuledOut>,
    pub context: Context,
    pub aftermath: Aftermath,
    /// What to do about it, only where the evidence supports it.
    pub advice: Vec<String>,
    /// What the collector missed or could not see that bears on this death.
    pub gaps: Vec<String>,
    /// What its killer or its service manager said of it in the systemd journal: a witness, read when the verdict stood,
    /// on which nothing else here rests.
    #[serde(default)]
    pub journal: Vec<JournalLine>,
}

/// The process that died.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Victim {
    pub pid: u32,
    pub ppid: Option<u32>,
    pub comm: String,
    /// What a person calls it: a script's own name rather than its interpreter's.
    pub name: String,
    pub exe: Option<String>,
    pub cmdline: Option<Vec<String>>,
    pub cwd: Option<String>,
    pub uid: Option<u32>,
    pub user: Option<String>,
    pub cgroup: Option<String>,
    /// systemd unit.
    pub unit: Option<String>,
    pub unit_scope: Option<UnitScope>,
    /// Container id, from the cgroup path.
    pub container: Option<String>,
    pub started_at: Option<Timestamp>,
    /// It matched a selector itself, rather than descending from a process that did.
    pub root: bool,
    pub pid_in_namespace: Option<u32>,
}

/// Which service manager a unit belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnitScope {
    System,
    User,
}

/// What the parent's `waitpid` would see.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExitStatus {
    pub code: Option<i32>,
    /// `SIGKILL`
    pub signal: Option<String>,
    pub signal_number: Option<i32>,
    pub core_dumped: Option<bool>,
    /// What a shell prints as `$?`: the code, or 128 plus the signal.
    pub shell_status: Option<i32>,
}

/// What killed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cause {
    pub kind: Kind,
    /// `null` where the system call cannot be seen and several leave the same.
    pub mechanism: Option<Mechanism>,
    /// It caught the signal and then exited in its own time.
    pub graceful: bool,
    pub confidence: Confidence,
    /// Finer truth, a short fixed word.
    pub detail: Option<String>,
    /// For `oom_kill`, and for `sysrq` where f had the OOM killer choose.
    pub oom: Option<Oom>,
}

/// The causes of death.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Exited,
    KilledByProcess,
    KilledBySelf,
    Crashed,
    OomKill,
    TtyHangup,
    TtyKeyboard,
    SessionLeaderExit,
    OrphanedProcessGroup,
    ParentDeathSignal,
    SiblingThreadExit,
    CgroupKill,
    PidNamespaceTeardown,
    Seccomp,
    Rlimit,
    Timer,
    BrokenPipe,
    Debugger,
    Sysrq,
    ExecFailed,
    AsyncNotification,
    Unknown,
}

/// The way the fatal signal was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Mechanism {
    #[serde(rename = "kill")]
    Kill,
    #[serde(rename = "kill_group")]
    KillGroup,
    #[serde(rename = "kill_all")]
    KillAll,
    #[serde(rename = "tkill")]
    Tkill,
    #[serde(rename = "tgkill")]
    Tgkill,
    #[serde(rename = "sigqueue")]
    Sigqueue,
    #[serde(rename = "tgsigqueue")]
    Tgsigqueue,
    #[serde(rename = "pidfd_send_signal")]
    PidfdSendSignal,
    #[serde(rename = "cgroup.kill")]
    CgroupKill,
    #[serde(rename = "ptrace")]
    Ptrace,
    #[serde(rename = "tty_ioctl")]
    TtyIoctl,
    #[serde(rename = "sysrq")]
    Sysrq,
    #[serde(rename = "reboot")]
    Reboot,
    #[serde(rename = "kernel")]
    Kernel,
    #[serde(rename = "none")]
    None,
}

/// How sure the verdict is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    Unknown,
    /// Timing and state say so.
    Likely,
    /// The kernel's own events say so.
    Certain,
}

/// The circumstances of an OOM kill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Oom {
    pub scope: Option<OomScope>,
    /// The cgroup whose limit was hit, for scope `memcg`.
    pub cgroup: Option<String>,
    pub limit_bytes: Option<u64>,
    pub usage_bytes: Option<u64>,
    /// The victim's own resident memory when it was chosen.
    pub victim_rss_bytes: Option<u64>,
    /// The task that asked for memory when there was none. Not to blame.
    pub allocating_task: Option<ProcessRef>,
    /// Who held most of the cgroup's memory when the victim was chosen, the largest first, the victim among them.
    #[serde(default)]
    pub largest_tasks: Vec<TaskMemory>,
}

/// A process, and what it held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskMemory {
    pub pid: u32,
    pub comm: String,
    /// What a person calls it.
    pub name: String,
    pub rss_bytes: u64,
}

/// Whose memory ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OomScope {
    Global,
    Memcg,
}

/// A process, briefly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessRef {
    pub pid: u32,
    pub comm: String,
}

/// Who generated the fatal signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sender {
    /// The kernel did, by itself; `current` merely happened to run.
    pub kernel: bool,
    pub current: Option<ProcessRef>,
}

/// A process that acted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Actor {
    pub pid: u32,
    pub comm: String,
    /// What a person calls it: a script's own name rather than its interpreter's.
    pub name: String,
    pub exe: Option<String>,
    pub cmdline: Option<Vec<String>>,
    pub cwd: Option<String>,
    pub uid: Option<u32>,
    pub user: Option<String>,
    pub cgroup: Option<String>,
    pub unit: Option<String>,
    pub unit_scope: Option<UnitScope>,
    pub role: Role,
    /// What systemd was doing to the victim's unit; `null` for anybody else, and where its signals do not show it.
    pub job: Option<Job>,
    /// Its parents, nearest first, as they were when they were born.
    pub ancestry: Vec<Ancestor>,
}

/// One step up an ancestry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ancestor {
    pub pid: u32,
    pub comm: String,
    pub name: String,
    pub cmdline: Option<Vec<String>>,
    /// Still alive when the victim died.
    pub alive: bool,
}

/// What an actor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    OomDaemon,
    ServiceManager,
    ContainerRuntime,
    Init,
    PackageScript,
    /// A script that restarts what it kills.
    Watchdog,
    Shell,
    Terminal,
    Debugger,
    TestRunner,
    /// It runs the jobs of continuous integration.
    CiRunner,
    #[serde(rename = "self")]
    Victim,
    Parent,
    Child,
    Kernel,
    Process,
}

/// What systemd was doing to a unit, or a CI runner to a job, when it ended a process of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    /// It stopped it, for whatever reason.
    Stop,
    /// Most likely to start it again: `systemctl restart` was waiting.
    Restart,
    /// It had not stopped in time.
    Timeout,
    /// It ended it with SIGABRT, as for a watchdog that ran out.
    Watchdog,
    /// Most likely the job of a CI runner was cancelled or timed out.
    Cancel,
}

impl Death {
    /// Something ended it: neither it by itself, nor a request that it complied with, nor a reader who had enough.
    #[must_use]
    pub fn is_abnormal(&self) -> bool {
        !matches!(self.cause.kind, Kind::Exited | Kind::BrokenPipe) && !self.cause.graceful
    }

    /// Who decided it, if anybody did and is known.
    #[must_use]
    pub fn decider(&self) -> Option<&Actor> {
        self.root_cause.as_ref()?.actor.as_ref()
    }
}

/// Who decided it, and how they acted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RootCause {
    pub actor: Option<Actor>,
    /// `sent SIGTERM to zsh (pid 4010)`
    pub action: String,
    /// How sure it is that this was behind it; at most what the cause is.
    pub confidence: Confidence,
}

/// A line of the systemd journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JournalLine {
    pub t: Timestamp,
    /// The timeline entry behind it.
    pub event: u64,
    /// Who wrote it; journald has that from the kernel.
    pub writer: ProcessRef,
    pub text: String,
}

/// One step of the story.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChainStep {
    pub t: Timestamp,
    /// The timeline entry behind it.
    pub event: u64,
    pub text: String,
    /// Since the step before; `null` for the first.
    pub after_ns: Option<u64>,
}

/// Signals that did not kill, alike ones together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OtherSignal {
    pub signal: String,
    pub from: Option<ProcessRef>,
    pub count: u64,
    pub why_not: String,
}

/// What it was not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuledOut {
    pub cause: Kind,
    pub because: String,
}

/// The surroundings of a death.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Context {
    pub memory: Option<Memory>,
    /// Last resident size that was read.
    pub victim_rss_bytes: Option<u64>,
    pub victim_peak_rss_bytes: Option<u64>,
    pub oom_score_adj: Option<i32>,
    pub cgroup_memory: Option<CgroupLimits>,
    /// The victim's ancestors and the watched tree around it.
    pub tree: Vec<TreeNode>,
}

/// The machine's memory when the victim died.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Memory {
    pub available_bytes: Option<u64>,
    pub swap_free_bytes: Option<u64>,
    /// `null` where pressure information is off.
    pub psi_some_avg10: Option<f64>,
}

impl From<MachineMemory> for Memory {
    fn from(memory: MachineMemory) -> Self {
        let MachineMemory { available_bytes, swap_free_bytes, psi_some_avg10 } = memory;
        Self { available_bytes, swap_free_bytes, psi_some_avg10 }
    }
}

/// The victim's memory cgroup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CgroupLimits {
    pub path: String,
    pub limit_bytes: Option<u64>,
    pub usage_bytes: Option<u64>,
    pub peak_bytes: Option<u64>,
    pub oom_kills: Option<u64>,
}

/// A process around the victim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TreeNode {
    pub pid: u32,
    pub ppid: Option<u32>,
    pub comm: String,
    pub name: String,
    pub oom_score_adj: Option<i32>,
    pub alive: bool,
}

/// What a death left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Aftermath {
    pub also_died: Vec<AlsoDied>,
    pub survivors: Vec<Survivor>,
}

/// A process that died in the same incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AlsoDied {
    pub pid: u32,
    pub comm: String,
    /// The death it followed from; `null` when both fell to one act, such as a group kill.
    pub because_of_death: Option<u64>,
    /// How sure it is that the two belong together. Who exits by itself right after another died is `likely`.
    #[serde(default = "certain")]
    pub confidence: Confidence,
}

/// Reports from before it was said.
fn certain() -> Confidence {
    Confidence::Certain
}

/// A descendant that lived on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Survivor {
    pub pid: u32,
    pub comm: String,
    /// What a person calls it; empty in reports of versions that did not say.
    #[serde(default)]
    pub name: String,
    pub reparented_to: Option<u32>,
    /// TCP ports it still listens on.
    pub listening: Vec<u16>,
}

/// Something that recurs, or belongs together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pattern {
    pub kind: PatternKind,
    /// What recurs; for `collateral` whose end or act it was, for `orphans` whom they outlived.
    pub name: String,
    /// Deaths; for `spawn_storm` births, for `orphans` those who lived on.
    pub count: u64,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    /// For `restart_loop` and `periodic`, of the last of them.
    pub median_interval_ms: Option<u64>,
    /// Whether they come faster or slower; `null` for too few of them.
    pub trend: Option<Trend>,
    /// Who did it, when it was always the same; for `spawn_storm` who started most.
    pub by: Option<String>,
    /// For `spawn_storm`.
    pub rates: Option<Rates>,
    /// For `collateral`: what the killer was to its victims.
    pub relation: Option<Relation>,
    /// For `collateral`, the first of them.
    #[serde(default)]
    pub victims: Vec<ProcessRef>,
    /// For `orphans`: those that live.
    #[serde(default)]
    pub survivors: Vec<Survivor>,
    pub text: String,
    /// What to do about it, only where the evidence supports it.
    #[serde(default)]
    pub advice: Vec<String>,
}

/// How the time between deaths changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trend {
    Faster,
    Slower,
    Steady,
}

/// Births and deaths in a tree while births outran deaths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rates {
    pub births: u64,
    pub deaths: u64,
    pub births_per_minute: u64,
    pub deaths_per_minute: u64,
}

/// What is true of a process and all that it ended; `null` where it differs or is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Relation {
    /// It had started them, or all belong to one watched tree.
    pub same_tree: Option<bool>,
    pub same_user: Option<bool>,
    pub same_session: Option<bool>,
}

/// Kinds of recurrence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PatternKind {
    RestartLoop,
    SpawnStorm,
    Collateral,
    Orphans,
    Periodic,
}

/// One event, as the report shows it. Like events in a row are one entry with a `count`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TimelineEntry {
    pub id: u64,
    pub t: Timestamp,
    /// CLOCK_BOOTTIME, in nanoseconds.
    pub t_ns: u64,
    #[serde(flatten)]
    pub what: What,
}

/// The kinds of timeline entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum What {
    Fork {
        parent: Option<ProcessRef>,
        child: ProcessRef,
    },
    Exec {
        process: ProcessRef,
        path: String,
        cmdline: Option<Vec<String>>,
    },
    Signal {
        signal: String,
        /// `SI_USER`
        code: String,
        /// The system call behind it, where the kernel shows it.
        via: Option<Call>,
        from: Option<ProcessRef>,
        to: ProcessRef,
        result: SignalResult,
        /// How many alike followed each other.
        count: u64,
        /// How many of them a handler took.
        handled: u64,
        /// When the last of them was made.
        last_t_ns: u64,
    },
    /// A process took a signal with its default action, though nobody had sent it that one.
    Taken {
        signal: String,
        process: ProcessRef,
    },
    OomVictim {
        process: ProcessRef,
        allocating_task: Option<ProcessRef>,
    },
    Exit {
        process: ProcessRef,
        exit: ExitStatus,
    },
    KernelLog {
        text: String,
    },
    Journal {
        writer: ProcessRef,
        text: String,
    },
    Lost {
        probe: String,
        count: u64,
    },
}
