//! The eBPF backend against the running kernel: processes whose fate the test knows, and what was reported.
//!
//! Everything runs twice, with the kernel's BTF and as if it had none.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use killtrace::collect::ebpf::{EbpfSource, Options};
use killtrace::collect::{CollectError, Source};
use killtrace::model::event::{Call, Disposition, Exec, Exit, Signal, SignalResult};
use killtrace::model::text::Comm;
use killtrace::model::{Event, Fact};

const PATIENCE: Duration = Duration::from_secs(5);

/// Live tests need root; without it they say so, and fail where CI should have given it.
fn privileged() -> bool {
    // SAFETY: a call without preconditions.
    let root = unsafe { libc::geteuid() } == 0;
    assert!(root || std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI runs this as root");
    if !root {
        println!("skipped: needs root");
    }
    root
}

/// Names a feature that the machine lacks; a machine that runs CI must have it.
fn skip(missing: &str) {
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "missing: {missing}");
    println!("skipped: {missing}");
}

/// An armed source and everything it has told so far.
struct Watch {
    source: EbpfSource,
    events: Vec<Event>,
    btf: bool,
}

impl Watch {
    fn open(options: &Options) -> Self {
        let source = EbpfSource::open(options).unwrap();
        let btf = source.capabilities().exit_status;
        Self { source, events: vec![], btf }
    }

