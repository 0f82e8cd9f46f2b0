//! One death, in words.

use std::time::Duration;

use super::super::{escape, words};
use super::page::Page;
use crate::model::report::{
    Actor, AlsoDied, Ancestor, Confidence, Death, ExitStatus, JournalLine, Memory, Oom, OomScope,
    OtherSignal, ProcessRef, Role, Survivor, TaskMemory, UnitScope,
};
use crate::model::{unit, units};

/// Longest command line shown, in characters: enough to recognise it.
const COMMAND_LINE: usize = 240;
/// The same for a killer's parents, who are many.
const ANCESTOR_LINE: usize = 100;
/// Parents shown above a killer.
const ANCESTORS: usize = 8;
/// Entries shown of the lists that can grow long.
const LISTED: usize = 6;

/// The answer, then what proves it. `lead` numbers it.
pub(super) fn lay_out(page: &mut Page, death: &Death, lead: &str) {
    page.headline(lead, &death.summary);
    page.set_indent(lead.chars().count().max(2));
    page.field("When", &when(death));
    victim(page, death);
    chain(page, death);
    killer(page, death);
    memory(page, death);
    other_signals(page, &death.other_signals);
    certainty(page, death);
    aftermath(page, death);
    journal(page, &death.journal);
    for (index, advice) in death.advice.iter().enumerate() {
        page.field(if index == 0 { "Advice" } else { "" }, advice);
    }
    page.set_indent(0);
}

pub(in crate::report) fn when(death: &Death) -> String {
    let mut text = format!("{} UTC", units::moment(death.died_at));
    if let Some(ms) = death.uptime_ms {
        let lived = match ms {
            0 => "less than 1 ms".to_owned(),
            ms => units::duration(Duration::from_millis(ms)),
        };
        text.push_str(&format!(", {lived} after it started"));
    }
    text.push_str(&status(&death.exit));
    text
}

/// The number that a log shows for this death, which is often all that anybody has seen of it.
fn status(exit: &ExitStatus) -> String {
    let mut text = match (exit.shell_status, exit.signal_number) {
        (Some(status), Some(signo)) => format!("; exit status {status} in a shell (128 + {signo})"),
        (Some(status), None) => format!("; exit status {status}"),
        (None, _) => "; its exit status is not known".to_owned(),
    };
    if exit.core_dumped == Some(true) {
        text.push_str("; it dumped core");
    }
    text
}

fn victim(page: &mut Page, death: &Death) {
    let victim = &death.victim;
    let mut label = "Victim";
    if let Some(args) = victim.cmdline.as_deref().filter(|args| !args.is_empty()) {
        page.field(label, &escape::command_line(args, COMMAND_LINE));
        label = "";
    }
    let mut about = Vec::new();
    if let Some(cwd) = &victim.cwd {
        about.push(format!("in {cwd}"));
    }
    if let Some(user) = user(victim.user.as_deref(), victim.uid) {
        about.push(user);
    }
    about.extend(victim.unit.as_deref().map(|name| unit_words(name, victim.unit_scope)));
    if let Some(container) = &victim.container {
        about.push(format!("container {}", unit::short_id(container)));
    }
    if let Some(inner) = victim.pid_in_namespace {
        about.push(format!("pid {inner} inside its PID namespace"));
    }
    if !about.is_empty() {
        page.field(label, &about.join(", "));
    }
}

pub(in crate::report) fn user(name: Option<&str>, uid: Option<u32>) -> Option<String> {
    match (name, uid) {
        (Some(name), _) => Some(format!("user {name}")),
        (None, Some(uid)) => Some(format!("uid {uid}")),
        (None, None) => None,
    }
}

pub(in crate::report) fn unit_words(name: &str, scope: Option<UnitScope>) -> String {
    match scope {
        Some(UnitScope::User) => format!("user unit {name}"),
        Some(UnitScope::System) | None => name.to_owned(),
    }
}

/// The story; one step is already in the summary.
fn chain(page: &mut Page, death: &Death) {
    if death.chain.len() < 2 {
        return;
    }
    for (index, step) in death.chain.iter().enumerate() {
        let time = match (index, step.after_ns) {
            (0, _) => units::clock(step.t),
            (_, Some(ns)) => words::after(ns),
            (_, None) => String::new(),
        };
        page.columned(if index == 0 { "Chain" } else { "" }, &format!("{time:>12}  "), &step.text);
    }
}

