//! Reports for tests: the stories that killtrace was made for, and one with every variant of every type.

use crate::model::event::{Call, SignalResult};
use crate::model::header::{Host, Tool};
use crate::model::report::{
    Actor, Aftermath, AlsoDied, Ancestor, Cause, CgroupLimits, ChainStep, Collector, Confidence, Context,
    Death, ExitStatus, JournalLine, Kind, Mechanism, Memory, Oom, OomScope, OtherSignal, Pattern,
    PatternKind, ProcessRef, Rates, Relation, Report, Role, RootCause, RuledOut, Sender, Survivor,
    TaskMemory, TimelineEntry, TreeNode, Trend, UnitScope, Victim, Watch, What,
};
use crate::model::time::Timestamp;

/// What somebody may call a process to make a report do something.
pub(crate) const HOSTILE: [&str; 7] = [
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">",
    "'\"><svg onload=document.title='owned'>]]>-->--!></title></style></textarea>",
    "javascript:alert(1) [x](javascript:alert(1)) `code` | cell | **bold** %0A::error::forged",
    "\n::error title=forged::forged\r\n# heading\n\n- list ##[error]forged",
    "\x1b[2J\x1b]0;owned\x07\u{9b}31m\0",
    "abc\u{202e}gpj.exe\u{2066}\u{200b}\u{2028}\u{feff}",
    "\\u003cscript> ${x} {{x}} &lt;script&gt; &#60;script&#62;",
];

/// 2026-02-18 03:12:43 UTC
const AT: i64 = 1_771_384_363_000_000_000;
const BOOTTIME_NS: u64 = 91_823_712_399;

fn at(ns: i64) -> Timestamp {
    Timestamp(AT + ns)
}

fn process(pid: u32, comm: &str) -> ProcessRef {
    ProcessRef { pid, comm: comm.to_owned() }
}

fn args(line: &str) -> Option<Vec<String>> {
    Some(line.split(' ').map(str::to_owned).collect())
}

fn ancestor(pid: u32, name: &str, line: &str) -> Ancestor {
    let cmdline = (!line.is_empty()).then(|| args(line)).flatten();
    Ancestor { pid, comm: name.chars().take(15).collect(), name: name.to_owned(), cmdline, alive: pid < 1000 }
}

fn step(ns: i64, event: u64, text: &str, after_ns: Option<u64>) -> ChainStep {
    ChainStep { t: at(ns), event, text: text.to_owned(), after_ns }
}

fn exit(signal: &str, number: i32) -> ExitStatus {
    ExitStatus {
        code: None,
        signal: Some(signal.to_owned()),
        signal_number: Some(number),
        core_dumped: Some(false),
        shell_status: Some(128 + number),
    }
}

fn cause(kind: Kind, mechanism: Mechanism, confidence: Confidence) -> Cause {
    Cause { kind, mechanism: Some(mechanism), graceful: false, confidence, detail: None, oom: None }
}

fn vite(pid: u32) -> Victim {
    Victim {
        pid,
        ppid: Some(4010),
        comm: "node".to_owned(),
        name: "vite".to_owned(),
        exe: Some("/usr/bin/node".to_owned()),
        cmdline: args("node /app/node_modules/.bin/vite"),
        cwd: Some("/app".to_owned()),
        uid: Some(1000),
        user: Some("kali".to_owned()),
        cgroup: Some(
            "/user.slice/user-1000.slice/user@1000.service/app.slice/argos-dev-monitor.service".to_owned(),
        ),
        unit: Some("argos-dev-monitor.service".to_owned()),
        unit_scope: Some(UnitScope::User),
        container: None,
        started_at: Some(at(-60_369_000_000)),
        root: true,
        pid_in_namespace: None,
    }
}

