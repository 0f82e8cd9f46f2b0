use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use nix::sys::signal::Signal;

use super::*;
use crate::cli::args::OutputArgs;
use crate::cli::output::Owner;
use crate::cli::signals::Blocked;
use crate::collect::{CollectError, Source};
use crate::model::header::Capabilities;

type Batches = Arc<Mutex<Vec<Result<Vec<Event>, CollectError>>>>;

/// A source that gives what the test puts into it, and counts how often it was asked.
struct Fake {
    name: &'static str,
    capabilities: Capabilities,
    degraded: Vec<String>,
    stream: UnixStream,
    batches: Batches,
    drains: Arc<Mutex<u32>>,
}

/// A source that takes its time: while it is read, the kernel tells another one of what came before.
struct Slow {
    source: Box<dyn Source>,
    follows_backend: bool,
    meanwhile: Batches,
    before: Vec<Event>,
}

impl Source for Slow {
    fn name(&self) -> &'static str {
        self.source.name()
    }
    fn capabilities(&self) -> Capabilities {
        self.source.capabilities()
    }
    fn degraded(&self) -> &[String] {
        self.source.degraded()
    }
    fn fd(&self) -> BorrowedFd<'_> {
        self.source.fd()
    }
    fn follows_backend(&self) -> bool {
        self.follows_backend
    }
    fn drain(&mut self, out: &mut Vec<Event>) -> Result<(), CollectError> {
        self.meanwhile.lock().unwrap().push(Ok(std::mem::take(&mut self.before)));
        self.source.drain(out)
    }
}

/// The test's end of it.
struct Feed {
    stream: UnixStream,
    batches: Batches,
    drains: Arc<Mutex<u32>>,
}

impl Feed {
    fn put(&mut self, batch: Result<Vec<Event>, CollectError>) {
        self.batches.lock().unwrap().push(batch);
        self.stream.write_all(b"!").unwrap();
    }
}

fn fake(name: &'static str, capabilities: Capabilities) -> (Box<dyn Source>, Feed) {
    let (stream, other) = UnixStream::pair().unwrap();
    stream.set_nonblocking(true).unwrap();
    let (batches, drains) = (Batches::default(), Arc::default());
    let degraded = vec![format!("{name} is made up")];
    let feed = Feed { stream: other, batches: Arc::clone(&batches), drains: Arc::clone(&drains) };
    (Box::new(Fake { name, capabilities, degraded, stream, batches, drains }), feed)
}

