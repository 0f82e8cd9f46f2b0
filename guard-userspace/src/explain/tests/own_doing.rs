//! Deaths without anybody else: exits, faults, limits, seccomp.

use crate::explain::scenario::Scenario;
use crate::model::event::{
    Call, Current, Exit, Fact, Limits, ProcessFacts, SignalResult, Taskstats, WaitStatus,
};
use crate::model::report::{Confidence, Death, Kind};
use crate::model::signal::{Signo, code};

/// What a single thread says that its own call ended.
const BY_ITSELF: Exit = Exit {
    status: None,
    group_dead: Some(true),
    ppid: None,
    pending: Some(0),
    start_boottime_ns: None,
    max_rss_bytes: None,
    signaled: Some(false),
    ended_all: true,
    blocked: Some(0),
    seccomp_mode: None,
    limits: None,
};

fn program() -> Scenario {
    let mut scenario = Scenario::new();
    scenario.seed(40, 1, "bash", &["/bin/bash"]).seeded().spawn(40, 100, &["/opt/server"]);
    scenario
}

fn exit(scenario: &mut Scenario, tid: u32, status: i32, exit: Exit) {
    let current = Current { tid, ..scenario.exiting(100) };
    scenario.push(Some(current), Fact::Exit(Exit { status: Some(WaitStatus(status)), ..exit }));
}

/// A signal that the victim's own thread got in a call of its own, or in none.
fn own(scenario: &mut Scenario, signo: Signo, code: i32, group: bool, call: Option<Call>) {
    let me = scenario.current(100);
    scenario.signal(me, 100, signo, code, group, SignalResult::Delivered, call.map(|call| (call, 0)));
}

#[track_caller]
fn assert_cause(death: &Death, kind: Kind, confidence: Confidence, detail: Option<&str>) {
    let cause = &death.cause;
    assert_eq!(
        (cause.kind, cause.confidence, cause.detail.as_deref()),
        (kind, confidence, detail),
        "{death:#?}"
    );
    assert!(death.killer.is_none(), "{death:#?}");
}

#[test]
fn a_worker_that_exits_for_all_is_told_when_it_fails() {
    let taken_along = Exit { signaled: Some(true), ended_all: false, ..BY_ITSELF };
    for (code, kind) in [(4, Kind::SiblingThreadExit), (0, Kind::Exited)] {
        let mut scenario = program();
        exit(&mut scenario, 101, code << 8, Exit { group_dead: Some(false), ..BY_ITSELF });
        exit(&mut scenario, 100, code << 8, taken_along);
        assert_cause(&scenario.death(100), kind, Confidence::Certain, None);
    }
}

#[test]
fn a_leader_that_had_left_or_calls_itself_is_not_overruled() {
    let mut left = program();
    exit(&mut left, 100, 0, Exit { group_dead: Some(false), ended_all: false, ..BY_ITSELF });
    exit(&mut left, 101, 4 << 8, BY_ITSELF);
    assert_cause(&left.death(100), Kind::Exited, Confidence::Certain, None);
    let mut calls = program();
    exit(&mut calls, 100, 4 << 8, Exit { group_dead: Some(false), ..BY_ITSELF });
    exit(&mut calls, 101, 4 << 8, Exit { signaled: Some(true), ended_all: false, ..BY_ITSELF });
    assert_cause(&calls.death(100), Kind::Exited, Confidence::Certain, None);
}

#[test]
fn threads_that_an_exec_ended_are_forgotten() {
    let mut scenario = program();
    exit(&mut scenario, 100, 4 << 8, Exit { group_dead: Some(false), signaled: Some(true), ..BY_ITSELF });
    scenario.exec(100, &["/opt/next"]);
    exit(&mut scenario, 100, 4 << 8, BY_ITSELF);
    assert_cause(&scenario.death(100), Kind::Exited, Confidence::Certain, None);
}

/// A thread ends where exit events do not say which one was the last, and taskstats does.
fn thread_ends(scenario: &mut Scenario, tid: u32, status: i32, last: bool, stats_first: bool) {
    let current = Current { tid, tgid: None, exiting: None, ..scenario.exiting(100) };
    let stats = Taskstats {
        tid,
        tgid: Some(100),
        status: WaitStatus(status),
        group_dead: Some(last),
        comm: None,
        signaled: true,
        max_rss_bytes: None,
    };
    if stats_first {
        scenario.push(None, Fact::Taskstats(stats));
    }
    scenario.push(Some(current), Fact::Exit(Exit::default()));
    if !stats_first {
        scenario.push(None, Fact::Taskstats(stats));
    }
}

