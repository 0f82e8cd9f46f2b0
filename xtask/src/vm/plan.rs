//! Which guests are booted, in which order, and which of them only when there is time.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::matrix::{self, Run};

/// What a guest is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Play {
    /// Every way to die, under a killtrace that watched before.
    OnTime,
    /// The same, with killtrace started only when all is set up.
    Late,
    /// Both, one after the other.
    Zoo,
    /// What happened to the first user.
    Mission,
    /// What happens to people, with the programs that it happens to.
    Stories,
    /// What services come to, and killtrace as one of them.
    Systemd,
    /// A command for the guest's shell.
    Command,
}

/// What a guest is, beside its kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Machine {
    /// Busybox.
    Bare,
    /// A person's, with npm and Vite.
    Dev,
    /// One that systemd boots.
    Systemd,
}

impl Play {
    pub(super) fn is_story(self) -> bool {
        matches!(self, Self::Mission | Self::Stories | Self::Systemd)
    }

    /// Where it is played. A command is given any of them.
    pub(super) fn machine(self) -> Machine {
        match self {
            Self::OnTime | Self::Late | Self::Zoo | Self::Command => Machine::Bare,
            Self::Mission | Self::Stories => Machine::Dev,
            Self::Systemd => Machine::Systemd,
        }
    }

    /// Its subject, for the list of what is played.
    pub(super) fn subject(self) -> &'static str {
        match self {
            Self::OnTime | Self::Late | Self::Zoo | Self::Command => "the zoo",
            Self::Mission | Self::Stories => "the mission's story",
            Self::Systemd => "a machine with systemd",
        }
    }

    /// Beside the kernel and backend, in the name of a guest.
    fn word(self) -> &'static str {
        match self {
            Self::OnTime | Self::Zoo | Self::Command => "",
            Self::Late => " late",
            Self::Mission => " mission",
            Self::Stories => " stories",
            Self::Systemd => " systemd",
        }
    }
}

/// Every so manieth case of the zoo, from the `first` on. Of stories, those that need a machine of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) first: u32,
    pub(super) of: u32,
}

impl Part {
    pub(super) const WHOLE: Self = Self { first: 1, of: 1 };

    pub(super) fn is_whole(self) -> bool {
        self == Self::WHOLE
    }
}

/// One guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Boot {
    pub(super) run: Run,
    pub(super) play: Play,
    pub(super) part: Part,
    /// Also when time is short.
    pub(super) always: bool,
}

impl Boot {
    fn new(run: Run, play: Play) -> Self {
        Self { run, play, part: Part::WHOLE, always: true }
    }

    /// `pi5-stock/perf late`
    pub(super) fn name(&self) -> String {
        let part = match self.part {
            whole if whole.is_whole() => String::new(),
            Part { first, of } => format!(" {first}/{of}"),
        };
        self.run.name() + self.play.word() + &part
    }
}

/// The quick half: the machine that killtrace was made for, and other parts of the zoo with eBPF and BTF on the same
/// processor and on the oldest kernel.
const QUICK: [(&str, &str, Part); 3] = [
    ("pi5-stock", "perf", Part::WHOLE),
    ("debian-6.12-arm64-16k", "ebpf", Part { first: 1, of: 8 }),
    ("debian-6.1-amd64", "ebpf", Part { first: 5, of: 8 }),
];

/// Where stories are told: the machine of the first story, and its kin.
const STORIES: [(&str, &str); 3] =
    [("pi5-stock", "perf"), ("debian-6.12-arm64-16k", "ebpf"), ("pi5-bpf", "ebpf")];

/// Where systemd is the first process: a Raspberry Pi whose owner has switched the memory controller on, and both ways in
/// which eBPF sees a machine.
const SYSTEMD: [(&str, &str); 3] =
    [("pi5-stock-memcg", "perf"), ("debian-6.12-arm64-16k", "ebpf"), ("pi5-bpf", "ebpf")];

/// The first of these tells a part of the mission's story in the quick half, and two tell all of it right after that.
const QUICK_STORIES: usize = 1;
const MISSION: usize = 2;
const SOME: Part = Part { first: 1, of: 2 };

fn find(kernel: &str, backend: &str) -> Option<Run> {
    matrix::runs().find(|run| run.kernel.name == kernel && run.backend.name == backend)
}

fn systemd_runs() -> impl Iterator<Item = Run> {
    SYSTEMD.iter().filter_map(|(kernel, backend)| find(kernel, backend))
}

fn story_runs() -> impl Iterator<Item = Run> {
    STORIES.iter().filter_map(|(kernel, backend)| find(kernel, backend))
}

/// What is always played.
pub(super) fn quick() -> Vec<Boot> {
    let stories =
        story_runs().take(QUICK_STORIES).map(|run| Boot { part: SOME, ..Boot::new(run, Play::Mission) });
    let zoo = QUICK.iter().filter_map(|&(kernel, backend, part)| {
        Some(Boot { part, ..Boot::new(find(kernel, backend)?, Play::OnTime) })
    });
    stories.chain(zoo).collect()
}

