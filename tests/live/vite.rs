//! A real Vite, started by `npm run dev`, killed the ways that people's Vites are killed.

use std::io::Write;
use std::process::Stdio;

use killtrace::model::report::{Actor, Confidence, Death, Kind, Mechanism, PatternKind, Role};
use killtrace_tests::{
    Outcome, Sandbox, Terminal, Vite, Watch, ancestry, cmdline, eventually, free_port, live,
};

fn stop(watch: Watch, pid: u32) -> (Outcome, Death) {
    watch.until_dead(&[pid]);
    let outcome = watch.stop();
    let death = outcome.death(pid).clone();
    assert_eq!(death.victim.name, "vite", "{}", death.summary);
    (outcome, death)
}

#[track_caller]
fn killer(death: &Death) -> &Actor {
    death.killer.as_ref().unwrap_or_else(|| panic!("no killer: {}", death.summary))
}

#[test]
fn live_vite_killed_by_pkill() {
    let Some(_turn) = live() else { return };
    let Some(app) = Vite::app() else { return };
    let sandbox = Sandbox::new();
    let watch = Watch::start(&["--comm", "vite"]);
    let mut vite = Vite::start(&sandbox, &app, free_port());
    sandbox.run_script("stop-dev.sh", "pkill -f bin/vite\ntrue\n");
    assert_eq!(vite.npm_status(), 143);
    let (_, death) = stop(watch, vite.pid);
    // Vite catches SIGTERM, closes its server and exits with 143 by itself.
    assert_eq!(death.cause.kind, Kind::KilledByProcess, "{}", death.summary);
    assert_eq!((death.exit.code, death.exit.shell_status), (Some(143), Some(143)), "{}", death.summary);
    assert!(death.cause.graceful, "{}", death.summary);
    if let Some(mechanism) = death.cause.mechanism {
        assert_eq!(mechanism, Mechanism::Kill);
    }
    let killer = killer(&death);
    assert_eq!(killer.comm, "pkill", "{}", death.summary);
    assert_eq!(killer.cmdline.as_deref(), Some(&["pkill".to_owned(), "-f".into(), "bin/vite".into()][..]));
    let above = ancestry(killer);
    assert!(above[0].ends_with("/stop-dev.sh"), "{above:?}");
    let own = cmdline(std::process::id()).expect("this test is alive").join(" ");
    assert!(above.contains(&own), "up to the test itself: {above:?}");
    for said in ["vite", "pkill", "SIGTERM", &vite.pid.to_string()] {
        assert!(death.summary.contains(said), "no {said} in {}", death.summary);
    }
    let actor = death.decider().expect("somebody decided it");
    assert_eq!(actor.name, "stop-dev.sh", "{}", death.summary);
}

#[test]
fn live_vite_killed_by_fuser_on_its_port() {
    let Some(_turn) = live() else { return };
    let Some(app) = Vite::app() else { return };
    let sandbox = Sandbox::new();
    let port = free_port();
    // Nobody listens yet: the watch is for whoever will.
    let watch = Watch::start(&["--port", &port.to_string()]);
    let mut vite = Vite::start(&sandbox, &app, port);
    sandbox.run_script("free-port.sh", &format!("fuser -k {port}/tcp\ntrue\n"));
    assert_eq!(vite.npm_status(), 137);
    let (outcome, death) = stop(watch, vite.pid);
    assert_eq!(
        (death.cause.kind, death.cause.confidence),
        (Kind::KilledByProcess, Confidence::Certain),
        "{}",
        death.summary
    );
    assert_eq!(death.exit.signal.as_deref(), Some("SIGKILL"), "{}", death.summary);
    assert!(death.victim.root, "it listened on the port");
    let killer = killer(&death);
    assert_eq!(killer.comm, "fuser", "{}", death.summary);
    // On perf it is read from /proc, where fuser has soon cut its own arguments to pieces.
    if killer.cmdline.is_some() || outcome.report.collector.backend != "perf" {
        assert_eq!(
            killer.cmdline.as_deref(),
            Some(&["fuser".to_owned(), "-k".into(), format!("{port}/tcp")][..])
        );
    }
    assert!(ancestry(killer)[0].ends_with("/free-port.sh"), "{:?}", killer.ancestry);
}

