//! How it came to a death: the chain of acts, from whoever started it to the end.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::model::report::{Confidence, Kind, Mechanism};

use super::actors;
use super::acts::Acts;
use super::cancel::Cancel;
use super::case::{Case, asks_to_stop};
use super::causes::parent_death_signal::THREAD_EXIT;
use super::causes::{self, Finding, tty_hangup};
use super::doubt::Doubt;
use super::followed::{Followed, Link, followed};
use super::history::SignalRun;
use super::process::{Mark, ProcId, Process};
use super::sentence;
use super::service::{self, Request, Service};
use super::table::Table;
use super::words::{self, short};
use crate::model::signal::{Signo, code};
use crate::model::units;

/// One step, in words, and the event behind it.
#[derive(Clone, Debug)]
pub struct Step {
    pub at: Mark,
    pub text: String,
}

/// A death, told.
#[derive(Clone, Debug)]
pub struct Story {
    pub finding: Finding,
    pub steps: Vec<Step>,
    /// Whose act it was, following the chain back.
    pub killer: Option<ProcId>,
    /// Who decided it, following the killer's ancestry up.
    pub actor: Option<ProcId>,
    /// What the actor did, `sent SIGTERM to zsh (pid 4010)`.
    pub action: Option<String>,
    /// What the actor did was to end, and nobody made it.
    pub own_end: bool,
    pub evidence: BTreeSet<u64>,
    /// Processes whose lives the story mentions.
    pub cast: BTreeSet<ProcId>,
    /// When the killer acted.
    pub act_at: Option<Mark>,
    /// The act that ended it and others, by its first event.
    pub shared_act: Option<u64>,
    /// The death that an exit of its own followed.
    pub followed: Option<Followed>,
    /// That death in one sentence, where its status was passed on.
    pub origin: Option<String>,
    /// What was missed or could not be seen, and bears on it.
    pub gaps: Vec<String>,
    /// What the killer was doing, when it was systemd.
    pub service: Option<Service>,
    /// The killer was a CI runner.
    pub cancel: Option<Cancel>,
}

/// What a story is told from.
#[derive(Clone, Copy, Debug)]
pub struct Teller<'a> {
    pub table: &'a Table,
    pub acts: &'a Acts,
    pub doubt: Doubt<'a>,
}

/// Longest chain of deaths that is followed back.
const DEPTH: usize = 8;
/// A wrapper passes a signal on within this time.
pub(super) const FORWARD_NS: u64 = 1_000_000_000;

impl<'a> Teller<'a> {
    /// Tells how `victim` died; `None` while it lives.
    #[must_use]
    pub fn tell(&self, victim: &'a Process) -> Option<(Case<'a>, Story)> {
        self.tell_to_depth(victim, DEPTH)
    }

    fn tell_to_depth(&self, victim: &'a Process, depth: usize) -> Option<(Case<'a>, Story)> {
        let case = Case::new(self.table, victim)?;
        let mut finding = causes::examine(&case);
        let gaps = self.doubt.cast(&case, &mut finding);
        let mut story = Story { gaps, ..Story::new(finding, victim.id) };
        let direct = story.finding.clone();
        self.go_back(&case, &mut story, depth);
        if let Some(decisive) = case.decisive {
            self.blow(&case, &direct, &mut story);
            let act = self.acts.of(decisive.run).filter(|act| act.count > 1);
            story.shared_act = act.map(|act| act.first.id);
            story.became(victim, decisive.run);
            if let Some(again) = decisive.reraised {
                let text = if again.is(Signo::SEGV, code::SI_KERNEL, false) {
                    format!(
                        "{} had no room on its stack for its handler of {}",
                        short(victim),
                        decisive.run.signo
                    )
                } else {
                    format!("{} handled it and then sent itself {}", short(victim), again.signo)
                };
                story.step(again.last, again.first.id, text);
            }
        }
        if case.decisive.is_none() && story.finding.kind == Kind::Debugger {
            self.injection(&case, &mut story);
        }
        if let Some(mark) = story.finding.oom {
            story.evidence.insert(mark.at.id);
            // Whoever was chosen, the victim shared its memory.
            let chosen =
                self.table.iter().find(|other| other.history.oom.is_some_and(|own| own.at.id == mark.at.id));
            story.cast.extend(chosen.map(|chosen| chosen.id));
        }
        if story.finding.detail == Some("strict") {
            let text = format!(
                "{} made a system call that strict seccomp forbids, and the kernel ended it",
                short(victim)
            );
            story.step(case.ending.at, case.ending.at.id, text);
        }
        story.followed = followed(&case, &story.finding);
        if let Some(followed) = story.followed
            && let Some(origin) =
                self.table.get(followed.origin).and_then(|origin| Case::new(self.table, origin))
        {
            story.cast.insert(followed.origin);
            if followed.link == Link::Status && depth > 0 {
                let told = self.tell_to_depth(origin.victim, depth - 1);
                story.origin = told.map(|(case, told)| sentence::short(self.table, &case, &told));
            }
            story.step(followed.end, followed.end.id, end(&origin, &causes::examine(&origin)));
        }
        let text = end(&case, &story.finding);
        story.step(case.ending.at, case.ending.at.id, text);
        Some((case, story))
    }