/// Everything: the quick half first, then every kernel and backend, then late watches and more stories. `certainly`:
/// there is time for all of it, so that nothing is played in part first.
pub(super) fn all(certainly: bool) -> Vec<Boot> {
    let mut quick = quick();
    if certainly {
        quick.iter_mut().for_each(|boot| boot.part = Part::WHOLE);
    }
    let mission = story_runs().take(MISSION).map(|run| Boot::new(run, Play::Mission));
    let on_time = matrix::runs().map(|run| Boot::new(run, Play::OnTime));
    let late = matrix::runs().map(|run| Boot::new(run, Play::Late));
    let stories = story_runs().map(|run| Boot::new(run, Play::Stories));
    let systemd = systemd_runs().map(|run| Boot::new(run, Play::Systemd));
    let rest =
        mission.chain(systemd).chain(on_time).chain(late).chain(stories).filter(|boot| !quick.contains(boot));
    let rest = rest.map(|boot| Boot { always: certainly, ..boot });
    quick.iter().copied().chain(rest).collect()
}

/// One play on runs that were named.
pub(super) fn named(runs: Vec<Run>, play: Play) -> Vec<Boot> {
    runs.into_iter().map(|run| Boot::new(run, play)).collect()
}

/// All stories, everywhere.
pub(super) fn stories() -> Vec<Boot> {
    named(story_runs().collect(), Play::Stories)
}

/// All that is about systemd, everywhere.
pub(super) fn systemd() -> Vec<Boot> {
    named(systemd_runs().collect(), Play::Systemd)
}

/// Guests that wait, and how long such guests take.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: VecDeque<(usize, Boot)>,
    /// The longest so far of each play, as a whole.
    took: BTreeMap<Play, Duration>,
    /// No guest that would run beyond this is booted, except those that always are.
    limit: Option<Duration>,
}

/// What becomes of the next guest.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Boot(usize, Boot),
    /// It would take about so long, which is more than is left.
    NoTime(usize, Boot, Duration),
}

/// As good as nothing is known of a play that was never played here.
const UNKNOWN: Duration = Duration::from_secs(20 * 60);

impl Queue {
    pub(super) fn new(boots: &[Boot], limit: Option<Duration>) -> Self {
        Self { waiting: boots.iter().copied().enumerate().collect(), took: BTreeMap::new(), limit }
    }

    /// The next guest, when so much time has passed.
    pub(super) fn next(&mut self, passed: Duration) -> Option<Next> {
        let (place, boot) = self.waiting.pop_front()?;
        let Some(limit) = self.limit.filter(|_| !boot.always) else { return Some(Next::Boot(place, boot)) };
        let estimate = self.estimate(boot.play);
        Some(match passed + estimate <= limit {
            true => Next::Boot(place, boot),
            false => Next::NoTime(place, boot, estimate),
        })
    }

    /// A late play takes about as long as one on time, and all stories longer than the mission's.
    fn estimate(&self, play: Play) -> Duration {
        let like = match play {
            Play::Late => Some(Play::OnTime),
            Play::OnTime | Play::Zoo | Play::Mission | Play::Stories | Play::Systemd | Play::Command => None,
        };
        let known = self.took.get(&play).or_else(|| self.took.get(&like?));
        // Machines are noisy.
        known.map_or(UNKNOWN, |took| took.mul_f64(1.2))
    }

    pub(super) fn learn(&mut self, boot: &Boot, took: Duration) {
        let longest = self.took.entry(boot.play).or_default();
        *longest = (took * boot.part.of).max(*longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_holds_the_quick_half_and_no_guest_twice() {
        let quick = quick();
        assert_eq!(quick.len(), QUICK.len() + QUICK_STORIES, "each name is one of the matrix");
        assert_eq!(all(false)[..quick.len()], quick);
        for all in [all(false), all(true)] {
            for (place, boot) in all.iter().enumerate() {
                assert!(!all[..place].iter().any(|other| other.name() == boot.name()), "{}", boot.name());
            }
            for run in matrix::runs() {
                for play in [Play::OnTime, Play::Late] {
                    let whole = Boot::new(run, play).name();
                    assert!(all.iter().any(|boot| boot.name() == whole), "{whole}");
                }
            }
        }
        assert!(all(true).iter().all(|boot| boot.part.is_whole()));
    }

    #[test]
    fn what_always_runs_needs_no_time_and_the_rest_as_much_as_its_like_took() {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        let mut boots = all(false);
        boots.retain(|boot| !boot.play.is_story());
        let mut queue = Queue::new(&boots, Some(minutes(30)));
        for boot in quick().iter().filter(|boot| !boot.play.is_story()) {
            assert!(matches!(queue.next(minutes(40)), Some(Next::Boot(_, next)) if next == *boot));
        }
        assert!(matches!(queue.next(minutes(11)), Some(Next::NoTime(..))), "it may take 20 minutes");
        let part = Boot { part: Part { first: 1, of: 4 }, ..boots[0] };
        queue.learn(&part, minutes(10) / 4);
        assert!(matches!(queue.next(minutes(18)), Some(Next::Boot(..))));
        assert!(matches!(queue.next(minutes(19)), Some(Next::NoTime(_, _, time)) if time == minutes(12)));
        let mut unbound = Queue::new(&boots, None);
        assert!((0..boots.len()).all(|_| matches!(unbound.next(minutes(999)), Some(Next::Boot(..)))));
        assert_eq!(unbound.next(minutes(999)), None);
    }
}
