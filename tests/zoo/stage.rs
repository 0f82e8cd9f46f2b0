//! Where a case is played: its director starts processes, tells them what to do, and learns how they end.

use std::any::Any;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use killtrace::model::event::WaitStatus;
use killtrace::model::report::{Confidence, Kind, Mechanism, Role};
use killtrace_tests::zoo::{Expected, Memory, Survivor, Truth, Who};
use killtrace_tests::{cmdline, comm, parent, status_field};
use tempfile::TempDir;

/// Longest wait for anything a director waits for, in seconds.
const PATIENCE: u64 = 20;

/// One case being played. What is still alive at its end is killed.
pub(crate) struct Stage {
    dir: TempDir,
    truth: Truth,
    late: bool,
    curtain: bool,
    leftovers: Vec<u32>,
    kept: Vec<Actor>,
    things: Vec<Rc<dyn Any>>,
}

/// A process of the case, a child of the director.
pub(crate) struct Actor {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    who: Person,
    /// Numbers it said when it was ready.
    pub(crate) facts: Vec<u32>,
}

/// What a report should say of a process.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) pid: u32,
    pub(crate) comm: Option<String>,
    pub(crate) cmdline: Option<Vec<String>>,
}

impl Stage {
    pub(crate) fn new(case: &str, curtain: bool) -> Self {
        let dir = tempfile::Builder::new().prefix("kz-").tempdir().expect("no temporary directory");
        let truth = Truth { case: case.to_owned(), ..Truth::default() };
        Self {
            dir,
            truth,
            late: curtain,
            curtain,
            leftovers: Vec::new(),
            kept: Vec::new(),
            things: Vec::new(),
        }
    }

    /// Keeps something until the report was written.
    pub(crate) fn hold(&mut self, thing: Rc<dyn Any>) {
        self.things.push(thing);
    }