fn earlyoom() -> Actor {
    Actor {
        pid: 812,
        comm: "earlyoom".to_owned(),
        name: "earlyoom".to_owned(),
        exe: Some("/usr/bin/earlyoom".to_owned()),
        cmdline: args("/usr/bin/earlyoom -r 3600 --avoid (^|/)(init|Xorg|node)$"),
        cwd: Some("/".to_owned()),
        uid: Some(0),
        user: Some("root".to_owned()),
        cgroup: Some("/system.slice/earlyoom.service".to_owned()),
        unit: Some("earlyoom.service".to_owned()),
        unit_scope: Some(UnitScope::System),
        role: Role::OomDaemon,
        job: None,
        ancestry: vec![ancestor(1, "systemd", "/sbin/init")],
    }
}

fn pkill() -> Actor {
    Actor {
        pid: 5012,
        comm: "pkill".to_owned(),
        name: "pkill".to_owned(),
        exe: Some("/usr/bin/pgrep".to_owned()),
        cmdline: args("pkill -f vite"),
        cwd: Some("/app".to_owned()),
        uid: Some(1000),
        user: Some("kali".to_owned()),
        cgroup: None,
        unit: Some("argos-dev-monitor.service".to_owned()),
        unit_scope: Some(UnitScope::User),
        role: Role::Process,
        job: None,
        ancestry: vec![
            Ancestor {
                cmdline: Some(["sh", "-c", "pkill -f vite"].map(str::to_owned).to_vec()),
                ..ancestor(5011, "sh", "")
            },
            Ancestor {
                cmdline: Some(vec!["npm run kill-dev".to_owned()]),
                ..ancestor(5000, "npm run kill-dev", "")
            },
            ancestor(700, "keepalive-dev.sh", "/bin/sh /app/keepalive-dev.sh"),
            ancestor(1, "systemd", "/sbin/init"),
        ],
    }
}

fn quiet_context() -> Context {
    Context {
        memory: Some(Memory {
            available_bytes: Some(5_368_709_120),
            swap_free_bytes: Some(0),
            psi_some_avg10: None,
        }),
        victim_rss_bytes: Some(187_432_960),
        victim_peak_rss_bytes: Some(201_326_592),
        oom_score_adj: Some(-500),
        cgroup_memory: None,
        tree: Vec::new(),
    }
}

/// The wrapper's death took it along.
fn hangup() -> Death {
    Death {
        id: 1,
        died_at: at(871_002_113),
        uptime_ms: Some(61_240),
        victim: vite(4021),
        exit: exit("SIGHUP", 1),
        cause: cause(Kind::TtyHangup, Mechanism::None, Confidence::Certain),
        sender: Some(Sender { kernel: true, current: Some(process(4010, "zsh")) }),
        killer: Some(earlyoom()),
        root_cause: Some(RootCause {
            actor: Some(earlyoom()),
            action: "sent SIGTERM to zsh (pid 4010)".to_owned(),
            confidence: Confidence::Certain,
        }),
        summary: "vite (pid 4021) died of SIGHUP: its terminal hung up when zsh (pid 4010) exited, because earlyoom \
                  (pid 812, earlyoom.service) sent it SIGTERM 14 ms before."
            .to_owned(),
        chain: vec![
            step(857_001_000, 40211, "earlyoom (812) sent SIGTERM to zsh (4010)", None),
            step(857_213_000, 40213, "zsh (4010) was killed by SIGTERM", Some(212_000)),
            step(869_213_000, 40219, "the terminal pts/3 hung up", Some(12_000_000)),
            step(869_220_000, 40220, "the kernel sent SIGHUP to vite (4021)", Some(7_000)),
            step(871_002_113, 40224, "vite (4021) was killed by SIGHUP", Some(1_782_113)),
        ],
        evidence: vec![40211, 40213, 40219, 40220, 40224],
        other_signals: vec![OtherSignal {
            signal: "SIGWINCH".to_owned(),
            from: Some(process(3990, "tmux: server")),
            count: 3,
            why_not: "ignored by default".to_owned(),
        }],
        ruled_out: vec![RuledOut {
            cause: Kind::OomKill,
            because: "no OOM victim was marked on this machine in the minute before".to_owned(),
        }],
        context: Context {
            memory: Some(Memory {
                available_bytes: Some(88_080_384),
                swap_free_bytes: Some(0),
                psi_some_avg10: Some(41.7),
            }),
            tree: vec![TreeNode {
                pid: 4010,
                ppid: Some(3990),
                comm: "zsh".to_owned(),
                name: "zsh".to_owned(),
                oom_score_adj: Some(200),
                alive: false,
            }],
            ..quiet_context()
        },
        aftermath: Aftermath {
            also_died: vec![AlsoDied {
                pid: 4033,
                comm: "esbuild".to_owned(),
                because_of_death: Some(1),
                confidence: Confidence::Certain,
            }],
            survivors: vec![Survivor {
                pid: 4040,
                comm: "tsserver".to_owned(),
                name: "tsserver".to_owned(),
                reparented_to: Some(1),
                listening: vec![5173],
            }],
        },
        advice: vec![
            "zsh (4010) had oom_score_adj 200: protect the wrapper as well as Vite, or start Vite outside the \
             terminal (systemd-run --user, setsid)."
                .to_owned(),
        ],
        gaps: Vec::new(),
        journal: vec![JournalLine {
            t: at(851_214_000),
            event: 40219,
            writer: process(812, "earlyoom"),
            text: "sending SIGTERM to process 4010 uid 1000 \"zsh\": badness 1012, VmRSS 9 MiB".to_owned(),
        }],
    }
}

