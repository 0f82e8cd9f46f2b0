//! What was not seen and would have mattered: each gap lowers the confidence, and is said.

use crate::model::report::{Confidence, Kind};
use crate::model::signal::{Signo, code};
use crate::model::units;

use super::case::{Case, STOP_WINDOW_NS, asks_to_stop};
use super::causes::{Finding, continued, was_hung_up};
use super::losses::Losses;
use super::process::Process;
use super::story::FORWARD_NS;

/// What is known of the holes in a stream.
#[derive(Clone, Copy, Debug)]
pub struct Doubt<'a> {
    pub losses: &'a Losses,
    /// When watching began.
    pub since_ns: u64,
}

impl Doubt<'_> {
    /// Lowers the confidence where something that bears on this death may have been missed, and says what.
    #[must_use]
    pub fn cast(&self, case: &Case<'_>, finding: &mut Finding) -> Vec<String> {
        let mut gaps = Vec::new();
        let holes = [
            self.lost(case),
            self.began_late(case, finding),
            self.passed_on(case, finding),
            traced(case, finding),
            perhaps_taken(case, finding),
            perhaps_in_its_handler(case, finding),
            perhaps_asked_by_sysrq(case, finding),
            perhaps_given_up(case, finding),
        ];
        for gap in holes.into_iter().flatten() {
            finding.confidence = finding.confidence.min(Confidence::Likely);
            gaps.push(gap);
        }
        let history = &case.victim.history;
        if history.forgotten > 0 && case.decisive.is_none() {
            gaps.push("it received so many different signals that the oldest were forgotten".to_owned());
        }
        if let Some(handled) = case.unexplained() {
            gaps.push(format!("it handled a {} whose sender was not seen", handled.signo));
        }
        if case.victim.born.is_none() && finding.kind == Kind::Unknown {
            gaps.push(
                "it was already running when watching began: what was sent to it before was not seen"
                    .to_owned(),
            );
        }
        gaps
    }

    /// From when on a signal, a handler or an OOM mark can have led to this end.
    fn from_ns(case: &Case<'_>) -> u64 {
        let first = case.decisive.map_or(case.ending.at.t_ns, |decisive| decisive.run.first.t_ns);
        first.min(case.ending.at.t_ns).saturating_sub(STOP_WINDOW_NS)
    }

    /// Events were lost while it was decided. Which ones, nobody knows.
    fn lost(&self, case: &Case<'_>) -> Option<String> {
        let lost = self.losses.between(Self::from_ns(case), case.ending.at.t_ns);
        (lost > 0)
            .then(|| format!("{} lost around this death", units::counted(lost, "event was", "events were")))
    }

    /// It ended by its own act soon after watching began, and may have been asked to before: it had a handler for
    /// that, or waited for it.
    fn began_late(&self, case: &Case<'_>, finding: &Finding) -> Option<String> {
        let by_itself = matches!(finding.kind, Kind::Exited | Kind::KilledBySelf | Kind::SiblingThreadExit);
        let late = case.victim.born.is_none() && Self::from_ns(case) < self.since_ns;
        let own = case.decisive.map(|decisive| decisive.run.signo);
        (by_itself && late && could_comply(case.victim, own))
            .then(|| "watching had just begun: what was sent to it before was not seen".to_owned())
    }

    /// An ancestor sent the signal, and may have passed on one that was not seen.
    fn passed_on(&self, case: &Case<'_>, finding: &Finding) -> Option<String> {
        let run = case.decisive?.run;
        let killer = finding.killer.and_then(|id| case.table.get(id))?;
        // What the kernel sent because of what it did, it did not pass on.
        if finding.kernel || !case.table.is_ancestor(killer.id, case.victim.id) {
            return None;
        }
        let from_ns = run.last.t_ns.saturating_sub(FORWARD_NS);
        // Only what it handles or waits for can it have passed on, and what it was seen to get is no gap.
        let seen = killer.history.runs.iter().any(|received| {
            received.signo == run.signo
                && received.result.queued()
                && (from_ns..=run.last.t_ns).contains(&received.last.t_ns)
        });
        let could = could_comply(killer, Some(run.signo));
        if killer.born.is_none() && could && !seen && from_ns < self.since_ns {
            return Some(format!(
                "watching had just begun: what was sent to {} before was not seen",
                killer.label()
            ));
        }
        let handled = killer.history.unexplained.iter().find(|handled| {
            // Some ask in another way than they were asked.
            let alike = handled.signo == run.signo || asks_to_stop(handled.signo);
            alike && (from_ns..=run.last.t_ns).contains(&handled.at.t_ns)
        })?;
        Some(format!("{} handled a {} whose sender was not seen", killer.label(), handled.signo))
    }
}

