//! Tracers, cgroup.kill and reboot: what looks alike in the kernel's bits.

use super::*;
use crate::model::Fact;
use crate::model::event::{Fork, ProcessFacts, Signal, Syscall};

/// A thread of `tracee` stops for its tracer: SIGCHLD, CLD_TRAPPED.
fn stop(scenario: &mut Scenario, tracee: u32, tracer: u32) {
    let current = scenario.current(tracee);
    let call = Some((Call::Other, 0));
    scenario.signal(current, tracer, Signo::CHLD, code::CLD_TRAPPED, true, SignalResult::Ignored, call);
}

/// SIGKILL with the bits of cgroup.kill and PTRACE_KILL.
fn thread_kill(scenario: &mut Scenario, from: u32, call: Option<Call>) {
    let current = scenario.current(from);
    let call = call.map(|call| (call, 0));
    scenario.signal(current, 100, Signo::KILL, code::SI_USER, false, SignalResult::Delivered, call);
}

#[test]
fn a_signal_that_nobody_sent_was_the_tracers() {
    let mut scenario = vite();
    scenario.spawn(40, 200, &["/usr/bin/gdb"]).kill(40, 100, Signo::USR1);
    stop(&mut scenario, 100, 200);
    let death = scenario.take(100, Signo::TERM, code::SI_USER).dies(100, Signo::TERM).death(100);
    assert_cause(&death, Kind::Debugger, Mechanism::Ptrace, Confidence::Certain);
    assert_eq!(death.killer.map(|killer| (killer.pid, killer.role)), Some((200, Role::Debugger)));
    let [other] = &death.other_signals[..] else { panic!("{:?}", death.other_signals) };
    assert!(other.signal == "SIGUSR1" && other.why_not.contains("tracer"), "{other:?}");
}

#[test]
fn the_same_without_any_tracer_stays_unknown() {
    let mut scenario = vite();
    let death = scenario.take(100, Signo::TERM, code::SI_USER).dies(100, Signo::TERM).death(100);
    assert_eq!((death.cause.kind, death.cause.confidence), (Kind::Unknown, Confidence::Unknown));
}

#[test]
fn a_signal_that_a_tracer_lets_pass_is_its_senders() {
    let mut scenario = vite();
    scenario.spawn(40, 200, &["/usr/bin/strace"]).spawn(40, 201, &["/usr/bin/pkill"]);
    stop(&mut scenario, 100, 200);
    scenario.kill(201, 100, Signo::TERM);
    // The end of a system call, and the signal.
    stop(&mut scenario, 100, 200);
    stop(&mut scenario, 100, 200);
    let death = scenario.take(100, Signo::TERM, code::SI_USER).dies(100, Signo::TERM).death(100);
    assert_cause(&death, Kind::KilledByProcess, Mechanism::Kill, Confidence::Certain);
    assert_eq!(death.killer.map(|killer| killer.pid), Some(201));
}

#[test]
fn cgroup_kill_and_ptrace_kill_differ_by_the_call_or_else_by_who_traced() {
    for (call, traced, kind, confidence) in [
        (Some(Call::Write), false, Kind::CgroupKill, Confidence::Certain),
        (Some(Call::None), false, Kind::CgroupKill, Confidence::Likely),
        (Some(Call::Ptrace), true, Kind::Debugger, Confidence::Certain),
        (None, true, Kind::Debugger, Confidence::Likely),
        (None, false, Kind::CgroupKill, Confidence::Likely),
    ] {
        let mut scenario = vite();
        scenario.spawn(40, 200, &["/usr/bin/some"]);
        if traced {
            stop(&mut scenario, 100, 200);
        }
        thread_kill(&mut scenario, 200, call);
        let death = scenario.dies(100, Signo::KILL).death(100);
        assert_eq!((death.cause.kind, death.cause.confidence), (kind, confidence), "{call:?} {traced}");
        assert_eq!(death.killer.map(|killer| killer.pid), Some(200), "{call:?} {traced}");
    }
}

/// `cgroup_post_fork`, which comes before the birth is announced.
#[test]
fn a_fork_that_raced_with_cgroup_kill_is_the_writers_and_not_the_parents() {
    for (call, confidence) in [(Some(Call::Other), Confidence::Certain), (None, Confidence::Likely)] {
        let mut scenario = vite();
        scenario.spawn(40, 200, &["/usr/bin/systemd-like"]);
        let parent = scenario.current(100);
        let signal = Signal {
            signo: 9,
            code: code::SI_USER,
            errno: 0,
            group: true,
            result: SignalResult::Delivered,
            target_tid: 101,
            target_tgid: Some(101),
            target_comm: parent.comm,
            syscall: call.map(|call| Syscall { call, nr: 0, args: [0; 3] }),
            target_sid: None,
        };
        scenario.push(Some(parent), Fact::Signal(signal));
        let fork = Fork {
            child_tid: 101,
            child_tgid: 101,
            clone_flags: 0,
            ppid: Some(100),
            ns_tgid: None,
            start_boottime_ns: None,
        };
        scenario.push(Some(parent), Fact::Fork(fork));
        thread_kill(&mut scenario, 200, Some(Call::Write));
        scenario.dies(101, Signo::KILL).dies(100, Signo::KILL);
        let report = scenario.watch(100);
        let child = report.deaths.iter().find(|death| death.victim.pid == 101).expect("in the watched tree");
        assert_cause(child, Kind::CgroupKill, Mechanism::CgroupKill, confidence);
        assert_eq!(child.killer.as_ref().map(|killer| killer.pid), Some(200), "{}", child.summary);
    }
}

#[test]
fn without_its_call_a_reboot_leaves_the_status_open() {
    let mut scenario = vite();
    scenario.facts(ProcessFacts { tgid: 100, ns_tgid: Some(1), ..ProcessFacts::default() });
    scenario.spawn(40, 200, &["/bin/reboot"]);
    let current = scenario.current(200);
    scenario.signal(current, 100, Signo::KILL, code::SI_KERNEL, false, SignalResult::Delivered, None);
    let death = scenario.dies(100, Signo::KILL).death(100);
    assert_cause(&death, Kind::PidNamespaceTeardown, Mechanism::Reboot, Confidence::Likely);
    // SIGHUP or SIGINT, but not the SIGKILL that the exit event shows.
    assert_eq!((death.exit.code, death.exit.signal_number), (None, None));
}

/// `make_task_dead`: the kernel itself failed while it ran the process.
#[test]
fn an_end_by_a_signal_that_nothing_made_is_unknown() {
    for signo in [Signo::SEGV, Signo::KILL] {
        let death = vite().dies(100, signo).death(100);
        assert_eq!((death.cause.kind, death.cause.confidence), (Kind::Unknown, Confidence::Unknown));
        assert_eq!(death.cause.detail.as_deref(), Some("no_signal_seen"));
        assert!(!death.ruled_out.is_empty(), "{death:#?}");
        assert!(death.killer.is_none());
    }
}