    /// What came before the decisive signal: another death, or a signal that was passed on.
    fn go_back(&self, case: &Case<'a>, story: &mut Story, depth: usize) {
        if let Some(left) = tty_hangup::left_behind(case) {
            if let Some(before) = self.received(left.leader, left.hangup, depth) {
                story.absorb(before);
                story.cast.insert(left.leader.id);
                // It may have been gone before the hangup itself.
                story.steps.retain(|step| step.at.t_ns <= case.ending.at.t_ns);
            }
            return;
        }
        if let Some(origin) = story.finding.because_of.and_then(|id| self.table.get(id)) {
            story.cast.insert(origin.id);
            let before = (depth > 0).then(|| self.tell_to_depth(origin, depth - 1)).flatten();
            if let Some((origin, before)) = before {
                let end = before.action.is_none().then(|| OwnEnd::of(&origin, &before.finding)).flatten();
                story.absorb(before);
                if let Some(end) = end {
                    story.killer = end.act.then_some(origin.victim.id);
                    story.actor = end.actor.then_some(origin.victim.id);
                    story.action = Some(end.action);
                    story.act_at = Some(origin.ending.at);
                    (story.service, story.cancel) = (None, None);
                    story.own_end = true;
                }
            } else {
                // It was dying when it sent this, but its end was not seen.
                story.finding.confidence = story.finding.confidence.min(Confidence::Likely);
            }
            return;
        }
        let Some(killer) = story.finding.killer.and_then(|id| self.table.get(id)) else { return };
        let run = case.decisive.map(|decisive| decisive.run);
        let sent = run.filter(|_| !story.finding.kernel);
        if let Some(before) = sent.and_then(|run| self.forwarded(case, killer, run, depth)) {
            if before.finding.kernel {
                // bash passes on the hangup that the kernel sent it: the hangup is the cause, not bash.
                let Finding { kind, mechanism, detail, because_of, .. } = before.finding;
                story.finding = Finding { kind, mechanism, detail, because_of, ..story.finding.clone() };
            }
            story.absorb(before);
            story.cast.insert(killer.id);
            return;
        }
        story.killer = Some(killer.id);
        story.act_at = run.map(|run| run.last).or(case.victim.history.taken.map(|taken| taken.at));
        let acted_ns = story.acted_ns();
        story.service = Service::of(self.table, case, killer, story.finding.kind);
        story.cancel = Cancel::of(self.table, case, killer, story.finding.kind);
        for sent in story.cancel.clone().into_iter().flat_map(|cancel| cancel.before) {
            let Some(asked) = self.table.get(sent.to) else { continue };
            story.cast.insert(sent.to);
            story.step(
                sent.at,
                sent.at.id,
                format!("{} sent {} to {}", short(killer), sent.signo, short(asked)),
            );
        }
        if let Some((asked, at)) = story.service.as_ref().map(|service| service.asked)
            && Some(at.id) != run.map(|run| run.first.id)
            && let Some(asked) = self.table.get(asked)
        {
            story.cast.insert(asked.id);
            story.step(at, at.id, format!("{} asked {} to stop", short(killer), short(asked)));
        }
        if let Some(request) = story.service.as_ref().and_then(|service| service.request.clone()) {
            self.requested(&request, story);
            story.cast.insert(killer.id);
            return;
        }
        story.actor = Some(actors::decider(self.table, killer.id, acted_ns));
        story.action = Some(action(&story.finding, run, &case.victim.as_of(acted_ns)));
        self.rise(killer, story);
    }

