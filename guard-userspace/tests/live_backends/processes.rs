//! Births, programs and ends.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use killtrace::collect::Options;
use killtrace::model::Fact;

use crate::support::{Child, Watch, every_way, me, my_tid, skip};

#[test]
fn live_an_exec_carries_its_arguments_and_the_exit_its_code() {
    every_way(|watch| {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "read x; exit 7", "arg one", ""]).stdin(Stdio::piped());
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
    every_way(|watch| {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("kill-dev");
        let mut file = fs::File::create(&script).unwrap();
        writeln!(file, "#!/bin/sh\nread x").unwrap();
        file.set_permissions(fs::Permissions::from_mode(0o755)).unwrap();
        drop(file);
        let mut command = Command::new(&script);
        command.arg("x").stdin(Stdio::piped());
        // A test on another thread may have forked while the script was still open for writing here.
        let mut child = loop {
            match command.spawn() {
                Err(busy) if busy.kind() == ErrorKind::ExecutableFileBusy => {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                spawned => break spawned.unwrap(),
            }
        };
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
    if !crate::needs::root() {
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
fn live_a_birth_names_the_child_its_parent_and_its_namespace() {
    every_way(|watch| {
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
    every_way(|watch| {
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
