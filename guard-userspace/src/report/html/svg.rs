//! The timeline, drawn: one lane per process, lives as bars, signals as arrows, deaths as crosses.
//!
//! Lengths are in tenths of a unit, whole numbers, so that the same report is the same bytes everywhere.

use std::collections::BTreeSet;

use super::super::lives::{Life, Lives, Mark};
use super::super::{escape, words};
use super::writer::Html;
use crate::model::report::{Death, What};
use crate::model::units;

/// Where the lanes begin, below the time axis, and how high each is.
const TOP: u64 = 340;
const LANE: u64 = 300;
/// Where time begins, right of the names, and how long it is.
const LEFT: u64 = 2_300;
const WIDTH: u64 = 8_700;
/// Room on the right for what happens last.
const RIGHT: u64 = 200;
/// Lanes and events drawn. More would neither be readable nor open fast.
const LANES: usize = 60;
const MARKS: usize = 3_000;
/// Labels nearer to each other than this would overlap.
const LABEL: u64 = 800;

/// A part of the timeline to draw.
#[derive(Debug)]
pub(super) struct Picture<'a> {
    lives: &'a Lives<'a>,
    /// The moments at both ends, and the one that the axis counts from.
    from_ns: u64,
    to_ns: u64,
    origin_ns: u64,
    /// Processes drawn, from top to bottom.
    lanes: Vec<usize>,
    /// Processes that had no room.
    lanes_left_out: usize,
    /// Events drawn.
    marks: Vec<&'a Mark<'a>>,
    marks_left_out: usize,
    labels: bool,
}

impl<'a> Picture<'a> {
    /// Everything; `None` when there is nothing.
    pub(super) fn whole(lives: &'a Lives<'a>) -> Option<Self> {
        let (first, last) = lives.span()?;
        // Those that died and those that had to do with it come before the others.
        let mut ranked: Vec<_> = (0..lives.lives.len()).collect();
        let touched: BTreeSet<usize> = evidence(lives.marks.iter()).collect();
        ranked.sort_by_key(|life| (lives.lives[*life].death.is_none(), !touched.contains(life)));
        let marks: Vec<_> = lives.marks.iter().collect();
        Some(Self::new(lives, &ranked, marks, (first, last), first))
    }

    /// What led to a death, close up; `None` when the timeline has nothing of it.
    pub(super) fn of(lives: &'a Lives<'a>, death: &Death) -> Option<Self> {
        let ids: BTreeSet<u64> = death.evidence.iter().copied().collect();
        let rests_on: Vec<_> = lives.marks.iter().filter(|mark| ids.contains(&mark.entry.id)).collect();
        let (first, last) = (rests_on.first()?.entry.t_ns, rests_on.last()?.entry.t_ns);
        let lanes: BTreeSet<usize> = evidence(rests_on.iter().copied()).collect();
        // A death that one event tells of is shown at the end of its life.
        let born = lanes.iter().filter_map(|life| lives.lives[*life].born_ns).min();
        let first = if first == last { born.filter(|born| *born < first).unwrap_or(first) } else { first };
        let margin = ((last - first) / 12).max(50_000);
        let window = (first.saturating_sub(margin), last.saturating_add(margin / 2));
        let inside = |mark: &&&Mark<'_>| (window.0..=window.1).contains(&mark.entry.t_ns);
        let marks: Vec<_> = lives.marks.iter().collect();
        let marks = marks.iter().filter(inside).copied().collect();
        let lanes: Vec<_> = lanes.into_iter().collect();
        Some(Self { labels: true, ..Self::new(lives, &lanes, marks, window, first) })
    }

    /// `ranked`: what to draw lanes for, the most important first.
    fn new(
        lives: &'a Lives<'a>,
        ranked: &[usize],
        marks: Vec<&'a Mark<'a>>,
        (from_ns, to_ns): (u64, u64),
        origin_ns: u64,
    ) -> Self {
        let mut lanes: Vec<_> = ranked.iter().take(LANES).copied().collect();
        lanes.sort_unstable();
        let has_lane = |life: Option<usize>| life.is_none_or(|life| lanes.binary_search(&life).is_ok());
        let all = marks.len();
        let mut marks: Vec<_> = marks.into_iter().filter(|mark| has_lane(mark.on)).collect();
        if marks.len() > MARKS {
            // Stable: in time order among each other.
            marks.sort_by_key(|mark| !mark.evidence);
            marks.truncate(MARKS);
            marks.sort_by_key(|mark| mark.entry.t_ns);
        }
        Self {
            lives,
            from_ns,
            to_ns: to_ns.max(from_ns.saturating_add(1)),
            origin_ns,
            lanes_left_out: ranked.len() - lanes.len(),
            lanes,
            marks_left_out: all - marks.len(),
            marks,
            labels: false,
        }
    }

