//! A CPU is taken out of the machine and put back while killtrace watches.

use std::fs;
use std::path::Path;
use std::time::Duration;

use killtrace::model::report::Kind;
use killtrace_tests::{Sleeper, Watch};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

const SWITCH: &str = "/sys/devices/system/cpu/cpu1/online";
/// By then killtrace has looked which CPUs there are.
const NOTICED: Duration = Duration::from_secs(6);

/// Why no CPU can be taken out.
pub(crate) fn impossible() -> Option<String> {
    if std::env::var_os("KILLTRACE_VM").is_none() {
        return Some("only in a virtual machine (KILLTRACE_VM=1)".into());
    }
    (!Path::new(SWITCH).exists()).then(|| "its kernel takes no CPU out (CONFIG_HOTPLUG_CPU)".into())
}

/// Who kills from a CPU that had gone is seen again. How quickly it came back makes no difference.
pub(crate) fn comes_back() {
    for pause in [Duration::ZERO, NOTICED] {
        let watch = Watch::start(&["--comm", "sleep"]);
        fs::write(SWITCH, "0").expect("a CPU can be taken out");
        std::thread::sleep(pause);
        fs::write(SWITCH, "1").expect("it can be put back");
        std::thread::sleep(NOTICED);
        let mut victim = Sleeper::new();
        std::thread::sleep(Duration::from_millis(200));
        on_cpu(1);
        victim.kill();
        on_cpu(0);
        watch.until_dead(&[victim.pid()]);
        let outcome = watch.stop_after_losses();
        let death = outcome.death(victim.pid());
        assert_eq!(death.cause.kind, Kind::KilledByProcess, "{}", death.summary);
        let killer = death.killer.as_ref().unwrap_or_else(|| panic!("no killer: {}", death.summary));
        assert_eq!(killer.pid, std::process::id(), "{}", death.summary);
        // Only a buffer for each CPU can have missed anything.
        let has_gap = outcome.report.collector.backend == "perf";
        assert_eq!(outcome.report.collector.lost_events > 0, has_gap, "{:?}", outcome.report.collector);
    }
}

/// This thread runs there from now on.
fn on_cpu(number: usize) {
    let mut cpus = CpuSet::new();
    cpus.set(number).expect("a small number");
    sched_setaffinity(Pid::from_raw(0), &cpus).expect("the CPU is there");
}