    /// Who most likely asked systemd for it.
    fn requested(&self, request: &Request, story: &mut Story) {
        let Some(systemctl) = self.table.get(request.by) else { return };
        story.actor = Some(service::decider(self.table, request));
        story.action = Some(format!("asked for it with `{}`", request.command));
        self.rise(systemctl, story);
        story.step(request.at, request.at.id, format!("{} ran `{}`", short(systemctl), request.command));
    }

    /// How `sender` came by the signal that it sent on: wrappers such as npm, sudo, timeout, dumb-init and an
    /// interactive bash pass on to what they started what they get themselves. Some ask in another way than they were
    /// asked, or do not ask any more.
    fn forwarded(
        &self,
        case: &Case<'a>,
        sender: &'a Process,
        run: &SignalRun,
        depth: usize,
    ) -> Option<Story> {
        if depth == 0 || !self.table.is_ancestor(sender.id, case.victim.id) {
            return None;
        }
        let handled = |received: &SignalRun| received.handled > 0;
        let received = sender.history.runs.iter().rev().find(|received| {
            let translated = handled(received) && asks_to_stop(received.signo);
            (received.signo == run.signo || translated)
                && received.result.queued()
                && !sender.left_waiting(received)
                && received.current != Some(sender.id)
                && received.last.t_ns <= run.last.t_ns
                && run.last.t_ns - received.last.t_ns < FORWARD_NS
        })?;
        let translated = received.signo != run.signo;
        // A handler that repeats its signal passes it on. Whoever took it otherwise, or answers with another one, may
        // have reasons of its own.
        let sure = (handled(received) || self.table.is_own(sender)) && !translated;
        let mut before = self.received(sender, received, depth)?;
        if translated && before.finding.kernel {
            return None;
        }
        if !sure {
            before.finding = before.finding.likely();
        }
        Some(before)
    }

    /// How a process came by a signal that did not end it.
    fn received(&self, target: &'a Process, run: &'a SignalRun, depth: usize) -> Option<Story> {
        let received = Case::of_signal(self.table, target, run);
        let finding = causes::examine(&received);
        if finding.kind == Kind::Unknown || depth == 0 {
            return None;
        }
        let mut story = Story::new(finding, target.id);
        let direct = story.finding.clone();
        self.go_back(&received, &mut story, depth - 1);
        self.blow(&received, &direct, &mut story);
        Some(story)
    }

    /// The steps from the one who decided down to the killer.
    fn rise(&self, killer: &'a Process, story: &mut Story) {
        let acted_ns = story.acted_ns();
        let then = |process: &Process| short(&process.as_of(acted_ns));
        let mut line = vec![killer];
        for parent in self.table.ancestors(killer.id) {
            if story.actor == Some(line[line.len() - 1].id) {
                break;
            }
            line.push(parent);
        }
        for pair in line.windows(2).rev() {
            let (child, parent) = (pair[0], pair[1]);
            story.cast.insert(child.id);
            story.cast.insert(parent.id);
            // An exec replaces the program and keeps the process; the birth is when it was started.
            if let Some(at) = child.born {
                story.step(at, at.id, format!("{} started {}", then(parent), then(child)));
            }
        }
        story.cast.insert(killer.id);
    }

