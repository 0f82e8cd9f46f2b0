//! The stories, told from streams of events.

mod advice;
mod cancelled;
mod followed;
mod journal;
mod machine;
mod memory;
mod own_doing;
mod services;
mod tracers;

use crate::model::event::{Call, Current, Exit, Fact, Fork, ProcessFacts, SignalResult};
use crate::model::report::{ChainStep, Confidence, Death, Kind, Mechanism, Role};
use crate::model::signal::{Signo, code};

use super::Explainer;
use super::scenario::Scenario;

const VITE: &[&str] = &["/usr/bin/node", "/app/node_modules/.bin/vite"];

fn vite() -> Scenario {
    let mut scenario = Scenario::new();
    scenario.seed(40, 1, "bash", &["/bin/bash"]).seeded().spawn(40, 100, VITE);
    scenario
}

#[track_caller]
fn assert_cause(death: &Death, kind: Kind, mechanism: impl Into<Option<Mechanism>>, confidence: Confidence) {
    let cause = &death.cause;
    assert_eq!(
        (cause.kind, cause.mechanism, cause.confidence),
        (kind, mechanism.into(), confidence),
        "{death:#?}"
    );
}

#[test]
fn a_kill_names_the_killer_that_is_gone() {
    let mut scenario = vite();
    scenario.spawn(40, 200, &["/usr/bin/pkill", "-f", "vite"]).kill(200, 100, Signo::TERM);
    scenario.exits(200, 0).dies(100, Signo::TERM);
    let death = scenario.death(100);
    assert_cause(&death, Kind::KilledByProcess, Mechanism::Kill, Confidence::Certain);
    assert!(!death.cause.graceful);
    let killer = death.killer.expect("a killer");
    assert_eq!((killer.pid, killer.comm.as_str()), (200, "pkill"));
    assert_eq!(killer.cmdline.as_deref(), Some(&["/usr/bin/pkill", "-f", "vite"].map(str::to_owned)[..]));
    assert_eq!(killer.ancestry[0].pid, 40);
    let actor = death.root_cause.and_then(|root| root.actor).expect("an actor");
    assert_eq!((actor.pid, actor.role), (40, Role::Shell));
    assert_eq!(death.exit.shell_status, Some(143));
}

#[test]
fn the_keepalive_script_behind_npm_behind_sh_behind_pkill_is_the_actor() {
    let mut scenario = Scenario::new();
    scenario.seed(60, 1, "bash", &["/bin/bash", "./keepalive-dev.sh"]).seeded();
    scenario.spawn(60, 90, &["/usr/bin/node", "/usr/bin/npm", "run", "dev"]);
    scenario.spawn(90, 95, &["/bin/sh", "-c", "vite"]).spawn(95, 100, VITE);
    scenario.spawn(60, 190, &["/usr/bin/node", "/usr/bin/npm", "run", "dev"]);
    scenario.spawn(190, 195, &["/bin/sh", "-c", "npm run kill-dev; vite"]);
    scenario.spawn(195, 196, &["/usr/bin/node", "/usr/bin/npm", "run", "kill-dev"]);
    scenario.spawn(196, 197, &["/bin/sh", "-c", "pkill -f vite"]);
    scenario.spawn(197, 200, &["/usr/bin/pkill", "-f", "vite"]).kill(200, 100, Signo::TERM);
    scenario.exits(200, 0).dies(100, Signo::TERM);
    let death = scenario.death(100);
    let actor = death.root_cause.and_then(|root| root.actor).expect("an actor");
    assert_eq!((actor.pid, actor.role), (60, Role::Watchdog));
    assert!(death.summary.contains("npm run kill-dev"), "{}", death.summary);
    assert!(death.summary.contains("keepalive-dev.sh"), "{}", death.summary);
}

#[test]
fn what_killtrace_was_asked_to_run_it_did_not_decide() {
    let mut scenario = Scenario::new();
    scenario.seed(9, 1, "killtrace", &["killtrace", "run", "--", "timeout", "1", "sleep", "9"]).seeded();
    scenario.spawn(9, 40, &["timeout", "1", "sleep", "9"]).spawn(40, 100, &["sleep", "9"]);
    let death = scenario.kill(40, 100, Signo::TERM).dies(100, Signo::TERM).death(100);
    let actor = death.root_cause.and_then(|cause| cause.actor).expect("somebody decided");
    assert_eq!(actor.name, "timeout", "{}", death.summary);
}