impl Source for Fake {
    fn name(&self) -> &'static str {
        self.name
    }
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }
    fn degraded(&self) -> &[String] {
        &self.degraded
    }
    fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
    fn drain(&mut self, out: &mut Vec<Event>) -> Result<(), CollectError> {
        *self.drains.lock().unwrap() += 1;
        while self.stream.read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
        for batch in self.batches.lock().unwrap().drain(..) {
            out.extend(batch?);
        }
        Ok(())
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn listen(t_ns: u64, port: u16) -> Event {
    event(t_ns, Fact::Listen { port, listening: true })
}

fn agent(sources: Vec<Box<dyn Source>>) -> (Agent, File) {
    let (sources, abilities) = Sources::new(sources).unwrap();
    let selection = Selection::pid(1).unwrap();
    let output = Output::new(&OutputArgs::default(), Owner::Watch).unwrap();
    let file = tempfile::tempfile().unwrap();
    let events = file.try_clone().unwrap();
    (Agent::new(sources, abilities, selection, output, Some(events), None).unwrap(), file)
}

fn recorded(mut file: File) -> (Header, Vec<Event>) {
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    let mut lines = text.lines();
    let header = serde_json::from_str(lines.next().unwrap()).unwrap();
    (header, lines.map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[test]
fn events_of_all_sources_are_put_in_order_and_numbered() {
    let runtime = runtime();
    let _guard = runtime.enter();
    let (first, mut first_feed) = fake("ebpf", Capabilities { exit_status: true, ..Capabilities::default() });
    let (second, mut second_feed) =
        fake("kmsg", Capabilities { kernel_log: true, ..Capabilities::default() });
    let (mut agent, file) = agent(vec![first, second]);
    first_feed.put(Ok(vec![listen(10, 1), listen(30, 3), listen(30, 4)]));
    second_feed.put(Ok(vec![listen(20, 2), listen(30, 5)]));
    assert!(agent.turn().unwrap());
    assert!(!agent.turn().unwrap(), "nothing more came");
    first_feed.put(Ok(vec![listen(40, 6)]));
    assert!(agent.turn().unwrap());

    let (header, events) = recorded(file);
    assert_eq!(header.backend, "ebpf");
    assert!(header.capabilities.exit_status && header.capabilities.kernel_log);
    assert_eq!(header.degraded, ["ebpf is made up", "kmsg is made up"]);
    assert_eq!(header.own_tgid, std::process::id());
    assert_eq!(events.iter().map(|event| event.id).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    let ports = events.iter().map(|event| match event.fact {
        Fact::Listen { port, .. } => port,
        _ => 0,
    });
    assert_eq!(ports.collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6], "by time, equal times as they came");
}

#[test]
fn no_source_is_ahead_of_another() {
    let runtime = runtime();
    let _guard = runtime.enter();
    for follows_backend in [false, true] {
        let (backend, mut backend_feed) = fake("perf", Capabilities::default());
        let (helper, mut feed) = fake("helper", Capabilities::default());
        let before = vec![listen(10, 1), listen(20, 2)];
        // The kernel tells of an end first the backend and then taskstats; of memory that ran out first its log.
        let sources: Vec<Box<dyn Source>> = if follows_backend {
            feed.put(Ok(vec![listen(30, 3)]));
            let meanwhile = backend_feed.batches;
            vec![backend, Box::new(Slow { source: helper, follows_backend, meanwhile, before })]
        } else {
            backend_feed.put(Ok(vec![listen(30, 3)]));
            let meanwhile = feed.batches;
            vec![Box::new(Slow { source: backend, follows_backend, meanwhile, before }), helper]
        };
        let (mut agent, file) = agent(sources);
        agent.turn().unwrap();
        agent.turn().unwrap();
        let (_, events) = recorded(file);
        let times: Vec<u64> = events.iter().map(|event| event.t_ns).collect();
        assert_eq!(times, [10, 20, 30], "follows the backend: {follows_backend}");
    }
}

#[test]
fn a_helper_source_that_fails_leaves_a_gap_and_the_backend_goes_on() {
    let runtime = runtime();
    let _guard = runtime.enter();
    let (first, mut first_feed) = fake("ebpf", Capabilities::default());
    let (second, mut second_feed) = fake("kmsg", Capabilities::default());
    let (mut agent, file) = agent(vec![first, second]);
    second_feed.put(Err(CollectError::NoTracingPrograms));
    first_feed.put(Ok(vec![listen(1, 1)]));
    agent.turn().unwrap();
    first_feed.put(Ok(vec![listen(u64::MAX, 2)]));
    agent.turn().unwrap();
    assert_eq!(*second_feed.drains.lock().unwrap(), 1, "it is not asked again");
    let (_, events) = recorded(file);
    assert_eq!(events.len(), 3);
    let lost = Fact::Lost { probe: "kmsg".to_owned(), count: 1 };
    assert_eq!(events[0].fact, lost, "before what it may have to do with");
}

#[test]
fn a_backend_that_fails_ends_the_watch_after_passing_on_what_it_gave() {
    let runtime = runtime();
    let _guard = runtime.enter();
    let (first, mut feed) = fake("ebpf", Capabilities::default());
    let (mut agent, file) = agent(vec![first]);
    feed.put(Ok(vec![listen(1, 1)]));
    feed.put(Err(CollectError::NoTracingPrograms));
    assert!(agent.turn().is_err());
    assert_eq!(recorded(file).1.len(), 1);
}

// Raw signals go to one thread of its own here, see `signals`.
#[test]
fn an_idle_watch_asks_nothing_and_a_flood_is_drained_in_batches() {
    std::thread::spawn(|| {
        let blocked = Blocked::new(&[Signal::SIGUSR1]).unwrap();
        runtime().block_on(async {
            let able = Capabilities { exec_args: true, ..Capabilities::default() };
            let (first, mut feed) = fake("ebpf", able);
            let (mut agent, file) = agent(vec![first]);
            let signals = blocked.listen().unwrap();
            let drains = Arc::clone(&feed.drains);
            let feeder = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(200));
                let idle = *drains.lock().unwrap();
                for port in 1..=500 {
                    feed.put(Ok(vec![listen(u64::from(port), port)]));
                    std::thread::sleep(Duration::from_micros(200));
                }
                (idle, feed)
            });
            let mut job = Job::Watch { once: false, duration: Some(Duration::from_millis(600)) };
            assert_eq!(agent.follow(&signals, &mut job).await.unwrap(), Ended::Duration);
            let (idle, feed) = feeder.join().unwrap();
            assert!(idle <= 2, "{idle} drains while nothing happened");
            let drains = *feed.drains.lock().unwrap();
            assert!(drains < 100, "{drains} drains for 500 events");
            assert_eq!(recorded(file).1.len(), 500, "none was missed");
        });
    })
    .join()
    .unwrap();
}

#[test]
fn a_signal_ends_a_watch() {
    std::thread::spawn(|| {
        let blocked = Blocked::new(&[Signal::SIGUSR1]).unwrap();
        nix::sys::signal::raise(Signal::SIGUSR1).unwrap();
        runtime().block_on(async {
            let (first, _feed) = fake("ebpf", Capabilities::default());
            let (mut agent, _file) = agent(vec![first]);
            let signals = blocked.listen().unwrap();
            let mut job = Job::Watch { once: false, duration: None };
            assert_eq!(agent.follow(&signals, &mut job).await.unwrap(), Ended::Signal);
        });
    })
    .join()
    .unwrap();
}

#[test]
fn roots_are_named_and_many_are_cut_short() {
    let root = |pid, name: &str| (pid, name.to_owned());
    assert_eq!(
        describe(&[root(4021, "vite"), root(4010, "zsh"), root(4033, "vite")]),
        "vite (pid 4021, 4033), zsh (pid 4010)"
    );
    let many: Vec<_> = (1..=20).map(|pid| root(pid, "node")).collect();
    assert_eq!(describe(&many), "node (pid 1, 2, 3, 4, 5, 6, 7, 8 and 12 more)");
    let names: Vec<_> = (1..=9).map(|pid| root(pid, &format!("n{pid}"))).collect();
    assert!(describe(&names).ends_with("n6 (pid 6), and 3 other names"));
    assert_eq!(describe(&[root(1, "a\u{1b}[2J")]), "a\\x1b[2J (pid 1)");
}
