//! A process that waits to be killed, by the test itself.

use std::process::{Child, Command};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// `sleep 1000`, and how long it lived.
#[derive(Debug)]
pub struct Sleeper {
    child: Child,
    born: Duration,
    lived: Option<Duration>,
}

impl Sleeper {
    /// # Panics
    /// When there is no `sleep`.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "starting processes is no default")]
    pub fn new() -> Self {
        let child = Command::new("sleep").arg("1000").spawn().expect("cannot run sleep");
        Self { child, born: now(), lived: None }
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// With SIGKILL.
    ///
    /// # Panics
    /// When it is dead already.
    pub fn kill(&mut self) {
        self.child.kill().expect("it sleeps");
        self.child.wait().expect("a child can be waited for");
        self.lived = Some(now().saturating_sub(self.born));
    }

    /// How long, whatever the machine's clock was set to, and also while the machine was suspended.
    ///
    /// # Panics
    /// When it was not killed.
    #[must_use]
    pub fn lived(&self) -> Duration {
        self.lived.expect("it was killed")
    }
}

fn now() -> Duration {
    Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME).expect("every kernel has this clock"))
}
