//! Events that no kernel makes: no panic, a bounded answer, and a report that fits its schema.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::streams::config;
use crate::explain::invariants::explain_and_check;
use crate::explain::scenario::Scenario;
use crate::model::event::{
    Call, CgroupMemory, Current, Deliver, Disposition, Event, Exec, Exit, Fact, Fork, Limits, MachineMemory,
    OomDetails, OomVictim, ProcessFacts, Signal, SignalMasks, SignalResult, Syscall, TaskMemory, Taskstats,
    WaitStatus,
};
use crate::model::journal::{Entry, Writer};
use crate::model::report::UnitScope;
use crate::model::select::Selectors;
use crate::model::text::Comm;
use crate::model::unit::Unit;

/// Few, so that events meet; and some that are no pid.
fn pid() -> impl Strategy<Value = u32> {
    prop_oneof![20 => 95u32..105, 1 => Just(0), 1 => Just(2), 1 => any::<u32>()]
}

fn signo() -> impl Strategy<Value = i32> {
    prop_oneof![20 => 1i32..=31, 2 => 32i32..=64, 1 => any::<i32>()]
}

fn code() -> impl Strategy<Value = i32> {
    prop_oneof![10 => -6i32..=6, 5 => Just(128), 1 => any::<i32>()]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("vite".to_owned()),
        Just("/a".to_owned()),
        any::<[char; 4]>().prop_map(String::from_iter)
    ]
}

/// Mostly what it may be, sometimes anything.
fn maybe<T: std::fmt::Debug>(strategy: impl Strategy<Value = T>) -> impl Strategy<Value = Option<T>> {
    prop::option::weighted(0.7, strategy)
}

fn signal() -> impl Strategy<Value = Fact> {
    let result = prop_oneof![
        6 => Just(SignalResult::Delivered),
        1 => Just(SignalResult::Ignored),
        1 => Just(SignalResult::AlreadyPending),
        1 => Just(SignalResult::OverflowFail),
        1 => Just(SignalResult::LoseInfo),
    ];
    let call = prop::sample::select(vec![
        Call::Kill,
        Call::Tgkill,
        Call::RtSigqueueinfo,
        Call::Ptrace,
        Call::Reboot,
        Call::Write,
        Call::Ioctl,
        Call::Execve,
        Call::Other,
        Call::None,
    ]);
    let syscall = maybe((call, any::<i64>(), any::<[u64; 3]>()));
    (signo(), code(), any::<bool>(), result, pid(), maybe(pid()), syscall, maybe(pid())).prop_map(
        |(signo, code, group, result, target_tid, target_tgid, syscall, target_sid)| {
            Fact::Signal(Signal {
                signo,
                code,
                errno: 0,
                group,
                result,
                target_tid,
                target_tgid,
                target_comm: None,
                syscall: syscall.map(|(call, nr, args)| Syscall { call, nr, args }),
                target_sid,
            })
        },
    )
}

fn exit() -> impl Strategy<Value = Fact> {
    let status = prop_oneof![0i32..=255, (0i32..=255).prop_map(|code| code << 8), any::<i32>()];
    let how = (any::<Option<bool>>(), any::<bool>(), any::<Option<u64>>(), maybe(0u32..5));
    let limits = maybe(any::<(Option<u64>, Option<u64>)>());
    (maybe(status), maybe(any::<bool>()), maybe(pid()), maybe(any::<u64>()), how, limits).prop_map(
        |(status, group_dead, ppid, pending, (signaled, ended_all, blocked, seccomp_mode), limits)| {
            Fact::Exit(Exit {
                status: status.map(WaitStatus),
                group_dead,
                ppid,
                pending,
                signaled,
                ended_all,
                blocked,
                seccomp_mode,
                limits: limits.map(|(cpu_s, rttime_us)| Limits { cpu_s, rttime_us }),
                ..Exit::default()
            })
        },
    )
}

