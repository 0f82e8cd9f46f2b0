//! The common ways to die, each by a small program whose end `waitpid` tells independently.

use std::process::Command;

use killtrace::model::report::{Confidence, Death, Kind, Mechanism};
use killtrace_tests::{
    Outcome, Truth, Victim, Watch, ancestry, cmdline, live, strike, strike_thread, striker_path,
};
use nix::libc;

/// A watch for anything that runs the `victim` program.
fn watch_victims() -> Watch {
    Watch::start(&["--comm", "victim"])
}

/// Stops watching once the death of `pid` is reported, and checks it against what `waitpid` said.
fn report_of(watch: Watch, pid: u32, truth: Truth) -> (Outcome, Death) {
    watch.until_dead(&[pid]);
    let outcome = watch.stop();
    let death = outcome.death(pid).clone();
    let Truth { code, signal } = truth;
    assert_eq!((death.exit.code, death.exit.signal_number), (code, signal), "{}", death.summary);
    assert_eq!(death.exit.shell_status, code.or(signal.map(|signal| 128 + signal)), "{}", death.summary);
    assert_eq!(death.victim.name, "victim", "{}", death.summary);
    assert!(death.victim.root, "it matched the selector itself");
    (outcome, death)
}

fn kind(death: &Death) -> (Kind, Confidence) {
    (death.cause.kind, death.cause.confidence)
}

#[track_caller]
fn assert_killer(death: &Death, pid: u32, args: &[&str]) {
    let killer = death.killer.as_ref().unwrap_or_else(|| panic!("no killer: {}", death.summary));
    assert_eq!(killer.pid, pid, "{}", death.summary);
    let mut expected = vec![striker_path().display().to_string()];
    expected.extend(args.iter().map(|&arg| arg.to_owned()));
    assert_eq!(killer.cmdline.as_ref(), Some(&expected), "{}", death.summary);
    let own = cmdline(std::process::id()).expect("this test is alive").join(" ");
    assert_eq!(ancestry(killer).first(), Some(&own), "the test started the killer");
}

#[test]
fn live_a_segv_that_was_sent_is_no_crash() {
    let Some(_turn) = live() else { return };
    let watch = watch_victims();
    let mut victim = Victim::start(&["wait"]);
    let target = victim.pid().to_string();
    // The real kill(1), from a shell that gives its place to it.
    let mut kill =
        Command::new("sh").args(["-c", "exec /bin/kill -SEGV $0", &target]).spawn().expect("no sh");
    assert!(kill.wait().expect("a child can be waited for").success());
    let truth = victim.wait();
    assert_eq!(truth.signal, Some(libc::SIGSEGV));
    let (_, death) = report_of(watch, victim.pid(), truth);
    assert_eq!(kind(&death), (Kind::KilledByProcess, Confidence::Certain), "{}", death.summary);
    assert_eq!(death.cause.mechanism, Mechanism::Kill);
    let killer = death.killer.as_ref().expect("it has a killer");
    assert_eq!((killer.pid, killer.comm.as_str()), (kill.id(), "kill"), "{}", death.summary);
    assert_eq!(killer.cmdline.as_deref(), Some(&["/bin/kill".to_owned(), "-SEGV".into(), target][..]));
}

#[test]
fn live_a_killer_that_lives_a_millisecond_is_known() {
    let Some(_turn) = live() else { return };
    for signo in [libc::SIGKILL, libc::SIGTERM, libc::SIGUSR1, libc::SIGRTMIN() + 3] {
        let watch = watch_victims();
        let mut victim = Victim::start(&["wait"]);
        let pid = victim.pid();
        let killer = strike(i32::try_from(pid).expect("pids are small"), signo);
        let truth = victim.wait();
        assert_eq!(truth.signal, Some(signo));
        let (_, death) = report_of(watch, pid, truth);
        assert_eq!(kind(&death), (Kind::KilledByProcess, Confidence::Certain), "{}", death.summary);
        assert_eq!(death.cause.mechanism, Mechanism::Kill, "{}", death.summary);
        assert!(!death.cause.graceful, "{}", death.summary);
        assert_killer(&death, killer, &["kill", &pid.to_string(), &signo.to_string()]);
        let sender = death.sender.as_ref().expect("a signal was sent");
        assert!(!sender.kernel, "{}", death.summary);
        assert_eq!(sender.current.as_ref().map(|current| current.pid), Some(killer));
    }
}

#[test]
fn live_a_caught_signal_and_a_later_exit_are_a_graceful_kill() {
    let Some(_turn) = live() else { return };
    for code in [0, 3, 143] {
        let watch = watch_victims();
        let mut victim = Victim::start(&["exit-on-term", &code.to_string()]);
        let pid = victim.pid();
        let killer = strike(i32::try_from(pid).expect("pids are small"), libc::SIGTERM);
        let truth = victim.wait();
        assert_eq!(truth, Truth { code: Some(code), signal: None });
        let (_, death) = report_of(watch, pid, truth);
        assert_eq!(death.cause.kind, Kind::KilledByProcess, "{}", death.summary);
        assert!(death.cause.graceful, "{}", death.summary);
        assert_killer(&death, killer, &["kill", &pid.to_string(), "15"]);
        assert!(death.summary.contains("SIGTERM"), "{}", death.summary);
    }
}

