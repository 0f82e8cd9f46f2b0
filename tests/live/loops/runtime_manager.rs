//! A runtime manager that kills and restarts its child for ever, because what the first one left behind holds the port.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use killtrace::model::report::{Death, Kind, Mechanism, Pattern, PatternKind};
use killtrace_tests::{
    Outcome, Sandbox, Watch, eventually, free_port, listener, live, namespace_pid, parent,
};

/// A manager in a place of its own, with what it starts.
struct Manager {
    sandbox: Sandbox,
    port: u16,
    process: Child,
}

impl Manager {
    const FILES: [(&'static str, &'static str); 3] = [
        ("manager.js", include_str!("manager.js")),
        ("runtime.js", include_str!("runtime.js")),
        ("server.js", include_str!("server.js")),
    ];

    /// Starts one that kills `rounds` times, each time `target`: the `child`, or its `group`.
    fn start(rounds: usize, target: &str) -> Self {
        let sandbox = Sandbox::new();
        for (name, text) in Self::FILES {
            fs::write(sandbox.dir().join(name), text).expect("there is room");
        }
        let port = free_port();
        let log = File::create(sandbox.dir().join("manager.log")).expect("there is room");
        let errors = log.try_clone().expect("out of file descriptors");
        let mut command: Command = sandbox.command(sandbox.dir(), "node");
        command.args(["manager.js", &port.to_string(), &rounds.to_string(), target]);
        let process = command.stdout(log).stderr(Stdio::from(errors)).spawn().expect("cannot run nsenter");
        Self { sandbox, port, process }
    }

    /// What it wrote: a line for each exit of its child.
    fn log(&self) -> Vec<String> {
        self.read("manager.log")
    }

