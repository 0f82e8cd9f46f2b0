//! An armed source, and children whose fate the test decides.

use std::time::{Duration, Instant};

use crate::needs;
use killtrace::collect::{Options, SOURCES, Source};
use killtrace::model::event::{Exec, Exit, Signal};
use killtrace::model::{Event, Fact};

pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Names a feature that the machine lacks; a machine that runs CI must have it.
pub(crate) fn skip(missing: &str) {
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "missing: {missing}");
    println!("skipped: {missing}");
}

/// An armed source and everything it has told so far.
pub(crate) struct Watch {
    pub(crate) source: Box<dyn Source>,
    pub(crate) events: Vec<Event>,
    /// The kernel's BTF is used.
    pub(crate) btf: bool,
}

impl Watch {
    /// The eBPF backend.
    pub(crate) fn open(options: &Options) -> Self {
        Self::open_backend("ebpf", options)
    }

    pub(crate) fn open_backend(name: &str, options: &Options) -> Self {
        let backend = SOURCES.iter().find(|backend| backend.name == name).unwrap();
        let source = (backend.open)(options).unwrap();
        let btf = source.capabilities().exit_status;
        println!("{name}, hide_btf {}, degraded: {:?}", options.hide_btf, source.degraded());
        assert!(!(options.hide_btf && btf));
        Self { source, events: vec![], btf }
    }

    /// Waits for an event and returns it.
    pub(crate) fn find<T>(&mut self, what: &str, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
        let start = Instant::now();
        let mut seen = 0;
        loop {
            self.source.drain(&mut self.events).unwrap();
            if let Some(found) = self.events[seen..].iter().find_map(&mut wanted) {
                assert_eq!(self.source.refused(), 0);
                return found;
            }
            seen = self.events.len();
            assert!(
                start.elapsed() < PATIENCE,
                "no {what} among {seen} events of {}, {} lost, {} refused",
                self.source.name(),
                self.lost(),
                self.source.refused()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Records that found no room.
    pub(crate) fn lost(&self) -> u64 {
        let lost = self.events.iter().map(|event| match event.fact {
            Fact::Lost { count, .. } => count,
            _ => 0,
        });
        lost.sum()
    }

    pub(crate) fn signal_to(&mut self, tid: u32, signo: i32) -> (Event, Signal) {
        self.find("signal", |event| match event.fact {
            Fact::Signal(signal) if signal.target_tid == tid && signal.signo == signo => {
                Some((event.clone(), signal))
            }
            _ => None,
        })
    }

    pub(crate) fn exit_of(&mut self, tid: u32) -> Exit {
        self.find("exit", |event| match event.fact {
            Fact::Exit(exit) if event.current?.tid == tid => Some(exit),
            _ => None,
        })
    }

    pub(crate) fn exec_of(&mut self, tgid: u32) -> Exec {
        self.find("exec", |event| match &event.fact {
            Fact::Exec(exec) if event.current?.tgid == Some(tgid) => Some((**exec).clone()),
            _ => None,
        })
    }
}

/// Runs a test on every backend, with the kernel's BTF and without.
pub(crate) fn every_way(test: impl Fn(&mut Watch)) {
    if !needs::root() {
        return;
    }
    for (backend, hide_btf) in [("ebpf", false), ("ebpf", true), ("perf", true)] {
        test(&mut Watch::open_backend(backend, &Options { hide_btf, ..Options::default() }));
    }
}

/// A child made by `fork` that runs `body` and exits with what it returns.
///
/// Only async-signal-safe calls are allowed in `body`: the test process has other threads.
pub(crate) struct Child(pub(crate) libc::pid_t);

impl Child {
    pub(crate) fn fork(body: impl FnOnce() -> i32) -> Self {
        // SAFETY: the child calls only what its creator promised, and ends with `_exit`.
        match unsafe { libc::fork() } {
            // SAFETY: as above.
            0 => unsafe { libc::_exit(body()) },
            pid => {
                assert!(pid > 0);
                Self(pid)
            }
        }
    }

    pub(crate) fn sleeping() -> Self {
        Self::fork(sleep_for_ever)
    }

    pub(crate) fn tgid(&self) -> u32 {
        u32::try_from(self.0).unwrap()
    }

    /// Waits for its end and returns the raw wait status.
    pub(crate) fn wait(self) -> i32 {
        let mut status = 0;
        // SAFETY: its own child, waited for once.
        assert_eq!(unsafe { libc::waitpid(self.0, &mut status, 0) }, self.0);
        status
    }
}

pub(crate) fn sleep_for_ever() -> i32 {
    loop {
        // SAFETY: a call without preconditions.
        unsafe { libc::pause() };
    }
}

pub(crate) fn kill(pid: libc::pid_t, signo: i32) {
    // SAFETY: a call without preconditions; the process is a child of this test.
    assert_eq!(unsafe { libc::kill(pid, signo) }, 0);
}

pub(crate) fn me() -> u32 {
    std::process::id()
}

pub(crate) fn my_tid() -> u32 {
    // SAFETY: a call without preconditions.
    u32::try_from(unsafe { libc::gettid() }).unwrap()
}

pub(crate) extern "C" fn do_nothing(_: libc::c_int) {}

pub(crate) extern "C" fn exit_five(_: libc::c_int) {
    // SAFETY: safe in a signal handler.
    unsafe { libc::_exit(5) }
}

pub(crate) fn handler(function: extern "C" fn(libc::c_int)) -> libc::sighandler_t {
    function as *const () as libc::sighandler_t
}
