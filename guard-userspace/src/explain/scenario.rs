//! Builds streams of events for tests: who was born, who signalled whom, who died how.
//!
//! The bits of each signal are those that kernels were seen to make; the replay fixtures hold real streams.

use crate::model::event::{
    Call, Cgroups, Current, Deliver, Disposition, Event, Exec, Exit, Fact, Fork, OomVictim, ProcessFacts,
    Signal, SignalResult, Syscall, WaitStatus,
};
use crate::model::header::{Capabilities, Header, Host, Tool};
use crate::model::report::{Death, Report};
use crate::model::select::Selectors;
use crate::model::signal::{Signo, code};
use crate::model::text::Comm;
use crate::model::time::Timestamp;

use super::Explainer;

/// One millisecond.
pub(crate) const MS: u64 = 1_000_000;

/// A stream under construction. Each event comes a millisecond after the one before.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub events: Vec<Event>,
    pub header: Header,
    t_ns: u64,
    comms: std::collections::HashMap<u32, Comm>,
}

impl Scenario {
    pub(crate) fn new() -> Self {
        let mut scenario = Self {
            events: Vec::new(),
            header: header(),
            t_ns: 1_000_000 * MS,
            comms: std::collections::HashMap::new(),
        };
        scenario.seed(1, 0, "systemd", &["/sbin/init"]);
        scenario.seed(2, 0, "kthreadd", &[]);
        scenario.seed(50, 2, "kworker/u8:1", &[]);
        scenario
    }

    pub(crate) fn push(&mut self, current: Option<Current>, fact: Fact) -> &mut Event {
        self.t_ns += MS;
        let id = self.events.len() as u64 + 1;
        let cpu = current.map(|_| 0);
        self.events.push(Event { id, t_ns: self.t_ns, cpu, current, fact });
        self.events.last_mut().expect("just pushed")
    }

    pub(crate) fn wait(&mut self, ms: u64) -> &mut Self {
        self.t_ns += ms * MS;
        self
    }

    pub(crate) fn current(&self, tgid: u32) -> Current {
        let comm = self.comms.get(&tgid).copied();
        Current { tid: tgid, tgid: Some(tgid), uid: Some(1000), comm, exiting: Some(false) }
    }

    /// A process that was there before.
    pub(crate) fn seed(&mut self, tgid: u32, ppid: u32, comm: &str, cmdline: &[&str]) -> &mut Self {
        self.comms.insert(tgid, Comm::from(comm));
        let facts = ProcessFacts {
            tgid,
            seeded: true,
            ppid: Some(ppid),
            start_boottime_ns: Some(u64::from(tgid) * MS),
            comm: Some(Comm::from(comm)),
            exe: cmdline.first().map(|exe| (*exe).to_owned()),
            cmdline: Some(cmdline.iter().map(|arg| (*arg).to_owned()).collect()),
            uid: Some(1000),
            ..ProcessFacts::default()
        };
        self.push(None, Fact::Process(Box::new(facts)));
        self
    }

    pub(crate) fn seeded(&mut self) -> &mut Self {
        self.push(None, Fact::Seeded { processes: 0 });
        self
    }

    /// Session, terminal and cgroup of a process, as /proc tells.
    pub(crate) fn facts(&mut self, facts: ProcessFacts) -> &mut Self {
        self.push(None, Fact::Process(Box::new(facts)));
        self
    }

    pub(crate) fn session(&mut self, tgid: u32, sid: u32, tty: &str) -> &mut Self {
        let (sid, tty) = (Some(sid), Some(tty.to_owned()));
        self.facts(ProcessFacts { tgid, sid, tty, ..ProcessFacts::default() })
    }

    pub(crate) fn cgroup(&mut self, tgid: u32, path: &str) -> &mut Self {
        let cgroups = Some(Cgroups { v2: Some(path.to_owned()), ..Cgroups::default() });
        self.facts(ProcessFacts { tgid, cgroups, ..ProcessFacts::default() })
    }

    pub(crate) fn fork(&mut self, parent: u32, child: u32) -> &mut Self {
        let comm = self.comms.get(&parent).copied().unwrap_or_default();
        self.comms.insert(child, comm);
        let start_boottime_ns = Some(self.t_ns + MS);
        let fork = Fork {
            child_tid: child,
            child_tgid: child,
            clone_flags: 0,
            ppid: Some(parent),
            ns_tgid: None,
            start_boottime_ns,
        };
        let current = self.current(parent);
        self.push(Some(current), Fact::Fork(fork));
        self
    }

    pub(crate) fn exec(&mut self, tgid: u32, args: &[&str]) -> &mut Self {
        let base = args[0].rsplit('/').next().unwrap_or_default();
        self.comms.insert(tgid, Comm::from(base));
        let exec = Exec {
            old_tid: tgid,
            path: args[0].to_owned(),
            interp: Some(args[0].to_owned()),
            args: Some(args.iter().map(|arg| (*arg).to_owned()).collect()),
            ..Exec::default()
        };
        let current = self.current(tgid);
        self.push(Some(current), Fact::Exec(Box::new(exec)));
        self
    }

    /// Fork and exec.
    pub(crate) fn spawn(&mut self, parent: u32, child: u32, args: &[&str]) -> &mut Self {
        self.fork(parent, child).exec(child, args)
    }