    /// A place for files.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// This program under another name, `kz-NAME`: a process started from it has that comm.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        if !path.exists() {
            let me = std::env::current_exe().expect("a running program has a path");
            if std::fs::hard_link(&me, &path).is_err() {
                std::fs::copy(&me, &path).expect("no room for a copy of the zoo");
            }
        }
        path
    }

    /// A command that does `acts` under a name.
    pub(crate) fn command(&self, name: &str, acts: &[&str]) -> Command {
        let mut command = Command::new(self.program(name));
        command.args(acts);
        command
    }

    /// Starts a process, and waits until it says `ready` if that is among its acts (or among those it passes on).
    pub(crate) fn start(&mut self, name: &str, acts: &[&str]) -> Actor {
        let command = self.command(name, acts);
        self.start_command(command)
    }

    /// Starts what [`Self::command`] has prepared.
    pub(crate) fn start_command(&mut self, mut command: Command) -> Actor {
        let speaks = command.get_args().any(|arg| arg.to_string_lossy().contains("ready"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the zoo can run itself");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let stdin = child.stdin.take();
        self.leftovers.push(child.id());
        let who = Person {
            pid: child.id(),
            comm: Path::new(command.get_program())
                .file_name()
                .map(|name| name.to_string_lossy().into_owned()),
            cmdline: Some(
                std::iter::once(command.get_program())
                    .chain(command.get_args())
                    .map(|arg| arg.to_string_lossy().into_owned())
                    .collect(),
            ),
        };
        let mut actor = Actor { child, stdin, stdout, who, facts: Vec::new() };
        if speaks {
            actor.facts = actor.hear();
        }
        actor
    }

    /// The process that will die: `kz-victim`.
    pub(crate) fn victim(&mut self, acts: &[&str]) -> Actor {
        self.start("kz-victim", acts)
    }

    /// Lets a process do something and end. Who it was.
    pub(crate) fn perform(&mut self, name: &str, acts: &[&str]) -> Person {
        let mut actor = self.start(name, acts);
        let status = actor.wait();
        assert_eq!(status, 0, "{name} {acts:?} failed with wait status {status:#x}");
        actor.who
    }

    /// Has a process of this name send a signal by kill(2), and end. Who it was.
    pub(crate) fn strike(&mut self, name: &str, pid: u32, signal: &str) -> Person {
        self.perform(name, &[&format!("kill:{pid},{signal}")])
    }

    /// All is set up. In a late watch, killtrace is started only now.
    pub(crate) fn curtain(&mut self) {
        if std::mem::take(&mut self.curtain) {
            println!("curtain");
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).expect("whoever raises the curtain writes text");
        }
    }

    /// Whether killtrace is to see only what happens from the curtain on.
    pub(crate) fn is_late(&self) -> bool {
        self.late
    }

    /// Gives what was just done time to take effect, where nothing can be waited for.
    pub(crate) fn rest(&self, ms: u64) {
        std::thread::sleep(Duration::from_millis(ms));
    }

    /// Has orphans become children of the director, so that it learns how they end. They are reparented to it.
    pub(crate) fn adopt_orphans(&self) {
        // SAFETY: PR_SET_CHILD_SUBREAPER takes one integer.
        assert_eq!(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }, 0);
    }

    /// Waits for the end of a process that is not an actor: a grandchild that was adopted.
    pub(crate) fn reap(&mut self, pid: u32) -> i32 {
        self.leftovers.push(pid);
        // It is adopted when its parent has ended, which may take a moment.
        eventually("a process to be adopted", || {
            (Person::pid(pid).parent() == std::process::id()).then_some(())
        });
        reap(pid)
    }

    /// Leaves an actor as it is until all is over: one that obeys ends when nobody can give it orders any more.
    pub(crate) fn keep(&mut self, actor: Actor) {
        self.kept.push(actor);
    }

    /// The same for an actor and a descendant of its that dies with it.
    pub(crate) fn reap_after(&mut self, actor: &mut Actor, pid: u32) -> (i32, i32) {
        let status = actor.wait();
        (status, self.reap(pid))
    }

    /// Waits until a process is gone for everybody, zombies included.
    pub(crate) fn until_gone(&self, pid: u32) {
        eventually("a process to go", || (!Path::new(&format!("/proc/{pid}")).exists()).then_some(()));
    }

    /// Waits until a process is in a state of /proc/PID/stat, `T` or `Z`.
    pub(crate) fn until_state(&self, pid: u32, state: char) {
        eventually(&format!("state {state}"), || (proc_state(pid) == Some(state)).then_some(()));
    }

    /// A death, to be described with the methods of [`Death`].
    pub(crate) fn died(&mut self, pid: u32, status: Option<i32>, kind: Kind) -> Death<'_> {
        self.truth.deaths.push(Expected { pid, status, kind, ..Expected::default() });
        Death(self.truth.deaths.last_mut().expect("just pushed"))
    }

    /// Waits for an actor's end, and describes it.
    pub(crate) fn death_of(&mut self, actor: &mut Actor, kind: Kind) -> Death<'_> {
        let status = actor.wait();
        self.died(actor.pid(), Some(status), kind)
    }

    /// The same of a grandchild that was adopted.
    pub(crate) fn death_of_orphan(&mut self, pid: u32, kind: Kind) -> Death<'_> {
        let status = self.reap(pid);
        self.died(pid, Some(status), kind)
    }

    /// Something was done to this process, and it lives: it must not be reported dead. It is killed after the
    /// report was read, or dies with the stage when nobody asks.
    pub(crate) fn lives(&mut self, actor: &Actor) {
        self.lives_on(actor.pid());
    }

    /// The same of a process that is not an actor.
    pub(crate) fn lives_on(&mut self, pid: u32) {
        assert!(alive(pid), "it was to live");
        self.truth.alive.push(pid);
    }

    /// Waits until a process does with a signal what is the default.
    pub(crate) fn until_default(&self, pid: u32, signo: i32) {
        eventually("a handler to go", || {
            let caught = u64::from_str_radix(&status_field(pid, "SigCgt:")?, 16).ok()?;
            (caught & (1 << (signo - 1)) == 0).then_some(())
        });
    }

    /// Kills at the end what the director did not start itself.
    pub(crate) fn clean_up(&mut self, pid: u32) {
        self.leftovers.push(pid);
    }

    pub(crate) fn truth(&self) -> Truth {
        self.truth.clone()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for pid in &self.leftovers {
            // Whoever is not ours any more has this program's image no more.
            if std::fs::read_link(format!("/proc/{pid}/exe"))
                .is_ok_and(|exe| exe.starts_with(self.dir.path()))
            {
                // SAFETY: plain system call.
                unsafe { libc::kill(pid.cast_signed(), libc::SIGKILL) };
            }
        }
        // What was made last may be inside what was made first.
        while self.things.pop().is_some() {}
    }
}