/// The keepalive script restarts what it kills.
fn keepalive() -> Death {
    Death {
        id: 2,
        died_at: at(882_000_000),
        uptime_ms: Some(10_400),
        victim: vite(5001),
        exit: ExitStatus {
            code: Some(0),
            shell_status: Some(0),
            core_dumped: Some(false),
            ..ExitStatus::default()
        },
        cause: Cause { graceful: true, ..cause(Kind::KilledByProcess, Mechanism::Kill, Confidence::Certain) },
        sender: Some(Sender { kernel: false, current: Some(process(5012, "pkill")) }),
        killer: Some(pkill()),
        root_cause: Some(RootCause {
            actor: Some(Actor {
                pid: 700,
                comm: "keepalive-dev.s".to_owned(),
                name: "keepalive-dev.sh".to_owned(),
                exe: Some("/bin/sh".to_owned()),
                cmdline: args("/bin/sh /app/keepalive-dev.sh"),
                role: Role::Watchdog,
                ancestry: vec![ancestor(1, "systemd", "/sbin/init")],
                ..pkill()
            }),
            action: "ran npm run kill-dev, which ran pkill -f vite".to_owned(),
            confidence: Confidence::Certain,
        }),
        summary:
            "vite (pid 5001) was asked to stop by pkill (pid 5012) with SIGTERM, and exited with code 0 6 ms \
                  later; npm run kill-dev of keepalive-dev.sh (pid 700) ran it."
                .to_owned(),
        chain: vec![
            step(876_000_000, 40300, "pkill (5012) sent SIGTERM to vite (5001)", None),
            step(876_100_000, 40301, "vite (5001) took SIGTERM with a handler of its own", Some(100_000)),
            step(882_000_000, 40305, "vite (5001) exited with code 0", Some(5_900_000)),
        ],
        evidence: vec![40300, 40301, 40305],
        other_signals: Vec::new(),
        ruled_out: Vec::new(),
        context: quiet_context(),
        aftermath: Aftermath::default(),
        advice: Vec::new(),
        gaps: Vec::new(),
        journal: Vec::new(),
    }
}

