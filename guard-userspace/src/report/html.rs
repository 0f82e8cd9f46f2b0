//! The report as one page for a browser: no network, no other file, and nothing that runs but its own script.
//!
//! It reads from the top: what died and of what, how sure, who is behind it, what to do; then the picture, the
//! chain, and everything else. Without JavaScript all of it is there; the script adds zoom, details and filters.

mod death;
mod events;
mod svg;
mod tree;
mod writer;

use std::io::{self, Write};

use self::writer::Html;
use super::lives::Lives;
use super::{Options, Report, words};
use crate::model;
use crate::model::report::{Death, Pattern};
use crate::model::units;

const STYLE: &str = include_str!("html/style.css");
const SCRIPT: &str = include_str!("html/script.js");

/// What the page may do: show itself. Its style and script are named by their hashes, so that nothing else runs
/// even if something got in.
const POLICY: &str = concat!(
    "default-src 'none'; base-uri 'none'; form-action 'none'; ",
    "style-src 'sha256-E82P7kOQq4nXzrDG2M7lnWmM3Sb4kcnoHmcSlSewC4s='; ",
    "script-src 'sha256-ViirKdgf9yjewZWJMkcMiYF7wF7+JHyozedl0BNFibU='"
);

/// Deaths told in full. The others are in the list, and in the JSON report.
const TOLD: usize = 100;
/// Deaths in the list.
const LISTED: usize = 2_000;

/// A page for a browser.
#[derive(Debug)]
pub struct Page;

impl Report for Page {
    fn name(&self) -> &'static str {
        "html"
    }

    fn about(&self) -> &'static str {
        "one page for a browser, with a timeline; needs no network"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["html", "htm"]
    }

    fn write(&self, report: &model::Report, _: &Options, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(page(report).as_bytes())
    }
}

fn page(report: &model::Report) -> String {
    let lives = Lives::of(report);
    let mut html = Html::default();
    head(&mut html, report);
    html.raw("<body>\n<header>\n<p class=\"kicker\">killtrace report</p>\n");
    html.element("<h1>", &words::headline(report), "</h1>\n");
    html.element("<p class=\"setting\">", &words::setting(report), "</p>\n");
    for caveat in words::caveats(report) {
        html.element("<p class=\"caveat\">", &caveat, "</p>\n");
    }
    html.raw("</header>\n<main>\n");
    patterns(&mut html, &report.patterns);
    let told = words::told(&report.deaths, TOLD);
    if report.deaths.len() > 1 {
        list(&mut html, report, &told);
    }
    for death in &told {
        death::article(&mut html, death, &lives, report.deaths.len() > 1);
    }
    if let Some(picture) = svg::Picture::whole(&lives) {
        html.raw("<section id=\"timeline\">\n<h2>Timeline</h2>\n");
        picture.draw(&mut html, 0, "Everything this report shows");
        html.raw("</section>\n");
    }
    events::section(&mut html, report, &lives);
    html.raw("</main>\n<footer><p>Made by ");
    html.text(&report.tool.name).raw(" ").text(&report.tool.version).raw(" at ");
    html.text(&units::moment(report.generated_at))
        .raw(" UTC. Times are UTC. Everything is in the JSON report ");
    html.raw("(<code>--format json</code>); values that look like secrets are masked here.</p></footer>\n");
    html.raw("<script>").raw(SCRIPT).raw("</script>\n</body>\n</html>\n");
    html.finish()
}

fn head(html: &mut Html, report: &model::Report) {
    html.raw("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    html.raw("<meta http-equiv=\"Content-Security-Policy\" content=\"").raw(POLICY).raw("\">\n");
    html.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    html.raw("<meta name=\"color-scheme\" content=\"light dark\">\n");
    html.raw("<meta name=\"referrer\" content=\"no-referrer\">\n");
    html.element("<title>", &title(report), "</title>\n");
    html.raw("<style>").raw(STYLE).raw("</style>\n</head>\n");
}

fn title(report: &model::Report) -> String {
    match report.deaths.as_slice() {
        [] => "Nothing died (killtrace)".to_owned(),
        [death] => format!(
            "{} (pid {}): {} (killtrace)",
            death.victim.name,
            death.victim.pid,
            words::kind(death.cause.kind)
        ),
        deaths => format!("{} (killtrace)", units::counted(deaths.len() as u64, "death", "deaths")),
    }
}

fn patterns(html: &mut Html, patterns: &[Pattern]) {
    if patterns.is_empty() {
        return;
    }
    html.raw("<section id=\"patterns\">\n<h2>What recurs</h2>\n<ul class=\"patterns\">\n");
    for pattern in patterns {
        html.raw("<li><span class=\"badge\">").text(words::pattern(pattern.kind)).raw("</span> ");
        html.element("<strong>", &pattern.text, "</strong>");
        let first_last = format!(
            "{} from {} to {} UTC",
            units::times(pattern.count),
            units::moment(pattern.first_at),
            units::moment(pattern.last_at)
        );
        html.element("<p class=\"small\">", &first_last, "</p>");
        for advice in &pattern.advice {
            html.element("<p class=\"advice\">", advice, "</p>");
        }
        html.raw("</li>\n");
    }
    html.raw("</ul>\n</section>\n");
}

/// The deaths at a glance.
fn list(html: &mut Html, report: &model::Report, told: &[&Death]) {
    html.raw("<section id=\"deaths\">\n<h2>Deaths</h2>\n<div class=\"scroll\"><table class=\"deaths\">\n");
    html.raw(
        "<thead><tr><th scope=\"col\">#</th><th scope=\"col\">Time</th><th scope=\"col\">What happened</th>",
    );
    html.raw("<th scope=\"col\">Sure</th></tr></thead>\n<tbody>\n");
    let left_out = report.deaths.len().saturating_sub(LISTED);
    for death in &report.deaths[left_out..] {
        html.raw("<tr><td>").number(death.id).raw("</td>");
        html.element("<td class=\"time\">", &units::clock(death.died_at), "</td><td>");
        if told.iter().any(|told| told.id == death.id) {
            html.raw("<a href=\"#death-").number(death.id).raw("\">").text(&death.summary).raw("</a>");
        } else {
            html.text(&death.summary);
        }
        html.raw("</td><td>").raw(words::confidence(death.cause.confidence)).raw("</td></tr>\n");
    }
    html.raw("</tbody></table></div>\n");
    if left_out != 0 {
        let more = units::counted(left_out as u64, "earlier death is", "earlier deaths are");
        html.element("<p class=\"more\">", &format!("{more} only in the JSON report."), "</p>\n");
    }
    let untold = report.deaths.len() - left_out - told.len();
    if untold != 0 {
        let more = units::counted(untold as u64, "death has", "deaths have");
        html.element(
            "<p class=\"more\">",
            &format!("{more} no section below: ended by itself, or of many the earlier ones."),
            "</p>\n",
        );
    }
    html.raw("</section>\n");
}

#[cfg(test)]
mod tests;