impl Actor {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its pid, for an act's arguments.
    pub(crate) fn id(&self) -> String {
        self.pid().to_string()
    }

    pub(crate) fn who(&self) -> &Person {
        &self.who
    }

    /// Has an actor that does `obey` perform one more act, and waits until it has.
    pub(crate) fn tell(&mut self, act: &str) -> Vec<u32> {
        self.order(act);
        self.hear()
    }

    /// Has an actor that does `obey` perform one more act, and does not wait.
    pub(crate) fn order(&mut self, act: &str) {
        let stdin = self.stdin.as_mut().expect("it listens");
        // One write: whoever ends at the first byte is not there for a second.
        stdin.write_all(format!("{act}\n").as_bytes()).expect("it is alive");
    }

    /// No more orders: an actor that obeys goes on with its next act.
    pub(crate) fn dismiss(&mut self) {
        drop(self.stdin.take());
    }

    /// Waits for `ready`, and the numbers after it.
    pub(crate) fn hear(&mut self) -> Vec<u32> {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("actors write text");
        let facts = line.strip_prefix("ready").unwrap_or_else(|| panic!("{:?} said {line:?}", self.who));
        facts.split_whitespace().map(|number| number.parse().expect("a number")).collect()
    }

    /// Waits for its end: the wait status.
    pub(crate) fn wait(&mut self) -> i32 {
        reap(self.pid())
    }
}

/// What a report should say of one death.
pub(crate) struct Death<'a>(&'a mut Expected);

impl Death<'_> {
    /// The kernel's events do not decide it, or not alone.
    pub(crate) fn likely(self) -> Self {
        self.0.confidence = Confidence::Likely;
        self
    }

    pub(crate) fn mechanism(self, mechanism: Mechanism) -> Self {
        self.0.mechanism = Some(mechanism);
        self
    }

    pub(crate) fn detail(self, detail: &str) -> Self {
        self.0.detail = Some(detail.to_owned());
        self
    }

    pub(crate) fn graceful(self) -> Self {
        self.0.graceful = true;
        self
    }

    /// Whose act it was.
    pub(crate) fn killer(self, person: &Person) -> Self {
        self.0.killer = person.expected();
        self
    }

    /// The kernel, the hardware or itself.
    pub(crate) fn no_killer(self) -> Self {
        self.0.killer = Who::Nobody;
        self
    }

    pub(crate) fn killer_uid(self, uid: u32) -> Self {
        self.0.killer_uid = Some(uid);
        self
    }

    /// Who decided it.
    pub(crate) fn actor(self, person: &Person) -> Self {
        self.0.actor = person.expected();
        self
    }

    pub(crate) fn no_actor(self) -> Self {
        self.0.actor = Who::Nobody;
        self
    }

    pub(crate) fn role(self, role: Role) -> Self {
        self.0.role = Some(role);
        self
    }

    /// The killer's ancestors, nearest first.
    pub(crate) fn ancestry(self, pids: &[u32]) -> Self {
        self.0.ancestry = pids.to_vec();
        self
    }

    /// What the steps of the chain say, in order.
    pub(crate) fn chain(self, texts: &[&str]) -> Self {
        self.0.chain = texts.iter().map(|&text| text.to_owned()).collect();
        self
    }

    pub(crate) fn summary(self, texts: &[&str]) -> Self {
        self.0.summary = texts.iter().map(|&text| text.to_owned()).collect();
        self
    }

    /// Must not be blamed.
    pub(crate) fn innocent(self, pid: u32) -> Self {
        self.0.innocent.push(pid);
        self
    }

    /// Was sent, and did not kill.
    pub(crate) fn other_signal(self, name: &str) -> Self {
        self.0.other_signals.push(name.to_owned());
        self
    }

    /// Died in the same incident, of the death of `because_of`, or of the same act.
    pub(crate) fn also_died(self, pid: u32, because_of: Option<u32>) -> Self {
        self.0.also_died.push((pid, because_of));
        self
    }

    pub(crate) fn survivor(self, pid: u32, reparented_to: Option<u32>, listening: &[u16]) -> Self {
        self.0.survivors.push(Survivor { pid, reparented_to, listening: listening.to_vec() });
        self
    }

    pub(crate) fn pid_in_namespace(self, pid: u32) -> Self {
        self.0.pid_in_namespace = Some(pid);
        self
    }

    /// The cgroup it was in.
    pub(crate) fn cgroup(self, path: &str) -> Self {
        self.0.cgroup = Some(path.to_owned());
        self
    }

    /// Whose memory had run out.
    pub(crate) fn oom(self, memory: Memory) -> Self {
        self.0.oom = Some(memory);
        self
    }

    /// Nothing else died with it.
    pub(crate) fn alone(self) -> Self {
        self.0.alone = true;
        self
    }

    /// What its root cause did, `sent SIGTERM to`.
    pub(crate) fn action(self, text: &str) -> Self {
        self.0.action = Some(text.to_owned());
        self
    }

    /// What may be said instead where the kernel has no BTF.
    pub(crate) fn without_btf(self, kind: Kind, confidence: Confidence) -> Self {
        self.0.without_btf = Some((kind, confidence));
        self
    }

    /// And there nobody may be named.
    pub(crate) fn nobody_without_btf(self) -> Self {
        self.0.nobody_without_btf = true;
        self
    }

    /// The truth itself: it really ended with this signal.
    pub(crate) fn by_signal(self, signo: i32) -> Self {
        let status = self.0.status.map(WaitStatus);
        assert_eq!(status.and_then(WaitStatus::signal), Some(signo), "it ended otherwise: {status:?}");
        self
    }

    /// The truth itself: it really dumped core.
    pub(crate) fn with_core(self) -> Self {
        assert!(self.0.status.map(WaitStatus).is_some_and(WaitStatus::core_dumped), "it dumped no core");
        self
    }

    /// The truth itself: it really exited with this code.
    pub(crate) fn by_exit(self, code: i32) -> Self {
        let status = self.0.status.map(WaitStatus);
        assert_eq!(status.and_then(WaitStatus::code), Some(code), "it ended otherwise: {status:?}");
        self
    }
}

