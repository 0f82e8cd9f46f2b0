//! Signals: who sent them, how, and what became of them.

use std::fs;
use std::sync::mpsc;
use std::time::Duration;

use killtrace::model::Fact;
use killtrace::model::event::{Call, Disposition, SignalResult};
use killtrace::model::text::Comm;

use crate::support::{
    Child, PATIENCE, do_nothing, every_way, exit_five, handler, kill, me, my_tid, sleep_for_ever,
};

#[test]
fn live_a_kill_names_sender_target_and_system_call() {
    every_way(|watch| {
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
        if watch.source.name() == "ebpf" {
            assert_eq!(sender.uid, Some(0));
        }
        assert_eq!((signal.code, signal.group, signal.result), (0, true, SignalResult::Delivered));
        let comm = fs::read_to_string("/proc/thread-self/comm").unwrap();
        assert_eq!(signal.target_comm, Some(Comm::from(comm.trim_end())));
        assert_eq!(sender.comm, signal.target_comm, "a fork of the same thread");
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
fn live_a_handled_signal_is_delivered_to_a_handler() {
    every_way(|watch| {
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
    every_way(|watch| {
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
    every_way(|watch| {
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
    every_way(|watch| {
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
fn live_the_signal_for_a_childs_end_is_told_only_where_exits_have_no_status() {
    every_way(|watch| {
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