/// It left soon after a request that its tracer may have swallowed, or may have let pass to where it is waited for.
fn traced(case: &Case<'_>, finding: &Finding) -> Option<String> {
    let signo = case.asked_through_tracer().filter(|_| finding.kind == Kind::Exited)?;
    let tracer = case.tracer().map_or_else(|| "a process".to_owned(), Process::label);
    Some(format!("it was traced by {tracer}, which decides whether a {signo} gets to it"))
}

/// A worker of the kernel ran the OOM killer, or one of whom nothing is known. SysRq f has it run there (drivers/tty/
/// sysrq.c, `moom_callback`), and only the kernel log tells that apart from a machine that is short of memory.
fn perhaps_asked_by_sysrq(case: &Case<'_>, finding: &Finding) -> Option<String> {
    let blow = case.blow().filter(|_| finding.kind == Kind::OomKill)?;
    let user_space = !blow.kernel_thread && blow.current.is_some_and(|process| !process.is_faceless());
    (!user_space).then(|| "whether magic SysRq had the OOM killer run was not seen".to_owned())
}

/// A SIGHUP by a call that is not known: a session leader that gives its terminal up sends it as well (drivers/tty/
/// tty_jobctrl.c, `disassociate_ctty(0)`), and the SIGCONT after it finds nobody who was quick to die. Whoever is in its
/// session descends from it. One whose terminal was hung up has none to give up.
fn perhaps_given_up(case: &Case<'_>, finding: &Finding) -> Option<String> {
    let blow = case.blow().filter(|_| finding.kind == Kind::KilledByProcess)?;
    let sender = blow.current.filter(|sender| !was_hung_up(sender))?;
    let alike = blow.in_kill().is_none() && blow.is(Signo::HUP, code::SI_USER, true);
    let may_lead = case.victim.image.sid == Some(sender.tgid)
        || case.table.is_ancestor(sender.id, case.victim.id)
        || continued(case.victim, blow.run);
    (alike && may_lead)
        .then(|| format!("whether {} sent it, or gave up its terminal, was not seen", sender.label()))
}

/// It was asked to stop, no handler took that, and what waited at its end could not be read: it may have waited for
/// the signal itself, and complied.
fn perhaps_taken(case: &Case<'_>, finding: &Finding) -> Option<String> {
    if finding.kind != Kind::Exited || case.ending.exit.pending.is_some() {
        return None;
    }
    let run = case.untaken_request()?;
    Some(format!("it was sent {}, and whether it took that could not be seen", run.signo))
}

/// It failed a while after a fault that its handler took, and whether it was still in there could not be read: a
/// handler may write a report first, on a slow disk.
fn perhaps_in_its_handler(case: &Case<'_>, finding: &Finding) -> Option<String> {
    let failed = finding.kind == Kind::Exited && case.exit_code() != Some(0);
    if !failed || case.ending.exit.blocked.is_some() {
        return None;
    }
    let fault = case.handled_fault()?;
    let recent = case.ending.at.t_ns.saturating_sub(fault.last.t_ns) < STOP_WINDOW_NS;
    recent.then(|| {
        format!("it handled a {} before, and whether its handler exited could not be seen", fault.signo)
    })
}

/// It had handlers, when watching began, for requests to stop or for this signal, or could wait for them.
fn could_comply(process: &Process, signo: Option<Signo>) -> bool {
    let requests = [Some(Signo::TERM), Some(Signo::INT), Some(Signo::HUP), Some(Signo::QUIT), signo];
    let bits = requests.into_iter().flatten().fold(0, |bits, signo| bits | signo.bit());
    process.masks.is_none_or(|masks| (masks.caught | masks.blocked) & bits != 0)
}