#[test]
fn a_stop_that_was_handled_is_graceful() {
    let mut scenario = vite();
    scenario.seed(70, 1, "manager", &["/opt/manager"]);
    scenario.kill(70, 100, Signo::TERM).handle(100, Signo::TERM).wait(12).exits(100, 143);
    let death = scenario.death(100);
    assert_cause(&death, Kind::KilledByProcess, Mechanism::Kill, Confidence::Certain);
    assert!(death.cause.graceful);
    assert_eq!(death.exit.code, Some(143));
    assert_eq!(death.killer.map(|killer| killer.pid), Some(70));
}

#[test]
fn a_handled_stop_with_another_code_is_only_likely() {
    let mut scenario = vite();
    scenario.seed(70, 1, "manager", &["/opt/manager"]);
    scenario.kill(70, 100, Signo::TERM).handle(100, Signo::TERM).wait(12).exits(100, 0);
    assert_cause(&scenario.death(100), Kind::KilledByProcess, Mechanism::Kill, Confidence::Likely);
}

#[test]
fn a_code_that_looks_like_a_signal_is_an_exit() {
    let death = vite().exits(100, 137).death(100);
    assert_cause(&death, Kind::Exited, Mechanism::None, Confidence::Certain);
    assert_eq!((death.exit.code, death.exit.signal), (Some(137), None));
    assert!(death.summary.contains("no SIGKILL ended it"), "{}", death.summary);
}

#[test]
fn ignored_blocked_and_handled_signals_kill_nobody() {
    let mut scenario = vite();
    let bash = scenario.current(40);
    let call = Some((Call::Kill, 100));
    scenario.signal(bash, 100, Signo::TERM, code::SI_USER, true, SignalResult::Ignored, call);
    scenario.kill(40, 100, Signo::USR1).handle(100, Signo::USR1);
    // Nobody ignores what is queued.
    scenario.kill(40, 100, Signo::WINCH);
    scenario.wait(60_000).exits(100, 1);
    let death = scenario.death(100);
    assert_cause(&death, Kind::Exited, Mechanism::None, Confidence::Certain);
    assert!(death.killer.is_none());
    let why: Vec<_> = death.other_signals.iter().map(|other| (&*other.signal, &*other.why_not)).collect();
    assert_eq!(
        why,
        [
            ("SIGUSR1", "a handler took it"),
            ("SIGTERM", "it ignored it, or could not be ended by it"),
            ("SIGWINCH", "it was blocked, waited for, or took no effect"),
        ]
    );
}

#[test]
fn the_first_fatal_signal_decides_a_race() {
    let mut scenario = vite();
    scenario.seed(70, 1, "one", &["/opt/one"]).seed(71, 1, "two", &["/opt/two"]);
    let two = scenario.current(71);
    let call = Some((Call::Kill, 100));
    scenario.kill(70, 100, Signo::KILL);
    scenario.signal(two, 100, Signo::KILL, code::SI_USER, true, SignalResult::Ignored, call);
    let death = scenario.dies(100, Signo::KILL).death(100);
    assert_eq!(death.killer.map(|killer| killer.pid), Some(70));
    assert_eq!(death.other_signals[0].why_not, "it was already dying");
}

#[test]
fn an_abort_is_its_own_doing() {
    let mut scenario = vite();
    let own = scenario.current(100);
    let call = Some((Call::Tgkill, 100));
    scenario.signal(own, 100, Signo::ABRT, code::SI_TKILL, false, SignalResult::Delivered, call);
    let death = scenario.take(100, Signo::ABRT, code::SI_TKILL).end(100, 6 | 0x80).death(100);
    assert_cause(&death, Kind::KilledBySelf, Mechanism::Tgkill, Confidence::Certain);
    assert_eq!(death.exit.core_dumped, Some(true));
    assert!(death.killer.is_none());
}

