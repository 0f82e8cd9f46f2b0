//! A server in a container is killed every half an hour, and all that anybody sees is 137 in a wrapper's log.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Instant, SystemTime};

use killtrace::model::report::{Confidence, Death, Kind, OomScope, PatternKind};
use killtrace_tests::{MemoryCgroup, Sandbox, Watch, eventually, live, skip, tsx_app, victim_path};

const MIB: u64 = 1 << 20;
const ROUNDS: usize = 4;

/// A command of the container.
fn inside(sandbox: &Sandbox, app: &Path, container: &MemoryCgroup, args: &[&str]) -> Command {
    let mut command = sandbox.command(app, victim_path());
    command.arg("in-cgroup").arg(container.procs()).args(args).stdin(Stdio::null());
    command
}

fn server(death: &&Death) -> bool {
    death.victim.cmdline.as_ref().is_some_and(|args| args.iter().any(|arg| arg.ends_with("loader.mjs")))
}

#[test]
fn live_stories_a_server_in_a_container_fills_its_memory_again_and_again() {
    let Some(_turn) = live() else { return };
    let Some(app) = tsx_app() else { return };
    let Ok((container, id)) = MemoryCgroup::docker(400 * MIB).map_err(|reason| skip(&reason)) else { return };
    let sandbox = Sandbox::new();
    let watch = Watch::start(&["--cgroup", &container.path]);
    let log = sandbox.dir().join("log");
    let log_file = || fs::File::create(&log).expect("there is room");
    let read_log = || fs::read_to_string(&log).expect("it was written");

    // First, another process asks for the memory that the server holds.
    let started = Instant::now();
    let hold = ["npm", "exec", "--no", "--", "tsx", "server.ts", "hold", "150"];
    let mut holder = inside(&sandbox, &app, &container, &hold).stdout(log_file()).spawn().expect("npm runs");
    eventually(30, "the server to hold it", || read_log().contains("holding").then_some(()));
    let start_ms = started.elapsed().as_millis();
    let report = ["dd", "if=/dev/zero", "of=/dev/null", "bs=250M", "count=1"];
    inside(&sandbox, &app, &container, &report).stderr(Stdio::null()).status().expect("dd runs");
    let status = eventually(20, "npm to end", || holder.try_wait().expect("a child can be waited for"));
    assert_eq!(status.code(), Some(137), "what npm makes of it");

    // Then it leaks: for the half an hour that it takes stands the least that this machine can do.
    let every_ms = (2 * start_ms).max(3_000);
    let (start, every, rounds) = (now_ms().to_string(), every_ms.to_string(), ROUNDS.to_string());
    let mut wrapper = inside(&sandbox, &app, &container, &["./run-server.sh", &start, &every, &rounds]);
    let mut wrapper = wrapper.stdout(log_file()).stderr(Stdio::null()).spawn().expect("cannot run nsenter");
    eventually(120, "the wrapper to end", || wrapper.try_wait().expect("a child can be waited for"));
    assert_eq!(read_log(), "server exited with code 137\n".repeat(ROUNDS), "what people see");
    drop(sandbox);
    let outcome = watch.stop();

    let deaths = &outcome.report.deaths;
    let killed: Vec<&Death> = deaths.iter().filter(server).collect();
    assert_eq!(killed.len(), ROUNDS + 1, "{:#?}", outcome.summaries());
    for death in &killed {
        assert_eq!(
            (death.cause.kind, death.cause.confidence, death.exit.shell_status),
            (Kind::OomKill, Confidence::Certain, Some(137)),
            "{}",
            death.summary
        );
        assert_eq!((&death.killer, death.victim.name.as_str()), (&None, "server.ts"), "{}", death.summary);
        assert_eq!(death.victim.container.as_ref(), Some(&id));
        let oom = death.cause.oom.as_ref().expect("an OOM kill has circumstances");
        assert_eq!((oom.scope, oom.cgroup.as_ref()), (Some(OomScope::Memcg), Some(&container.path)));
        assert_eq!(oom.limit_bytes, Some(container.limit_bytes), "{}", death.summary);
        let free = container.limit_bytes - oom.usage_bytes.expect("it can be read");
        assert!(free < 16 * MIB, "{free} bytes were free when memory had run out");
        let largest: Vec<&str> = oom.largest_tasks.iter().map(|task| task.name.as_str()).collect();
        assert_eq!(largest[0], "server.ts", "{largest:?}");
        assert!(largest.contains(&"tsx") && largest.contains(&"npm exec tsx"), "{largest:?}");
        assert!(death.summary.contains("400 MiB") && death.summary.contains(&id[..12]), "{}", death.summary);
        assert!(
            death.advice[0]
                .contains(&format!("docker update --memory SIZE --memory-swap SIZE {}", &id[..12]))
        );
    }

    let asker = killed[0];
    let task = asker.cause.oom.as_ref().and_then(|oom| oom.allocating_task.as_ref()).expect("somebody asked");
    assert_eq!(task.comm, "dd", "{}", asker.summary);
    let words = format!("dd (pid {}) asked for memory at that moment and is not to blame", task.pid);
    assert!(asker.summary.contains(&words), "{}", asker.summary);

    // Who only passed the status on says so, and is no pattern of its own.
    let passed_on: Vec<&Death> = deaths.iter().filter(|death| death.exit.code == Some(137)).collect();
    assert!(passed_on.len() >= 2 * killed.len(), "tsx and npm at least: {:#?}", outcome.summaries());
    for death in passed_on {
        let words = "exited with code 137, which stands for SIGKILL (128 + 9). Most likely it passed on an end below it, ";
        let (_, of_whom) = death.summary.split_once(words).unwrap_or_else(|| panic!("{}", death.summary));
        assert!(of_whom.contains(" before: server.ts (pid "), "{}", death.summary);
    }

    let patterns = &outcome.report.patterns;
    assert!(patterns.iter().all(|pattern| pattern.name == "server.ts"), "{patterns:#?}");
    let periodic =
        patterns.iter().find(|pattern| pattern.kind == PatternKind::Periodic && pattern.name == "server.ts");
    let periodic = periodic.unwrap_or_else(|| panic!("nothing periodic among {patterns:#?}"));
    let interval = u128::from(periodic.median_interval_ms.expect("several"));
    assert!(interval.abs_diff(every_ms) <= every_ms / 4, "every {every_ms} ms: {}", periodic.text);
    assert_eq!(periodic.count, killed.len() as u64, "{}", periodic.text);
    assert!(periodic.text.contains("OOM killer"), "{}", periodic.text);
}

/// Time since 1970.
fn now_ms() -> u128 {
    SystemTime::UNIX_EPOCH.elapsed().expect("it is later than 1970").as_millis()
}
