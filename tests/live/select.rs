//! The selectors, each on a process that exists before killtrace and on one that comes later.

use std::process::{Child, Command, Stdio};

use killtrace::model::report::{Death, Kind, UnitScope};
use killtrace_tests::{
    MemoryCgroup, Victim, Watch, eventually, free_port, listener, live, skip, strike, victim_path,
};
use nix::libc;

fn kill(pid: u32) {
    strike(i32::try_from(pid).expect("pids are small"), libc::SIGKILL);
}

#[test]
fn live_pid_selects_a_process_that_exists() {
    let Some(_turn) = live() else { return };
    let mut victim = Victim::start(&["wait"]);
    let mut other = Victim::start(&["wait"]);
    let watch = Watch::start(&["--pid", &victim.pid().to_string()]);
    kill(other.pid());
    other.wait();
    kill(victim.pid());
    victim.wait();
    watch.until_dead(&[victim.pid()]);
    let outcome = watch.stop();
    let death = outcome.death(victim.pid());
    assert_eq!(death.cause.kind, Kind::KilledByProcess, "{}", death.summary);
    assert_eq!(outcome.report.deaths.len(), 1, "only what was selected: {:?}", outcome.summaries());
    assert!(death.uptime_ms.is_some(), "its start is in /proc");
    assert_eq!(outcome.report.watch.roots_seen, 1);
}

#[test]
fn live_comm_finds_the_old_and_the_new() {
    let Some(_turn) = live() else { return };
    let mut old = Victim::start(&["wait"]);
    let watch = Watch::start(&["--comm", "victim"]);
    let mut new = Victim::start(&["wait"]);
    for victim in [&mut old, &mut new] {
        kill(victim.pid());
        victim.wait();
    }
    watch.until_dead(&[old.pid(), new.pid()]);
    let outcome = watch.stop();
    for victim in [&old, &new] {
        let death = outcome.death(victim.pid());
        assert_eq!(death.cause.kind, Kind::KilledByProcess, "{}", death.summary);
        assert!(death.victim.cmdline.as_ref().is_some_and(|args| args[1] == "wait"), "{:?}", death.victim);
    }
}

#[test]
fn live_cmdline_selects_by_regular_expression() {
    let Some(_turn) = live() else { return };
    let watch = Watch::start(&["--cmdline", r"victim exit-on-term \d$"]);
    let mut wanted = Victim::start(&["exit-on-term", "4"]);
    let mut unwanted = Victim::start(&["exit-on-term", "44"]);
    for victim in [&mut unwanted, &mut wanted] {
        kill(victim.pid());
        victim.wait();
    }
    watch.until_dead(&[wanted.pid()]);
    let outcome = watch.stop();
    let dead: Vec<u32> = outcome.report.deaths.iter().map(|death| death.victim.pid).collect();
    assert_eq!(dead, [wanted.pid()]);
}

#[test]
fn live_user_selects_all_of_a_user() {
    let Some(_turn) = live() else { return };
    let watch = Watch::start(&["--user", "nobody"]);
    let mut sleeper = as_nobody();
    eventually(5, "setpriv to become sleep", || {
        (killtrace_tests::comm(sleeper.id()).as_deref() == Some("sleep")).then_some(())
    });
    kill(sleeper.id());
    sleeper.wait().expect("a child can be waited for");
    watch.until_dead(&[sleeper.id()]);
    let outcome = watch.stop();
    let death = outcome.death(sleeper.id());
    assert_eq!(death.victim.user.as_deref(), Some("nobody"), "{}", death.summary);
    assert_eq!(death.cause.kind, Kind::KilledByProcess, "{}", death.summary);
}

/// Root becomes somebody else and then another program, as every service does.
fn as_nobody() -> Child {
    let args = ["--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "sleep", "60"];
    Command::new("setpriv").args(args).spawn().expect("cannot run setpriv (util-linux)")
}

#[test]
fn live_cgroup_selects_its_members() {
    let Some(_turn) = live() else { return };
    let cgroup = match MemoryCgroup::new("select", LIMIT_BYTES) {
        Ok(cgroup) => cgroup,
        Err(reason) => return skip(&reason),
    };
    let death = death_in(&cgroup, &["--cgroup", &cgroup.path]);
    assert_eq!(death.victim.cgroup.as_deref(), Some(cgroup.path.as_str()), "{}", death.summary);
}

#[test]
fn live_unit_selects_its_members() {
    let Some(_turn) = live() else { return };
    let (cgroup, unit) = match MemoryCgroup::service("select", LIMIT_BYTES) {
        Ok(made) => made,
        Err(reason) => return skip(&reason),
    };
    let death = death_in(&cgroup, &["--unit", unit.trim_end_matches(".service")]);
    assert_eq!(death.victim.unit.as_deref(), Some(unit.as_str()), "{}", death.summary);
    assert_eq!(death.victim.unit_scope, Some(UnitScope::System), "{}", death.summary);
}

/// Far more than a member needs.
const LIMIT_BYTES: u64 = 256 << 20;

/// Kills a process that moved into a cgroup after killtrace had started.
fn death_in(cgroup: &MemoryCgroup, selector: &[&str]) -> Death {
    let watch = Watch::start(selector);
    let (procs, program) = (cgroup.procs(), victim_path());
    let procs = procs.to_str().expect("cgroup paths are UTF-8");
    let program = program.to_str().expect("the target directory is UTF-8");
    let mut victim = Victim::start(&["in-cgroup", procs, program, "wait"]);
    kill(victim.pid());
    victim.wait();
    watch.until_dead(&[victim.pid()]);
    let outcome = watch.stop();
    let death = outcome.death(victim.pid());
    assert_eq!(death.cause.kind, Kind::KilledByProcess, "{}", death.summary);
    death.clone()
}

#[test]
fn live_port_selects_whoever_listens_now_or_later() {
    let Some(_turn) = live() else { return };
    let port = free_port();
    let mut old = listen(port);
    let watch = Watch::start(&["--port", &port.to_string()]);
    kill(old.id());
    old.wait().expect("a child can be waited for");
    watch.until_dead(&[old.id()]);
    let mut new = listen(port);
    kill(new.id());
    new.wait().expect("a child can be waited for");
    watch.until_dead(&[new.id()]);
    let outcome = watch.stop();
    for pid in [old.id(), new.id()] {
        let death = outcome.death(pid);
        assert_eq!(death.cause.kind, Kind::KilledByProcess, "{}", death.summary);
        assert!(death.victim.root, "{}", death.summary);
    }
}

fn listen(port: u16) -> Child {
    let program = format!("require('net').createServer().listen({port}, '127.0.0.1')");
    let mut node = Command::new("node");
    let node = node.args(["-e", &program]).stdin(Stdio::null()).spawn().expect("cannot run node");
    eventually(10, "node to listen", || (listener(port) == Some(node.id())).then_some(()));
    node
}
