//! What the service manager that started killtrace is told (`sd_notify(3)`). Without one nobody is told, which is fine.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use sd_notify::{NotifyState, notify, notify_with_fds};

use crate::collect::Inherited;

/// The service manager, and the watchdog that it keeps.
#[derive(Debug)]
pub(super) struct ServiceManager {
    watchdog: Option<Watchdog>,
}

/// It ends whoever says nothing for twice as long.
#[derive(Debug)]
struct Watchdog {
    every: Duration,
    due: Instant,
}

impl ServiceManager {
    /// From what it put into the environment.
    pub(super) fn new() -> Self {
        Self::with_watchdog(sd_notify::watchdog_enabled())
    }

    /// With a watchdog that is as patient as this.
    fn with_watchdog(patience: Option<Duration>) -> Self {
        // No shorter than what can be kept up with.
        let every = patience.map(|patience| (patience / 2).max(Duration::from_millis(1)));
        Self { watchdog: every.map(|every| Watchdog { every, due: Instant::now() + every }) }
    }

    /// All is armed: whatever is started from here on is seen.
    pub(super) fn ready(status: &str) {
        tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// The end has begun.
    pub(super) fn stopping() {
        tell(&[NotifyState::Stopping]);
    }

    /// When it wants to hear next that all is well. Without a watchdog never: nothing wakes up while nothing happens.
    pub(super) fn due(&self) -> Option<Instant> {
        self.watchdog.as_ref().map(|watchdog| watchdog.due)
    }

    /// Says that all is well, and how it is, where that is due. True when it was.
    pub(super) fn alive(&mut self, now: Instant, status: impl FnOnce() -> String) -> bool {
        let Some(watchdog) = self.watchdog.as_mut().filter(|watchdog| watchdog.due <= now) else {
            return false;
        };
        watchdog.due = now + watchdog.every;
        tell(&[NotifyState::Watchdog, NotifyState::Status(&status())]);
        true
    }
}

/// What it has kept of a killtrace before this one.
pub(super) fn kept() -> Inherited {
    Inherited::new(super::sys::passed_descriptors())
}

/// Has it keep what the next killtrace needs to go on (sd_pid_notify_with_fds(3), FDSTORE), and nothing else of what it
/// has `kept`. It gives it to whom it starts in place of this one, and closes it when the service is stopped for good.
pub(super) fn keep(kept: &Inherited, current: &[(String, BorrowedFd<'_>)]) {
    let names: BTreeSet<&str> = current.iter().map(|(name, _)| name.as_str()).collect();
    let kept = kept.names();
    for name in kept.difference(&names) {
        tell(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
    }
    for name in names.difference(&kept) {
        let fds: Vec<_> = current.iter().filter(|(known, _)| known == name).map(|&(_, fd)| fd).collect();
        // A tracepoint's perf event has no buffer, and says to whoever polls it that it has hung up.
        let state = [NotifyState::FdStore, NotifyState::FdName(name), NotifyState::Custom("FDPOLL=0")];
        if let Err(error) = notify_with_fds(&state, &fds) {
            log::info!("the service manager does not keep {name} for the next killtrace: {error}");
        }
    }
}

fn tell(what: &[NotifyState<'_>]) {
    if let Err(error) = notify(what) {
        log::info!("cannot talk to the service manager: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_told_at_half_its_patience() {
        let start = Instant::now();
        let mut manager = ServiceManager::with_watchdog(Some(Duration::from_secs(20)));
        let due = manager.due().unwrap();
        assert!(due >= start + Duration::from_secs(10) && due <= Instant::now() + Duration::from_secs(10));
        assert!(!manager.alive(due - Duration::from_secs(1), String::new));
        assert!(manager.alive(due, String::new));
        assert_eq!(manager.due(), Some(due + Duration::from_secs(10)));
    }

    #[test]
    fn without_a_watchdog_nothing_is_ever_due() {
        let mut manager = ServiceManager::with_watchdog(None);
        assert_eq!(manager.due(), None);
        assert!(!manager.alive(Instant::now(), String::new));
    }
}
