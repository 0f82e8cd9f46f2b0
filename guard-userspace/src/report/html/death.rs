//! One death: the sentence, how sure, who is behind it, what to do; the picture and the chain; then the rest.

use super::super::lives::Lives;
use super::super::text::death as plain;
use super::super::{escape, words};
use super::writer::Html;
use super::{svg, tree};
use crate::model::report::{Actor, Confidence, Death};
use crate::model::units;

/// Longest command line shown, in characters. A file name and its options fit; a script in an argument does not.
const COMMAND_LINE: usize = 2_000;
/// Entries shown of the lists that can grow long.
const LISTED: usize = 50;

/// `titled` when the page has several deaths; of a single one, the sentence is the page's own heading.
pub(super) fn article(html: &mut Html, death: &Death, lives: &Lives<'_>, titled: bool) {
    html.raw("<article class=\"death\" id=\"death-").number(death.id).raw("\">\n");
    if titled {
        html.raw("<h2><a class=\"anchor\" href=\"#death-").number(death.id).raw("\">").number(death.id);
        html.raw("</a> ").text(&death.summary).raw("</h2>\n");
    }
    badges(html, death);
    answer(html, death);
    if !death.advice.is_empty() {
        html.raw("<section class=\"todo\">\n<h3>What to do</h3>\n");
        for advice in &death.advice {
            html.element("<p>", advice, "</p>\n");
        }
        html.raw("</section>\n");
    }
    if let Some(picture) = svg::Picture::of(lives, death) {
        picture.draw(html, death.id, "How it happened");
    }
    chain(html, death);
    aftermath(html, death);
    tree::details(html, death);
    victim(html, death);
    rest(html, death);
    html.raw("</article>\n");
}

fn badges(html: &mut Html, death: &Death) {
    html.raw("<p class=\"badges\">");
    html.raw(match death.cause.confidence {
        Confidence::Certain => "<span class=\"badge sure\">",
        Confidence::Likely => "<span class=\"badge likely\">",
        Confidence::Unknown => "<span class=\"badge unsure\">",
    });
    html.raw(words::confidence(death.cause.confidence)).raw("</span>");
    html.raw("<span class=\"badge\">").raw(words::kind(death.cause.kind)).raw("</span>");
    html.element("<span class=\"badge fatal\">", &words::outcome(&death.exit), "</span>");
    if let Some(status) = death.exit.shell_status.filter(|_| death.exit.signal.is_some()) {
        html.element("<span class=\"badge\">", &format!("exit status {status} in a shell"), "</span>");
    }
    if death.cause.graceful {
        html.raw("<span class=\"badge\">in its own time</span>");
    }
    if let Some(detail) = &death.cause.detail {
        html.element("<span class=\"badge\">", detail, "</span>");
    }
    html.raw("</p>\n");
}

/// A row of a description list; nothing for nothing.
fn row(html: &mut Html, label: &'static str, text: &str) {
    if !text.is_empty() {
        html.raw("<div><dt>").raw(label).raw("</dt><dd>").text(text).raw("</dd></div>\n");
    }
}

fn code_row(html: &mut Html, label: &'static str, args: Option<&[String]>) {
    let line = args.map(|args| escape::command_line(args, COMMAND_LINE)).unwrap_or_default();
    if !line.is_empty() {
        html.raw("<div><dt>").raw(label).raw("</dt><dd><code>").text(&line).raw("</code></dd></div>\n");
    }
}

fn answer(html: &mut Html, death: &Death) {
    html.raw("<dl class=\"facts\">\n");
    row(html, "How sure", &words::sureness(death));
    for gap in words::gaps(death) {
        row(html, "Not seen", gap);
    }
    let decider = death.decider();
    if let Some(root) = &death.root_cause {
        match decider {
            Some(decider) => actor(html, "Behind it", decider, &words::action(root)),
            None => row(html, "Behind it", &root.action),
        }
    }
    let killer = death.killer.as_ref();
    if let Some(killer) = killer.filter(|killer| decider.is_none_or(|decider| decider.pid != killer.pid)) {
        actor(html, "Killer", killer, "");
    }
    if killer.is_none() && death.sender.as_ref().is_some_and(|sender| sender.kernel) {
        row(html, "Sent by", "the kernel itself");
    }
    row(html, "When", &plain::when(death));
    for line in death.journal.iter().take(LISTED) {
        row(html, "Journal", &format!("{} {}", units::clock(line.t), words::journal(line)));
    }
    html.raw("</dl>\n");
}

/// Who it is, what it did, and its command line; its parents can be unfolded.
fn actor(html: &mut Html, label: &'static str, actor: &Actor, action: &str) {
    html.raw("<div><dt>").raw(label).raw("</dt><dd>").text(&plain::introduction(actor));
    if !action.is_empty() {
        html.raw(" ").text(action);
    }
    if let Some(line) = plain::command(actor.cmdline.as_deref(), &actor.name, COMMAND_LINE) {
        html.element("<br><code>", &line, "</code>");
    }
    if !actor.ancestry.is_empty() {
        let count = units::counted(actor.ancestry.len() as u64, "ancestor", "ancestors");
        html.element(
            "<details><summary>",
            &format!("Started by {}: {count}", actor.ancestry[0].name),
            "</summary><ol>",
        );
        for ancestor in actor.ancestry.iter().take(LISTED) {
            html.element("<li>", &plain::ancestor_line(ancestor, COMMAND_LINE), "</li>");
        }
        html.raw("</ol></details>");
    }
    html.raw("</dd></div>\n");
}