    /// Waits for an event and returns it.
    fn find<T>(&mut self, what: &str, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
        let start = Instant::now();
        let mut seen = 0;
        loop {
            self.source.drain(&mut self.events).unwrap();
            if let Some(found) = self.events[seen..].iter().find_map(&mut wanted) {
                assert_eq!(self.source.refused(), 0);
                return found;
            }
            seen = self.events.len();
            assert!(start.elapsed() < PATIENCE, "no {what} among {seen} events");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn signal_to(&mut self, tid: u32, signo: i32) -> (Event, Signal) {
        self.find("signal", |event| match event.fact {
            Fact::Signal(signal) if signal.target_tid == tid && signal.signo == signo => {
                Some((event.clone(), signal))
            }
            _ => None,
        })
    }

    fn exit_of(&mut self, tid: u32) -> Exit {
        self.find("exit", |event| match event.fact {
            Fact::Exit(exit) if event.current?.tid == tid => Some(exit),
            _ => None,
        })
    }

    fn exec_of(&mut self, tgid: u32) -> Exec {
        self.find("exec", |event| match &event.fact {
            Fact::Exec(exec) if event.current?.tgid == Some(tgid) => Some((**exec).clone()),
            _ => None,
        })
    }
}

/// Runs a test with the kernel's BTF and without.
fn both_ways(test: impl Fn(&mut Watch)) {
    if !privileged() {
        return;
    }
    for hide_btf in [false, true] {
        let mut watch = Watch::open(&Options { hide_btf, ..Options::default() });
        println!("hide_btf {hide_btf}, degraded: {:?}", watch.source.degraded());
        assert!(!(hide_btf && watch.btf));
        test(&mut watch);
    }
}

/// A child made by `fork` that runs `body` and exits with what it returns.
///
/// Only async-signal-safe calls are allowed in `body`: the test process has other threads.
struct Child(libc::pid_t);

impl Child {
    fn fork(body: impl FnOnce() -> i32) -> Self {
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

    fn sleeping() -> Self {
        Self::fork(sleep_for_ever)
    }

    fn tgid(&self) -> u32 {
        u32::try_from(self.0).unwrap()
    }

    /// Waits for its end and returns the raw wait status.
    fn wait(self) -> i32 {
        let mut status = 0;
        // SAFETY: its own child, waited for once.
        assert_eq!(unsafe { libc::waitpid(self.0, &mut status, 0) }, self.0);
        status
    }
}

fn sleep_for_ever() -> i32 {
    loop {
        // SAFETY: a call without preconditions.
        unsafe { libc::pause() };
    }
}

fn kill(pid: libc::pid_t, signo: i32) {
    // SAFETY: a call without preconditions; the process is a child of this test.
    assert_eq!(unsafe { libc::kill(pid, signo) }, 0);
}

fn me() -> u32 {
    std::process::id()
}

fn my_tid() -> u32 {
    // SAFETY: a call without preconditions.
    u32::try_from(unsafe { libc::gettid() }).unwrap()
}

extern "C" fn do_nothing(_: libc::c_int) {}

extern "C" fn exit_five(_: libc::c_int) {
    // SAFETY: safe in a signal handler.
    unsafe { libc::_exit(5) }
}

fn handler(function: extern "C" fn(libc::c_int)) -> libc::sighandler_t {
    function as *const () as libc::sighandler_t
}

#[test]
fn live_a_kill_names_sender_target_and_system_call() {
    both_ways(|watch| {
        let victim = Child::sleeping();
        let tgid = victim.tgid();
        let pid = victim.0;
        let killer = Child::fork(move || {
            // SAFETY: a call without preconditions, on a sibling that sleeps.
            unsafe { libc::kill(pid, libc::SIGKILL) }
        });
        let killer_tgid = killer.tgid();
        assert_eq!(killer.wait(), 0);
        assert_eq!(victim.wait(), libc::SIGKILL);

        let (event, signal) = watch.signal_to(tgid, libc::SIGKILL);
        let sender = event.current.unwrap();
        assert_eq!((sender.tid, sender.tgid), (killer_tgid, Some(killer_tgid)));
        assert_eq!(sender.uid, Some(0));
        assert_eq!((signal.code, signal.group, signal.result), (0, true, SignalResult::Delivered));
        let comm = fs::read_to_string("/proc/thread-self/comm").unwrap();
        assert_eq!(signal.target_comm, Some(Comm::from(comm.trim_end())));
        let exit = watch.exit_of(tgid);
        if watch.btf {
            assert_eq!(signal.target_tgid, Some(tgid));
            assert_eq!(sender.exiting, Some(false));
            if watch.source.capabilities().syscalls {
                let syscall = signal.syscall.unwrap();
                assert_eq!((syscall.call, syscall.nr), (Call::Kill, libc::SYS_kill));
                assert_eq!(syscall.args[..2], [u64::from(tgid), 9]);
            }
            assert_eq!(exit.status.unwrap().signal(), Some(9));
            assert_eq!(exit.group_dead, Some(true));
            assert_eq!(exit.ppid, Some(me()));
            assert!(exit.max_rss_bytes.unwrap() > 10_000, "{exit:?}");
        } else {
            assert_eq!((signal.target_tgid, signal.syscall, sender.exiting), (None, None, None));
            assert_eq!(exit.status, None);
        }
        // The clock is CLOCK_BOOTTIME, and the events are recent.
        let uptime = fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        let age = uptime - Duration::from_nanos(event.t_ns).as_secs_f64();
        assert!((-0.1..PATIENCE.as_secs_f64()).contains(&age), "{age}");
    });
}

#[test]
fn live_an_exec_carries_its_arguments_and_the_exit_its_code() {
    both_ways(|watch| {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "read x; exit 7", "arg one", ""]).stdin(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let tgid = child.id();
        let exec = watch.exec_of(tgid);
        let expected = ["/bin/sh", "-c", "read x; exit 7", "arg one", ""].map(str::to_owned);
        assert_eq!(exec.args.as_deref(), Some(&expected[..]));
        assert_eq!((exec.path.as_str(), exec.old_tid, exec.args_truncated), ("/bin/sh", tgid, false));
        drop(child.stdin.take());
        assert_eq!(child.wait().unwrap().code(), Some(7));
        let exit = watch.exit_of(tgid);
        if watch.btf {
            assert_eq!(exec.interp.as_deref(), Some("/bin/sh"));
            assert_eq!(exec.ppid, Some(me()));
            assert_eq!(exit.status.unwrap().code(), Some(7));
            assert_eq!(exit.start_boottime_ns, exec.start_boottime_ns);
            assert!(exit.start_boottime_ns.is_some());
        }
    });
}

#[test]
fn live_a_script_shows_its_own_path_and_its_interpreter() {
    both_ways(|watch| {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("kill-dev");
        let mut file = fs::File::create(&script).unwrap();
        writeln!(file, "#!/bin/sh\nread x").unwrap();
        file.set_permissions(fs::Permissions::from_mode(0o755)).unwrap();
        drop(file);
        let mut command = Command::new(&script);
        let mut child = command.arg("x").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let exec = watch.exec_of(child.id());
        drop(child.stdin.take());
        child.wait().unwrap();
        let script = script.to_str().unwrap();
        assert_eq!(exec.path, script);
        assert_eq!(exec.args.unwrap(), ["/bin/sh", script, "x"]);
        if watch.btf {
            assert_eq!(exec.interp.as_deref(), Some("/bin/sh"));
        }
    });
}

#[test]
fn live_arguments_that_are_too_long_are_cut_and_say_so() {
    if !privileged() {
        return;
    }
    let mut watch = Watch::open(&Options::default());
    let long = "x".repeat(20_000);
    let mut child = Command::new("/bin/true").args(["first", &long]).spawn().unwrap();
    child.wait().unwrap();
    let exec = watch.exec_of(child.id());
    let Some(args) = exec.args.filter(|_| watch.btf) else { return skip("BTF") };
    assert_eq!(args[..2], ["/bin/true", "first"]);
    assert!(args[2].len() > 2_000 && args[2].bytes().all(|byte| byte == b'x'), "{}", args[2].len());
    assert!(exec.args_truncated);
}

#[test]
fn live_a_handled_signal_is_delivered_to_a_handler() {
    both_ways(|watch| {
        let child = Child::fork(|| {
            // SAFETY: the handler does nothing but exit.
            unsafe { libc::signal(libc::SIGTERM, handler(exit_five)) };
            sleep_for_ever()
        });
        let (tgid, pid) = (child.tgid(), child.0);
        std::thread::sleep(Duration::from_millis(50));
        kill(pid, libc::SIGTERM);
        assert_eq!(child.wait(), 5 << 8);
        let deliver = watch.find("delivery", |event| match event.fact {
            Fact::Deliver(deliver) if event.current?.tid == tgid => Some(deliver),
            _ => None,
        });
        assert_eq!((deliver.signo, deliver.code), (libc::SIGTERM, 0));
        assert_eq!(deliver.disposition, Disposition::Handler);
        let exit = watch.exit_of(tgid);
        assert_eq!(exit.status.and_then(|status| status.code()), watch.btf.then_some(5));
    });
}

#[test]
fn live_an_ignored_signal_says_so() {
    both_ways(|watch| {
        let child = Child::fork(|| {
            // SAFETY: ignoring a signal.
            unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
            sleep_for_ever()
        });
        let (tgid, pid) = (child.tgid(), child.0);
        std::thread::sleep(Duration::from_millis(50));
        kill(pid, libc::SIGHUP);
        let (_, signal) = watch.signal_to(tgid, libc::SIGHUP);
        assert_eq!(signal.result, SignalResult::Ignored);
        kill(pid, libc::SIGKILL);
        assert_eq!(child.wait(), libc::SIGKILL);
    });
}

#[test]
fn live_a_signal_to_a_thread_names_thread_and_process() {
    both_ways(|watch| {
        // SAFETY: the handler does nothing; no other test uses this signal.
        unsafe { libc::signal(libc::SIGUSR1, handler(do_nothing)) };
        let (tell, told) = mpsc::channel();
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            tell.send(my_tid()).unwrap();
            let _ = stopped.recv();
        });
        let tid = told.recv().unwrap();
        // SAFETY: a thread of this process, with a handler for the signal.
        assert_eq!(unsafe { libc::syscall(libc::SYS_tgkill, me(), tid, libc::SIGUSR1) }, 0);
        let (event, signal) = watch.signal_to(tid, libc::SIGUSR1);
        assert_eq!((event.current.unwrap().tgid, event.current.unwrap().tid), (Some(me()), my_tid()));
        assert_eq!((signal.code, signal.group), (-6, false));
        if watch.btf {
            assert_eq!(signal.target_tgid, Some(me()));
            if let Some(syscall) = signal.syscall {
                assert_eq!(syscall.call, Call::Tgkill);
                assert_eq!(syscall.args, [u64::from(me()), u64::from(tid), 10]);
            }
        }
        let deliver = watch.find("delivery", |event| match event.fact {
            Fact::Deliver(deliver) if event.current?.tid == tid => Some((event.current?, deliver)),
            _ => None,
        });
        assert_eq!(deliver.0.tgid, Some(me()));
        assert_eq!(deliver.1.disposition, Disposition::Handler);
        drop(stop);
        thread.join().unwrap();
    });
}