    /// `id` is the number of a death, 0 for the whole.
    pub(super) fn draw(&self, html: &mut Html, id: u64, title: &'static str) {
        let height = TOP + LANE * self.lanes.len() as u64 + 60;
        html.raw("<figure class=\"timeline\">\n<div class=\"scroll\"><svg viewBox=\"0 0 ");
        html.tenths(LEFT + WIDTH + RIGHT).raw(" ").tenths(height);
        html.raw("\" role=\"group\" aria-labelledby=\"t").number(id).raw(" d").number(id);
        html.raw("\" data-left=\"").tenths(LEFT).raw("\" data-width=\"").tenths(WIDTH);
        html.raw("\" data-span=\"").number(self.to_ns - self.from_ns);
        html.raw("\" data-origin=\"").number(self.origin_ns - self.from_ns).raw("\">\n");
        html.raw("<title id=\"t").number(id).raw("\">").raw(title).raw("</title>\n");
        html.raw("<desc id=\"d").number(id).raw("\">").text(&self.description()).raw("</desc>\n");
        html.raw("<clipPath id=\"c")
            .number(id)
            .raw("\"><rect x=\"")
            .tenths(LEFT - 80)
            .raw("\" y=\"0\" width=\"");
        html.tenths(WIDTH + RIGHT + 80).raw("\" height=\"").tenths(height).raw("\"/></clipPath>\n");
        self.names(html);
        html.raw("<g clip-path=\"url(#c").number(id).raw(")\"><g class=\"plot\" transform=\"translate(");
        html.tenths(LEFT).raw(" 0)\">\n");
        self.axis(html, height);
        self.bars(html);
        let mut labelled = vec![None; self.lanes.len()];
        for mark in &self.marks {
            self.mark(html, mark, &mut labelled);
        }
        html.raw("</g></g>\n</svg></div>\n<figcaption><b>").raw(title).raw(".</b> ");
        html.text(&self.caption()).raw("</figcaption>\n</figure>\n");
    }

    fn description(&self) -> String {
        let processes = units::counted(self.lanes.len() as u64, "process", "processes");
        let events = units::counted(self.marks.len() as u64, "event", "events");
        format!("A timeline of {processes} and {events} in {}.", units::elapsed(self.to_ns - self.from_ns))
    }

    fn caption(&self) -> String {
        let mut text =
            String::from("Bars are lives, arrows signals, crosses deaths; dashed: it was there before.");
        if self.lanes_left_out != 0 {
            let more = units::counted(self.lanes_left_out as u64, "more process is", "more processes are");
            text.push_str(&format!(" {more} not drawn."));
        }
        if self.marks_left_out != 0 && !self.labels {
            let more = units::counted(self.marks_left_out as u64, "event is", "events are");
            text.push_str(&format!(" {more} not drawn."));
        }
        text
    }

    fn x(&self, t_ns: u64) -> u64 {
        let passed = u128::from(t_ns.clamp(self.from_ns, self.to_ns) - self.from_ns);
        let x = passed * u128::from(WIDTH) / u128::from(self.to_ns - self.from_ns);
        u64::try_from(x).unwrap_or(WIDTH)
    }

    /// The middle of a lane.
    fn y(lane: usize) -> u64 {
        TOP + LANE * lane as u64 + LANE / 2
    }

    fn lane(&self, life: Option<usize>) -> Option<usize> {
        self.lanes.binary_search(&life?).ok()
    }

    fn names(&self, html: &mut Html) {
        for (lane, &life) in self.lanes.iter().enumerate() {
            let life = &self.lives.lives[life];
            if lane.is_multiple_of(2) {
                html.raw("<rect class=\"stripe\" x=\"0\" y=\"").tenths(TOP + LANE * lane as u64);
                html.raw("\" width=\"")
                    .tenths(LEFT + WIDTH + RIGHT)
                    .raw("\" height=\"")
                    .tenths(LANE)
                    .raw("\"/>\n");
            }
            html.raw(if life.death.is_some() {
                "<text class=\"name victim\" x=\"8\" y=\""
            } else {
                "<text class=\"name\" x=\"8\" y=\""
            });
            html.tenths(Self::y(lane) + 45).raw("\">").text(&escape::cut_middle(life.name, 20));
            html.raw(" <tspan class=\"pid\">").number(life.pid).raw("</tspan></text>\n");
        }
    }

