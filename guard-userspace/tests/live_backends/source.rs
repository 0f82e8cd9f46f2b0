//! The source itself: losses, wakeups, diagnostics, privileges.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use killtrace::collect::ebpf::EbpfSource;
use killtrace::collect::perf::PerfSource;
use killtrace::collect::{CollectError, Options};
use killtrace::model::{Event, Fact};

use crate::support::{Child, Watch, every_way, kill};

/// Keeps what is logged.
struct Memory(Mutex<Vec<String>>);

impl log::Log for Memory {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        self.0.lock().unwrap().push(record.args().to_string());
    }

    fn flush(&self) {}
}

static LOGGED: Memory = Memory(Mutex::new(vec![]));

#[test]
fn live_lost_records_are_counted() {
    if !crate::needs::root() {
        return;
    }
    for backend in ["ebpf", "perf"] {
        lose(backend);
    }
}

fn lose(backend: &str) {
    const SENT: usize = 5_000;
    let mut watch = Watch::open_backend(backend, &Options { ring_bytes: 64 << 10, ..Options::default() });
    let child = Child::fork(|| {
        // SAFETY: signals to itself that it ignores.
        unsafe {
            libc::signal(libc::SIGUSR2, libc::SIG_IGN);
            for _ in 0..SENT {
                libc::kill(libc::getpid(), libc::SIGUSR2);
            }
        }
        0
    });
    let tgid = child.tgid();
    assert_eq!(child.wait(), 0);
    watch.source.drain(&mut watch.events).unwrap();
    let seen = watch.events.iter().filter(|event| match event.fact {
        Fact::Signal(signal) => signal.target_tid == tgid && signal.signo == libc::SIGUSR2,
        _ => false,
    });
    let lost: u64 = watch
        .events
        .iter()
        .filter_map(|event| match &event.fact {
            Fact::Lost { probe, count } if probe == "signal_generate" => Some(*count),
            _ => None,
        })
        .sum();
    let (seen, lost) = (seen.count(), usize::try_from(lost).unwrap());
    assert!(seen > 100 && lost > 100, "{seen} seen, {lost} lost");
    assert!(seen + lost >= SENT, "{seen} seen, {lost} lost");
    let before = watch.events.len();
    watch.source.drain(&mut watch.events).unwrap();
    assert!(watch.events[before..].iter().all(|event| match &event.fact {
        Fact::Lost { count, .. } => usize::try_from(*count).unwrap() < lost,
        _ => true,
    }));
}

#[test]
fn live_a_death_wakes_the_reader() {
    every_way(|watch| {
        let child = Child::sleeping();
        let (tgid, pid) = (child.tgid(), child.0);
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            kill(pid, libc::SIGKILL);
            child.wait()
        });
        let start = Instant::now();
        let dead = |events: &[Event]| {
            events.iter().any(|event| {
                matches!(event.fact, Fact::Exit(_))
                    && event.current.is_some_and(|current| current.tid == tgid)
            })
        };
        while !dead(&watch.events) {
            let fd = std::os::fd::AsRawFd::as_raw_fd(&watch.source.fd());
            let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
            // SAFETY: one descriptor, open as long as the source.
            assert_eq!(unsafe { libc::poll(&mut poll, 1, 5_000) }, 1, "nothing woke the reader");
            watch.source.drain(&mut watch.events).unwrap();
        }
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        assert_eq!(killer.join().unwrap(), libc::SIGKILL);
    });
}

#[test]
fn live_the_programs_diagnostics_reach_the_log() {
    if !crate::needs::root() {
        return;
    }
    log::set_logger(&LOGGED).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    for hide_btf in [false, true] {
        let options = Options { hide_btf, verbose: true, ring_bytes: 4096, ..Options::default() };
        let mut source = EbpfSource::open(&options).unwrap();
        assert!(source.log_fd().is_some());
        for _ in 0..50 {
            Child::fork(|| 0).wait();
        }
        source.flush_log();
        let logged = LOGGED.0.lock().unwrap();
        assert!(logged.iter().any(|line| line.contains("ring buffer full")), "{logged:?}");
        drop(logged);
        LOGGED.0.lock().unwrap().clear();
    }
}

#[test]
fn live_missing_capabilities_are_named() {
    if !crate::needs::root() {
        return;
    }
    // Capabilities belong to a thread.
    let error = std::thread::spawn(|| {
        let header: [u32; 2] = [0x2008_0522, 0];
        let none = [0_u32; 6];
        // SAFETY: version 3 of the call takes two sets of three words.
        assert_eq!(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) }, 0);
        EbpfSource::open(&Options::default()).unwrap_err()
    });
    let CollectError::Privileges { missing } = error.join().unwrap() else { panic!() };
    assert!(
        missing.contains(&"CAP_BPF".to_owned()) && missing.contains(&"CAP_PERFMON".to_owned()),
        "{missing:?}"
    );
}

#[test]
fn live_an_ordinary_user_is_told_what_is_missing() {
    if !crate::needs::root() {
        return;
    }
    // The bare system call changes the user of this thread alone, and takes its capabilities.
    let error = std::thread::spawn(|| {
        // SAFETY: plain integers.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65_534, 65_534, 65_534) }, 0);
        EbpfSource::open(&Options::default()).unwrap_err()
    });
    let error = error.join().unwrap();
    let CollectError::Privileges { missing } = &error else { panic!("{error:?}") };
    assert_eq!(missing, &["CAP_BPF", "CAP_PERFMON", "CAP_DAC_READ_SEARCH"]);
    assert!(error.help().unwrap().contains("CAP_BPF"));
}

#[test]
fn live_perf_asks_for_less() {
    if !crate::needs::root() {
        return;
    }
    let error = std::thread::spawn(|| {
        // SAFETY: plain integers.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65_534, 65_534, 65_534) }, 0);
        PerfSource::open(&Options::default()).unwrap_err()
    });
    let error = error.join().unwrap();
    let CollectError::Privileges { missing } = &error else { panic!("{error:?}") };
    assert_eq!(missing, &["CAP_PERFMON", "CAP_DAC_READ_SEARCH"]);
}

#[test]
fn live_one_watch_hides_nothing_from_another() {
    if !crate::needs::root() {
        return;
    }
    for hide_btf in [false, true] {
        let _other = EbpfSource::open(&Options { hide_btf, ..Options::default() }).unwrap();
        let mut watch = Watch::open_backend("perf", &Options { hide_btf: true, ..Options::default() });
        let told = |name: &str| watch.source.degraded().iter().any(|lack| lack.contains(name));
        assert!(told("attached to mark_victim"), "it might have been hidden");
        // Other tests may have theirs there meanwhile.
        assert!(!hide_btf || told("attached to signal_generate"));
        let child = Child::sleeping();
        let (tgid, pid) = (child.tgid(), child.0);
        kill(pid, libc::SIGKILL);
        child.wait();
        watch.signal_to(tgid, libc::SIGKILL);
        watch.exit_of(tgid);
    }
}