#[test]
fn live_a_fault_and_an_abort_are_the_victims_own() {
    both_ways(|watch| {
        let child = Child::fork(|| {
            let limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: no core file, then a raise; both act on the child alone.
            unsafe {
                libc::setrlimit(libc::RLIMIT_CORE, &limit);
                libc::raise(libc::SIGABRT)
            }
        });
        let tgid = child.tgid();
        assert_eq!(child.wait() & 0x7f, libc::SIGABRT);
        let (event, signal) = watch.signal_to(tgid, libc::SIGABRT);
        assert_eq!(event.current.unwrap().tgid, Some(tgid));
        assert_eq!((signal.code, signal.group), (-6, false));

        let child = Child::fork(|| {
            let limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: a fault is what the child is for; `black_box` hides it from the compiler.
            unsafe {
                libc::setrlimit(libc::RLIMIT_CORE, &limit);
                std::ptr::read_volatile(std::hint::black_box(std::ptr::without_provenance::<i32>(64)))
            }
        });
        let tgid = child.tgid();
        assert_eq!(child.wait() & 0x7f, libc::SIGSEGV);
        let (_, signal) = watch.signal_to(tgid, libc::SIGSEGV);
        assert_eq!((signal.code, signal.group), (1, false), "SEGV_MAPERR");
        if watch.source.capabilities().syscalls {
            assert_eq!(signal.syscall.unwrap().call, Call::None, "a fault is not a system call");
        }
    });
}