/// The story, each step with its event.
fn chain(html: &mut Html, death: &Death) {
    if death.chain.is_empty() {
        return;
    }
    html.raw("<section class=\"chain\">\n<h3>The chain</h3>\n<ol>\n");
    for step in &death.chain {
        let time = step.after_ns.map_or_else(|| units::clock(step.t), words::after);
        html.element("<li><span class=\"time\">", &time, "</span> <span>").text(&step.text);
        html.raw("</span> <a class=\"ref\" href=\"#event-")
            .number(step.event)
            .raw("\" title=\"The event behind it\">");
        html.number(step.event).raw("</a></li>\n");
    }
    html.raw("</ol>\n</section>\n");
}

fn aftermath(html: &mut Html, death: &Death) {
    let after = &death.aftermath;
    if after.also_died.is_empty() && after.survivors.is_empty() {
        return;
    }
    html.raw("<section>\n<h3>What it left behind</h3>\n<ul>\n");
    for died in after.also_died.iter().take(LISTED) {
        let how = words::followed(died.confidence);
        html.element("<li>", &format!("{} (pid {}) {how}", died.comm, died.pid), "</li>\n");
    }
    for survivor in after.survivors.iter().take(LISTED) {
        html.element("<li>", &plain::survivor_words(survivor), "</li>\n");
    }
    html.raw("</ul>\n");
    let more = after.also_died.len().saturating_sub(LISTED) + after.survivors.len().saturating_sub(LISTED);
    if more != 0 {
        html.element("<p class=\"more\">", &format!("… and {more} more"), "</p>\n");
    }
    html.raw("</section>\n");
}

fn victim(html: &mut Html, death: &Death) {
    let victim = &death.victim;
    html.element("<details>\n<summary>The victim: ", &victim.name, "</summary>\n<dl class=\"facts\">\n");
    code_row(html, "Command line", victim.cmdline.as_deref());
    row(html, "Program", victim.exe.as_deref().unwrap_or_default());
    row(html, "Directory", victim.cwd.as_deref().unwrap_or_default());
    row(html, "User", &plain::user(victim.user.as_deref(), victim.uid).unwrap_or_default());
    let unit = victim.unit.as_deref().map(|name| plain::unit_words(name, victim.unit_scope));
    row(html, "Unit", &unit.unwrap_or_default());
    row(html, "Control group", victim.cgroup.as_deref().unwrap_or_default());
    row(html, "Container", victim.container.as_deref().unwrap_or_default());
    let mut pids = format!("{}, called {} by the kernel", victim.pid, victim.comm);
    if let Some(inner) = victim.pid_in_namespace {
        pids.push_str(&format!("; pid {inner} inside its PID namespace"));
    }
    row(html, "Process", &pids);
    if let Some(started) = victim.started_at {
        row(html, "Started", &format!("{} UTC", units::moment(started)));
    }
    memory(html, death);
    html.raw("</dl>\n</details>\n");
}

fn memory(html: &mut Html, death: &Death) {
    let context = &death.context;
    let words = death.cause.oom.as_ref().and_then(plain::oom_words);
    row(html, "Memory", &words.unwrap_or_default());
    let largest = death.cause.oom.as_ref().and_then(plain::largest_words);
    row(html, "Who held it", &largest.unwrap_or_default());
    if let Some(rss) = context.victim_rss_bytes {
        let peak = context.victim_peak_rss_bytes.map(|peak| format!(", at most {}", units::bytes(peak)));
        row(html, "It held", &format!("{}{}", units::bytes(rss), peak.unwrap_or_default()));
    }
    row(html, "Machine", &context.memory.as_ref().and_then(plain::machine_words).unwrap_or_default());
    if let Some(cgroup) = &context.cgroup_memory {
        let limit = cgroup
            .limit_bytes
            .map_or("no limit".to_owned(), |limit| format!("limit {}", units::bytes(limit)));
        let used =
            cgroup.usage_bytes.map(|usage| format!(", {} in use", units::bytes(usage))).unwrap_or_default();
        row(html, "Its cgroup", &format!("{}: {limit}{used}", cgroup.path));
    }
    if let Some(score) = context.oom_score_adj {
        row(html, "oom_score_adj", &score.to_string());
    }
}

fn rest(html: &mut Html, death: &Death) {
    if !death.other_signals.is_empty() {
        html.raw("<details>\n<summary>Signals that did not kill it</summary>\n<div class=\"scroll\"><table>\n<thead><tr>");
        html.raw("<th scope=\"col\">Signal</th><th scope=\"col\">From</th><th scope=\"col\">Times</th>");
        html.raw("<th scope=\"col\">Why not</th></tr></thead>\n<tbody>\n");
        for other in death.other_signals.iter().take(LISTED) {
            html.element("<tr><td>", &other.signal, "</td><td>");
            html.text(&other.from.as_ref().map(words::process).unwrap_or_default()).raw("</td><td>");
            html.number(other.count).element("</td><td>", &other.why_not, "</td></tr>\n");
        }
        html.raw("</tbody></table></div>\n</details>\n");
    }
    if !death.ruled_out.is_empty() {
        html.raw("<details>\n<summary>What it was not</summary>\n<dl class=\"facts\">\n");
        for ruled_out in &death.ruled_out {
            row(html, words::kind(ruled_out.cause), &ruled_out.because);
        }
        html.raw("</dl>\n</details>\n");
    }
}