    fn read(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.sandbox.dir().join(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn exits(&self) -> usize {
        self.log().iter().filter(|line| line.contains("exited")).count()
    }

    fn until_it_gives_up(&mut self) {
        let process = &mut self.process;
        let status = eventually(240, "the manager to give up", || {
            process.try_wait().expect("a child can be waited for")
        });
        assert!(status.success(), "{:#?}", self.log());
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn runtimes(outcome: &Outcome) -> Vec<&Death> {
    outcome.report.deaths.iter().filter(|death| death.victim.name == "runtime").collect()
}

#[track_caller]
fn pattern(outcome: &Outcome, kind: PatternKind) -> &Pattern {
    let patterns = &outcome.report.patterns;
    let found: Vec<&Pattern> = patterns.iter().filter(|pattern| pattern.kind == kind).collect();
    let [pattern] = found[..] else { panic!("{} patterns of kind {kind:?} in {patterns:#?}", found.len()) };
    pattern
}

#[test]
fn live_runtime_manager_that_kills_its_child_54_times_and_leaves_the_port_held() {
    const ROUNDS: usize = 54;
    let Some(_turn) = live() else { return };
    let watch = Watch::start(&["--comm", "runtime"]);
    let mut manager = Manager::start(ROUNDS, "child");

    // Told while it goes on.
    let storm = watch.until_said("Pattern: runtime died 3 times in");
    let left = watch.until_said("outlived runtime, which had started them; alive now: server.js (pid");
    let exits = manager.exits();
    assert!((3..ROUNDS).contains(&exits), "told after {exits} rounds:\n{storm}\n{left}");

    manager.until_it_gives_up();
    let log = manager.log();
    let killed = log.iter().filter(|line| line.ends_with("exited code=null signal=SIGKILL")).count();
    assert_eq!(killed, ROUNDS, "{log:#?}");
    eventually(60, "the later servers to find the port in use", || {
        let log = manager.read("runtime.log");
        (log.iter().filter(|line| line.starts_with("EADDRINUSE")).count() == ROUNDS - 1).then_some(())
    });
    let server = listener(manager.port).expect("the first server lives");
    let adopter = parent(server).expect("it has a parent");
    assert_eq!(namespace_pid(adopter), Some(1), "the init of its namespace has adopted it");
    // Whoever lives on for less than a second is no orphan.
    sleep(Duration::from_millis(1_200));
    let outcome = watch.stop();
    let port = manager.port;
    drop(manager);

    let deaths = runtimes(&outcome);
    assert_eq!(deaths.len(), ROUNDS);
    for death in deaths {
        assert_eq!((death.cause.kind, death.cause.mechanism), (Kind::KilledByProcess, Some(Mechanism::Kill)));
        assert_eq!(death.exit.signal.as_deref(), Some("SIGKILL"));
        assert_eq!(
            death.killer.as_ref().map(|killer| killer.name.as_str()),
            Some("manager"),
            "{}",
            death.summary
        );
    }
    let storm = pattern(&outcome, PatternKind::RestartLoop);
    assert_eq!(
        (storm.name.as_str(), storm.count, storm.by.as_deref()),
        ("runtime", 54, Some("manager")),
        "{storm:?}"
    );
    let interval = storm.median_interval_ms.expect("there are intervals");
    assert!((200..5_000).contains(&interval), "{interval} ms");
    assert!(storm.trend.is_some(), "{storm:?}");
    for said in ["runtime died 54 times in", "or so", "each time by manager"] {
        assert!(storm.text.contains(said), "no {said:?} in {}", storm.text);
    }

    let left = pattern(&outcome, PatternKind::Orphans);
    assert_eq!((left.name.as_str(), left.survivors.len()), ("runtime", 55), "{}", left.text);
    // On a busy machine also servers that took long to find out.
    assert!(left.count >= 55, "{}", left.text);
    let holder = &left.survivors[0];
    assert_eq!(
        (holder.pid, holder.name.as_str(), holder.reparented_to, &holder.listening[..]),
        (server, "server.js", Some(adopter), &[port][..]),
        "{}",
        left.text
    );
    assert!(
        left.survivors[1..].iter().all(|other| other.name == "tail" && other.reparented_to == Some(adopter))
    );
    assert!(
        left.text.contains(&format!("server.js (pid {server}) under victim (pid {adopter}) listens on port")),
        "{}",
        left.text
    );
    assert!(left.advice.iter().any(|advice| advice.contains("kill -- -PID")), "{left:?}");
    let others: Vec<&Pattern> = outcome
        .report
        .patterns
        .iter()
        .filter(|other| !matches!(other.kind, PatternKind::RestartLoop | PatternKind::Orphans))
        .collect();
    assert!(others.is_empty(), "{others:#?}");
}

#[test]
fn live_runtime_manager_that_kills_the_whole_group_leaves_nobody() {
    const ROUNDS: usize = 5;
    let Some(_turn) = live() else { return };
    let watch = Watch::start(&["--comm", "runtime"]);
    let mut manager = Manager::start(ROUNDS, "group");
    let _ = watch.until_said("Pattern: runtime died 3 times in");
    manager.until_it_gives_up();
    sleep(Duration::from_millis(1_200));
    let outcome = watch.stop();
    assert_eq!(listener(manager.port), None, "nobody was left");
    assert!(!manager.read("runtime.log").iter().any(|line| line.contains("EADDRINUSE")));
    drop(manager);

    let deaths = runtimes(&outcome);
    assert_eq!(deaths.len(), ROUNDS);
    for death in deaths {
        assert_eq!(death.cause.mechanism, Some(Mechanism::KillGroup), "{}", death.summary);
        let expected = format!("manager (pid {}) sent SIGKILL to its whole process group", killer_pid(death));
        assert!(death.summary.contains(&expected), "{}", death.summary);
        assert!(death.chain[0].text.contains("(2 more processes)"), "one act: {:?}", death.chain);
        let mut fellows: Vec<&str> =
            death.aftermath.also_died.iter().map(|died| died.comm.as_str()).collect();
        fellows.sort_unstable();
        assert_eq!((fellows.len(), fellows[1]), (2, "tail"), "{fellows:?}");
        assert!(death.aftermath.survivors.is_empty(), "{:?}", death.aftermath.survivors);
    }
    assert!(!outcome.stdout.contains("lives on"), "{}", outcome.stdout);
    let kinds: Vec<PatternKind> = outcome.report.patterns.iter().map(|pattern| pattern.kind).collect();
    assert_eq!(kinds, [PatternKind::RestartLoop], "{:#?}", outcome.report.patterns);
}

fn killer_pid(death: &Death) -> u32 {
    death.killer.as_ref().map(|killer| killer.pid).expect("somebody did it")
}
