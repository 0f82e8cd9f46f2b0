use guard_ebpf::{CGROUP_PATH_LEN, COMM_LEN, EXEC_DATA_LEN};
use proptest::prelude::*;

use super::*;
use crate::model::event::Call;

const DECODER: Decoder = Decoder { arch: Some(Arch::X86_64), page_size: 4096 };

fn header(probe: Probe) -> Header {
    let mut comm = [0; COMM_LEN];
    comm[..4].copy_from_slice(b"kill");
    Header {
        t_boottime_ns: 1_000,
        probe: probe as u32,
        cpu: 3,
        tid: 11,
        tgid: 10,
        uid: 1000,
        flags: CURRENT_FLAGS_KNOWN,
        comm,
    }
}

fn bytes<T: Wire>(record: &T) -> Vec<u8> {
    // SAFETY: the records have no padding that is not a field, so all their bytes are set.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(record).cast::<u8>(), size_of::<T>()) }.to_vec()
}

fn decode<T: Wire>(record: &T) -> Fact {
    DECODER.decode(&bytes(record)).unwrap().fact
}

fn generated() -> SignalGenerate {
    SignalGenerate {
        header: header(Probe::SignalGenerate),
        signo: 15,
        errno: 0,
        code: 0,
        target_tid: 21,
        target_tgid: 20,
        group: 1,
        result: 0,
        flags: SYSCALL_KNOWN,
        target_comm: *b"vite\0garbage\0\0\0\0",
        syscall: 62,
        args: [20, 15, 0],
        target_sid: 19,
        _pad: 0,
    }
}

#[test]
fn a_signal_names_sender_target_and_system_call() {
    let event = DECODER.decode(&bytes(&generated())).unwrap();
    assert_eq!((event.id, event.t_ns, event.cpu), (0, 1_000, Some(3)));
    let current = event.current.unwrap();
    assert_eq!((current.tid, current.tgid, current.uid), (11, Some(10), Some(1000)));
    assert_eq!((current.comm, current.exiting), (Some(Comm::from("kill")), Some(false)));
    let Fact::Signal(signal) = event.fact else { panic!("{:?}", event.fact) };
    assert_eq!((signal.signo, signal.target_tid, signal.target_tgid), (15, 21, Some(20)));
    assert_eq!(signal.target_sid, Some(19));
    assert_eq!(signal.target_comm, Some(Comm::from("vite")));
    assert_eq!(signal.syscall, Some(Syscall { call: Call::Kill, nr: 62, args: [20, 15, 0] }));
    assert_eq!(signal.result, SignalResult::Delivered);
}

#[test]
fn what_the_kernel_side_could_not_read_is_none() {
    let mut record = generated();
    (record.flags, record.target_tgid, record.header.flags) = (0, 0, 0);
    let event = DECODER.decode(&bytes(&record)).unwrap();
    assert_eq!(event.current.unwrap().exiting, None);
    let Fact::Signal(signal) = event.fact else { panic!("{:?}", event.fact) };
    assert_eq!((signal.target_tgid, signal.syscall), (None, None));
}

#[test]
fn an_unknown_result_is_refused() {
    let mut record = generated();
    record.result = 5;
    assert_eq!(DECODER.decode(&bytes(&record)), Err(DecodeError::Field { field: "result", value: 5 }));
}

fn exited() -> ProcessExit {
    ProcessExit {
        header: header(Probe::ProcessExit),
        flags: EXIT_CODE_KNOWN | GROUP_DEAD_KNOWN | GROUP_DEAD,
        exit_code: 0x700,
        group_exit_code: 15,
        signal_flags: SIGNAL_GROUP_EXIT,
        ppid: 1,
        seccomp_mode: 2,
        pending: 1,
        shared_pending: 2,
        start_boottime_ns: 500,
        max_rss_pages: 10,
        blocked: 4,
        cpu_limit_s: 9,
        rttime_limit_us: u64::MAX,
    }
}

