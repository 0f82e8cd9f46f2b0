//! The summary of a GitHub workflow's step: a file to append Markdown to, shown when the step has ended.

use std::fs::OpenOptions;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use super::output::note;
use crate::model::Report;
use crate::place::Place;
use crate::report::{self, Options};

/// The name of the file, for programs that a step runs. `sudo` passes it on only when told to.
const VARIABLE: &str = "GITHUB_STEP_SUMMARY";

/// What killtrace has appended to the summary of the step that it runs in.
#[derive(Debug)]
pub(crate) struct StepSummary {
    path: PathBuf,
    /// Where its part begins and ends.
    own: Option<(u64, u64)>,
}

impl StepSummary {
    /// `None` outside of a step.
    pub(crate) fn from_env() -> Option<Self> {
        let path = std::env::var_os(VARIABLE).filter(|path| !path.is_empty())?;
        Some(Self { path: path.into(), own: None })
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends the report, in the place of what was appended before.
    pub(crate) fn write(&mut self, report: &Report) {
        self.tried(|summary| summary.replace(Some(report)));
    }

    /// Takes back what was appended.
    pub(crate) fn withdraw(&mut self) {
        self.tried(|summary| summary.replace(None));
    }

    /// Says what went wrong, which is no failure of the command.
    fn tried(&mut self, write: impl FnOnce(&mut Self) -> io::Result<()>) {
        if let Err(error) = write(self) {
            note(&format!(
                "warning: cannot add to the summary of the step, {}: {error}",
                self.path.display()
            ));
        }
    }

    fn replace(&mut self, report: Option<&Report>) -> io::Result<()> {
        let (own, markdown) = (self.own, report::by_name("markdown"));
        let (Some(markdown), true) = (markdown, own.is_some() || report.is_some()) else { return Ok(()) };
        // The runner has made it: whatever else the name leads to is not a summary.
        let mut file = Place::find(&self.path)?.open(&mut OpenOptions::new())?;
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        let end = found.len();
        // Others may have appended to it since.
        let begin = own.filter(|&(_, own_end)| own_end == end).map_or(end, |(begin, _)| begin);
        file.set_len(begin)?;
        file.seek(SeekFrom::Start(begin))?;
        self.own = None;
        let Some(report) = report else { return Ok(()) };
        let mut text = Vec::new();
        markdown.write(report, &Options::default(), &mut text)?;
        file.write_all(&text)?;
        self.own = Some((begin, begin + text.len() as u64));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::report::sample;

    fn summary(text: &str) -> (tempfile::TempDir, StepSummary) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("step_summary");
        fs::write(&path, text).unwrap();
        (directory, StepSummary { path, own: None })
    }

    #[test]
    fn it_appends_replaces_its_own_and_takes_it_back() {
        let (_directory, mut summary) = summary("# Mine\n");
        let read = |summary: &StepSummary| fs::read_to_string(&summary.path).unwrap();
        summary.withdraw();
        assert_eq!(read(&summary), "# Mine\n");
        summary.write(&sample::report());
        let once = read(&summary);
        assert!(once.starts_with("# Mine\n## comm=vite, watched"), "{once}");
        summary.write(&sample::report());
        assert_eq!(read(&summary), once);
        summary.withdraw();
        assert_eq!(read(&summary), "# Mine\n");
    }

    #[test]
    fn what_others_appended_stays() {
        let (_directory, mut summary) = summary("");
        summary.write(&sample::nothing_died());
        let own = fs::read_to_string(&summary.path).unwrap();
        let other = format!("{own}# Theirs\n");
        fs::write(&summary.path, &other).unwrap();
        summary.write(&sample::nothing_died());
        assert_eq!(fs::read_to_string(&summary.path).unwrap(), other + &own);
    }

    #[test]
    fn it_makes_no_file() {
        let (directory, mut summary) = summary("");
        summary.path = directory.path().join("nowhere");
        assert!(summary.replace(Some(&sample::report())).is_err());
        assert!(!summary.path.exists());
    }
}