    fn axis(&self, html: &mut Html, height: u64) {
        html.raw("<g class=\"axis\">");
        for t_ns in ticks(self.origin_ns, self.to_ns) {
            html.raw("<g class=\"tick\" transform=\"translate(")
                .tenths(self.x(t_ns))
                .raw(" 0)\"><line y1=\"");
            html.tenths(TOP - 60).raw("\" y2=\"").tenths(height).raw("\"/><text y=\"").tenths(TOP - 120);
            let label =
                if t_ns == self.origin_ns { "0".to_owned() } else { words::after(t_ns - self.origin_ns) };
            html.element("\">", &label, "</text></g>");
        }
        html.raw("</g>\n");
    }

    fn bars(&self, html: &mut Html) {
        for (lane, &index) in self.lanes.iter().enumerate() {
            let life = &self.lives.lives[index];
            let outside = life.born_ns.is_some_and(|born| born > self.to_ns)
                || life.died_ns.is_some_and(|died| died < self.from_ns);
            if outside {
                continue;
            }
            let from = self.x(life.born_ns.unwrap_or(self.from_ns));
            let to = life.died_ns.map_or(WIDTH + RIGHT, |died| self.x(died));
            html.raw(match (life.death.is_some(), life.born_ns.is_some()) {
                (true, true) => "<rect class=\"life victim\" x=\"",
                (true, false) => "<rect class=\"life victim before\" x=\"",
                (false, true) => "<rect class=\"life\" x=\"",
                (false, false) => "<rect class=\"life before\" x=\"",
            });
            html.tenths(from).raw("\" y=\"").tenths(Self::y(lane) - 55).raw("\" width=\"");
            html.tenths(to.saturating_sub(from).max(15)).raw("\" height=\"11\" rx=\"2\"><title>");
            html.text(&self.life_words(life)).raw("</title></rect>\n");
        }
    }

    fn life_words(&self, life: &Life<'_>) -> String {
        let mut text = format!("{} (pid {})", life.name, life.pid);
        match (life.born_ns, life.died_ns) {
            (Some(born), Some(died)) => {
                text.push_str(&format!(": lived {}", units::elapsed(died.saturating_sub(born))));
            }
            (None, Some(_)) => text.push_str(": was there before"),
            (Some(_), None) => text.push_str(": lived on"),
            (None, None) => text.push_str(": was there before and lived on"),
        }
        if let Some(exit) = life.exit {
            text.push_str(&format!(", ended by {}", words::outcome(exit)));
        }
        text
    }

    /// `labelled`: where the last label of each lane ends.
    fn mark(&self, html: &mut Html, mark: &Mark<'_>, labelled: &mut [Option<u64>]) {
        let x = self.x(mark.entry.t_ns);
        let Some(lane) = self.lane(mark.on) else {
            return self.machine(html, mark, x);
        };
        let y = Self::y(lane);
        let open = |html: &mut Html, class: &'static str| {
            html.raw(class)
                .tenths(x)
                .raw(" ")
                .tenths(y)
                .raw(")\"><title>")
                .text(&title(mark))
                .raw("</title>");
        };
        match &mark.entry.what {
            What::Fork { .. } => {
                let Some(parent) = self.lane(mark.from).filter(|parent| *parent != lane) else { return };
                open(html, "<g class=\"mark birth\" transform=\"translate(");
                vertical(html, Self::y(parent), y, 55);
            }
            What::Exec { .. } => {
                open(html, "<g class=\"mark exec\" transform=\"translate(");
                html.raw("<path d=\"M0 -5.5V5.5\"/>");
            }
            What::Signal { signal, .. } | What::Taken { signal, .. } => {
                open(
                    html,
                    if mark.evidence {
                        "<g class=\"mark signal fatal\" transform=\"translate("
                    } else {
                        "<g class=\"mark signal\" transform=\"translate("
                    },
                );
                match self.lane(mark.from).filter(|sender| *sender != lane) {
                    Some(sender) => arrow(html, Self::y(sender), y),
                    // By itself, by the kernel, or by someone who is not drawn.
                    None => {
                        html.raw("<path class=\"head\" d=\"M-4 -12.5h8l-4 7z\"/>");
                    }
                }
                if self.labels && mark.evidence {
                    label(html, signal, x, &mut labelled[lane]);
                }
            }
            What::OomVictim { .. } => {
                open(html, "<g class=\"mark signal fatal\" transform=\"translate(");
                html.raw("<path class=\"head\" d=\"M0 -13l5 5l-5 5l-5 -5z\"/>");
                if self.labels {
                    label(html, "OOM", x, &mut labelled[lane]);
                }
            }
            What::Exit { exit, .. } => {
                let death = mark.on.and_then(|life| self.lives.lives[life].death);
                open(
                    html,
                    match (death.is_some(), exit.signal.is_some()) {
                        (true, _) => "<g class=\"mark dead victim\" transform=\"translate(",
                        (false, true) => "<g class=\"mark dead\" transform=\"translate(",
                        (false, false) => "<g class=\"mark ended\" transform=\"translate(",
                    },
                );
                if let Some(death) = death {
                    html.raw("<a href=\"#death-").number(death).raw("\">");
                }
                html.raw(if death.is_some() || exit.signal.is_some() {
                    "<circle r=\"8\"/><path d=\"M-5 -5L5 5M-5 5L5 -5\"/>"
                } else {
                    "<path d=\"M0 -7V7\"/>"
                });
                html.raw(if death.is_some() { "</a>" } else { "" });
            }
            What::KernelLog { .. } | What::Journal { .. } | What::Lost { .. } => return,
        }
        html.raw("</g>\n");
    }

    /// What happened to no process in particular is on the axis.
    fn machine(&self, html: &mut Html, mark: &Mark<'_>, x: u64) {
        html.raw(match &mark.entry.what {
            What::Lost { .. } => "<g class=\"mark lost\" transform=\"translate(",
            _ => "<g class=\"mark log\" transform=\"translate(",
        });
        html.tenths(x).raw(" ").tenths(TOP - 50).raw(")\"><title>").text(&title(mark));
        html.raw("</title><circle r=\"3.5\"/></g>\n");
    }
}

