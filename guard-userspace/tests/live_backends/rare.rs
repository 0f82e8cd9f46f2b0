//! The rare hooks: OOM, renames, cgroups, listening sockets.

use std::fs;

use killtrace::model::Fact;
use killtrace::model::text::Comm;

use crate::support::{Child, every_way, kill, me, my_tid, skip};

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
fn live_renames_and_listening_sockets_are_seen() {
    every_way(|watch| {
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

#[test]
fn live_a_move_to_another_cgroup_is_seen() {
    every_way(|watch| {
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
    every_way(|watch| {
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