fn process() -> impl Strategy<Value = Fact> {
    let ids = (pid(), maybe(pid()), maybe(pid()), maybe(pid()), prop::collection::vec(pid(), 0..3));
    let words = (maybe(text()), maybe(prop::collection::vec(text(), 0..3)), maybe(text()));
    let flags = (any::<bool>(), any::<bool>(), any::<Option<(u64, u64, u64)>>(), any::<Option<u64>>());
    (ids, words, flags).prop_map(|((tgid, ppid, pgid, sid, threads), (exe, cmdline, tty), flags)| {
        let (seeded, zombie, signals, rss_bytes) = flags;
        let signals = signals.map(|(blocked, ignored, caught)| SignalMasks {
            blocked,
            ignored,
            caught,
            waiting: blocked,
        });
        Fact::Process(Box::new(ProcessFacts {
            tgid,
            seeded,
            zombie,
            ppid,
            pgid,
            sid,
            threads,
            exe,
            cmdline,
            tty,
            signals,
            rss_bytes,
            ..ProcessFacts::default()
        }))
    })
}

fn oom() -> impl Strategy<Value = Fact> {
    let details = maybe((any::<[u64; 5]>(), any::<u32>(), any::<i32>()));
    (pid(), details).prop_map(|(tid, details)| {
        let details = details.map(|(sizes, uid, oom_score_adj)| OomDetails {
            total_vm_bytes: sizes[0],
            anon_rss_bytes: sizes[1],
            file_rss_bytes: sizes[2],
            shmem_rss_bytes: sizes[3],
            pgtables_bytes: sizes[4],
            uid,
            oom_score_adj,
        });
        Fact::OomVictim(OomVictim { tid, details })
    })
}

fn fact() -> impl Strategy<Value = Fact> {
    let disposition =
        prop::sample::select(vec![Disposition::Default, Disposition::Ignore, Disposition::Handler]);
    let fork = (pid(), maybe(pid()), any::<u64>(), maybe(pid()), maybe(pid()), any::<Option<u64>>())
        .prop_map(|(child_tid, tgid, clone_flags, ppid, ns_tgid, start_boottime_ns)| {
            let child_tgid = tgid.unwrap_or(child_tid);
            Fact::Fork(Fork { child_tid, child_tgid, clone_flags, ppid, ns_tgid, start_boottime_ns })
        });
    let exec = (pid(), maybe(pid()), text(), maybe(prop::collection::vec(text(), 0..3))).prop_map(
        |(old_tid, ppid, path, args)| {
            Fact::Exec(Box::new(Exec { old_tid, ppid, path, args, ..Exec::default() }))
        },
    );
    let deliver = (signo(), code(), disposition)
        .prop_map(|(signo, code, disposition)| Fact::Deliver(Deliver { signo, code, errno: 0, disposition }));
    let stats = (pid(), maybe(pid()), any::<i32>(), any::<Option<bool>>(), any::<bool>()).prop_map(
        |(tid, tgid, status, group_dead, signaled)| {
            let status = WaitStatus(status);
            Fact::Taskstats(Taskstats {
                tid,
                tgid,
                status,
                group_dead,
                comm: None,
                signaled,
                max_rss_bytes: None,
            })
        },
    );
    let largest = proptest::collection::vec((0..9_u32, any::<u64>()), 0..3).prop_map(|tasks| {
        let task = |(tgid, rss_bytes)| TaskMemory { tgid, comm: Comm::from("node"), rss_bytes };
        tasks.into_iter().map(task).collect()
    });
    let memory = (text(), any::<Option<u64>>(), any::<Option<u64>>(), any::<Option<u64>>(), largest)
        .prop_map(|(path, limit_bytes, usage_bytes, oom_kills, largest)| {
            let peak_bytes = None;
            Fact::CgroupMemory(CgroupMemory {
                path,
                limit_bytes,
                usage_bytes,
                peak_bytes,
                oom_kills,
                largest,
            })
        });
    prop_oneof![
        4 => fork,
        3 => exec,
        6 => signal(),
        4 => deliver,
        4 => exit(),
        3 => process(),
        2 => oom(),
        1 => stats,
        1 => memory,
        1 => (pid(), text()).prop_map(|(tid, comm)| Fact::Rename { tid, comm: comm.as_str().into() }),
        1 => (pid(), any::<u32>(), text())
            .prop_map(|(tid, hierarchy, path)| Fact::CgroupAttach { tid, hierarchy, path }),
        1 => (any::<u16>(), any::<bool>()).prop_map(|(port, listening)| Fact::Listen { port, listening }),
        1 => (any::<u32>(), maybe(text())).prop_map(|(uid, name)| Fact::User { uid, name }),
        1 => pid().prop_map(|tgid| Fact::ProcessGone { tgid }),
        1 => any::<u64>().prop_map(|processes| Fact::Seeded { processes }),
        1 => (any::<Option<u64>>(), any::<Option<f64>>()).prop_map(|(available_bytes, psi)| {
            let psi_some_avg10 = psi.filter(|psi| psi.is_finite());
            Fact::Memory(MachineMemory { available_bytes, psi_some_avg10, ..MachineMemory::default() })
        }),
        1 => text().prop_map(|text| Fact::KernelLog { text }),
        1 => (any::<u64>(), pid(), maybe(pid()), maybe(text()), text()).prop_map(journal),
        1 => (text(), any::<u64>()).prop_map(|(probe, count)| Fact::Lost { probe, count }),
        1 => Just(Fact::Tick),
    ]
}