#[test]
fn taskstats_names_the_last_thread_where_counting_cannot() {
    let thread = ProcessFacts { tgid: 100, threads: vec![101], ..ProcessFacts::default() };
    for (leader_first, thread_first) in [(false, false), (false, true), (true, false), (true, true)] {
        // The thread's `execve` ends the leader, takes its number, and fails.
        let mut scenario = program();
        scenario.facts(thread.clone());
        thread_ends(&mut scenario, 100, 0, false, leader_first);
        scenario.wait(30);
        own(&mut scenario, Signo::SEGV, code::SI_KERNEL, false, Some(Call::Execve));
        thread_ends(&mut scenario, 100, Signo::SEGV.0, true, thread_first);
        let death = scenario.death(100);
        assert_cause(&death, Kind::ExecFailed, Confidence::Certain, None);
        assert_eq!(death.exit.signal_number, Some(Signo::SEGV.0));
    }
    for stats_first in [false, true] {
        // /proc still has a thread that has ended already.
        let mut scenario = program();
        scenario.facts(thread.clone());
        thread_ends(&mut scenario, 101, 0, false, stats_first);
        scenario.facts(thread.clone());
        thread_ends(&mut scenario, 100, 0, true, stats_first);
        assert_cause(&scenario.death(100), Kind::Exited, Confidence::Certain, None);
    }
}

#[test]
fn a_process_whose_leader_left_before_watching_ends_with_its_last_thread() {
    let mut scenario = Scenario::new();
    scenario.seed(40, 1, "bash", &["/bin/bash"]);
    let left = ProcessFacts {
        tgid: 100,
        seeded: true,
        leaderless: true,
        threads: vec![101],
        ppid: Some(40),
        ..ProcessFacts::default()
    };
    scenario.facts(left).seeded().kill(40, 100, Signo::TERM);
    let current = Current { tid: 101, tgid: None, exiting: None, ..scenario.exiting(100) };
    scenario.push(Some(current), Fact::Exit(Exit::default()));
    assert_eq!(scenario.watch(100).deaths.len(), 1);
}

#[test]
fn a_fault_counts_when_it_never_left_its_handler() {
    let still_blocked = Exit { blocked: Some(Signo::SEGV.bit()), ..BY_ITSELF };
    let unknown = Exit { blocked: None, signaled: None, ended_all: false, ..BY_ITSELF };
    let (crashed, maperr) = (Kind::Crashed, Some("SEGV_MAPERR"));
    for (how, kind, confidence, detail) in [
        (still_blocked, crashed, Confidence::Certain, maperr),
        (BY_ITSELF, Kind::Exited, Confidence::Certain, None),
        (unknown, crashed, Confidence::Likely, maperr),
    ] {
        let mut scenario = program();
        own(&mut scenario, Signo::SEGV, 1, false, Some(Call::None));
        scenario.handle(100, Signo::SEGV);
        exit(&mut scenario, 100, 3 << 8, how);
        assert_cause(&scenario.death(100), kind, confidence, detail);
    }
    for (waited_ms, status, confidence) in
        [(500, 3, Confidence::Likely), (500, 0, Confidence::Certain), (31_000, 3, Confidence::Certain)]
    {
        let mut over = program();
        own(&mut over, Signo::SEGV, 1, false, None);
        over.handle(100, Signo::SEGV).wait(waited_ms);
        exit(&mut over, 100, status << 8, unknown);
        assert_cause(&over.death(100), Kind::Exited, confidence, None);
    }
}

#[test]
fn an_end_without_a_signal_is_strict_seccomp_or_nobody_knows() {
    for (mode, kind, confidence, detail) in [
        (Some(1), Kind::Seccomp, Confidence::Certain, "strict"),
        (Some(3), Kind::Seccomp, Confidence::Certain, "strict"),
        (Some(0), Kind::Unknown, Confidence::Unknown, "no_signal_sent"),
        (None, Kind::Unknown, Confidence::Unknown, "no_signal_sent"),
    ] {
        let mut scenario = program();
        exit(&mut scenario, 100, 9, Exit { seccomp_mode: mode, ended_all: false, ..BY_ITSELF });
        assert_cause(&scenario.death(100), kind, confidence, Some(detail));
    }
}

#[test]
fn a_kill_from_itself_is_a_limit_only_where_there_is_one() {
    let none = Some(Limits::default());
    let cpu = Some(Limits { cpu_s: Some(2), rttime_us: None });
    for (limits, kind, confidence, detail) in [
        (cpu, Kind::Rlimit, Confidence::Certain, Some("hard_limit")),
        (None, Kind::Rlimit, Confidence::Likely, Some("hard_limit")),
        // `bpf_send_signal` by a BPF program.
        (none, Kind::Unknown, Confidence::Unknown, None),
    ] {
        let mut scenario = program();
        own(&mut scenario, Signo::KILL, code::SI_KERNEL, true, Some(Call::Other));
        exit(&mut scenario, 100, 9, Exit { signaled: Some(true), ended_all: false, limits, ..BY_ITSELF });
        assert_cause(&scenario.death(100), kind, confidence, detail);
    }
}