/// A container at its limit.
fn memcg() -> Death {
    let cgroup = "/docker/4f5e8c1a9b3d7e6f";
    Death {
        id: 3,
        died_at: at(1_882_000_000),
        uptime_ms: Some(1_805_000),
        victim: Victim {
            comm: "MainThread".to_owned(),
            name: "server.ts".to_owned(),
            cmdline: args("node --require tsx/preflight.cjs src/server.ts"),
            cgroup: Some(cgroup.to_owned()),
            unit: Some("docker-4f5e8c1a9b3d7e6f.scope".to_owned()),
            unit_scope: Some(UnitScope::System),
            container: Some("4f5e8c1a9b3d7e6f0011223344556677".to_owned()),
            user: None,
            pid_in_namespace: Some(31),
            ..vite(6100)
        },
        exit: exit("SIGKILL", 9),
        cause: Cause {
            detail: Some("memcg_limit".to_owned()),
            oom: Some(Oom {
                scope: Some(OomScope::Memcg),
                cgroup: Some(cgroup.to_owned()),
                limit_bytes: Some(536_870_912),
                usage_bytes: Some(536_866_816),
                victim_rss_bytes: Some(482_344_960),
                allocating_task: Some(process(6133, "esbuild")),
                largest_tasks: vec![
                    TaskMemory {
                        pid: 6100,
                        comm: "MainThread".to_owned(),
                        name: "server.ts".to_owned(),
                        rss_bytes: 482_344_960,
                    },
                    TaskMemory {
                        pid: 6088,
                        comm: "npm exec tsx sr".to_owned(),
                        name: "npm exec tsx".to_owned(),
                        rss_bytes: 31_457_280,
                    },
                ],
            }),
            ..cause(Kind::OomKill, Mechanism::Kernel, Confidence::Certain)
        },
        sender: Some(Sender { kernel: true, current: Some(process(6133, "esbuild")) }),
        killer: None,
        root_cause: Some(RootCause {
            actor: None,
            action: format!("the cgroup {cgroup} reached its limit of 512 MiB"),
            confidence: Confidence::Certain,
        }),
        summary: format!(
            "server.ts (pid 6100) was killed by the kernel's OOM killer: the cgroup {cgroup} reached its limit of 512 \
             MiB."
        ),
        chain: vec![step(1_881_000_000, 40400, "the OOM killer chose server.ts (6100)", None)],
        evidence: vec![40400],
        other_signals: Vec::new(),
        ruled_out: Vec::new(),
        context: Context {
            cgroup_memory: Some(CgroupLimits {
                path: cgroup.to_owned(),
                limit_bytes: Some(536_870_912),
                usage_bytes: Some(54_525_952),
                peak_bytes: Some(536_870_912),
                oom_kills: Some(7),
            }),
            ..quiet_context()
        },
        aftermath: Aftermath::default(),
        advice: Vec::new(),
        gaps: Vec::new(),
        journal: Vec::new(),
    }
}

/// The evidence does not decide.
fn unknown() -> Death {
    Death {
        id: 4,
        died_at: at(2_000_000_000),
        uptime_ms: None,
        victim: Victim {
            ppid: None,
            exe: None,
            cmdline: None,
            cwd: None,
            uid: None,
            user: None,
            cgroup: None,
            unit: None,
            unit_scope: None,
            started_at: None,
            root: false,
            ..vite(7001)
        },
        exit: ExitStatus::default(),
        cause: cause(Kind::Unknown, Mechanism::None, Confidence::Unknown),
        sender: None,
        killer: None,
        root_cause: None,
        summary: "vite (pid 7001) died, and the evidence does not say of what.".to_owned(),
        chain: Vec::new(),
        evidence: Vec::new(),
        other_signals: Vec::new(),
        ruled_out: vec![
            RuledOut { cause: Kind::OomKill, because: "no OOM victim was marked".to_owned() },
            RuledOut { cause: Kind::Crashed, because: "the kernel log names no fault".to_owned() },
        ],
        context: Context {
            memory: None,
            victim_rss_bytes: None,
            victim_peak_rss_bytes: None,
            oom_score_adj: None,
            cgroup_memory: None,
            tree: Vec::new(),
        },
        aftermath: Aftermath::default(),
        advice: Vec::new(),
        gaps: vec!["12 events were lost in the second before it died".to_owned()],
        journal: Vec::new(),
    }
}

fn entry(id: u64, what: What) -> TimelineEntry {
    let ns = i64::try_from(id).unwrap() * 1_000;
    TimelineEntry { id, t: at(ns), t_ns: BOOTTIME_NS + id * 1_000, what }
}