/// The processes that these events touch.
fn evidence<'a>(marks: impl Iterator<Item = &'a Mark<'a>>) -> impl Iterator<Item = usize> {
    marks.filter(|mark| mark.evidence).flat_map(|mark| mark.from.into_iter().chain(mark.on))
}

fn title(mark: &Mark<'_>) -> String {
    format!("{}  {}", units::clock(mark.entry.t), words::event(&mark.entry.what))
}

/// A line from another lane to this one, which is at 0, with its ends off the middle of the lanes.
fn vertical(html: &mut Html, from: u64, to: u64, gap: u64) {
    let length = from.abs_diff(to);
    if from < to {
        html.raw("<path d=\"M0 -").tenths(length - gap).raw("V-").tenths(gap).raw("\"/>");
    } else {
        html.raw("<path d=\"M0 ").tenths(length - gap).raw("V").tenths(gap).raw("\"/>");
    }
}

fn arrow(html: &mut Html, from: u64, to: u64) {
    vertical(html, from, to, 60);
    html.raw(if from < to {
        "<path class=\"head\" d=\"M-4 -12.5h8l-4 7z\"/>"
    } else {
        "<path class=\"head\" d=\"M-4 12.5h8l-4 -7z\"/>"
    });
}

/// The signal's name beside its arrow, unless another is there already.
fn label(html: &mut Html, signal: &str, x: u64, last: &mut Option<u64>) {
    if last.is_some_and(|last| x.saturating_sub(last) < LABEL) {
        return;
    }
    *last = Some(x);
    let text = escape::cut_middle(signal, 14);
    if x > WIDTH - LABEL {
        html.element("<text class=\"label\" x=\"-7\" y=\"-8\" text-anchor=\"end\">", &text, "</text>");
    } else {
        html.element("<text class=\"label\" x=\"7\" y=\"-8\">", &text, "</text>");
    }
}

/// Round distances from the origin, some six of them.
fn ticks(origin_ns: u64, to_ns: u64) -> Vec<u64> {
    let span = to_ns.saturating_sub(origin_ns);
    let step = step(span / 7);
    (0..=span / step).map(|tick| origin_ns + tick * step).collect()
}

/// The smallest round time that is longer than this. The script knows the same ones.
fn step(at_least: u64) -> u64 {
    const SECOND: u64 = 1_000_000_000;
    const ROUND: [u64; 14] =
        [10, 20, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200, 86_400];
    let mut power = 1;
    while power < 10 * SECOND {
        for step in [power, 2 * power, 5 * power] {
            if step > at_least {
                return step;
            }
        }
        power *= 10;
    }
    let round = ROUND.iter().map(|seconds| seconds * SECOND).find(|step| *step > at_least);
    round.unwrap_or_else(|| (at_least / (86_400 * SECOND) + 1) * 86_400 * SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        for span in [0, 1, 999, 1_234_567, 60_000_000_000, 3_600_000_000_000, u64::MAX / 2] {
            let ticks = ticks(5, span + 5);
            assert!((1..=8).contains(&ticks.len()), "{span}: {}", ticks.len());
            assert_eq!(ticks[0], 5);
        }
        assert_eq!(step(150_000), 200_000);
        assert_eq!(step(9_000_000_000), 10_000_000_000);
        assert_eq!(step(25_000_000_000), 30_000_000_000);
    }
}
