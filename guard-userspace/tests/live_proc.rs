//! What /proc, the kernel log and taskstats give on a live kernel.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says what it skips")]

mod needs;

use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::{Duration, Instant};

use killtrace::collect::kmsg::KmsgSource;
use killtrace::collect::procfs::{self, Detail, Procfs};
use killtrace::collect::taskstats::TaskstatsSource;
use killtrace::collect::{Source, host};
use killtrace::model::Fact;
use killtrace::model::event::{ProcessFacts, Taskstats};

/// Drains a source until a fact is wanted, for at most two seconds.
fn wait_for<T>(source: &mut dyn Source, wanted: impl Fn(&Fact) -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(2);
    let mut events = Vec::new();
    while Instant::now() < deadline {
        source.drain(&mut events).unwrap();
        if let Some(found) = events.iter().find_map(|event| wanted(&event.fact)) {
            return found;
        }
        events.clear();
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{} did not say it within two seconds", source.name());
}

fn exit_of(source: &mut TaskstatsSource, pid: u32) -> Taskstats {
    wait_for(source, |fact| match fact {
        Fact::Taskstats(exit) if exit.tid == pid => Some(*exit),
        _ => None,
    })
}

/// A scan of all processes, and the first among them that is wanted.
fn scan_for(wanted: impl Fn(&ProcessFacts) -> bool) -> Option<ProcessFacts> {
    let mut events = Vec::new();
    Procfs::new().scan(&mut events).unwrap();
    events.into_iter().find_map(|event| match event.fact {
        Fact::Process(facts) if wanted(&facts) => Some(*facts),
        _ => None,
    })
}

#[test]
fn live_taskstats_tells_exit_codes_and_signals() {
    if !needs::root() {
        return;
    }
    let mut source = TaskstatsSource::open().unwrap();
    let mut child = Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
    child.wait().unwrap();
    let exit = exit_of(&mut source, child.id());
    assert_eq!((exit.status.code(), exit.status.signal(), exit.signaled), (Some(7), None, false));
    assert!(exit.max_rss_bytes.is_some_and(|bytes| (64 << 10..1 << 30).contains(&bytes)), "{exit:?}");
    // Version 12 is of Linux 5.18; before it the group is not known.
    if exit.tgid.is_some() {
        assert_eq!((exit.tgid, exit.group_dead), (Some(child.id()), Some(true)));
    }

    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    child.kill().unwrap();
    let status = child.wait().unwrap();
    let exit = exit_of(&mut source, child.id());
    assert_eq!(exit.status.0, status.into_raw());
    assert!(exit.signaled);
}

#[test]
fn live_taskstats_says_when_it_lost_something() {
    if !needs::root() {
        return;
    }
    let mut source = TaskstatsSource::open().unwrap();
    nix::sys::socket::setsockopt(&source.fd(), nix::sys::socket::sockopt::RcvBuf, &4096).unwrap();
    for _ in 0..63 {
        Command::new("true").status().unwrap();
    }
    let mut events = Vec::new();
    source.drain(&mut events).unwrap();
    let lost = |fact: &Fact| matches!(fact, Fact::Lost { probe, .. } if probe == "taskstats");
    assert!(events.iter().any(|event| lost(&event.fact)), "{} events and no loss", events.len());
    assert!(events.iter().any(|event| matches!(event.fact, Fact::Taskstats(_))), "what fitted is still read");
}

#[test]
fn live_kmsg_does_not_take_a_programs_word_for_the_kernels() {
    if !needs::root() {
        return;
    }
    let mut source = KmsgSource::open().unwrap();
    assert!(source.capabilities().kernel_log);
    std::fs::write("/dev/kmsg", "Out of memory: Killed process 1 (killtrace-test)\n").unwrap();
    let mut events = Vec::new();
    source.drain(&mut events).unwrap();
    assert!(!format!("{events:?}").contains("killtrace-test"));
    let log = Command::new("dmesg").output().unwrap();
    assert!(String::from_utf8_lossy(&log.stdout).contains("killtrace-test"), "the line did reach the log");
}

/// A fault of our own child is the one line about a death that a test can make without harm.
#[test]
fn live_kmsg_tells_of_a_crash() {
    let enabled = std::fs::read_to_string("/proc/sys/debug/exception-trace");
    if !needs::root() {
        return;
    }
    if !enabled.is_ok_and(|text| text.trim() == "1") || !cfg!(target_arch = "x86_64") {
        println!("skipped: this kernel does not log faults (debug.exception-trace)");
        return;
    }
    let mut source = KmsgSource::open().unwrap();
    // The test program starts itself again as the one that faults.
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "fault_when_asked", "--nocapture"])
        .env("KILLTRACE_TEST_FAULT", "1")
        .spawn()
        .unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(nix::libc::SIGSEGV));
    wait_for(&mut source, |fact| match fact {
        Fact::KernelLog { text } if text.contains(" segfault at ") => Some(()),
        _ => None,
    });
}

