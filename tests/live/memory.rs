//! The kernel's OOM killer, within a memory cgroup: the limit is to blame, never the task that was allocating.

use std::fs;

use killtrace::model::report::{Confidence, Kind, OomScope};
use killtrace_tests::{
    MemoryCgroup, Sandbox, Truth, Victim, Vite, Watch, eventually, free_port, live, skip, victim_path,
};
use nix::libc;

const MIB: u64 = 1 << 20;

fn cgroup(name: &str, limit_bytes: u64) -> Option<MemoryCgroup> {
    MemoryCgroup::new(name, limit_bytes).map_err(|reason| skip(&reason)).ok()
}

fn start_in(cgroup: &MemoryCgroup, args: &[&str]) -> Victim {
    let (procs, program) = (cgroup.procs(), victim_path());
    let mut all = vec!["in-cgroup", procs.to_str().expect("UTF-8"), program.to_str().expect("UTF-8")];
    all.extend(args);
    Victim::start(&all)
}

#[test]
fn live_memcg_oom_blames_the_limit() {
    let Some(_turn) = live() else { return };
    let Some(cgroup) = cgroup("alone", 48 * MIB) else { return };
    let watch = Watch::start(&["--comm", "victim"]);
    let mut victim = start_in(&cgroup, &["eat", "4"]);
    let truth = victim.wait();
    assert_eq!(truth, Truth { code: None, signal: Some(libc::SIGKILL) });
    watch.until_dead(&[victim.pid()]);
    let outcome = watch.stop();
    let death = outcome.death(victim.pid());
    assert_eq!(
        (death.cause.kind, death.cause.confidence),
        (Kind::OomKill, Confidence::Certain),
        "{}",
        death.summary
    );
    assert_eq!(death.killer, None, "nobody killed it: {}", death.summary);
    assert!(death.sender.as_ref().is_some_and(|sender| sender.kernel), "{:?}", death.sender);
    let oom = death.cause.oom.as_ref().expect("an OOM kill has circumstances");
    assert_eq!(oom.scope, Some(OomScope::Memcg), "{}", death.summary);
    assert_eq!(oom.cgroup.as_deref(), Some(cgroup.path.as_str()), "{}", death.summary);
    assert_eq!(oom.limit_bytes, Some(cgroup.limit_bytes), "{}", death.summary);
    assert_eq!(death.exit.shell_status, Some(137));
}

#[test]
fn live_memcg_oom_never_blames_the_task_that_was_allocating() {
    let Some(_turn) = live() else { return };
    let Some(cgroup) = cgroup("bystander", 64 * MIB) else { return };
    let watch = Watch::start(&["--comm", "victim"]);
    // A bystander that asks for nothing, and that the kernel is told to prefer.
    let mut bystander = start_in(&cgroup, &["hold", "8"]);
    fs::write(format!("/proc/{}/oom_score_adj", bystander.pid()), "1000").expect("cannot set oom_score_adj");
    let mut eater = start_in(&cgroup, &["eat", "4"]);
    eater.wait();
    assert_eq!(bystander.wait(), Truth { code: None, signal: Some(libc::SIGKILL) });
    watch.until_dead(&[bystander.pid()]);
    let outcome = watch.stop();
    let death = outcome.death(bystander.pid());
    assert_eq!(
        (death.cause.kind, death.cause.confidence),
        (Kind::OomKill, Confidence::Certain),
        "{}",
        death.summary
    );
    assert_eq!(death.killer, None, "{}", death.summary);
    let actor = death.root_cause.as_ref().and_then(|root| root.actor.as_ref());
    assert!(actor.is_none_or(|actor| actor.pid != eater.pid()), "{}", death.summary);
    let oom = death.cause.oom.as_ref().expect("an OOM kill has circumstances");
    assert_eq!(oom.scope, Some(OomScope::Memcg), "{}", death.summary);
    assert_eq!(oom.allocating_task.as_ref().map(|task| task.pid), Some(eater.pid()), "{}", death.summary);
}

#[test]
fn live_vite_killed_by_its_memory_limit() {
    let Some(_turn) = live() else { return };
    let Some(app) = Vite::app() else { return };
    let Some(cgroup) = cgroup("vite", 300 * MIB) else { return };
    let sandbox = Sandbox::new();
    let watch = Watch::start(&["--comm", "vite"]);
    let port = free_port();
    let mut command = sandbox.command(&app, victim_path());
    command.arg("in-cgroup").arg(cgroup.procs()).args(Vite::command(port));
    let mut vite = Vite::start_with(&sandbox, command, port);
    // The fixture's Vite has a page that takes memory until there is none.
    sandbox.run_script(
        "visit.sh",
        &format!("node -e \"fetch('http://127.0.0.1:{port}/eat').catch(() => process.exit(0))\""),
    );
    eventually(20, "Vite to die", || {
        (!std::path::Path::new(&format!("/proc/{}", vite.pid)).exists()).then_some(())
    });
    assert_eq!(vite.npm_status(), 137, "what npm makes of it");
    watch.until_dead(&[vite.pid]);
    drop(sandbox);
    let outcome = watch.stop();
    let death = outcome.death(vite.pid);
    assert_eq!(
        (death.cause.kind, death.cause.confidence),
        (Kind::OomKill, Confidence::Certain),
        "{}",
        death.summary
    );
    assert_eq!(death.victim.name, "vite");
    assert_eq!(death.killer, None, "{}", death.summary);
    let oom = death.cause.oom.as_ref().expect("an OOM kill has circumstances");
    assert_eq!(oom.scope, Some(OomScope::Memcg), "{}", death.summary);
    assert_eq!(oom.limit_bytes, Some(cgroup.limit_bytes), "{}", death.summary);
    assert!(death.summary.contains("300 MiB") || death.summary.contains(&cgroup.path), "{}", death.summary);
}