type Line = (u64, u32, Option<u32>, Option<String>, String);

fn journal((at_boottime_ns, pid, root_of, unit, text): Line) -> Fact {
    let unit = unit.map(|name| Unit { name, scope: UnitScope::System });
    let writer = Writer { pid, root_of };
    let (comm, priority, message_id) = (None, Some(4), None);
    Fact::Journal(Box::new(Entry { at_boottime_ns, writer, comm, unit, priority, message_id, text }))
}

fn event() -> impl Strategy<Value = Event> {
    let t_ns = prop_oneof![20 => 0u64..100_000_000, 1 => any::<u64>()];
    let current = (pid(), maybe(pid()), any::<Option<u32>>(), maybe(text()), any::<Option<bool>>()).prop_map(
        |(tid, tgid, uid, comm, exiting)| {
            let comm = comm.map(|comm| comm.as_str().into());
            Current { tid, tgid, uid, comm, exiting }
        },
    );
    // As many CPUs as it takes for the order to be no damage.
    (t_ns, maybe(0u32..64), prop::option::weighted(0.95, current), fact())
        .prop_map(|(t_ns, cpu, current, fact)| Event { id: 0, t_ns, cpu, current, fact })
}

static SCHEMA: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    let schema = crate::report::json::schema().expect("a schema");
    let schema = serde_json::from_str(&schema).expect("it is JSON");
    jsonschema::validator_for(&schema).expect("a schema")
});

proptest! {
    #![proptest_config(ProptestConfig { cases: config().cases / 4, ..config() })]

    #[test]
    fn events_that_no_kernel_makes_are_answered_all_the_same(
        mut events in prop::collection::vec(event(), 1..80), in_time in any::<bool>()
    ) {
        if in_time {
            events.sort_by_key(|event| event.t_ns);
        }
        for (id, event) in (1..).zip(&mut events) {
            event.id = id;
        }
        let selectors = Selectors { pids: vec![100, 101], comms: vec!["vite".to_owned()], ..Selectors::default() };
        let report = explain_and_check(&Scenario::new().header, &selectors, &events);
        prop_assert!(report.deaths.len() <= events.len());
        let json = serde_json::to_value(&report).expect("a report is JSON");
        let errors: Vec<String> = SCHEMA.iter_errors(&json).map(|error| error.to_string()).collect();
        prop_assert!(errors.is_empty(), "{errors:?}");
    }
}