/// The first user's storm: the keepalive script's own restart kills the server that it is to keep alive.
#[test]
fn live_vite_killed_by_its_own_keepalive() {
    const ROUNDS: usize = 4;
    let Some(_turn) = live() else { return };
    let Some(app) = Vite::app() else { return };
    let sandbox = Sandbox::new();
    let watch = Watch::start(&["--comm", "vite"]);
    let port = free_port();
    let mut keepalive = sandbox.command(&app, "./keepalive-dev.sh");
    keepalive.arg(port.to_string()).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut keepalive = keepalive.spawn().expect("cannot run nsenter");
    let mut vites: Vec<u32> = Vec::new();
    while vites.len() < ROUNDS {
        let script = keepalive.stdin.as_mut().expect("its input is a pipe");
        writeln!(script).expect("it reads");
        let next = eventually(30, "the next Vite", || {
            killtrace_tests::listener(port).filter(|pid| !vites.contains(pid))
        });
        vites.push(next);
    }
    // The last one is not killed by anybody: the keepalive loop ends with it running.
    let killed = &vites[..ROUNDS - 1];
    watch.until_dead(killed);
    let outcome = watch.stop();
    drop(sandbox);
    keepalive.wait().expect("a child can be waited for");

    for pid in killed {
        let death = outcome.death(*pid);
        assert_eq!(death.cause.kind, Kind::KilledByProcess, "{}", death.summary);
        let killer = killer(death);
        assert_eq!(killer.comm, "pkill", "{}", death.summary);
        assert_eq!(
            killer.cmdline.as_deref(),
            Some(&["pkill".to_owned(), "-f".into(), "bin/[v]ite".into()][..])
        );
        let above = ancestry(killer);
        let at = |what: &str| above.iter().position(|step| step.contains(what));
        let (kill_dev, restart, script) =
            (at("npm run kill-dev"), at("npm run dev:fresh"), at("keepalive-dev.sh"));
        assert!(kill_dev.is_some() && kill_dev < restart && restart < script, "{above:?}");
        let actor = death.decider().expect("somebody decided it");
        assert_eq!(
            (actor.name.as_str(), actor.role),
            ("keepalive-dev.sh", Role::Watchdog),
            "{}",
            death.summary
        );
        assert!(death.summary.contains("keepalive-dev.sh"), "{}", death.summary);
    }
    let patterns = &outcome.report.patterns;
    let storm =
        patterns.iter().find(|pattern| pattern.kind == PatternKind::RestartLoop && pattern.name == "vite");
    let storm = storm.unwrap_or_else(|| panic!("no restart loop among {patterns:?}"));
    assert_eq!(storm.count, u64::try_from(killed.len()).expect("few"), "{}", storm.text);
    assert!(storm.by.as_ref().is_some_and(|by| by.contains("keepalive-dev.sh")), "{storm:?}");
}

/// V8 has no room left for objects, and gives up by itself.
#[test]
fn live_vite_out_of_heap() {
    let Some(_turn) = live() else { return };
    let Some(app) = Vite::app() else { return };
    let sandbox = Sandbox::new();
    let watch = Watch::start(&["--comm", "vite"]);
    let port = free_port();
    let mut command = sandbox.command(&app, "env");
    command.arg("NODE_OPTIONS=--max-old-space-size=128").args(Vite::command(port));
    let mut vite = Vite::start_with(&sandbox, command, port);
    Vite::visit(port, "/eat-heap");
    // V8 takes its time to find out that nothing can be freed.
    assert_eq!(vite.npm_status(), 134);
    watch.until_dead(&[vite.pid]);
    assert!(Vite::log(&sandbox).contains("JavaScript heap out of memory"), "{}", Vite::log(&sandbox));
    let (_, death) = stop(watch, vite.pid);
    assert_eq!(
        (death.cause.kind, death.cause.confidence),
        (Kind::KilledBySelf, Confidence::Certain),
        "{}",
        death.summary
    );
    assert_eq!((death.exit.signal.as_deref(), death.exit.shell_status), (Some("SIGABRT"), Some(134)));
    assert_eq!(death.killer, None, "{}", death.summary);
}

