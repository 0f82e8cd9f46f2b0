//! What a live test needs, and how it says that it was not there.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::signal::{self, SigHandler, Signal};

/// One live test at a time: they watch the same machine, and share its two or four cores.
static TURN: Mutex<()> = Mutex::new(());

/// Says that a test did not run and why; `cargo xtask test` counts these lines. Where `CI=true`, a test that
/// does not run is a failure.
///
/// # Panics
/// With `CI=true`.
#[allow(clippy::print_stdout, reason = "the line is what counts the skip")]
pub fn skip(reason: &str) {
    let ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    assert!(!ci, "skipped: {reason} (and CI=true lets no test be skipped)");
    println!("skipped: {reason}");
}

/// The turn of a live test, or `None`, said with [`skip`], where this machine cannot run it.
#[must_use]
pub fn live() -> Option<MutexGuard<'static, ()>> {
    if let Some(missing) = missing() {
        skip(&missing);
        return None;
    }
    // What `nohup` and `&` make whoever runs the tests ignore, all that is started here would ignore, too.
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM] {
        // SAFETY: the default action runs no code.
        unsafe { signal::signal(signal, SigHandler::SigDfl) }.expect("it can be set");
    }
    // A test that failed took nothing from the next one.
    Some(TURN.lock().unwrap_or_else(PoisonError::into_inner))
}

fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("watching the kernel needs root; `cargo xtask test` uses sudo".into());
    }
    let tracing = ["/sys/kernel/tracing/events", "/sys/kernel/debug/tracing/events"];
    if !tracing.iter().any(|path| Path::new(path).exists()) && !Path::new("/sys/kernel/tracing").exists() {
        return Some("this kernel has no tracepoints (tracefs)".into());
    }
    None
}