    /// The signal that a tracer put in another's place: nothing generated it, it was only taken.
    fn injection(&self, case: &Case<'a>, story: &mut Story) {
        let (Some(tracer), Some(taken)) = (case.tracer(), case.victim.history.taken) else { return };
        let text = format!(
            "{} was tracing {} and made it go on with {}",
            short(tracer),
            short(case.victim),
            taken.signo
        );
        story.cast.insert(tracer.id);
        story.step(taken.at, taken.at.id, text);
    }

    /// The decisive signal, as the kernel made it: `direct` is what it was by itself.
    fn blow(&self, case: &Case<'a>, direct: &Finding, story: &mut Story) {
        let Some(run) = case.decisive.map(|decisive| decisive.run) else { return };
        // As they were called then.
        let victim = short(&case.victim.as_of(run.last.t_ns));
        let signo = run.signo;
        let current = case.current().map(|current| current.as_of(run.last.t_ns));
        let by = current.as_deref().map_or_else(|| "a task that has gone".to_owned(), short);
        let terminal = match case.victim.image.tty.as_deref() {
            Some(tty) if !tty.is_empty() => format!("the terminal {tty}"),
            _ => format!("the terminal of {}", case.victim.name()),
        };
        let text = match direct.kind {
            Kind::Crashed => {
                let fault = words::fault(signo, direct.detail);
                format!("{victim} crashed: {fault}, and the kernel raised {signo}")
            }
            Kind::KilledBySelf => format!("{victim} sent {signo} to itself{}", self.reach(direct, run)),
            Kind::OomKill => format!("the kernel's OOM killer chose {victim} and sent it {signo}"),
            Kind::TtyHangup if direct.detail == Some(tty_hangup::GIVEN_UP) => {
                format!("{by} gave up {terminal}, and the kernel sent {signo} to {victim}")
            }
            Kind::TtyHangup if direct.killer.is_some() => {
                let verb = if direct.mechanism == Some(Mechanism::TtyIoctl) { "hung up" } else { "closed" };
                format!("{by} {verb} {terminal}, and the kernel sent {signo} to {victim}")
            }
            Kind::TtyHangup if direct.because_of.is_none() => format!(
                "{terminal} was hung up by a worker of the kernel, for whom was not seen, and the kernel sent {signo} \
                 to {victim}"
            ),
            Kind::TtyHangup => format!("{terminal} hung up, and the kernel sent {signo} to {victim}"),
            Kind::TtyKeyboard if direct.killer.is_some() => {
                format!("{by} typed into {terminal}, and the kernel sent {signo} to {victim}")
            }
            Kind::TtyKeyboard => format!("a key at {terminal} made the kernel send {signo} to {victim}"),
            Kind::SessionLeaderExit => {
                format!("{by} led the session: the kernel sent {signo} to {victim} in its foreground group")
            }
            Kind::OrphanedProcessGroup => {
                format!("the stopped group of {victim} was orphaned, and the kernel sent it {signo}")
            }
            Kind::ParentDeathSignal if direct.detail == Some(THREAD_EXIT) => {
                format!("{victim} had asked for {signo} at the end of the thread of {by} that started it")
            }
            Kind::ParentDeathSignal => {
                format!("{victim} had asked for {signo} at the end of its parent {by}")
            }
            Kind::CgroupKill => {
                let writer = direct.killer.and_then(|id| self.table.get(id)).map(short);
                let writer = match (writer, case.blow().is_some_and(|blow| blow.own)) {
                    (Some(writer), _) => writer,
                    (None, true) => victim.clone(),
                    (None, false) => "a process that was not seen".to_owned(),
                };
                format!("{writer} wrote to cgroup.kill, and the kernel sent {signo} to {victim}")
            }
            Kind::PidNamespaceTeardown if direct.mechanism == Some(Mechanism::Reboot) => {
                format!("{by} called reboot in the PID namespace of which {victim} was init")
            }
            Kind::PidNamespaceTeardown => {
                format!("{by} was init of the PID namespace, and the kernel sent {signo} to {victim} in it")
            }
            Kind::Seccomp => format!("{victim} made a system call that its seccomp filter forbids: {signo}"),
            Kind::Rlimit => format!("{victim} went over a resource limit, and the kernel sent it {signo}"),
            Kind::Timer => format!("a timer of {victim} ran out, and the kernel sent it {signo}"),
            Kind::BrokenPipe => format!("{victim} wrote to a pipe or socket that nobody reads: {signo}"),
            Kind::Debugger => match direct.detail {
                None => format!("{by} killed {victim} through ptrace: {signo}"),
                Some("exit_kill") => {
                    format!("{by} had been tracing {victim}, which the kernel sent {signo} with its end")
                }
                Some(_) => {
                    let tracer = case.tracer().map_or(by, short);
                    format!("{tracer} was tracing {victim} and made it go on with {signo}")
                }
            },
            Kind::Sysrq => format!("magic SysRq made the kernel send {signo} to {victim}"),
            Kind::ExecFailed => format!("{victim} could not finish execve, and the kernel sent it {signo}"),
            Kind::AsyncNotification => format!("{victim} was notified by {signo}, as it had asked"),
            Kind::Exited | Kind::KilledByProcess | Kind::SiblingThreadExit | Kind::Unknown => {
                let by = if direct.kernel { "the kernel".to_owned() } else { by };
                format!("{by} sent {signo} to {victim}{}", self.reach(direct, run))
            }
        };
        if let Some(current) = current {
            story.cast.insert(current.id);
        }
        let fatal =
            if case.decisive.is_some_and(|decisive| decisive.graceful) { run.first } else { run.last };
        story.step(fatal, run.first.id, text);
    }

