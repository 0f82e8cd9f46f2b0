//! The machine sleeps while killtrace watches. One of the kernel's clocks stands still meanwhile, the other does not.

use std::fs;
use std::time::Duration;

use killtrace::model::report::{Confidence, Kind};
use killtrace_tests::{Sleeper, Watch};
use nix::time::{ClockId, clock_gettime};

const STATE: &str = "/sys/power/state";
/// Here the kernel can be told to go down as far as it goes by itself, wait for five seconds, and come up again, without
/// the firmware's part (kernel/power/suspend_test.c). Its clocks are stopped like for any other sleep.
const TEST: &str = "/sys/power/pm_test";
const SLEEP: Duration = Duration::from_secs(5);

/// Why this machine cannot be put to sleep.
pub(crate) fn impossible() -> Option<String> {
    if std::env::var_os("KILLTRACE_VM").is_none() {
        return Some("only in a virtual machine (KILLTRACE_VM=1)".into());
    }
    let offers = |file: &str, wanted: &str| {
        let offers = fs::read_to_string(file).unwrap_or_default();
        offers.split_whitespace().any(|offer| offer.trim_matches(['[', ']']) == wanted)
    };
    match () {
        () if !offers("/sys/power/mem_sleep", "deep") => Some("it cannot be suspended to memory".into()),
        () if !offers(TEST, "core") => Some("its kernel has no test of that (CONFIG_PM_DEBUG)".into()),
        () => None,
    }
}

/// One dies before and one after; both lived as long as they did, sleep included, and the order is kept.
pub(crate) fn while_watching() {
    let watch = Watch::start(&["--comm", "sleep"]);
    let (mut first, mut second) = (Sleeper::new(), Sleeper::new());
    first.kill();
    watch.until_dead(&[first.pid()]);
    let slept = suspend();
    // The clock that knows counts in seconds.
    assert!(slept >= SLEEP - Duration::from_secs(2), "the clocks say that it slept for {slept:?}");
    // On perf, all CPUs but one have to be watched anew, and what happens until then is lost, and said to be.
    std::thread::sleep(Duration::from_secs(2));
    let mut third = Sleeper::new();
    std::thread::sleep(Duration::from_millis(200));
    second.kill();
    third.kill();
    watch.until_dead(&[second.pid(), third.pid()]);
    let outcome = watch.stop_after_losses();
    let has_gap = outcome.report.collector.backend == "perf";
    assert_eq!(outcome.report.collector.lost_events > 0, has_gap, "{:?}", outcome.report.collector);
    let mut last = outcome.report.collector.started_at;
    for victim in [&first, &second, &third] {
        let death = outcome.death(victim.pid());
        let summary = &death.summary;
        assert_eq!(death.cause.kind, Kind::KilledByProcess, "{summary}");
        // What was lost shortly before may have been another blow.
        let is_sure = death.cause.confidence == Confidence::Certain;
        assert!(is_sure || (has_gap && victim.pid() != first.pid()), "{summary}");
        let killer = death.killer.as_ref().unwrap_or_else(|| panic!("no killer: {summary}"));
        assert_eq!(killer.pid, std::process::id(), "{summary}");
        let uptime = Duration::from_millis(death.uptime_ms.expect("its birth was seen"));
        assert!(
            uptime.abs_diff(victim.lived()) < Duration::from_millis(800),
            "{uptime:?}, and it was {:?}: {summary}",
            victim.lived()
        );
        assert!(last < death.died_at && death.died_at < outcome.report.collector.ended_at, "{summary}");
        last = death.died_at;
    }
}

/// How long the machine slept, as the difference of the clocks tells.
fn suspend() -> Duration {
    let before = asleep();
    fs::write(TEST, "core").expect("the kernel offers it");
    fs::write(STATE, "mem").expect("the machine can sleep");
    asleep().saturating_sub(before)
}

fn asleep() -> Duration {
    let now = |clock| Duration::from(clock_gettime(clock).expect("every kernel has this clock"));
    now(ClockId::CLOCK_BOOTTIME).saturating_sub(now(ClockId::CLOCK_MONOTONIC))
}
