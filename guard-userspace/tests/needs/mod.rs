//! What a live test needs, and how it says that it was not there.

use nix::sys::signal::{SigHandler, Signal, signal};

/// Whether a test that needs root can run; where it cannot, that is said, and is a failure with `CI=true`.
pub(crate) fn root() -> bool {
    if !nix::unistd::geteuid().is_root() {
        assert!(
            std::env::var_os("CI").is_none_or(|ci| ci != "true"),
            "skipped: needs root, and CI=true lets nothing be skipped"
        );
        println!("skipped: needs root");
        return false;
    }
    signals_by_default();
    true
}

/// Undoes what `nohup` and `&` may have done to whoever runs the tests: a signal that is ignored stays so in all that
/// is started, a shell cannot even trap it, and killtrace leaves an ignored SIGHUP alone.
fn signals_by_default() {
    for number in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM] {
        // SAFETY: the default action runs no code.
        unsafe { signal(number, SigHandler::SigDfl) }.expect("it can be set");
    }
}