    /// `, to its whole process group (3 more processes)`
    fn reach(&self, finding: &Finding, run: &SignalRun) -> String {
        let more = self.acts.of(run).map_or(0, |act| act.count.saturating_sub(1));
        if finding.mechanism.is_none() && more > 0 {
            return format!(", and to {} at once", units::counted(more, "more process", "more processes"));
        }
        let Some(manner) = words::manner(finding.mechanism) else { return String::new() };
        match more {
            0 => format!(", {manner}"),
            n => format!(", {manner} ({})", units::counted(n, "more process", "more processes")),
        }
    }
}

impl Story {
    fn new(finding: Finding, victim: ProcId) -> Self {
        Self {
            finding,
            steps: Vec::new(),
            killer: None,
            actor: None,
            action: None,
            own_end: false,
            evidence: BTreeSet::new(),
            cast: BTreeSet::from([victim]),
            act_at: None,
            shared_act: None,
            followed: None,
            gaps: Vec::new(),
            service: None,
            cancel: None,
            origin: None,
        }
    }

    /// Whose act it was, as that process was when it acted.
    #[must_use]
    pub fn killer<'a>(&self, table: &'a Table) -> Option<Cow<'a, Process>> {
        table.as_of(self.killer?, self.acted_ns())
    }

    /// Who decided it, as that process was then.
    #[must_use]
    pub fn actor<'a>(&self, table: &'a Table) -> Option<Cow<'a, Process>> {
        table.as_of(self.actor?, self.acted_ns())
    }

    fn acted_ns(&self) -> u64 {
        self.act_at.map_or(u64::MAX, |at| at.t_ns)
    }

    /// Says that the victim was another program when the signal was sent to it.
    fn became(&mut self, victim: &Process, run: &SignalRun) {
        let then = actors::title(&victim.as_of(run.last.t_ns));
        let Some(at) = victim.exec.filter(|exec| exec.t_ns > run.last.t_ns) else { return };
        if then != actors::title(victim) {
            self.step(at, at.id, format!("{then} ({}) became {}", victim.tgid, actors::title(victim)));
        }
    }

    fn step(&mut self, at: Mark, event: u64, text: String) {
        self.evidence.insert(event);
        self.steps.push(Step { at: Mark { id: event, ..at }, text });
    }

    /// Takes over an earlier story as the beginning of this one.
    fn absorb(&mut self, before: Story) {
        self.steps = before.steps;
        self.killer = before.killer;
        self.actor = before.actor;
        self.action = before.action;
        self.own_end = before.own_end;
        self.act_at = before.act_at;
        (self.service, self.cancel) = (before.service, before.cancel);
        self.evidence.extend(before.evidence);
        self.cast.extend(before.cast);
        for gap in before.gaps {
            if !self.gaps.contains(&gap) {
                self.gaps.push(gap);
            }
        }
        let confidence = before.finding.confidence.max(Confidence::Likely);
        self.finding.confidence = self.finding.confidence.min(confidence);
    }
}