fn timeline() -> Vec<TimelineEntry> {
    let signal = What::Signal {
        signal: "SIGTERM".to_owned(),
        code: "SI_USER".to_owned(),
        via: Some(Call::Kill),
        from: Some(process(812, "earlyoom")),
        to: process(4010, "zsh"),
        result: SignalResult::Delivered,
        count: 1,
        handled: 0,
        last_t_ns: BOOTTIME_NS,
    };
    let facts = [
        What::Fork { parent: Some(process(1, "systemd")), child: process(4010, "zsh") },
        What::Exec { process: process(4010, "zsh"), path: "/bin/zsh".to_owned(), cmdline: args("zsh -l") },
        signal,
        What::OomVictim {
            process: process(6100, "MainThread"),
            allocating_task: Some(process(6133, "esbuild")),
        },
        What::Exit { process: process(4010, "zsh"), exit: exit("SIGTERM", 15) },
        What::KernelLog { text: "Memory cgroup out of memory: Killed process 6100 (MainThread)".to_owned() },
        What::Journal {
            writer: process(1, "systemd"),
            text: "kiosk.service: Failed with result 'timeout'.".to_owned(),
        },
        What::Lost { probe: "signal_generate".to_owned(), count: 12 },
    ];
    facts.into_iter().zip(40_200..).map(|(what, id)| entry(id, what)).collect()
}

fn pattern(kind: PatternKind, text: &str) -> Pattern {
    Pattern {
        kind,
        name: "vite".to_owned(),
        count: 144,
        first_at: at(-1_500_000_000_000),
        last_at: at(0),
        median_interval_ms: Some(10_400),
        trend: Some(Trend::Steady),
        by: Some(
            "pkill < sh < npm run kill-dev < keepalive-dev.sh (argos-dev-monitor.service, user)".to_owned(),
        ),
        rates: None,
        relation: None,
        victims: Vec::new(),
        survivors: Vec::new(),
        text: text.to_owned(),
        advice: Vec::new(),
    }
}

/// Nothing of what was watched died.
pub(crate) fn nothing_died() -> Report {
    Report {
        schema: Report::SCHEMA.to_owned(),
        tool: Tool { name: "killtrace".to_owned(), version: "0.1.0".to_owned() },
        generated_at: at(3_000_000_000),
        host: Host {
            hostname: "argos".to_owned(),
            kernel: "6.12.34+rpt-rpi-2712".to_owned(),
            arch: "aarch64".to_owned(),
            page_size: 16384,
            boot_id: Some("0f3c0b6e-6a3c-4b0e-9d2f-6f6f3f1f2f3f".to_owned()),
            cpus: 4,
            memory_bytes: Some(8_589_934_592),
        },
        collector: Collector {
            backend: "perf".to_owned(),
            started_at: at(-1_500_000_000_000),
            ended_at: at(3_000_000_000),
            events: 51_234,
            lost_events: 0,
            degraded: Vec::new(),
        },
        watch: Watch { selectors: vec!["comm=vite".to_owned()], roots_seen: 1 },
        deaths: Vec::new(),
        patterns: Vec::new(),
        timeline: Vec::new(),
        timeline_omitted: 0,
        deaths_omitted: 0,
    }
}

/// The stories that killtrace was made for.
pub(crate) fn report() -> Report {
    let empty = nothing_died();
    Report {
        collector: Collector {
            lost_events: 12,
            degraded: vec![
                "pressure information is off (boot with psi=1 to see it)".to_owned(),
                "the kernel cannot run tracing programs (CONFIG_BPF_EVENTS is not set): system calls behind signals \
                 are not seen"
                    .to_owned(),
            ],
            ..empty.collector
        },
        watch: Watch { roots_seen: 147, ..empty.watch },
        deaths: vec![hangup(), keepalive(), memcg(), unknown()],
        patterns: vec![pattern(
            PatternKind::RestartLoop,
            "vite died 144 times in 25 min, every ~10 s, each time by pkill from keepalive-dev.sh",
        )],
        timeline: timeline(),
        timeline_omitted: 3,
        deaths_omitted: 140,
        ..empty
    }
}