impl Person {
    /// The director itself.
    pub(crate) fn director() -> Self {
        Self { pid: std::process::id(), comm: None, cmdline: Some(std::env::args().collect()) }
    }

    /// A process of which only the pid is known.
    pub(crate) fn pid(pid: u32) -> Self {
        Self { pid, comm: None, cmdline: None }
    }

    /// A living process, as /proc shows it.
    pub(crate) fn of(pid: u32) -> Self {
        Self { pid, comm: Some(comm(pid).expect("it is alive")), cmdline: cmdline(pid) }
    }

    /// Its parent's pid, now.
    pub(crate) fn parent(&self) -> u32 {
        parent(self.pid).expect("it is alive")
    }

    /// Under the name it gave itself.
    pub(crate) fn called(&self, comm: &str) -> Self {
        Self { comm: Some(comm.to_owned()), ..self.clone() }
    }

    fn expected(&self) -> Who {
        Who::Process { pid: self.pid, comm: self.comm.clone(), cmdline: self.cmdline.clone() }
    }
}

/// What would end or disturb everybody on the machine is done in a virtual one only, which says that it is one.
pub(crate) fn vm_only() -> Option<String> {
    std::env::var_os("KILLTRACE_VM")
        .is_none()
        .then(|| "only in a virtual machine (KILLTRACE_VM=1)".to_owned())
}

/// Waits until `look` finds something.
pub(crate) fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    killtrace_tests::eventually(PATIENCE, what, look)
}

/// Not gone and not a zombie.
pub(crate) fn alive(pid: u32) -> bool {
    !matches!(proc_state(pid), None | Some('Z' | 'X'))
}

/// The state letter of /proc/PID/stat.
pub(crate) fn proc_state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

fn reap(pid: u32) -> i32 {
    eventually("a process to end", || {
        let mut status = 0;
        // SAFETY: `status` is ours to write to.
        let ended =
            unsafe { libc::waitpid(pid.cast_signed(), &raw mut status, libc::WNOHANG | libc::__WALL) };
        assert!(ended >= 0, "{pid} is no child of mine: {}", std::io::Error::last_os_error());
        (ended > 0).then_some(status)
    })
}
