//! V8's heap, and what a death's or a pattern's advice is.

use super::*;
use crate::model::event::{CgroupMemory, Fact, ProcessFacts};
use crate::model::report::Report;
use crate::model::select::Selectors;

const MIB: u64 = 1024 * 1024;

/// node, started with these options, calls abort() while it holds so much, in a cgroup of 512 MiB.
fn aborted(options: &[&str], held_mib: u64) -> Death {
    let mut scenario = Scenario::new();
    scenario.seed(40, 1, "bash", &["/bin/bash"]).seeded();
    let args: Vec<&str> = ["/usr/bin/node"].iter().chain(options).chain(&["/app/leak.js"]).copied().collect();
    scenario.spawn(40, 100, &args).cgroup(100, "/build");
    let own = scenario.current(100);
    let call = Some((Call::Tgkill, 100));
    scenario.signal(own, 100, Signo::ABRT, code::SI_TKILL, false, SignalResult::Delivered, call);
    let rss_bytes = Some(held_mib * MIB);
    scenario.facts(ProcessFacts { tgid: 100, rss_bytes, ..ProcessFacts::default() });
    scenario.take(100, Signo::ABRT, code::SI_TKILL).dies(100, Signo::ABRT);
    let limit_bytes = Some(512 * MIB);
    let memory = CgroupMemory { path: "/build".to_owned(), limit_bytes, ..CgroupMemory::default() };
    scenario.push(None, Fact::CgroupMemory(memory));
    scenario.death(100)
}

#[test]
fn a_full_heap_of_v8_is_its_own_doing_with_figures_and_room() {
    let death = aborted(&["--max-old-space-size=64"], 101);
    assert_cause(&death, Kind::KilledBySelf, Mechanism::Tgkill, Confidence::Certain);
    assert_eq!(death.cause.detail.as_deref(), Some("heap_limit"));
    assert_eq!(
        death.summary,
        "leak (pid 100) ended itself with SIGABRT: it called abort(), as V8 does when its heap is full. It held 101 \
         MiB in all; the limit of its heap was 64 MiB (--max-old-space-size)."
    );
    assert_eq!(
        death.advice,
        [
            "If leak needs that much, give it a larger --max-old-space-size (now 64), also by NODE_OPTIONS; its cgroup has room up \
          to 512 MiB. --heapsnapshot-near-heap-limit=1 shows what fills it."
        ]
    );
    let death = aborted(&["--max-old-space-size=480"], 500);
    assert_eq!(
        death.advice,
        ["A larger --max-old-space-size than 480 needs a higher limit of /build (512 MiB) as well."]
    );
}

#[test]
fn a_limit_in_the_environment_is_one() {
    let mut scenario = Scenario::new();
    scenario.seed(40, 1, "bash", &["/bin/bash"]).seeded().spawn(40, 100, &["/usr/bin/node", "/app/leak.js"]);
    let cwd = Some("/app".to_owned());
    let node_options = Some("--max-old-space-size=64".to_owned());
    let rss_bytes = Some(101 * MIB);
    scenario.facts(ProcessFacts { tgid: 100, cwd, node_options, rss_bytes, ..ProcessFacts::default() });
    let own = scenario.current(100);
    let call = Some((Call::Tgkill, 100));
    scenario.signal(own, 100, Signo::ABRT, code::SI_TKILL, false, SignalResult::Delivered, call);
    let death = scenario.take(100, Signo::ABRT, code::SI_TKILL).dies(100, Signo::ABRT).death(100);
    assert_eq!(death.cause.detail.as_deref(), Some("heap_limit"), "{}", death.summary);
    assert!(death.summary.contains("the limit of its heap was 64 MiB"), "{}", death.summary);
}

#[test]
fn an_abort_with_room_in_the_heap_has_another_reason() {
    let death = aborted(&["--max-old-space-size=4096"], 101);
    assert_eq!(death.cause.detail.as_deref(), Some("abort"));
    assert!(!death.summary.contains("V8") && death.advice.is_empty(), "{death:#?}");
}

/// A service of kali's own systemd that ends with code 1, and is started again, some times.
fn restarted(times: u32, pause_ms: u64) -> Report {
    let mut scenario = Scenario::new();
    scenario.seed(60, 1, "systemd", &["/usr/lib/systemd/systemd", "--user"]);
    scenario.push(None, Fact::User { uid: 1000, name: Some("kali".to_owned()) });
    scenario.seeded();
    for pid in 100..100 + times {
        scenario.spawn(60, pid, VITE);
        scenario.cgroup(pid, "/user.slice/user-1000.slice/user@1000.service/app.slice/vite.service");
        scenario.wait(pause_ms).exits(pid, 1);
    }
    scenario.watch_for(Selectors { comms: vec!["vite".to_owned()], ..Selectors::default() })
}

#[test]
fn a_service_in_a_loop_gets_the_settings_of_the_right_manager() {
    let report = restarted(3, 5_000);
    assert_eq!(
        report.patterns[0].advice,
        [
            "systemd (pid 60) starts it again each time. In `systemctl --user -M kali@ edit vite.service`, RestartSec= \
          makes it wait, and StartLimitBurst= with StartLimitIntervalSec= makes it give up; once every 5 s is too seldom \
          for the default, 5 within 10 s."
        ]
    );
    assert!(!restarted(4, 500).patterns[0].advice[0].contains("too seldom"));
}

#[test]
fn a_stop_by_a_users_manager_is_looked_up_there() {
    let mut scenario = Scenario::new();
    scenario.seed(60, 1, "systemd", &["/usr/lib/systemd/systemd", "--user"]).seeded();
    scenario.spawn(60, 100, VITE);
    scenario.cgroup(100, "/user.slice/user-1000.slice/user@1000.service/app.slice/vite.service");
    scenario.kill(60, 100, Signo::TERM).dies(100, Signo::TERM);
    let death = scenario.death(100);
    assert_eq!(death.advice, ["`systemctl --user status vite.service` says why vite.service was stopped."]);
}