/// Does nothing, unless [`live_kmsg_tells_of_a_crash`] started this program to see it fault.
#[test]
fn fault_when_asked() {
    if std::env::var_os("KILLTRACE_TEST_FAULT").is_some() {
        // SAFETY: not sound on purpose; the process ends here, which is what its parent waits for.
        unsafe { std::ptr::without_provenance_mut::<u8>(8).write_volatile(1) };
    }
}

#[test]
fn live_a_listening_port_is_found() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let me = std::process::id();
    assert!(procfs::listening(me).unwrap().contains(&port));
    assert!(procfs::listeners()[&me].contains(&port));
    let facts = Procfs::new().facts(me, Detail::Survivor).unwrap();
    assert!(facts.listening.unwrap().contains(&port));
    let mut events = Vec::new();
    Procfs::new().scan_with_ports(&mut events).unwrap();
    let held = events.iter().any(|event| match &event.fact {
        Fact::Process(facts) if facts.tgid == me => facts.listening.as_ref().unwrap().contains(&port),
        _ => false,
    });
    assert!(held);
    drop(listener);
    assert!(!procfs::listening(me).unwrap().contains(&port));
}

#[test]
fn live_scan_finds_this_process_and_ends_with_a_count() {
    let before = host::boottime_ns();
    let mut events = Vec::new();
    Procfs::new().scan(&mut events).unwrap();
    let Some(Fact::Seeded { processes }) = events.last().map(|event| &event.fact) else { panic!("no count") };
    assert_eq!(usize::try_from(*processes).unwrap(), events.len() - 1);
    assert!(events.iter().all(|event| event.t_ns >= before && event.t_ns <= host::boottime_ns()));
    let facts = scan_for(|facts| facts.tgid == std::process::id()).unwrap();
    assert!(facts.seeded && !facts.zombie);
    assert_eq!(facts.ppid, Some(std::os::unix::process::parent_id()));
    assert_eq!(facts.cmdline, Some(std::env::args().collect()));
    assert_eq!(facts.uid, Some(nix::unistd::getuid().as_raw()));
    assert!(facts.cgroups.is_some() && facts.signals.is_some() && facts.tty.is_some());
    assert_eq!((facts.cwd, facts.rss_bytes, facts.listening), (None, None, None), "a seed is cheap");
}

