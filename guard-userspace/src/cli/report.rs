//! `killtrace report`

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;

use anyhow::Context as _;

use super::args::ReportArgs;
use super::failure::{Failure, exit};
use super::output::{annotations, style};
use super::safe_file::SafeFile;
use crate::recording;
use crate::report::{self, Options};

/// Shows a saved report or replays a recording; returns the exit code.
///
/// # Errors
/// When the file cannot be read, is not ours, or the output cannot be written.
pub fn run(args: &ReportArgs) -> Result<u8, Failure> {
    let output = args.output.as_deref().filter(|path| *path != Path::new("-"));
    let by_extension = output.and_then(report::by_extension);
    let format = match &args.format {
        Some(name) => report::by_name(name).context("no such format")?,
        None => by_extension.unwrap_or(report::REPORTS[0]),
    };
    // Before the work of a long replay, not after it.
    let file = output.map(SafeFile::check).transpose()?;
    let report = recording::load(&args.file)?.into_report();
    let stdout = io::stdout();
    let annotations = annotations(format, &report);
    if let Some(file) = file {
        file.write(|out| format.write(&report, &Options::default(), out))?;
        // Whoever closed it does not want them.
        let _ = stdout.lock().write_all(annotations.as_bytes());
        return Ok(0);
    }
    // No runner reads a file, such as $GITHUB_STEP_SUMMARY; it reads standard error as well.
    let _ = if is_file(&stdout) {
        io::stderr().write_all(annotations.as_bytes())
    } else {
        stdout.lock().write_all(annotations.as_bytes())
    };
    let options = Options { style: style(stdout.is_terminal()) };
    let mut out = BufWriter::new(stdout.lock());
    match format.write(&report, &options, &mut out).and_then(|()| out.flush()) {
        // A pager that was left early had enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            // Else dropping the rest would try to write it again.
            let _ = out.into_parts();
            Ok(0)
        }
        Err(error) => {
            let _ = out.into_parts();
            let error = anyhow::Error::new(error).context("cannot write to standard output");
            Err(Failure::new(error).with_code(exit::FAILED))
        }
        Ok(()) => Ok(0),
    }
}

fn is_file(stream: &io::Stdout) -> bool {
    let file = stream.as_fd().try_clone_to_owned().map(File::from);
    file.and_then(|file| file.metadata()).is_ok_and(|metadata| metadata.is_file())
}