fn killer(page: &mut Page, death: &Death) {
    if let Some(killer) = &death.killer {
        actor(page, "Killer", killer, "");
    }
    let Some(root) = &death.root_cause else { return };
    match (&root.actor, &death.killer) {
        // Said already: the same process, and what it did is the first step of the chain.
        (Some(decider), Some(killer)) if killer.pid == decider.pid => {}
        // Its command line and parents are among those of the killer, whose act the action is.
        (Some(decider), Some(killer)) if killer.ancestry.iter().any(|parent| parent.pid == decider.pid) => {
            page.field("Behind it", &introduction(decider));
        }
        (Some(decider), _) => actor(page, "Behind it", decider, &words::action(root)),
        (None, _) if death.summary.contains(&root.action) => {}
        (None, _) => page.field("Behind it", &root.action),
    }
}

pub(in crate::report) fn introduction(actor: &Actor) -> String {
    let mut about = vec![format!("pid {}", actor.pid)];
    about.extend(role(actor.role).map(str::to_owned));
    about.extend(actor.unit.as_deref().map(|name| unit_words(name, actor.unit_scope)));
    about.extend(user(actor.user.as_deref(), actor.uid));
    format!("{} ({})", actor.name, about.join(", "))
}

fn actor(page: &mut Page, label: &str, actor: &Actor, action: &str) {
    let mut text = introduction(actor);
    if !action.is_empty() {
        text.push(' ');
        text.push_str(action);
    }
    page.field(label, &text);
    if let Some(line) = command(actor.cmdline.as_deref(), &actor.name, COMMAND_LINE) {
        page.field("", &line);
    }
    let shown = if actor.ancestry.len() <= ANCESTORS + 1 { actor.ancestry.len() } else { ANCESTORS };
    for ancestor in &actor.ancestry[..shown] {
        page.columned("", "started by ", &ancestor_line(ancestor, ANCESTOR_LINE));
    }
    if let Some(last) = actor.ancestry.last().filter(|_| shown < actor.ancestry.len()) {
        let more = actor.ancestry.len() - shown;
        page.columned("", "started by ", &format!("… {more} more, up to {} (pid {})", last.name, last.pid));
    }
}

pub(in crate::report) fn ancestor_line(ancestor: &Ancestor, limit: usize) -> String {
    let who = format!("{} (pid {})", ancestor.name, ancestor.pid);
    match command(ancestor.cmdline.as_deref(), &ancestor.name, limit) {
        Some(line) => format!("{who}: {line}"),
        None => who,
    }
}

/// The command line, unless it says no more than the name.
pub(in crate::report) fn command(cmdline: Option<&[String]>, name: &str, limit: usize) -> Option<String> {
    let line = escape::command_line(cmdline?, limit);
    (!line.is_empty() && line != name).then_some(line)
}

/// What a role means to someone who has never heard of it; `None` when it says nothing new.
fn role(role: Role) -> Option<&'static str> {
    match role {
        Role::OomDaemon => Some("an out-of-memory daemon"),
        Role::ServiceManager => Some("the service manager"),
        Role::ContainerRuntime => Some("a container runtime"),
        Role::Init => Some("init"),
        Role::PackageScript => Some("a package script"),
        Role::Watchdog => Some("a watchdog script"),
        Role::Shell => Some("a shell"),
        Role::Terminal => Some("a terminal"),
        Role::Debugger => Some("a debugger"),
        Role::TestRunner => Some("a test runner"),
        Role::CiRunner => Some("a CI runner"),
        Role::Victim => Some("the victim itself"),
        Role::Parent => Some("the victim's parent"),
        Role::Child => Some("the victim's child"),
        Role::Kernel | Role::Process => None,
    }
}

/// What its killer or its service manager said of it.
pub(super) fn journal(page: &mut Page, lines: &[JournalLine]) {
    for (index, line) in lines.iter().enumerate() {
        let label = if index == 0 { "Journal" } else { "" };
        page.columned(label, &format!("{}  ", units::clock(line.t)), &words::journal(line));
    }
}

