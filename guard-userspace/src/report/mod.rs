//! From answers to bytes; one file per format. Computes nothing.

pub mod escape;
pub mod html;
pub mod json;
mod lives;
pub mod markdown;
pub mod perfetto;
mod secrets;
pub mod text;
pub mod why;
mod words;

#[cfg(test)]
pub(crate) mod sample;

use std::fmt::Debug;
use std::io::{self, Write};
use std::path::Path;

use crate::model;

/// A format that a report can be written in.
pub trait Report: Debug + Sync {
    /// What `--format` calls it.
    fn name(&self) -> &'static str;

    /// What it is good for, in a few words; the help of `--format` shows it.
    fn about(&self) -> &'static str;

    /// File name endings that ask for it, without the dot.
    fn extensions(&self) -> &'static [&'static str];

    /// Writes the whole report.
    ///
    /// # Errors
    /// When `out` cannot be written to.
    fn write(&self, report: &model::Report, options: &Options, out: &mut dyn Write) -> io::Result<()>;

    /// Lines for the log of a CI job, which its runner shows where they are seen; for most formats, none.
    fn annotations(&self, _report: &model::Report) -> String {
        String::new()
    }
}

/// Every format. `--format`, its help and shell completion come from here; the first is the default.
pub const REPORTS: &[&dyn Report] =
    &[&text::Text, &json::Json, &html::Page, &markdown::Markdown, &perfetto::Perfetto];

/// How to write a report.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub style: Style,
}

/// What the reader's screen can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Terminal colours and bold. The caller knows whether it is a terminal, and `NO_COLOR`.
    pub color: bool,
    /// Columns to wrap at.
    pub width: usize,
}

impl Style {
    /// For files, pipes and terminals that want no colours.
    pub const PLAIN: Self = Self { color: false, width: 80 };
    /// For terminals.
    pub const COLOR: Self = Self { color: true, width: 80 };
}

impl Default for Style {
    fn default() -> Self {
        Self::PLAIN
    }
}

/// The format of that name.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static dyn Report> {
    REPORTS.iter().copied().find(|format| format.name() == name)
}

/// The format that a file's name asks for.
#[must_use]
pub fn by_extension(path: &Path) -> Option<&'static dyn Report> {
    let name = path.file_name()?.to_str()?;
    let endings = REPORTS
        .iter()
        .flat_map(|&format| format.extensions().iter().map(move |end| (end.len(), *end, format)));
    let asked = endings.filter(|(_, end, _)| name.strip_suffix(end).is_some_and(|stem| stem.ends_with('.')));
    // The longest: a trace ends in `.perfetto.json`, which is not JSON of the report.
    asked.max_by_key(|(length, ..)| *length).map(|(.., format)| format)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::report::Confidence;

    #[test]
    fn every_format_writes_the_sample_and_the_empty_report() {
        for format in REPORTS {
            for report in [sample::report(), sample::nothing_died()] {
                let mut out = Vec::new();
                format.write(&report, &Options::default(), &mut out).unwrap();
                let written = String::from_utf8(out).unwrap();
                assert!(written.ends_with('\n'), "{}", format.name());
                assert!(!written.ends_with("\n\n"), "{}", format.name());
            }
        }
    }

    #[test]
    fn hostile_names_are_inert_in_every_format_for_people() {
        let report =
            sample::with_texts(&sample::report(), &mut || sample::HOSTILE.concat() + &"A".repeat(4096));
        for format in REPORTS.iter().filter(|format| format.name() != "json") {
            let mut out = Vec::new();
            format.write(&report, &Options::default(), &mut out).unwrap();
            let written = String::from_utf8(out).unwrap();
            assert!(written.chars().all(|c| c == '\n' || !c.is_control()), "{}", format.name());
            for c in ['\u{202e}', '\u{2066}', '\u{200b}', '\u{2028}'] {
                assert!(!written.contains(c), "{}: {c:?}", format.name());
            }
            for markup in ["<img", "<svg onload", "--!>", "<script>document"] {
                let text = ["text", "perfetto"].contains(&format.name());
                assert!(text || !written.contains(markup), "{}: {markup}", format.name());
            }
        }
    }

    #[test]
    fn what_is_only_likely_is_hedged_in_every_format_for_people() {
        let mut report = sample::report();
        let death = &mut report.deaths[0];
        death.killer = None;
        death.root_cause.as_mut().unwrap().confidence = Confidence::Likely;
        death.aftermath.also_died[0].confidence = Confidence::Likely;
        let said = format!("most likely {}", death.root_cause.as_ref().unwrap().action);
        // Up to the first character that a format has to escape.
        let said = said.split(['(', '_']).next().unwrap();
        for format in REPORTS.iter().filter(|format| ["text", "html", "markdown"].contains(&format.name())) {
            let mut out = Vec::new();
            format.write(&report, &Options::default(), &mut out).unwrap();
            let written = String::from_utf8(out).unwrap();
            let words = written.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(words.contains(said.trim()), "{}: no {said:?}", format.name());
            assert!(!words.contains("(pid 4033) died with it"), "{}", format.name());
        }
    }

    #[test]
    fn names_and_extensions_are_unique() {
        for (index, format) in REPORTS.iter().enumerate() {
            assert_eq!(by_name(format.name()).map(Report::name), Some(format.name()));
            assert!(!format.about().is_empty());
            for other in &REPORTS[index + 1..] {
                assert!(format.extensions().iter().all(|end| !other.extensions().contains(end)));
            }
        }
        assert!(by_name("nonsense").is_none());
    }

    #[test]
    fn a_file_name_chooses_the_format() {
        let chosen = |path: &str| by_extension(Path::new(path)).map(Report::name);
        assert_eq!(chosen("/tmp/a.json"), Some("json"));
        assert_eq!(chosen("why.txt"), Some("text"));
        assert_eq!(chosen("a.html"), Some("html"));
        assert_eq!(chosen("a.b.md"), Some("markdown"));
        assert_eq!(chosen("a.perfetto.json"), Some("perfetto"));
        assert_eq!(chosen("perfetto.json"), Some("json"));
        assert_eq!(chosen("json"), None);
        assert_eq!(chosen("report"), None);
        assert_eq!(chosen("report.doc"), None);
    }

    #[test]
    fn a_full_disk_is_an_error_in_every_format() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        for format in REPORTS {
            let result = format.write(&sample::report(), &Options::default(), &mut Full);
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull, "{}", format.name());
        }
    }
}