#[test]
fn a_fault_is_a_crash_and_a_sent_fault_signal_is_not() {
    let mut scenario = vite();
    let own = scenario.current(100);
    scenario.signal(own, 100, Signo::SEGV, 1, false, SignalResult::Delivered, Some((Call::None, 0)));
    let death = scenario.take(100, Signo::SEGV, 1).dies(100, Signo::SEGV).death(100);
    assert_cause(&death, Kind::Crashed, Mechanism::Kernel, Confidence::Certain);
    assert_eq!(death.cause.detail.as_deref(), Some("SEGV_MAPERR"));

    let death = vite().kill(40, 100, Signo::SEGV).take(100, Signo::SEGV, 0).dies(100, Signo::SEGV).death(100);
    assert_cause(&death, Kind::KilledByProcess, Mechanism::Kill, Confidence::Certain);
}

#[test]
fn the_oom_killer_is_named_and_the_allocating_task_is_not_blamed() {
    let mut scenario = vite();
    scenario.seed(80, 1, "bystander", &["/opt/bystander"]);
    let bystander = scenario.current(80);
    scenario.kernel(bystander, 100, Signo::KILL, Call::None).oom_mark(80, 100).dies(100, Signo::KILL);
    let death = scenario.death(100);
    assert_cause(&death, Kind::OomKill, Mechanism::Kernel, Confidence::Certain);
    assert!(death.killer.is_none());
    assert!(death.summary.contains("not to blame"), "{}", death.summary);
    let oom = death.cause.oom.expect("its circumstances");
    assert_eq!(oom.allocating_task.map(|task| task.pid), Some(80));
}

#[test]
fn an_oom_mark_on_a_process_that_dies_of_something_else_proves_nothing() {
    let mut scenario = vite();
    scenario.kill(40, 100, Signo::KILL).oom_mark(40, 100).dies(100, Signo::KILL);
    let death = scenario.death(100);
    assert_cause(&death, Kind::KilledByProcess, Mechanism::Kill, Confidence::Certain);
}

#[test]
fn the_chain_goes_back_through_the_wrapper_to_the_oom_daemon() {
    let mut scenario = Scenario::new();
    scenario.seed(30, 1, "earlyoom", &["/usr/bin/earlyoom"]).cgroup(30, "/system.slice/earlyoom.service");
    scenario.seed(40, 1, "zsh", &["/bin/zsh"]).session(40, 40, "pts/3").seeded();
    scenario.spawn(40, 100, VITE).session(100, 40, "pts/3");
    scenario.kill(30, 40, Signo::TERM).dies(40, Signo::TERM);
    let zsh = scenario.exiting(40);
    scenario.kernel(zsh, 100, Signo::HUP, Call::None).dies(100, Signo::HUP);
    let death = scenario.death(100);
    assert_cause(&death, Kind::SessionLeaderExit, Mechanism::None, Confidence::Certain);
    assert_eq!(death.killer.map(|killer| killer.pid), Some(30));
    let root = death.root_cause.expect("a root cause");
    assert_eq!(root.actor.map(|actor| (actor.pid, actor.role)), Some((30, Role::OomDaemon)));
    assert_eq!(root.action, "sent SIGTERM to zsh (pid 40)");
    let steps: Vec<&str> = death.chain.iter().map(|step| step.text.as_str()).collect();
    assert_eq!(steps[0], "earlyoom (30) sent SIGTERM to zsh (40)");
    assert_eq!(steps[1], "zsh (40) was killed by SIGTERM");
    assert_eq!(steps[3], "vite (100) was killed by SIGHUP");
    assert!(death.summary.contains("earlyoom.service"), "{}", death.summary);
}

#[test]
fn a_terminal_that_is_closed_hangs_up() {
    let mut scenario = Scenario::new();
    scenario.seed(30, 1, "tmux: server", &["/usr/bin/tmux"]).seed(40, 30, "bash", &["/bin/bash"]);
    scenario.session(40, 40, "pts/3").seeded();
    let tmux = scenario.current(30);
    scenario.kernel(tmux, 40, Signo::HUP, Call::Close).kernel(tmux, 40, Signo::CONT, Call::Close);
    let death = scenario.dies(40, Signo::HUP).death(40);
    assert_cause(&death, Kind::TtyHangup, Mechanism::None, Confidence::Certain);
    assert_eq!(death.killer.map(|killer| (killer.pid, killer.role)), Some((30, Role::Terminal)));
}