#[test]
fn live_scan_tells_a_childs_session_masks_and_start() {
    let started = host::boottime_ns();
    // An odd duration, so that no other `sleep` is meant.
    let mut child = Command::new("setsid").args(["nohup", "sleep", "61.7"]).spawn().unwrap();
    let arguments = ["sleep", "61.7"].map(str::to_owned).to_vec();
    let deadline = Instant::now() + Duration::from_secs(5);
    let facts = loop {
        let found = scan_for(|facts| facts.cmdline.as_ref() == Some(&arguments));
        if found.is_some() || Instant::now() > deadline {
            break found;
        }
    };
    child.kill().unwrap();
    child.wait().unwrap();
    let facts = facts.expect("the child runs sleep within five seconds");
    assert_eq!((facts.tgid, facts.sid, facts.pgid), (child.id(), Some(child.id()), Some(child.id())));
    assert_eq!(facts.tty.as_deref(), Some(""));
    assert_eq!(facts.ppid, Some(std::process::id()));
    assert_eq!(facts.signals.unwrap().ignored & 1, 1, "nohup ignores SIGHUP");
    // Clock ticks: ten milliseconds.
    let start = facts.start_boottime_ns.unwrap();
    assert!(start + 10_000_000 >= started && start <= host::boottime_ns(), "{start} and {started}");
}

/// A memory cgroup of the test's own, removed when it ends.
struct Cgroup(std::path::PathBuf);

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn live_cgroup_memory_shows_the_limit_above_a_process() {
    if !needs::root() {
        return;
    }
    let v1 = std::path::Path::new("/sys/fs/cgroup/memory");
    let v2 = std::path::Path::new("/sys/fs/cgroup");
    let v2_controls = std::fs::read_to_string(v2.join("cgroup.subtree_control")).unwrap_or_default();
    let (base, limit_file) = if v1.join("memory.limit_in_bytes").exists() {
        (v1, "memory.limit_in_bytes")
    } else if v2_controls.contains("memory") {
        (v2, "memory.max")
    } else {
        println!("skipped: no memory cgroups on this machine");
        return;
    };
    let name = format!("killtrace-test-proc-{}", std::process::id());
    let outer = Cgroup(base.join(&name));
    std::fs::create_dir(&outer.0).unwrap();
    std::fs::write(outer.0.join(limit_file), "37748736").unwrap();
    if base == v2 {
        std::fs::write(outer.0.join("cgroup.subtree_control"), "+memory").unwrap();
    }
    let inner = Cgroup(outer.0.join("in ner"));
    std::fs::create_dir(&inner.0).unwrap();
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    std::fs::write(inner.0.join("cgroup.procs"), child.id().to_string()).unwrap();
    let cgroups = Procfs::new().facts(child.id(), Detail::Seed).unwrap().cgroups.unwrap();
    let figures = procfs::cgroup_memory(&cgroups, procfs::CgroupDetail::Tasks);
    child.kill().unwrap();
    child.wait().unwrap();
    let [own, limited] = figures.as_slice() else { panic!("{figures:?}") };
    assert_eq!((own.path.as_str(), own.limit_bytes), (format!("/{name}/in ner").as_str(), None));
    assert_eq!((limited.path.as_str(), limited.limit_bytes), (format!("/{name}").as_str(), Some(37_748_736)));
    let largest: Vec<u32> = limited.largest.iter().map(|task| task.tgid).collect();
    assert_eq!((largest, own.largest.len()), (vec![child.id()], 0), "{figures:?}");
    assert_eq!((own.oom_kills, limited.oom_kills), (Some(0), Some(0)));
    assert!(limited.usage_bytes >= own.usage_bytes && limited.usage_bytes <= Some(37_748_736));
}

/// The cost of the first scan: what every start of killtrace pays per process.
#[test]
fn live_scan_is_cheap() {
    let mut procfs = Procfs::new();
    let mut events = Vec::new();
    procfs.scan(&mut events).unwrap();
    let count = |events: &[killtrace::model::Event]| u32::try_from(events.len() - 1).unwrap();
    let best = (0..5)
        .map(|_| {
            events.clear();
            let start = Instant::now();
            procfs.scan(&mut events).unwrap();
            start.elapsed() / count(&events)
        })
        .min()
        .unwrap();
    println!("{} processes, {best:?} each", count(&events));
    assert!(best < Duration::from_millis(1), "{best:?} for each process");
}