#[test]
fn live_a_birth_names_the_child_its_parent_and_its_namespace() {
    both_ways(|watch| {
        let child = Child::fork(|| {
            // SAFETY: the next child becomes init of a new PID namespace and ends at once.
            unsafe {
                if libc::unshare(libc::CLONE_NEWPID) != 0 {
                    return 1;
                }
                match libc::fork() {
                    0 => libc::_exit(3),
                    inner => {
                        let mut status = 0;
                        libc::waitpid(inner, &mut status, 0);
                        status >> 8
                    }
                }
            }
        });
        let outer = child.tgid();
        assert_eq!(child.wait(), 3 << 8);
        let (event, fork) = watch.find("birth", |event| match event.fact {
            Fact::Fork(fork) if fork.child_tid == outer => Some((event.clone(), fork)),
            _ => None,
        });
        assert_eq!(event.current.unwrap().tgid, Some(me()));
        assert_eq!((fork.child_tgid, fork.ns_tgid), (outer, None));
        let inner = watch.find("birth in the namespace", |event| match event.fact {
            Fact::Fork(fork) if event.current?.tgid == Some(outer) => Some(fork),
            _ => None,
        });
        if watch.btf {
            assert_eq!(fork.ppid, Some(me()));
            assert!(fork.start_boottime_ns.unwrap() <= event.t_ns);
            assert_eq!((inner.ppid, inner.ns_tgid), (Some(outer), Some(1)));
        }
        let exit = watch.exit_of(inner.child_tgid);
        assert_eq!(exit.status.and_then(|status| status.code()), watch.btf.then_some(3));
    });
}