#[test]
fn a_key_at_the_terminal_blames_no_kernel_worker() {
    let mut scenario = vite();
    let worker = scenario.current(50);
    let death = scenario.kernel(worker, 100, Signo::INT, Call::None).dies(100, Signo::INT).death(100);
    assert_cause(&death, Kind::TtyKeyboard, Mechanism::None, Confidence::Certain);
    assert!(death.killer.is_none());
}

#[test]
fn a_wrapper_that_passes_a_signal_on_is_not_the_killer() {
    let mut scenario = Scenario::new();
    scenario
        .seed(40, 1, "bash", &["/bin/bash"])
        .seeded()
        .spawn(40, 41, &["npm run dev"])
        .spawn(41, 100, VITE);
    scenario.seed(70, 1, "manager", &["/opt/manager"]);
    scenario.kill(70, 41, Signo::TERM).handle(41, Signo::TERM).kill(41, 100, Signo::TERM);
    let death = scenario.dies(100, Signo::TERM).death(100);
    assert_eq!(death.sender.and_then(|sender| sender.current).map(|current| current.pid), Some(41));
    assert_eq!(death.killer.map(|killer| killer.pid), Some(70));
}

#[test]
fn a_handler_that_repeats_the_signal_leaves_the_blame_with_its_sender() {
    let mut scenario = vite();
    scenario.kill(40, 100, Signo::TERM).handle(100, Signo::TERM);
    let own = scenario.current(100);
    let call = Some((Call::Tgkill, 100));
    scenario.signal(own, 100, Signo::TERM, code::SI_TKILL, false, SignalResult::Delivered, call);
    let death = scenario.dies(100, Signo::TERM).death(100);
    assert_cause(&death, Kind::KilledByProcess, Mechanism::Kill, Confidence::Certain);
    assert_eq!(death.killer.map(|killer| killer.pid), Some(40));
    assert!(death.cause.graceful);
}

#[test]
fn a_group_kill_is_one_act() {
    let mut scenario = vite();
    scenario.spawn(100, 101, &["/usr/bin/esbuild"]);
    let bash = scenario.current(40);
    let group = Some((Call::Kill, u64::from((-100i32).cast_unsigned())));
    for target in [100, 101] {
        scenario.signal(bash, target, Signo::KILL, code::SI_USER, true, SignalResult::Delivered, group);
        // A machine with something else to do, in the middle of the system call.
        scenario.wait(50);
    }
    let death = scenario.dies(101, Signo::KILL).dies(100, Signo::KILL).death(100);
    assert_cause(&death, Kind::KilledByProcess, Mechanism::KillGroup, Confidence::Certain);
    assert!(death.chain.iter().any(|step| step.text.contains("1 more process")), "{:#?}", death.chain);
}

#[test]
fn a_group_kill_is_one_act_though_its_first_victim_dies_meanwhile() {
    let mut scenario = vite();
    scenario.spawn(100, 101, &["/usr/bin/esbuild"]).spawn(101, 102, &["/usr/bin/tsc"]);
    let bash = scenario.current(40);
    scenario.signal(bash, 101, Signo::KILL, code::SI_USER, true, SignalResult::Delivered, None);
    scenario.dies(101, Signo::KILL);
    let first = scenario.current(101);
    scenario.signal(first, 102, Signo::TERM, code::SI_USER, true, SignalResult::Delivered, None);
    scenario.signal(bash, 100, Signo::KILL, code::SI_USER, true, SignalResult::Delivered, None);
    let death = scenario.dies(102, Signo::TERM).dies(100, Signo::KILL).death(100);
    assert!(death.chain.iter().any(|step| step.text.contains("1 more process")), "{:#?}", death.chain);
    assert!(death.aftermath.also_died.iter().any(|other| other.pid == 101), "{:#?}", death.aftermath);
}