/// [`report`], and every variant of every type somewhere.
pub(crate) fn every_variant() -> Report {
    use serde_json::{Value, from_value};
    /// Every value of a type that the words name, which are checked against the type by reading them.
    fn all<T: serde::de::DeserializeOwned>(words: &str) -> Vec<T> {
        words.split_whitespace().map(|word| from_value(Value::from(word)).unwrap()).collect()
    }
    let mut report = report();
    let kinds = all::<Kind>(
        "exited killed_by_process killed_by_self crashed oom_kill tty_hangup tty_keyboard session_leader_exit \
         orphaned_process_group parent_death_signal sibling_thread_exit cgroup_kill pid_namespace_teardown seccomp \
         rlimit timer broken_pipe debugger sysrq exec_failed async_notification unknown",
    );
    let mechanisms = all::<Mechanism>(
        "kill kill_group kill_all tkill tgkill sigqueue tgsigqueue pidfd_send_signal cgroup.kill ptrace tty_ioctl \
         sysrq reboot kernel none",
    );
    let roles = all::<Role>(
        "oom_daemon service_manager container_runtime init package_script watchdog shell terminal debugger \
         test_runner self parent child kernel process",
    );
    let confidences = all::<Confidence>("unknown likely certain");
    for (index, &kind) in kinds.iter().enumerate() {
        let mut death = hangup();
        death.id = 5 + index as u64;
        death.cause =
            cause(kind, mechanisms[index % mechanisms.len()], confidences[index % confidences.len()]);
        death.ruled_out =
            kinds.iter().map(|&cause| RuledOut { cause, because: "it was not".to_owned() }).collect();
        death.killer = Some(Actor { role: roles[index % roles.len()], ..pkill() });
        report.deaths.push(death);
    }
    for kind in all::<PatternKind>("restart_loop spawn_storm collateral orphans periodic") {
        report.patterns.push(pattern(kind, "it recurs"));
    }
    for (pattern, trend) in report.patterns.iter_mut().zip(all::<Trend>("faster slower steady")) {
        pattern.trend = Some(trend);
        pattern.rates = Some(Rates { births: 24, deaths: 3, births_per_minute: 120, deaths_per_minute: 15 });
        pattern.relation =
            Some(Relation { same_tree: Some(false), same_user: Some(true), same_session: None });
        pattern.victims = vec![process(4033, "esbuild")];
        pattern.survivors = report.deaths[0].aftermath.survivors.clone();
    }
    let calls = all::<Call>(
        "kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_send_signal ptrace reboot write writev pwrite64 \
         ioctl close exit_group exit execve execveat mq_timedsend vhangup setsid process_mrelease io_uring_enter \
         other none",
    );
    let results = all::<SignalResult>("delivered ignored already_pending overflow_fail lose_info");
    for (index, call) in calls.into_iter().enumerate() {
        let id = 41_000 + index as u64;
        let what = What::Signal {
            signal: "SIGRTMIN+3".to_owned(),
            code: "-77".to_owned(),
            via: Some(call).filter(|_| index != 0),
            from: None,
            to: process(4010, "zsh"),
            result: results[index % results.len()],
            count: 3,
            handled: 2,
            last_t_ns: u64::MAX,
        };
        report.timeline.push(entry(id, what));
    }
    report
}

/// The report with every text that somebody may choose replaced, whatever its field.
pub(crate) fn with_texts(report: &Report, text: &mut impl FnMut() -> String) -> Report {
    let mut value = serde_json::to_value(report).expect("a report is JSON");
    replace_texts(&mut value, text);
    serde_json::from_value(value).expect("fixed words and times are left alone")
}

fn replace_texts(value: &mut serde_json::Value, with: &mut impl FnMut() -> String) {
    use serde_json::Value;
    // Fixed words and times, which are no one's to choose.
    const FIXED: [&str; 9] =
        ["kind", "mechanism", "confidence", "role", "scope", "unit_scope", "cause", "result", "trend"];
    match value {
        Value::String(text) => *text = with(),
        Value::Array(items) => items.iter_mut().for_each(|item| replace_texts(item, with)),
        Value::Object(map) => {
            for (key, item) in map.iter_mut() {
                let typed = ["via", "t"].contains(&key.as_str()) || key.ends_with("_at");
                if !item.is_string() || !(typed || FIXED.contains(&key.as_str())) {
                    replace_texts(item, with);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
