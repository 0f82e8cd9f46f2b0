//! The machine has no memory left, and the kernel takes the biggest: Vite.

use std::fs;
use std::process::Command;

use killtrace::model::report::{Confidence, Kind, OomScope};
use killtrace_tests::{Sandbox, Vite, Watch};

use crate::ballast::Ballast;
use crate::dev_server::DevServer;

/// Here is a zram device, where the kernel has the driver.
pub(crate) const ZRAM: &str = "/sys/block/zram0";

pub(crate) fn without_swap() {
    run_out_of_memory();
}

pub(crate) fn with_swap() {
    let swap = Swap::on();
    run_out_of_memory();
    drop(swap);
}

fn run_out_of_memory() {
    let sandbox = Sandbox::new();
    let watch = Watch::start(&["--comm", "vite"]);
    let server = DevServer::in_wrapper(&sandbox, "zsh");
    // What Vite takes next is soon too much.
    let mut ballast = Ballast::new();
    ballast.leave(400 << 20);
    Vite::visit(server.port, "/eat");
    server.until_dead(|| ());
    drop(ballast);
    watch.until_dead(&[server.vite]);
    let outcome = watch.stop();
    let death = outcome.death(server.vite);
    let summary = &death.summary;
    println!("{summary}");
    assert_eq!(death.victim.name, "vite", "{summary}");
    assert_eq!((death.cause.kind, death.cause.confidence), (Kind::OomKill, Confidence::Certain), "{summary}");
    assert_eq!(death.exit.signal.as_deref(), Some("SIGKILL"), "{summary}");
    let oom = death.cause.oom.as_ref().unwrap_or_else(|| panic!("no circumstances: {summary}"));
    assert_eq!(oom.scope, Some(OomScope::Global), "{summary}");
    assert_eq!(death.killer, None, "the task that was allocating is not to blame: {summary}");
    assert!(summary.contains("memory"), "{summary}");
}

/// Swap space in compressed memory, as Raspberry Pi OS has it; off again when dropped.
struct Swap;

impl Swap {
    fn on() -> Self {
        fs::write(format!("{ZRAM}/disksize"), "256M").expect("a zram device can be given a size");
        sh("mkswap /dev/zram0 && swapon /dev/zram0");
        Self
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        sh("swapoff /dev/zram0");
    }
}

fn sh(script: &str) {
    let output = Command::new("sh").args(["-c", script]).output().expect("cannot run sh");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script} failed ({}): {stderr}", output.status);
}