#[test]
fn two_kills_of_a_group_are_two_acts() {
    let mut scenario = vite();
    scenario.spawn(100, 101, &["/usr/bin/esbuild"]).spawn(100, 102, &["/usr/bin/tsc"]);
    let bash = scenario.current(40);
    let group = Some((Call::Kill, u64::from((-100i32).cast_unsigned())));
    scenario.handle(100, Signo::TERM);
    for _ in 0..2 {
        for target in [100, 101, 102] {
            scenario.signal(bash, target, Signo::TERM, code::SI_USER, true, SignalResult::Delivered, group);
        }
        scenario.dies(102, Signo::TERM).wait(50).spawn(100, 102, &["/usr/bin/tsc"]);
    }
    let death = scenario.dies(101, Signo::TERM).dies(100, Signo::TERM).death(100);
    assert!(death.chain.iter().any(|step| step.text.contains("2 more processes")), "{:#?}", death.chain);
}

#[test]
fn lost_events_lower_the_confidence_and_the_record_says_so() {
    let mut scenario = vite();
    scenario.kill(40, 100, Signo::KILL).dies(100, Signo::KILL);
    scenario.push(None, crate::model::Fact::Lost { probe: "signal_generate".to_owned(), count: 3 });
    let death = scenario.death(100);
    assert_cause(&death, Kind::KilledByProcess, Mechanism::Kill, Confidence::Likely);
    assert_eq!(death.gaps, ["3 events were lost around this death"]);
}

#[test]
fn a_death_nobody_saw_coming_is_unknown() {
    let death = vite().dies(100, Signo::KILL).death(100);
    assert_cause(&death, Kind::Unknown, Mechanism::None, Confidence::Unknown);
    assert!(death.ruled_out.iter().any(|ruled| ruled.cause == Kind::OomKill));
}

#[test]
fn a_reused_pid_is_another_process() {
    let mut scenario = vite();
    scenario.exits(100, 0).wait(1_000).spawn(40, 100, &["/bin/sleep", "9"]).kill(40, 100, Signo::KILL);
    scenario.dies(100, Signo::KILL);
    let report = scenario.watch(100);
    assert_eq!(report.deaths.len(), 1, "the second process with this pid was not selected");
    assert_eq!(report.deaths[0].cause.kind, Kind::Exited);
}

#[test]
fn a_shell_that_passes_its_hangup_on_is_not_the_killer() {
    let mut scenario = Scenario::new();
    scenario.seed(30, 1, "tmux: server", &["/usr/bin/tmux"]).seed(40, 30, "bash", &["/bin/bash"]);
    scenario.session(40, 40, "pts/3").seeded().spawn(40, 100, VITE);
    let tmux = scenario.current(30);
    scenario.kernel(tmux, 40, Signo::HUP, Call::Close).kernel(tmux, 40, Signo::CONT, Call::Close);
    scenario.handle(40, Signo::HUP);
    let (bash, group) = (scenario.current(40), Some((Call::Kill, u64::from((-100i32).cast_unsigned()))));
    scenario.signal(bash, 100, Signo::HUP, code::SI_USER, true, SignalResult::Delivered, group);
    let death = scenario.dies(100, Signo::HUP).death(100);
    assert_cause(&death, Kind::TtyHangup, Mechanism::None, Confidence::Certain);
    assert_eq!(death.sender.and_then(|sender| sender.current).map(|current| current.pid), Some(40));
    assert_eq!(death.killer.map(|killer| (killer.pid, killer.role)), Some((30, Role::Terminal)));
    let steps: Vec<&str> = death.chain.iter().map(|step| step.text.as_str()).collect();
    assert!(steps[0].starts_with("tmux: server (30) closed"), "{steps:#?}");
    assert!(steps[1].starts_with("bash (40) sent SIGHUP to vite (100)"), "{steps:#?}");
}

#[test]
fn a_sender_that_did_not_start_the_victim_passes_nothing_on() {
    let mut scenario = vite();
    scenario.seed(70, 1, "manager", &["/opt/manager"]).seed(71, 1, "other", &["/opt/other"]);
    scenario.kill(71, 70, Signo::TERM).handle(70, Signo::TERM).kill(70, 100, Signo::TERM);
    let death = scenario.dies(100, Signo::TERM).death(100);
    assert_eq!(death.killer.map(|killer| killer.pid), Some(70));
}

