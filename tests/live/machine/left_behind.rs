//! However killtrace ends, the kernel is as it was: SIGKILL lets it tidy up nothing.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use killtrace_tests::{Watch, eventually};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// All that a tracer can leave in the kernel.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    /// eBPF programs, maps and links, by their numbers.
    programs: BTreeSet<u32>,
    maps: BTreeSet<u32>,
    links: BTreeSet<u32>,
    /// What tracefs says of tracers, each file by its path.
    tracefs: Vec<(&'static str, String)>,
    /// eBPF objects that were given names.
    pinned: Vec<String>,
}

const TRACEFS: &str = "/sys/kernel/tracing";
const FILES: [&str; 8] = [
    "current_tracer",
    "dynamic_events",
    "kprobe_events",
    "set_event",
    "set_event_pid",
    "trace_clock",
    "tracing_on",
    "uprobe_events",
];

impl Traces {
    fn now() -> Self {
        // Not every kernel has all of them.
        let read = |name| Some((name, fs::read_to_string(Path::new(TRACEFS).join(name)).ok()?));
        let mut tracefs: Vec<_> = FILES.into_iter().filter_map(read).collect();
        tracefs.push(("instances", names(&Path::new(TRACEFS).join("instances")).join(" ")));
        Self {
            programs: there(aya::programs::loaded_programs()).map(|program| program.id()).collect(),
            maps: there(aya::maps::loaded_maps()).map(|map| map.id()).collect(),
            links: there(aya::programs::loaded_links()).map(|link| link.id()).collect(),
            tracefs,
            pinned: names(Path::new("/sys/fs/bpf")),
        }
    }
}

/// All but what was gone between its number and a look at it.
fn there<T, E: Error + 'static>(listed: impl Iterator<Item = Result<T, E>>) -> impl Iterator<Item = T> {
    listed.filter_map(|object| match object {
        Ok(object) => Some(object),
        Err(error) if is_not_found(&error) => None,
        Err(error) => panic!("root may list what is loaded: {error:?}"),
    })
}

fn is_not_found(error: &(dyn Error + 'static)) -> bool {
    let reasons = std::iter::successors(Some(error), |&error| error.source());
    let mut io = reasons.filter_map(|error| error.downcast_ref::<io::Error>());
    io.any(|error| error.kind() == io::ErrorKind::NotFound)
}

fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

pub(crate) fn nothing() {
    let before = Traces::now();
    // At once, and in the middle of work.
    for at_work in [false, true] {
        let watch = Watch::start(&["--comm", "sleep"]);
        let is_seen = Traces::now().programs.len() > before.programs.len();
        let is_perf = std::env::var("KILLTRACE_VM_BACKEND").is_ok_and(|backend| backend == "perf");
        assert_eq!(
            is_seen, !is_perf,
            "a killtrace that runs has programs in the kernel, or only perf events"
        );
        let storm = at_work.then(|| {
            let script = "while :; do sleep 1000 & kill -KILL $!; done";
            let mut command = Command::new("sh");
            command.args(["-c", script]).stdout(Stdio::null()).stderr(Stdio::null());
            command.process_group(0).spawn().expect("cannot run sh")
        });
        std::thread::sleep(Duration::from_millis(if at_work { 500 } else { 0 }));
        // With SIGKILL.
        drop(watch);
        if let Some(mut storm) = storm {
            // With the last that it has started.
            let group = Pid::from_raw(i32::try_from(storm.id()).expect("pids are small"));
            killpg(group, Signal::SIGKILL).expect("it runs for ever");
            storm.wait().expect("a child can be waited for");
        }
        // The kernel frees programs and maps when nobody can be running them any more.
        let mut after = Traces::now();
        eventually(10, "the kernel to be as it was", || {
            after = Traces::now();
            let is_clean = after.programs.is_subset(&before.programs)
                && after.maps.is_subset(&before.maps)
                && after.links.is_subset(&before.links);
            is_clean.then_some(())
        });
        assert_eq!(after.tracefs, before.tracefs);
        assert_eq!(after.pinned, before.pinned);
    }
}