#[test]
fn who_ended_a_process_is_the_thread_that_called_for_it() {
    let exit = |change: fn(&mut ProcessExit)| {
        let mut record = ProcessExit { exit_code: 0x400, group_exit_code: 0x400, ..exited() };
        change(&mut record);
        let Fact::Exit(exit) = decode(&record) else { panic!() };
        (exit.ended_all, exit.signaled)
    };
    assert_eq!(exit(|_| {}), (true, Some(false)));
    assert_eq!(exit(|exit| exit.flags &= !GROUP_DEAD), (true, Some(false)), "and others are still there");
    assert_eq!(exit(|exit| exit.flags |= SIGNALED), (false, Some(true)), "one that was taken along");
    assert_eq!(exit(|exit| exit.signal_flags = 0), (false, Some(false)), "one that left alone");
    assert_eq!(exit(|exit| exit.group_exit_code = 9), (false, Some(false)), "a signal ends all");
}

#[test]
fn limits_and_seccomp_are_told_of_what_a_signal_ended() {
    let Fact::Exit(exit) = decode(&exited()) else { panic!() };
    assert_eq!(exit.limits, Some(Limits { cpu_s: Some(9), rttime_us: None }));
    assert_eq!((exit.seccomp_mode, exit.blocked), (Some(2), Some(4)));
    let Fact::Exit(exit) = decode(&ProcessExit { group_exit_code: 0x400, ..exited() }) else { panic!() };
    assert_eq!((exit.limits, exit.seccomp_mode, exit.blocked), (None, None, Some(4)));
}

#[test]
fn the_groups_code_counts_when_the_group_exits_and_the_threads_own_otherwise() {
    let status = |change: fn(&mut ProcessExit)| {
        let mut record = exited();
        change(&mut record);
        let Fact::Exit(exit) = decode(&record) else { panic!() };
        exit.status.unwrap()
    };
    assert_eq!(status(|_| {}).signal(), Some(15));
    assert_eq!(status(|exit| exit.signal_flags = 0).code(), Some(7));
    assert_eq!(status(|exit| exit.flags &= !GROUP_DEAD).code(), Some(7), "one thread of several");
}

#[test]
fn an_exit_counts_pages_and_joins_both_pending_sets() {
    let Fact::Exit(exit) = decode(&exited()) else { panic!() };
    assert_eq!((exit.pending, exit.max_rss_bytes, exit.ppid), (Some(3), Some(40_960), Some(1)));
    let mut record = exited();
    record.flags = 0;
    let Fact::Exit(exit) = decode(&record) else { panic!() };
    assert_eq!(exit, Exit::default());
}

fn born() -> NewTask {
    NewTask {
        header: header(Probe::NewTask),
        child_tid: 31,
        child_tgid: 0,
        clone_flags: 17,
        ppid: 0,
        ns_tgid: 5,
        ns_level: 0,
        _pad: 0,
        start_boottime_ns: 0,
    }
}

#[test]
fn a_birth_without_a_process_id_is_told_by_its_flags() {
    let Fact::Fork(fork) = decode(&born()) else { panic!() };
    assert_eq!((fork.child_tid, fork.child_tgid, fork.ns_tgid), (31, 31, None));
    let mut record = born();
    record.clone_flags |= CLONE_THREAD;
    let Fact::Fork(fork) = decode(&record) else { panic!() };
    assert_eq!((fork.child_tid, fork.child_tgid), (31, 10));
    let mut record = born();
    record.ns_level = 1;
    let Fact::Fork(fork) = decode(&record) else { panic!() };
    assert_eq!(fork.ns_tgid, Some(5));
}

/// An exec record as the kernel side sends it: cut after the data.
fn exec_bytes(parts: [&[u8]; 3], args_total: u32) -> Vec<u8> {
    let mut out = bytes(&header(Probe::ProcessExec));
    let len = |part: &[u8]| u32::try_from(part.len()).unwrap();
    for word in [11, 9] {
        out.extend(u32::to_ne_bytes(word));
    }
    out.extend(77_u64.to_ne_bytes());
    for word in [len(parts[0]), len(parts[1]), len(parts[2]), args_total] {
        out.extend(word.to_ne_bytes());
    }
    assert_eq!(out.len(), offset_of!(ProcessExec, data));
    out.extend(parts.concat());
    out
}