#[test]
fn a_child_that_still_has_its_parents_name_is_no_root() {
    use crate::model::select::Selectors;
    use crate::model::{Fact, text::Comm};

    let mut scenario = vite();
    scenario.fork(100, 101);
    let child = scenario.current(101);
    scenario.push(Some(child), Fact::Rename { tid: 101, comm: Comm::from("esbuild") });
    scenario.exec(101, &["/app/esbuild"]).exits(101, 0).exits(100, 0);
    let report = scenario.watch_for(Selectors { comms: vec!["vite".to_owned()], ..Selectors::default() });
    let roots: Vec<_> = report.deaths.iter().map(|death| (death.victim.pid, death.victim.root)).collect();
    assert_eq!(roots, [(101, false), (100, true)]);
}

#[test]
fn a_killer_that_rewrites_its_arguments_keeps_those_it_was_started_with() {
    use crate::model::event::ProcessFacts;

    let mut scenario = vite();
    scenario.spawn(40, 200, &["/usr/bin/fuser", "-k", "5173/tcp"]);
    let cmdline = Some(["fuser", "-k", "5173", "tcp"].map(str::to_owned).to_vec());
    scenario.facts(ProcessFacts { tgid: 200, cmdline, cwd: Some("/".to_owned()), ..ProcessFacts::default() });
    let death = scenario.kill(200, 100, Signo::KILL).dies(100, Signo::KILL).death(100);
    let cmdline = death.killer.and_then(|killer| killer.cmdline).expect("a command line");
    assert_eq!(cmdline, ["/usr/bin/fuser", "-k", "5173/tcp"]);
}

/// The shell of vite ends, and the kernel sends vite SIGHUP and SIGCONT, in a session that is known or not.
fn hung_up_with_the_shell(scenario: &mut Scenario, sid: Option<u32>) -> Death {
    scenario.exits(40, 0);
    let bash = scenario.exiting(40);
    // On a slow machine the second may take its time.
    scenario.hang_up(bash, 100, sid).wait(50).kernel(bash, 100, Signo::CONT, Call::None);
    scenario.dies(100, Signo::HUP).death(100)
}

#[test]
fn the_session_of_the_target_tells_an_orphaned_group_from_a_hangup() {
    let orphaned = hung_up_with_the_shell(&mut vite(), Some(40));
    assert_cause(&orphaned, Kind::OrphanedProcessGroup, Mechanism::None, Confidence::Certain);
    let leader = hung_up_with_the_shell(&mut vite(), Some(100));
    assert_cause(&leader, Kind::TtyHangup, Mechanism::None, Confidence::Certain);
}

#[test]
fn without_the_session_a_stopped_group_was_likely_orphaned() {
    let mut stopped = vite();
    stopped.take(100, Signo::STOP, 0);
    let death = hung_up_with_the_shell(&mut stopped, None);
    assert_cause(&death, Kind::OrphanedProcessGroup, Mechanism::None, Confidence::Likely);
    let death = hung_up_with_the_shell(&mut vite(), None);
    assert_cause(&death, Kind::TtyHangup, Mechanism::None, Confidence::Likely);
}

#[test]
fn a_worker_of_the_kernel_that_hangs_up_a_terminal_is_not_blamed() {
    let mut scenario = vite();
    scenario.seed(7, 2, "kworker/u4:1", &[]);
    let worker = scenario.current(7);
    scenario.kernel(worker, 100, Signo::HUP, Call::None);
    let death = scenario.dies(100, Signo::HUP).death(100);
    assert_cause(&death, Kind::TtyHangup, Mechanism::None, Confidence::Certain);
    assert!(death.killer.is_none() && death.root_cause.is_none(), "{}", death.summary);
    assert!(death.summary.contains("worker of the kernel"), "{}", death.summary);
}

#[test]
fn a_parent_that_ends_itself_by_kill_did_not_kill_its_child() {
    let mut scenario = vite();
    scenario.kill(40, 40, Signo::KILL).dies(40, Signo::KILL);
    // Its registers still say kill(2) when it dies.
    let bash = scenario.exiting(40);
    let call = Some((Call::Kill, 40));
    scenario.signal(bash, 100, Signo::TERM, code::SI_USER, true, SignalResult::Delivered, call);
    let death = scenario.dies(100, Signo::TERM).death(100);
    assert_eq!(death.cause.kind, Kind::ParentDeathSignal, "{}", death.summary);
    assert_eq!(death.root_cause.map(|cause| cause.action), Some("sent SIGKILL to itself".to_owned()));
}

