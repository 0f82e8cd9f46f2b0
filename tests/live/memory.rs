//! The kernel's OOM killer, within a memory cgroup: the limit is to blame, never the task that was allocating.

use killtrace::model::report::{Confidence, Kind, OomScope};
use killtrace_tests::{MemoryCgroup, Sandbox, Vite, Watch, eventually, free_port, live, skip, victim_path};

const MIB: u64 = 1 << 20;

fn cgroup(name: &str, limit_bytes: u64) -> Option<MemoryCgroup> {
    MemoryCgroup::new(name, limit_bytes).map_err(|reason| skip(&reason)).ok()
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
    Vite::visit(port, "/eat");
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
