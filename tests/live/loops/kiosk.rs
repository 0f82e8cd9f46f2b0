//! A kiosk whose browser starts renderers faster than they end.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use killtrace::model::report::{Kind, PatternKind};
use killtrace_tests::{Sandbox, Watch, children, cmdline, eventually, free_port, listener, live, skip};

/// A command that ends with the test.
struct Running(Child);

impl Running {
    fn start(mut command: Command, log: &Path) -> Self {
        let log = File::create(log).expect("there is room");
        let errors = log.try_clone().expect("out of file descriptors");
        Self(command.stdout(log).stderr(Stdio::from(errors)).spawn().expect("cannot run nsenter"))
    }

    fn goes_on(&mut self) -> bool {
        self.0.try_wait().expect("a child can be waited for").is_none()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Chromium as kiosks run it, without a screen.
fn browser(sandbox: &Sandbox, port: u16) -> Command {
    let mut command = sandbox.command(sandbox.dir(), "env");
    command.arg(format!("HOME={}", sandbox.dir().display())).args(["chromium", "--headless", "--kiosk"]);
    command.arg(format!("--remote-debugging-port={port}"));
    command.arg(format!("--user-data-dir={}", sandbox.dir().join("profile").display()));
    // Root has no sandbox of Chromium's, containers have a small /dev/shm, and a small machine would have pages share
    // renderers.
    command.args([
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--renderer-process-limit=100",
    ]);
    command.arg("about:blank");
    command
}

fn is_of_type(pid: u32, kind: &str) -> bool {
    // A title that it gave itself is one argument.
    cmdline(pid).is_some_and(|args| args.join(" ").contains(&format!("--type={kind}")))
}

#[test]
fn live_kiosk_whose_browser_starts_renderers_faster_than_they_end() {
    let Some(_turn) = live() else { return };
    if !Path::new("/usr/bin/chromium").exists() {
        return skip("Chromium is not installed; `cargo xtask setup` does it");
    }
    let sandbox = Sandbox::new();
    fs::write(sandbox.dir().join("signage.js"), include_str!("signage.js")).expect("there is room");
    let port = free_port();
    let watch = Watch::start(&["--comm", "chromium"]);
    let log = |name: &str| sandbox.dir().join(name);
    let mut chromium = Running::start(browser(&sandbox, port), &log("chromium.log"));
    let browser = eventually(60, "Chromium to listen", || {
        assert!(chromium.goes_on(), "{}", fs::read_to_string(log("chromium.log")).unwrap_or_default());
        listener(port)
    });
    let mut command = sandbox.command(sandbox.dir(), "node");
    command.args(["signage.js", &port.to_string()]);
    let mut signage = Running::start(command, &log("signage.log"));

    // Told while it goes on.
    let said = watch
        .until_said(&format!("Pattern: chromium (pid {browser}) starts processes faster than they end:"));
    assert!(signage.goes_on() && chromium.goes_on(), "told when it was over: {said}");
    let zygotes: Vec<u32> = children(browser).into_iter().filter(|&pid| is_of_type(pid, "zygote")).collect();
    let with_renderers = |&pid: &u32| children(pid).into_iter().any(|child| is_of_type(child, "renderer"));
    let zygote = zygotes.into_iter().find(with_renderers).expect("renderers are forked by a zygote");
    let by = format!("chromium zygote (pid {zygote})");
    assert!(said.contains(&format!("were born, mostly by {by}, and")), "{said}");
    let shown = fs::read_to_string(log("signage.log")).unwrap_or_default().lines().count();

    // It closes every fourth.
    eventually(60, "more pages", || {
        let now = fs::read_to_string(log("signage.log")).unwrap_or_default().lines().count();
        (now >= shown + 8 || !signage.goes_on()).then_some(())
    });
    drop(signage);
    let outcome = watch.stop();

    let storms: Vec<_> =
        outcome.report.patterns.iter().filter(|pattern| pattern.kind == PatternKind::SpawnStorm).collect();
    let [storm] = storms[..] else { panic!("{} storms: {storms:#?}", storms.len()) };
    assert_eq!((storm.name.as_str(), storm.by.as_deref()), ("chromium", Some(by.as_str())), "{}", storm.text);
    let rates = storm.rates.expect("a storm has rates");
    assert!(rates.births >= rates.deaths + 24, "three rounds of eight: {rates:?}");
    assert!(rates.deaths > 0 && rates.deaths_per_minute > 0, "{rates:?}");
    assert!(rates.births_per_minute > rates.deaths_per_minute, "{rates:?}");

    let closed: Vec<_> =
        outcome.report.deaths.iter().filter(|death| death.cause.kind == Kind::KilledByProcess).collect();
    assert!(!closed.is_empty(), "no tab was closed: {:?}", outcome.summaries());
    for death in closed {
        let killer = death.killer.as_ref().map(|killer| (killer.pid, killer.name.as_str()));
        assert_eq!(killer, Some((browser, "chromium")), "{}", death.summary);
        assert_eq!(death.victim.name, "chromium renderer", "{}", death.summary);
        let args = death.victim.cmdline.as_ref().map(|args| args.join(" ")).unwrap_or_default();
        assert!(args.contains("--type=renderer"), "{args}");
        let expected = format!(
            "chromium renderer (pid {}) was killed by SIGTERM from chromium (pid {browser})",
            death.victim.pid
        );
        assert!(death.summary.starts_with(&expected), "{}", death.summary);
    }
}