/// How a process ended that nobody made end: the beginning of a story.
struct OwnEnd {
    action: String,
    /// It was its own act, so it is the killer of whom it took along.
    act: bool,
    /// It happened to it, rather than by the kernel's choice.
    actor: bool,
}

impl OwnEnd {
    fn of(case: &Case<'_>, finding: &Finding) -> Option<Self> {
        let signo = || case.decisive.map(|decisive| decisive.run.signo);
        let (action, act, actor) = match finding.kind {
            Kind::Unknown => return None,
            Kind::Exited => {
                let code = case.exit_code().map(|code| format!(" with code {code}"));
                (format!("exited{}", code.unwrap_or_default()), true, true)
            }
            Kind::KilledBySelf => (format!("sent {} to itself", signo()?), true, true),
            Kind::Crashed => (format!("crashed with {}", signo()?), false, true),
            Kind::OomKill => (format!("the kernel's OOM killer ended {}", case.victim.label()), false, false),
            _ => (format!("died of {}", signo()?), false, true),
        };
        Some(Self { action, act, actor })
    }
}

/// What a killer did, without naming it: `sent SIGTERM to zsh (pid 4010)`.
fn action(finding: &Finding, run: Option<&SignalRun>, target: &Process) -> String {
    let target = target.label();
    let signo = run.map_or(Signo::KILL, |run| run.signo);
    match finding.kind {
        Kind::TtyHangup if finding.detail == Some(tty_hangup::GIVEN_UP) => {
            format!("gave up the terminal of {target}")
        }
        Kind::TtyHangup if finding.mechanism == Some(Mechanism::TtyIoctl) => {
            format!("hung up the terminal of {target}")
        }
        Kind::TtyHangup => format!("closed the terminal of {target}"),
        Kind::TtyKeyboard => format!("typed into the terminal of {target}"),
        Kind::CgroupKill => format!("wrote to the cgroup.kill of {target}"),
        Kind::Debugger => format!("killed {target} through ptrace"),
        Kind::Sysrq => "pressed magic SysRq".to_owned(),
        Kind::PidNamespaceTeardown => format!("called reboot in the PID namespace of {target}"),
        Kind::ParentDeathSignal => format!("ended the thread that had started {target}"),
        _ => match words::manner(finding.mechanism) {
            Some(manner) => format!("sent {signo} to {target} and {manner}"),
            None => format!("sent {signo} to {target}"),
        },
    }
}

/// How it ended, as the last step.
fn end(case: &Case<'_>, finding: &Finding) -> String {
    let victim = short(case.victim);
    if finding.kind == Kind::SiblingThreadExit {
        let code = case.exit_code().unwrap_or_default();
        let by = words::ender(case.victim);
        return format!("{victim} exited with code {code}: {by} called exit for all of them");
    }
    if let Some(decisive) = case.decisive.filter(|decisive| !decisive.graceful)
        && let Some(code) = case.exit_code()
    {
        return format!("{victim} exited with code {code} in its handler of {}", decisive.run.signo);
    }
    if let (Some(signo), true) = (case.death_signal(), case.dumped_for().is_some()) {
        return format!("{victim} was dumping core when {signo} ended that, and gave it its status");
    }
    if let Some(signo) = case.death_signal() {
        return format!("{victim} was killed by {signo}");
    }
    let after = case
        .decisive
        .filter(|decisive| decisive.graceful)
        .map(|decisive| units::elapsed(case.ending.at.t_ns.saturating_sub(decisive.run.first.t_ns)))
        .map_or_else(String::new, |after| format!(", {after} after it was asked to stop"));
    match case.exit_code() {
        Some(code) => format!("{victim} exited with code {code}{after}"),
        None => format!("{victim} ended{after}"),
    }
}