    /// Any signal, bit by bit.
    #[allow(clippy::too_many_arguments, reason = "the bits of a signal, as death-paths lists them")]
    pub(crate) fn signal(
        &mut self,
        from: Current,
        to: u32,
        signo: Signo,
        code: i32,
        group: bool,
        result: SignalResult,
        call: Option<(Call, u64)>,
    ) -> &mut Self {
        let signal = Signal {
            signo: signo.0,
            code,
            errno: 0,
            group,
            result,
            target_tid: to,
            target_tgid: Some(to),
            target_comm: self.comms.get(&to).copied(),
            syscall: call.map(|(call, argument)| Syscall { call, nr: 0, args: [argument, 0, 0] }),
            target_sid: None,
        };
        self.push(Some(from), Fact::Signal(signal));
        self
    }

    /// `kill(to, signo)` by `from`.
    pub(crate) fn kill(&mut self, from: u32, to: u32, signo: Signo) -> &mut Self {
        let current = self.current(from);
        let call = Some((Call::Kill, u64::from(to)));
        self.signal(current, to, signo, code::SI_USER, true, SignalResult::Delivered, call)
    }

    /// The kernel's SIGHUP, with the target's session where the kernel tells it.
    pub(crate) fn hang_up(&mut self, current: Current, to: u32, sid: Option<u32>) -> &mut Self {
        self.kernel(current, to, Signo::HUP, Call::None);
        if let Some(Event { fact: Fact::Signal(signal), .. }) = self.events.last_mut() {
            signal.target_sid = sid;
        }
        self
    }

    /// From the kernel while `current` ran.
    pub(crate) fn kernel(&mut self, current: Current, to: u32, signo: Signo, call: Call) -> &mut Self {
        self.signal(current, to, signo, code::SI_KERNEL, true, SignalResult::Delivered, Some((call, 0)))
    }

    pub(crate) fn handle(&mut self, tgid: u32, signo: Signo) -> &mut Self {
        let deliver = Deliver { signo: signo.0, code: 0, errno: 0, disposition: Disposition::Handler };
        let current = self.current(tgid);
        self.push(Some(current), Fact::Deliver(deliver));
        self
    }

    pub(crate) fn take(&mut self, tgid: u32, signo: Signo, code: i32) -> &mut Self {
        let deliver = Deliver { signo: signo.0, code, errno: 0, disposition: Disposition::Default };
        let current = self.current(tgid);
        self.push(Some(current), Fact::Deliver(deliver));
        self
    }

    pub(crate) fn oom_mark(&mut self, current: u32, victim: u32) -> &mut Self {
        let current = self.current(current);
        self.push(Some(current), Fact::OomVictim(OomVictim { tid: victim, details: None }));
        self
    }

    /// Ends with a raw wait status.
    pub(crate) fn end(&mut self, tgid: u32, status: i32) -> &mut Self {
        let exit = Exit {
            status: Some(WaitStatus(status)),
            group_dead: Some(true),
            pending: Some(0),
            ..Exit::default()
        };
        let current = Current { exiting: Some(true), ..self.current(tgid) };
        self.push(Some(current), Fact::Exit(exit));
        self
    }

    pub(crate) fn exits(&mut self, tgid: u32, code: i32) -> &mut Self {
        self.end(tgid, code << 8)
    }

    pub(crate) fn dies(&mut self, tgid: u32, signo: Signo) -> &mut Self {
        self.end(tgid, signo.0)
    }

    /// A task after its own exit event: what it does now, the kernel does for it.
    pub(crate) fn exiting(&self, tgid: u32) -> Current {
        Current { exiting: Some(true), ..self.current(tgid) }
    }

    /// The report of a watch on one pid.
    pub(crate) fn watch(&mut self, pid: u32) -> Report {
        self.watch_for(Selectors { pids: vec![pid], ..Selectors::default() })
    }

    pub(crate) fn watch_for(&mut self, selectors: Selectors) -> Report {
        self.wait(100);
        self.push(None, Fact::End);
        let mut explainer = Explainer::new(self.header.clone(), selectors);
        for event in &self.events {
            explainer.apply(event);
        }
        explainer.report()
    }

    /// The one death of a watch on one pid.
    pub(crate) fn death(&mut self, pid: u32) -> Death {
        let report = self.watch(pid);
        let mut deaths = report.deaths.into_iter().filter(|death| death.victim.pid == pid);
        deaths.next().expect("the watched process died")
    }
}

fn header() -> Header {
    Header {
        schema: Header::SCHEMA.to_owned(),
        tool: Tool { name: "killtrace".to_owned(), version: "0.0.0".to_owned() },
        host: Host {
            hostname: "argos".to_owned(),
            kernel: "6.12.0".to_owned(),
            arch: "aarch64".to_owned(),
            page_size: 16384,
            boot_id: None,
            cpus: 4,
            memory_bytes: None,
        },
        backend: "ebpf".to_owned(),
        degraded: Vec::new(),
        capabilities: Capabilities {
            exit_status: true,
            group_dead: true,
            syscalls: true,
            target_tgid: true,
            exec_args: true,
            ..Capabilities::default()
        },
        started_at: Timestamp(1_771_384_364_000_000_000),
        wall_minus_boottime_ns: 1_771_384_364_000_000_000,
        selectors: vec!["pid=100".to_owned()],
        own_tgid: 9,
    }
}