#[test]
fn an_exec_carries_path_interpreter_and_arguments() {
    let args = b"/bin/sh\0-c\0\0caf\xc3\xa9 \xff\0";
    let Fact::Exec(exec) = DECODER.decode(&exec_bytes([b"./run", b"/bin/dash", args], 20)).unwrap().fact
    else {
        panic!()
    };
    assert_eq!((exec.path.as_str(), exec.interp.as_deref()), ("./run", Some("/bin/dash")));
    let args: Vec<String> = ["/bin/sh", "-c", "", "caf\u{e9} \u{fffd}"].map(str::to_owned).into();
    assert_eq!(exec.args, Some(args));
    assert_eq!((exec.old_tid, exec.ppid, exec.start_boottime_ns), (11, Some(9), Some(77)));
    assert!(!exec.args_truncated);
}

#[test]
fn cut_arguments_say_so_and_missing_ones_are_none() {
    let Fact::Exec(exec) = DECODER.decode(&exec_bytes([b"a", b"", b"a\0lo"], 9_999)).unwrap().fact else {
        panic!()
    };
    assert_eq!(exec.args, Some(vec!["a".to_owned(), "lo".to_owned()]));
    assert!(exec.args_truncated);
    let Fact::Exec(exec) = DECODER.decode(&exec_bytes([b"a", b"", b""], 9)).unwrap().fact else { panic!() };
    assert_eq!((exec.args, exec.interp, exec.args_truncated), (None, None, false));
}

#[test]
fn an_exec_whose_lengths_lie_is_refused() {
    let whole = exec_bytes([b"./run", b"/bin/dash", b"x\0"], 2);
    for len in 0..whole.len() {
        assert_eq!(DECODER.decode(&whole[..len]), Err(DecodeError::Short { len }));
    }
}

#[test]
fn the_rare_records_are_decoded_too() {
    let record = MarkVictim {
        header: header(Probe::MarkVictim),
        tid: 5,
        details: 1,
        total_vm_kb: 4,
        anon_rss_kb: 3,
        file_rss_kb: 2,
        shmem_rss_kb: 1,
        pgtables_kb: 8,
        uid: 1000,
        oom_score_adj: -500,
    };
    let Fact::OomVictim(OomVictim { tid: 5, details: Some(details) }) = decode(&record) else { panic!() };
    assert_eq!((details.total_vm_bytes, details.oom_score_adj), (4096, -500));
    let record = MarkVictim { details: 0, ..record };
    assert_eq!(decode(&record), Fact::OomVictim(OomVictim { tid: 5, details: None }));

    let record = SignalDeliver {
        header: header(Probe::SignalDeliver),
        signo: 15,
        errno: 0,
        code: -6,
        _pad: 0,
        handler: 0x7f00,
    };
    let expected = Deliver { signo: 15, code: -6, errno: 0, disposition: Disposition::Handler };
    assert_eq!(decode(&record), Fact::Deliver(expected));

    let record = TaskRename { header: header(Probe::TaskRename), tid: 8, _pad: 0, comm: [b'x'; COMM_LEN] };
    assert_eq!(decode(&record), Fact::Rename { tid: 8, comm: Comm::from([b'x'; COMM_LEN]) });

    let record = SockState { header: header(Probe::SockState), port: 5173, listening: 1 };
    assert_eq!(decode(&record), Fact::Listen { port: 5173, listening: true });
    assert!(DECODER.decode(&bytes(&SockState { port: 65_536, ..record })).is_err());

    let mut path = [0; CGROUP_PATH_LEN];
    path[..4].copy_from_slice(b"/a/b");
    let record = CgroupAttach {
        header: header(Probe::CgroupAttach),
        tid: 9,
        hierarchy: 1,
        path_len: 4,
        _pad: 0,
        path,
    };
    assert_eq!(decode(&record), Fact::CgroupAttach { tid: 9, hierarchy: 1, path: "/a/b".to_owned() });
    assert!(DECODER.decode(&bytes(&CgroupAttach { path_len: 257, ..record })).is_err());
}

#[test]
fn an_unknown_kind_is_refused() {
    let mut record = generated();
    record.header.probe = 9;
    assert_eq!(DECODER.decode(&bytes(&record)), Err(DecodeError::UnknownProbe { probe: 9 }));
}

proptest! {
    #[test]
    fn random_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..EXEC_DATA_LEN + 200), probe in 0_u32..10) {
        if let Some(field) = bytes.get_mut(8..12) {
            field.copy_from_slice(&probe.to_ne_bytes());
        }
        let _ = DECODER.decode(&bytes);
    }
}