#[test]
fn live_an_ignored_signal_killed_nobody() {
    let Some(_turn) = live() else { return };
    let watch = watch_victims();
    let mut victim = Victim::start(&["ignore-term", "5"]);
    let pid = victim.pid();
    for _ in 0..3 {
        strike(i32::try_from(pid).expect("pids are small"), libc::SIGTERM);
    }
    let truth = victim.wait();
    assert_eq!(truth, Truth { code: Some(5), signal: None });
    let (_, death) = report_of(watch, pid, truth);
    assert_eq!(death.cause.kind, Kind::Exited, "{}", death.summary);
    assert_eq!(death.killer, None, "{}", death.summary);
    let ignored: u64 =
        death.other_signals.iter().filter(|other| other.signal == "SIGTERM").map(|other| other.count).sum();
    assert_eq!(ignored, 3, "{:?}", death.other_signals);
}

#[test]
fn live_the_first_of_two_fatal_signals_killed() {
    let Some(_turn) = live() else { return };
    let watch = watch_victims();
    let mut victim = Victim::start(&["wait"]);
    let pid = victim.pid();
    let first = strike(i32::try_from(pid).expect("pids are small"), libc::SIGTERM);
    let second = strike(i32::try_from(pid).expect("pids are small"), libc::SIGKILL);
    let truth = victim.wait();
    assert_eq!(truth.signal, Some(libc::SIGTERM));
    let (_, death) = report_of(watch, pid, truth);
    let killer = death.killer.as_ref().expect("it has a killer");
    assert_eq!(killer.pid, first, "not {second}, which came too late: {}", death.summary);
}

#[test]
fn live_a_group_kill_is_one_act() {
    let Some(_turn) = live() else { return };
    let watch = watch_victims();
    let mut victim = Victim::start(&["group", "5"]);
    let pid = victim.pid();
    let members = victim.facts.clone();
    assert_eq!(members.len(), 5);
    let group = -i32::try_from(pid).expect("pids are small");
    let killer = strike(group, libc::SIGKILL);
    let truth = victim.wait();
    assert_eq!(truth.signal, Some(libc::SIGKILL));
    watch.until_dead(&members);
    let (outcome, _) = report_of(watch, pid, truth);
    for member in members.iter().chain([&pid]) {
        let death = outcome.death(*member);
        assert_eq!(kind(death), (Kind::KilledByProcess, Confidence::Certain), "{}", death.summary);
        assert_eq!(death.cause.mechanism, Mechanism::KillGroup, "{}", death.summary);
        assert_killer(death, killer, &["kill", &group.to_string(), "9"]);
        assert!(death.summary.contains("process group"), "{}", death.summary);
    }
}

#[test]
fn live_a_signal_at_one_thread_ends_the_process() {
    let Some(_turn) = live() else { return };
    let watch = watch_victims();
    let mut victim = Victim::start(&["threads"]);
    let pid = victim.pid();
    let [_, middle, _] = victim.facts[..] else { panic!("three threads, not {:?}", victim.facts) };
    let killer = strike_thread(middle, libc::SIGKILL);
    let truth = victim.wait();
    assert_eq!(truth.signal, Some(libc::SIGKILL));
    let (outcome, death) = report_of(watch, pid, truth);
    assert_eq!(kind(&death), (Kind::KilledByProcess, Confidence::Certain), "{}", death.summary);
    assert_eq!(death.cause.mechanism, Mechanism::Tkill, "{}", death.summary);
    assert_killer(&death, killer, &["tkill", &middle.to_string(), "9"]);
    let of_threads = outcome.report.deaths.iter().filter(|death| victim.facts.contains(&death.victim.pid));
    assert_eq!(of_threads.count(), 0, "a thread is no process");
}

#[test]
fn live_a_child_in_its_own_session_survives() {
    let Some(_turn) = live() else { return };
    let watch = watch_victims();
    let mut victim = Victim::start(&["leave-orphan"]);
    let pid = victim.pid();
    let [orphan] = victim.facts[..] else { panic!("one child, not {:?}", victim.facts) };
    strike(i32::try_from(pid).expect("pids are small"), libc::SIGKILL);
    let truth = victim.wait();
    let (outcome, death) = report_of(watch, pid, truth);
    let survivors: Vec<u32> = death.aftermath.survivors.iter().map(|survivor| survivor.pid).collect();
    strike(i32::try_from(orphan).expect("pids are small"), libc::SIGKILL);
    assert_eq!(survivors, [orphan], "{}", death.summary);
    assert!(outcome.report.deaths.iter().all(|death| death.victim.pid != orphan), "it lived until now");
}