#[test]
fn a_kernels_segv_is_told_by_where_it_came_from() {
    for (arch, call, kind, confidence, detail) in [
        ("x86_64", Some(Call::None), Kind::Crashed, Confidence::Certain, Some("general_protection")),
        ("aarch64", Some(Call::None), Kind::Crashed, Confidence::Certain, Some("signal_frame")),
        ("x86_64", Some(Call::Other), Kind::Crashed, Confidence::Certain, Some("signal_frame")),
        ("x86_64", Some(Call::Execve), Kind::ExecFailed, Confidence::Certain, None),
        ("x86_64", None, Kind::Crashed, Confidence::Likely, None),
    ] {
        let mut scenario = program();
        arch.clone_into(&mut scenario.header.host.arch);
        own(&mut scenario, Signo::SEGV, code::SI_KERNEL, false, call);
        assert_cause(&scenario.dies(100, Signo::SEGV).death(100), kind, confidence, detail);
    }
    let mut renamed = program();
    renamed.push(None, Fact::Rename { tid: 100, comm: crate::model::text::Comm::from("next") });
    own(&mut renamed, Signo::SEGV, code::SI_KERNEL, false, None);
    let death = renamed.dies(100, Signo::SEGV).death(100);
    assert_cause(&death, Kind::ExecFailed, Confidence::Likely, None);
}

#[test]
fn a_fault_for_a_whole_process_is_forged() {
    for call in [None, Some(Call::RtSigqueueinfo)] {
        let mut scenario = program();
        own(&mut scenario, Signo::SEGV, 1, true, call);
        let death = scenario.dies(100, Signo::SEGV).death(100);
        assert_cause(&death, Kind::KilledBySelf, Confidence::Certain, None);
    }
}

#[test]
fn a_kill_during_a_core_dump_comes_too_late() {
    let mut scenario = program();
    scenario.seed(70, 1, "impatient", &["/opt/impatient"]);
    own(&mut scenario, Signo::ABRT, code::SI_TKILL, false, Some(Call::Tgkill));
    scenario.take(100, Signo::ABRT, code::SI_TKILL).wait(300).kill(70, 100, Signo::KILL);
    let death = scenario.dies(100, Signo::KILL).death(100);
    assert_cause(&death, Kind::KilledBySelf, Confidence::Certain, Some("abort"));
    assert_eq!(death.exit.signal.as_deref(), Some("SIGKILL"), "as waitpid says");
    assert!(death.other_signals.iter().any(|other| other.signal == "SIGKILL"), "{death:#?}");
}

#[test]
fn a_broken_pipe_is_no_answer_to_an_earlier_signal() {
    let mut scenario = program();
    scenario.seed(70, 1, "decoy", &["/opt/decoy"]);
    scenario.kill(70, 100, Signo::PIPE).handle(100, Signo::PIPE);
    own(&mut scenario, Signo::PIPE, code::SI_USER, false, Some(Call::Write));
    let death = scenario.dies(100, Signo::PIPE).death(100);
    assert_cause(&death, Kind::BrokenPipe, Confidence::Certain, None);
}

#[test]
fn what_it_raises_itself_is_not_the_one_that_waits_for_the_process() {
    let mut scenario = program();
    scenario.seed(70, 1, "decoy", &["/opt/decoy"]);
    scenario.kill(70, 100, Signo::TERM);
    own(&mut scenario, Signo::TERM, code::SI_TKILL, false, Some(Call::Tgkill));
    scenario.take(100, Signo::TERM, code::SI_TKILL);
    let waiting =
        Exit { pending: Some(Signo::TERM.bit()), signaled: Some(true), ended_all: false, ..BY_ITSELF };
    exit(&mut scenario, 100, 15, waiting);
    assert_cause(&scenario.death(100), Kind::KilledBySelf, Confidence::Certain, None);
}

#[test]
fn a_handler_without_room_is_likely_where_only_the_clock_tells() {
    for (call, confidence) in [(None, Confidence::Likely), (Some(Call::None), Confidence::Certain)] {
        let mut scenario = program();
        own(&mut scenario, Signo::SEGV, 1, false, call);
        scenario.handle(100, Signo::SEGV);
        own(&mut scenario, Signo::SEGV, code::SI_KERNEL, false, call);
        let death = scenario.dies(100, Signo::SEGV).death(100);
        assert_cause(&death, Kind::Crashed, confidence, Some("SEGV_MAPERR"));
    }
}