#[test]
fn live_threads_are_told_only_where_nothing_else_tells() {
    both_ways(|watch| {
        let tid = std::thread::spawn(my_tid).join().unwrap();
        // Something later, so that everything before it has arrived.
        let marker = Child::fork(|| 0);
        let tgid = marker.tgid();
        marker.wait();
        watch.exit_of(tgid);
        let births = watch.events.iter().filter(|event| match event.fact {
            Fact::Fork(fork) => fork.child_tid == tid && fork.child_tgid == me(),
            _ => false,
        });
        assert_eq!(births.count(), usize::from(!watch.btf));
        let ends = watch.events.iter().filter(|event| {
            matches!(event.fact, Fact::Exit(_)) && event.current.is_some_and(|current| current.tid == tid)
        });
        assert_eq!(ends.count(), usize::from(!watch.btf));
    });
}

#[test]
fn live_the_signal_for_a_childs_end_is_told_only_where_exits_have_no_status() {
    both_ways(|watch| {
        let child = Child::fork(|| 9);
        let tgid = child.tgid();
        child.wait();
        let marker = Child::fork(|| 0);
        let marker_tgid = marker.tgid();
        marker.wait();
        watch.exit_of(marker_tgid);
        let seen = watch.events.iter().any(|event| match event.fact {
            Fact::Signal(signal) => {
                signal.signo == libc::SIGCHLD && event.current.is_some_and(|c| c.tid == tgid)
            }
            _ => false,
        });
        assert_eq!(seen, !watch.btf);
    });
}

#[test]
fn live_renames_and_listening_sockets_are_seen() {
    both_ways(|watch| {
        let tid = std::thread::spawn(|| {
            // SAFETY: a NUL-terminated name.
            unsafe { libc::prctl(libc::PR_SET_NAME, c"kt-renamed".as_ptr()) };
            my_tid()
        });
        let tid = tid.join().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let comm = watch.find("rename", |event| match event.fact {
            Fact::Rename { tid: renamed, comm } if renamed == tid && comm == Comm::from("kt-renamed") => {
                Some(comm)
            }
            _ => None,
        });
        assert_eq!(comm, Comm::from("kt-renamed"));
        if !watch.source.capabilities().listen {
            return skip("tracepoint sock:inet_sock_set_state");
        }
        for expected in [true, false] {
            let current = watch.find("listening socket", |event| match event.fact {
                Fact::Listen { port: seen, listening } if seen == port && listening == expected => {
                    event.current
                }
                _ => None,
            });
            assert_eq!(current.tgid, Some(me()));
        }
    });
}

/// The directory of a v1 controller or, for an empty name, of the v2 hierarchy.
fn cgroup_root(controller: &str) -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut filesystem = filesystem.split(' ');
        let kind = filesystem.next()?;
        let fits = if controller.is_empty() {
            kind == "cgroup2"
        } else {
            kind == "cgroup" && filesystem.nth(1)?.split(',').any(|option| option == controller)
        };
        fits.then(|| mount.split(' ').nth(4).map(str::to_owned))?
    })
}

#[test]
fn live_a_move_to_another_cgroup_is_seen() {
    both_ways(|watch| {
        let Some(root) = cgroup_root("") else { return skip("a cgroup v2 tree") };
        if !watch.source.capabilities().cgroup_attach {
            return skip("tracepoint cgroup:cgroup_attach_task");
        }
        let name = format!("killtrace-test-{}", my_tid());
        let directory = format!("{root}/{name}");
        fs::create_dir(&directory).unwrap();
        let child = Child::sleeping();
        let (tgid, pid) = (child.tgid(), child.0);
        fs::write(format!("{directory}/cgroup.procs"), pid.to_string()).unwrap();
        kill(pid, libc::SIGKILL);
        child.wait();
        let path = watch.find("move", |event| match &event.fact {
            Fact::CgroupAttach { tid, path, .. } if *tid == tgid => Some((event.current, path.clone())),
            _ => None,
        });
        assert_eq!(path.0.unwrap().tgid, Some(me()));
        assert_eq!(path.1, format!("/{name}"));
        fs::remove_dir(directory).unwrap();
    });
}

