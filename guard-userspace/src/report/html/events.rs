//! Every event of the report, as a table that the chains point into.

use std::collections::BTreeMap;

use super::super::lives::Lives;
use super::super::words;
use super::writer::Html;
use crate::model;
use crate::model::units;

/// Rows shown; more of them make a page slow to open. What an answer rests on comes before anything else.
const SHOWN: usize = 5_000;
/// With no more than that, the table is open at once.
const SMALL: usize = 40;

pub(super) fn section(html: &mut Html, report: &model::Report, lives: &Lives<'_>) {
    if lives.marks.is_empty() {
        return;
    }
    let mut rests_on: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for death in &report.deaths {
        for event in &death.evidence {
            rests_on.entry(*event).or_default().push(death.id);
        }
    }
    html.raw(if lives.marks.len() <= SMALL {
        "<details id=\"events\" open>\n"
    } else {
        "<details id=\"events\">\n"
    });
    let count = units::counted(lives.marks.len() as u64, "event", "events");
    html.element("<summary>Evidence: ", &count, "</summary>\n");
    html.raw("<div class=\"scroll\"><table class=\"events\">\n<caption>What the answers rest on is marked.</caption>\n");
    html.raw("<thead><tr><th scope=\"col\">Event</th><th scope=\"col\">Time</th><th scope=\"col\">Kind</th>");
    html.raw("<th scope=\"col\">What happened</th><th scope=\"col\">Death</th></tr></thead>\n<tbody>\n");
    let mut evidence = lives.marks.iter().filter(|mark| mark.evidence).count().min(SHOWN);
    let mut others = SHOWN - evidence;
    let mut left_out = 0_u64;
    for mark in &lives.marks {
        let room = if mark.evidence { &mut evidence } else { &mut others };
        if *room == 0 {
            left_out += 1;
            continue;
        }
        *room -= 1;
        let entry = mark.entry;
        html.raw(if mark.evidence { "<tr class=\"evidence\" id=\"event-" } else { "<tr id=\"event-" });
        html.number(entry.id).raw("\"><td>").number(entry.id);
        html.element("</td><td class=\"time\">", &units::clock(entry.t), "</td><td>");
        html.raw(words::event_kind(&entry.what)).element(
            "</td><td>",
            &words::event(&entry.what),
            "</td><td>",
        );
        for (index, death) in rests_on.get(&entry.id).into_iter().flatten().take(8).enumerate() {
            html.raw(if index == 0 { "" } else { " " });
            html.raw("<a href=\"#death-").number(*death).raw("\">").number(*death).raw("</a>");
        }
        html.raw("</td></tr>\n");
    }
    html.raw("</tbody></table></div>\n");
    if left_out + report.timeline_omitted != 0 {
        let more = units::counted(left_out, "more event is", "more events are");
        let gone = units::counted(report.timeline_omitted, "event was", "events were");
        let text = format!("{more} in the JSON report; {gone} left out of it.");
        html.element("<p class=\"more\">", &text, "</p>\n");
    }
    html.raw("</details>\n");
}
