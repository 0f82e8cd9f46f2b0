//! What to do about a death, only where the evidence supports it.

use crate::model::report::{Kind, Role};

use super::actors;
use super::case::Case;
use super::death::Scene;
use super::process::Process;
use super::story::Story;
use crate::model::units::bytes;

/// One or two concrete next steps, or none.
#[must_use]
pub(super) fn advice(scene: &Scene<'_>, case: &Case<'_>, story: &Story) -> Vec<String> {
    let table = case.table;
    let mut advice = Vec::new();
    let killer = story.killer(table);
    let actor = story.actor(table);
    let role = |process: &Process| actors::role(table, process, case.victim);
    match story.finding.kind {
        Kind::TtyHangup | Kind::SessionLeaderExit => {
            let wrapper = story.finding.because_of.and_then(|id| table.get(id));
            match wrapper.and_then(|wrapper| Some((wrapper, wrapper.image.oom_score_adj?))) {
                Some((wrapper, adj))
                    if killer.as_ref().is_some_and(|killer| role(killer) == Role::OomDaemon) =>
                {
                    advice.push(format!(
                        "{} had oom_score_adj {adj}: protect it as well as {}, or start {1} outside the terminal \
                         (setsid, systemd-run --user).",
                        wrapper.label(),
                        case.victim.name(),
                    ));
                }
                _ => advice.push(format!(
                    "To let {} outlive its terminal, start it with setsid or nohup, or as a service \
                     (systemd-run --user).",
                    case.victim.name()
                )),
            }
        }
        Kind::OomKill => {
            let limited = scene.surroundings.cgroup_memory.iter().find(|memory| memory.limit_bytes.is_some());
            if let Some((memory, limit)) = limited.and_then(|memory| Some((memory, memory.limit_bytes?))) {
                advice.push(format!(
                    "Raise the limit of {} ({}), or make its processes use less.",
                    memory.path,
                    bytes(limit)
                ));
            }
        }
        Kind::KilledByProcess => {
            if let Some(actor) = actor.as_ref().filter(|actor| role(actor) == Role::Watchdog) {
                advice.push(format!(
                    "{} both starts {} and has it killed: look at the kill in what it runs.",
                    actor.label(),
                    case.victim.name()
                ));
            }
        }
        _ => {}
    }
    advice
}