/// Memory, only where it has to do with the death.
fn memory(page: &mut Page, death: &Death) {
    let mut label = "Memory";
    if let Some(words) = death.cause.oom.as_ref().and_then(oom_words) {
        page.field(label, &words);
        label = "";
    }
    if let Some(words) = death.cause.oom.as_ref().and_then(largest_words) {
        page.field(label, &words);
        label = "";
    }
    let daemon = death.killer.as_ref().is_some_and(|killer| killer.role == Role::OomDaemon);
    let global = death.cause.oom.as_ref().is_some_and(|oom| oom.scope != Some(OomScope::Memcg));
    if !daemon && !global {
        return;
    }
    if let Some(words) = death.context.memory.as_ref().and_then(machine_words) {
        page.field(label, &words);
        label = "";
    }
    if let Some(score) = death.context.oom_score_adj.filter(|&score| score != 0) {
        let lean = if score > 0 { "preferred as a victim" } else { "protected" };
        page.field(label, &format!("{}'s own oom_score_adj was {score} ({lean})", death.victim.name));
    }
}

/// The figures; whose memory ran out is in the summary.
pub(in crate::report) fn oom_words(oom: &Oom) -> Option<String> {
    let whose = match (&oom.cgroup, oom.scope) {
        (Some(cgroup), _) => format!("{cgroup} had"),
        (None, Some(OomScope::Memcg)) => "its cgroup had".to_owned(),
        (None, _) => "there were".to_owned(),
    };
    let used = match (oom.usage_bytes, oom.limit_bytes) {
        (Some(usage), Some(limit)) => {
            Some(format!("{whose} {} of {} in use", units::bytes(usage), units::bytes(limit)))
        }
        (Some(usage), None) => Some(format!("{whose} {} in use", units::bytes(usage))),
        (None, Some(limit)) => Some(format!("the limit was {}", units::bytes(limit))),
        (None, None) => None,
    };
    let held = oom.victim_rss_bytes.map(|rss| format!("the victim held {}", units::bytes(rss)));
    let parts: Vec<_> = used.into_iter().chain(held).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// Who held most: the first to ask about is not always the victim.
pub(in crate::report) fn largest_words(oom: &Oom) -> Option<String> {
    let words =
        |task: &TaskMemory| format!("{} (pid {}) {}", task.name, task.pid, units::bytes(task.rss_bytes));
    (oom.largest_tasks.len() > 1).then(|| format!("largest in it: {}", listed(&oom.largest_tasks, words)))
}

pub(in crate::report) fn machine_words(memory: &Memory) -> Option<String> {
    let mut parts = Vec::new();
    if let Some(available) = memory.available_bytes {
        parts.push(format!("{} available", units::bytes(available)));
    }
    match memory.swap_free_bytes {
        Some(0) => parts.push("no swap left".to_owned()),
        Some(free) => parts.push(format!("{} of swap free", units::bytes(free))),
        None => {}
    }
    if let Some(pressure) = memory.psi_some_avg10 {
        parts.push(format!("tasks waited for memory {pressure:.0}% of the time"));
    }
    (!parts.is_empty()).then(|| format!("on the machine: {}", parts.join(", ")))
}

fn process(process: &ProcessRef) -> String {
    format!("{} (pid {})", process.comm, process.pid)
}

fn other_signals(page: &mut Page, signals: &[OtherSignal]) {
    for (index, other) in signals.iter().take(LISTED).enumerate() {
        let from = other.from.as_ref().map(|from| format!(" from {}", process(from))).unwrap_or_default();
        let times = if other.count == 1 { String::new() } else { format!(", {}", units::times(other.count)) };
        let text = format!("{}{from}{times}: {}", other.signal, other.why_not);
        page.field(if index == 0 { "Also got" } else { "" }, &text);
    }
    if signals.len() > LISTED {
        page.field("", &format!("… and {} more kinds of signals", signals.len() - LISTED));
    }
}

fn certainty(page: &mut Page, death: &Death) {
    let sure = death.cause.confidence == Confidence::Certain;
    if !sure {
        page.field("How sure", &words::sureness(death));
    }
    for (index, gap) in words::gaps(death).iter().enumerate() {
        page.field(if index == 0 { "Not seen" } else { "" }, gap);
    }
    if !sure {
        for (index, ruled_out) in death.ruled_out.iter().enumerate() {
            page.field(if index == 0 { "Known" } else { "" }, &ruled_out.because);
        }
    }
}

fn aftermath(page: &mut Page, death: &Death) {
    let mut label = "Afterwards";
    let (sure, likely): (Vec<&AlsoDied>, Vec<&AlsoDied>) =
        death.aftermath.also_died.iter().partition(|died| died.confidence == Confidence::Certain);
    for died in [sure, likely] {
        if let Some(first) = died.first() {
            let how = words::followed(first.confidence);
            page.field(label, &format!("{} {how}", listed(&died, |died| also_died(died))));
            label = "";
        }
    }
    for survivor in death.aftermath.survivors.iter().take(LISTED) {
        page.field(label, &survivor_words(survivor));
        label = "";
    }
    let more = death.aftermath.survivors.len().saturating_sub(LISTED);
    if more != 0 {
        page.field(
            label,
            &format!("… and {} lived on", units::counted(more as u64, "more process", "more processes")),
        );
    }
}

fn also_died(died: &AlsoDied) -> String {
    format!("{} (pid {})", died.comm, died.pid)
}

pub(in crate::report) fn survivor_words(survivor: &Survivor) -> String {
    let name = if survivor.name.is_empty() { &survivor.comm } else { &survivor.name };
    let mut text = format!("{name} (pid {}) lives on", survivor.pid);
    if let Some(parent) = survivor.reparented_to {
        text.push_str(&format!(" under pid {parent}"));
    }
    match survivor.listening.as_slice() {
        [] => {}
        [port] => text.push_str(&format!(" and holds port {port}")),
        ports => {
            let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
            text.push_str(&format!(" and holds ports {}", ports.join(", ")));
        }
    }
    text
}

/// `a, b and c`, or `a, b, … and 12 more`.
fn listed<T>(items: &[T], words: impl Fn(&T) -> String) -> String {
    let shown = if items.len() <= LISTED { items.len() } else { LISTED - 1 };
    let mut words: Vec<_> = items[..shown].iter().map(words).collect();
    if items.len() > shown {
        words.push(format!("{} more", items.len() - shown));
    }
    match words.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Style, sample};

    fn render(death: &Death) -> String {
        super::super::death(death, Style::PLAIN)
    }

    #[test]
    fn a_certain_answer_is_not_hedged() {
        let death = sample::report().deaths.remove(0);
        assert_eq!(death.cause.confidence, Confidence::Certain);
        let text = render(&death);
        assert!(!text.contains("How sure") && !text.contains("Known"), "{text}");
    }

    #[test]
    fn an_uncertain_answer_says_why() {
        let mut death = sample::report().deaths.remove(0);
        death.cause.confidence = Confidence::Likely;
        death.gaps = vec!["12 events were lost in the second before it died".to_owned()];
        let text = render(&death);
        assert!(text.contains("How sure    likely rather than certain: 12 events were lost"), "{text}");
        assert!(text.contains("Known       no OOM victim"), "{text}");
    }

    #[test]
    fn likely_without_gaps_says_what_it_rests_on() {
        let mut death = sample::report().deaths.remove(0);
        death.cause.confidence = Confidence::Likely;
        assert!(render(&death).contains("How sure    likely: timing and state say so"));
    }

    #[test]
    fn a_chain_of_one_step_is_the_summary() {
        let mut death = sample::report().deaths.remove(0);
        death.chain.truncate(1);
        assert!(!render(&death).contains("Chain"));
    }

    #[test]
    fn long_lists_are_cut_and_counted() {
        let mut death = sample::report().deaths.remove(0);
        let one = death.aftermath.also_died[0].clone();
        death.aftermath.also_died = vec![one; 23];
        let actor = death.killer.as_mut().unwrap();
        actor.ancestry = vec![actor.ancestry[0].clone(); 23];
        let text = render(&death);
        assert!(text.contains("and 18 more died"), "{text}");
        assert_eq!(text.matches("started by").count(), ANCESTORS + 1);
        assert!(text.contains("… 15 more, up to systemd (pid 1)"), "{text}");
    }

    #[test]
    fn an_exit_status_is_the_number_in_the_logs() {
        let mut exit = ExitStatus { code: Some(3), shell_status: Some(3), ..ExitStatus::default() };
        assert_eq!(status(&exit), "; exit status 3");
        exit = ExitStatus { signal_number: Some(9), shell_status: Some(137), ..ExitStatus::default() };
        assert_eq!(status(&exit), "; exit status 137 in a shell (128 + 9)");
        assert_eq!(status(&ExitStatus::default()), "; its exit status is not known");
    }

    #[test]
    fn memory_is_told_only_where_it_matters() {
        let report = sample::report();
        for death in &report.deaths {
            let daemon = death.killer.as_ref().is_some_and(|killer| killer.role == Role::OomDaemon);
            let matters = daemon || death.cause.oom.is_some();
            assert_eq!(render(death).contains("Memory "), matters, "{}", death.summary);
        }
    }
}