/// A second thread of vite, which started esbuild and ends.
fn thread_ends(scenario: &mut Scenario, call: Option<Call>) {
    let fork = Fork {
        child_tid: 105,
        child_tgid: 100,
        clone_flags: 0,
        ppid: None,
        ns_tgid: None,
        start_boottime_ns: None,
    };
    let node = scenario.current(100);
    scenario.push(Some(node), Fact::Fork(fork));
    scenario.spawn(100, 200, &["/usr/bin/esbuild"]);
    scenario.spawn(40, 300, &["/usr/bin/pkill", "vite"]).kill(300, 100, Signo::TERM);
    // Nothing but the order of events says that the thread is gone.
    let thread = Current { tid: 105, exiting: None, ..node };
    scenario.push(Some(thread), Fact::Exit(Exit::default()));
    let call = call.map(|call| (call, 0));
    scenario.signal(thread, 200, Signo::TERM, code::SI_USER, true, SignalResult::Delivered, call);
    scenario.dies(200, Signo::TERM).wait(300).push(None, Fact::Tick);
}

#[test]
fn a_thread_that_ended_sends_nothing_more_though_its_process_lives() {
    for (call, confidence) in [(None, Confidence::Likely), (Some(Call::Exit), Confidence::Certain)] {
        let mut scenario = vite();
        thread_ends(&mut scenario, call);
        let death = scenario.death(200);
        assert_cause(&death, Kind::ParentDeathSignal, Mechanism::Kernel, confidence);
        assert_eq!(death.cause.detail.as_deref(), Some("parent_thread_exit"));
    }
}

/// A busy machine takes its time to end all threads of a process.
#[test]
fn a_thread_that_ends_with_its_process_is_told_when_that_has_ended() {
    let mut scenario = vite();
    thread_ends(&mut scenario, Some(Call::None));
    let death = scenario.dies(100, Signo::TERM).death(200);
    assert_cause(&death, Kind::ParentDeathSignal, Mechanism::Kernel, Confidence::Certain);
    assert_eq!(death.cause.detail, None);
    assert_eq!(death.killer.map(|killer| killer.pid), Some(300));
}

/// The thread that execs takes the leader's number (fs/exec.c, `de_thread`), whose end was seen just before.
#[test]
fn a_thread_that_execs_is_not_the_leader_that_ended() {
    let mut scenario = vite();
    scenario.spawn(40, 300, &["/opt/launcher"]);
    scenario.facts(ProcessFacts { tgid: 300, threads: vec![301], ..ProcessFacts::default() });
    let unknown = |scenario: &Scenario| Current { exiting: None, ..scenario.current(300) };
    let leader = unknown(&scenario);
    scenario.push(Some(leader), Fact::Exit(Exit::default()));
    scenario.exec(300, &["/opt/killer"]);
    let killer = unknown(&scenario);
    scenario.signal(killer, 100, Signo::TERM, code::SI_USER, true, SignalResult::Delivered, None);
    let death = scenario.dies(100, Signo::TERM).death(100);
    assert_cause(&death, Kind::KilledByProcess, None, Confidence::Certain);
}

/// Without the system call, one to each and one to the group are alike.
#[test]
fn a_call_that_could_not_be_seen_is_not_guessed() {
    let mut scenario = vite();
    scenario.spawn(40, 300, &["/opt/killer"]).spawn(100, 101, &["/usr/bin/esbuild"]);
    let killer = scenario.current(300);
    for target in [100, 101] {
        scenario.signal(killer, target, Signo::TERM, code::SI_USER, true, SignalResult::Delivered, None);
    }
    let death = scenario.dies(100, Signo::TERM).dies(101, Signo::TERM).death(100);
    assert_cause(&death, Kind::KilledByProcess, None, Confidence::Certain);
    let said =
        |step: &ChainStep| step.text.ends_with("sent SIGTERM to vite (100), and to 1 more process at once");
    assert!(death.chain.iter().any(said), "{death:#?}");
}