/// Vite restarts itself, within the same process, when its configuration changes: nothing died.
#[test]
fn live_vite_that_restarts_itself_does_not_die() {
    let Some(_turn) = live() else { return };
    let Some(app) = Vite::app() else { return };
    let sandbox = Sandbox::new();
    let watch = Watch::start(&["--comm", "vite"]);
    let config = sandbox.dir().join("vite.config.mjs");
    let write = |text: &str| std::fs::write(&config, text).expect("there is room");
    write("export default { clearScreen: false };\n");
    let port = free_port();
    let args = Vite::command(port);
    let mut command = sandbox.command(&app, &args[0]);
    command.args(&args[1..]).arg("--config").arg(&config);
    let vite = Vite::start_with(&sandbox, command, port);
    write("export default { clearScreen: false, define: { changed: true } };\n");
    eventually(30, "Vite to restart", || Vite::log(&sandbox).contains("server restarted").then_some(()));
    assert_eq!(killtrace_tests::listener(port), Some(vite.pid), "it is the same process");
    let outcome = watch.stop();
    assert_eq!(outcome.summaries(), [""; 0]);
    assert!(outcome.report.patterns.is_empty(), "{:?}", outcome.report.patterns);
    assert!(outcome.report.watch.roots_seen > 0, "it was watched");
}

/// A terminal whose only program is `npm run dev`: the wrapper dies of the hangup, and the rest with it.
#[test]
fn live_vite_killed_by_its_closed_terminal() {
    let Some(_turn) = live() else { return };
    let Some(app) = Vite::app() else { return };
    let sandbox = Sandbox::new();
    let watch = Watch::start(&["--comm", "vite"]);
    let port = free_port();
    let mut command = sandbox.command(&app, "setsid");
    // `; true` keeps the shell in its place as session leader.
    command.args(["--ctty", "sh", "-c", &format!("{}; true", Vite::command(port).join(" "))]);
    let terminal = Terminal::open(command);
    let pid = Vite::wait(port, || terminal.screen());
    terminal.close();
    let (_, death) = stop(watch, pid);
    assert_eq!(death.cause.kind, Kind::TtyHangup, "{}", death.summary);
    assert_eq!((death.exit.signal.as_deref(), death.exit.shell_status), (Some("SIGHUP"), Some(129)));
    assert!(death.sender.as_ref().is_some_and(|sender| sender.kernel), "{:?}", death.sender);
    assert!(death.summary.contains("terminal"), "{}", death.summary);
}

/// The same, in an interactive shell: bash hands the hangup on to its jobs itself.
#[test]
fn live_vite_killed_by_the_closed_terminal_of_its_shell() {
    let Some(_turn) = live() else { return };
    let Some(app) = Vite::app() else { return };
    let sandbox = Sandbox::new();
    let watch = Watch::start(&["--comm", "vite"]);
    let port = free_port();
    let mut command = sandbox.command(&app, "setsid");
    command.args(["--ctty", "bash", "--norc", "--noprofile", "-i"]);
    let mut terminal = Terminal::open(command);
    terminal.enter(&Vite::command(port).join(" "));
    let pid = Vite::wait(port, || terminal.screen());
    terminal.close();
    let (_, death) = stop(watch, pid);
    assert_eq!(death.cause.kind, Kind::TtyHangup, "{}", death.summary);
    assert_eq!(death.exit.signal.as_deref(), Some("SIGHUP"), "{}", death.summary);
    assert!(death.summary.contains("terminal"), "{}", death.summary);
}

/// A tmux session that somebody kills.
#[test]
fn live_vite_killed_by_its_tmux_session() {
    let Some(_turn) = live() else { return };
    let Some(app) = Vite::app() else { return };
    let sandbox = Sandbox::new();
    let watch = Watch::start(&["--comm", "vite"]);
    let port = free_port();
    let socket = sandbox.dir().join("tmux");
    let socket = socket.to_str().expect("temporary paths are UTF-8");
    let dev = Vite::command(port).join(" ");
    let app = app.to_str().expect("the source directory is UTF-8");
    sandbox.run_script(
        "tmux-dev.sh",
        &format!("TERM=xterm tmux -S {socket} -f /dev/null new-session -d -s dev -c '{app}' '{dev}'\n"),
    );
    let pid = Vite::wait(port, || String::from("in tmux"));
    sandbox.run_script("tidy-up.sh", &format!("tmux -S {socket} kill-session -t dev\ntrue\n"));
    let (_, death) = stop(watch, pid);
    assert_eq!(death.cause.kind, Kind::TtyHangup, "{}", death.summary);
    assert_eq!(death.exit.signal.as_deref(), Some("SIGHUP"), "{}", death.summary);
    assert!(death.chain.iter().any(|step| step.text.contains("tmux")), "{:?}", death.chain);
}
