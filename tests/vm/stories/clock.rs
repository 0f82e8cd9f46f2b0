//! Somebody sets the clock while killtrace watches: a Raspberry Pi without a battery does when it finds a network.

use std::process::Command;
use std::time::{Duration, Instant};

use killtrace::model::report::{Confidence, Kind};
use killtrace_tests::{Sleeper, Watch};

const DAY: i64 = 24 * 60 * 60;

pub(crate) fn jumps() {
    let clock = Clock::remember();
    let watch = Watch::start(&["--comm", "sleep"]);
    let mut sleepers: Vec<Sleeper> = Vec::new();
    for jump in [0, 30 * DAY, -400 * DAY] {
        let mut sleeper = Sleeper::new();
        std::thread::sleep(Duration::from_secs(1));
        clock.jump(jump);
        std::thread::sleep(Duration::from_secs(1));
        sleeper.kill();
        watch.until_dead(&[sleeper.pid()]);
        sleepers.push(sleeper);
    }
    drop(clock);
    let outcome = watch.stop();
    let report = &outcome.report;
    let mut last = report.collector.started_at;
    for sleeper in &sleepers {
        let death = outcome.death(sleeper.pid());
        let summary = &death.summary;
        assert_eq!(
            (death.cause.kind, death.cause.confidence),
            (Kind::KilledByProcess, Confidence::Certain),
            "{summary}"
        );
        let killer = death.killer.as_ref().unwrap_or_else(|| panic!("no killer: {summary}"));
        assert_eq!(killer.pid, std::process::id(), "{summary}");
        let uptime = Duration::from_millis(death.uptime_ms.expect("its birth was seen"));
        let truth = sleeper.lived();
        assert!(
            uptime.abs_diff(truth) < Duration::from_secs(1),
            "{uptime:?}, and it was {truth:?}: {summary}"
        );
        // One clock for the whole watch, whatever the machine's says.
        assert!(last < death.died_at && death.died_at < report.collector.ended_at, "{summary}");
        last = death.died_at;
    }
    assert!(report.timeline.is_sorted_by_key(|entry| entry.t), "the timeline is in order");
}

/// The machine's clock, right again when dropped.
struct Clock {
    wall: i64,
    since: Instant,
}

impl Clock {
    fn remember() -> Self {
        let now = Command::new("date").arg("+%s").output().expect("cannot run date").stdout;
        let wall = String::from_utf8_lossy(&now).trim().parse().expect("date prints seconds");
        Self { wall, since: Instant::now() }
    }

    /// Sets it so many seconds from what is right.
    fn jump(&self, seconds: i64) {
        let right = self.wall + i64::try_from(self.since.elapsed().as_secs()).expect("tests are short");
        let status = Command::new("date").args(["-s", &format!("@{}", right + seconds)]).output();
        assert!(status.expect("cannot run date").status.success(), "the clock cannot be set");
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.jump(0);
    }
}