#[test]
fn live_the_oom_killers_victim_is_marked() {
    both_ways(|watch| {
        let Some(root) = cgroup_root("memory") else { return skip("a v1 memory controller") };
        let directory = format!("{root}/killtrace-test-{}", my_tid());
        fs::create_dir(&directory).unwrap();
        fs::write(format!("{directory}/memory.limit_in_bytes"), (16 << 20).to_string()).unwrap();
        let mut go = [0; 2];
        // SAFETY: room for two descriptors.
        assert_eq!(unsafe { libc::pipe(go.as_mut_ptr()) }, 0);
        let [wait, start] = go;
        let child = Child::fork(|| {
            let mut byte = 0_u8;
            // SAFETY: reads one byte into it, then maps memory and touches it until the limit is hit.
            unsafe {
                libc::read(wait, (&raw mut byte).cast(), 1);
                let len = 64 << 20;
                let protection = libc::PROT_READ | libc::PROT_WRITE;
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
                libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0);
            }
            0
        });
        let (tgid, pid) = (child.tgid(), child.0);
        fs::write(format!("{directory}/cgroup.procs"), pid.to_string()).unwrap();
        // SAFETY: writes one byte from a constant, closes the test's own descriptors.
        unsafe {
            libc::write(start, c"x".as_ptr().cast(), 1);
            libc::close(start);
            libc::close(wait);
        }
        assert_eq!(child.wait(), libc::SIGKILL);
        let victim = watch.find("OOM victim", |event| match event.fact {
            Fact::OomVictim(victim) if victim.tid == tgid => Some(victim),
            _ => None,
        });
        if let Some(details) = victim.details {
            // At least what the limit lets it have; the pages it shares with the test count as well.
            assert!((8 << 20..details.total_vm_bytes).contains(&details.anon_rss_bytes), "{details:?}");
            assert_eq!((details.uid, details.oom_score_adj), (0, 0));
        }
        let (event, signal) = watch.signal_to(tgid, libc::SIGKILL);
        assert_eq!((signal.code, signal.group, event.current.unwrap().tgid), (128, true, Some(tgid)));
        fs::remove_dir(directory).unwrap();
    });
}

#[test]
fn live_lost_records_are_counted() {
    if !privileged() {
        return;
    }
    const SENT: usize = 5_000;
    let mut watch = Watch::open(&Options { ring_bytes: 64 << 10, ..Options::default() });
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
    watch.source.drain_losses(&mut watch.events).unwrap();
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
    watch.source.drain_losses(&mut watch.events).unwrap();
    assert!(watch.events[before..].iter().all(|event| match &event.fact {
        Fact::Lost { count, .. } => usize::try_from(*count).unwrap() < lost,
        _ => true,
    }));
}

#[test]
fn live_a_death_wakes_the_reader() {
    both_ways(|watch| {
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
fn live_the_programs_diagnostics_reach_the_log() {
    if !privileged() {
        return;
    }
    log::set_logger(&LOGGED).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    for hide_btf in [false, true] {
        let mut watch =
            Watch::open(&Options { hide_btf, verbose: true, ring_bytes: 4096, ..Options::default() });
        assert!(watch.source.log_fd().is_some());
        for _ in 0..50 {
            Child::fork(|| 0).wait();
        }
        watch.source.flush_log();
        let logged = LOGGED.0.lock().unwrap();
        assert!(logged.iter().any(|line| line.contains("ring buffer full")), "{logged:?}");
        drop(logged);
        LOGGED.0.lock().unwrap().clear();
    }
}

#[test]
fn live_missing_capabilities_are_named() {
    if !privileged() {
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
