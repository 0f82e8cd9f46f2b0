//! `cargo xtask vm-test`: the kill zoo on other kernels, in emulated machines; or people's stories, with the programs
//! that they happened to.
//!
//! Each run boots a kernel once, with one of killtrace's backends, and plays everything there. No KVM is needed: the
//! machines are emulated, also those of another processor.

mod cpio;
mod guest;
mod initramfs;
mod kernel;
mod matrix;
mod packages;
mod programs;
mod results;
mod summary;
mod userland;

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, anyhow, bail};

use self::guest::{End, Ran, boot};
use self::initramfs::{Job, Play};
use self::matrix::{Part, Run};
use self::programs::Programs;
use self::results::Results;
use self::summary::Row;
use crate::setup::setup_vm;
use crate::shell;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Kernels, or `KERNEL/BACKEND`; without any, the quick half of the matrix
    kernels: Vec<String>,
    /// All of the matrix
    #[arg(long)]
    all: bool,
    /// Only cases with this in their name
    #[arg(long, default_value = "")]
    case: String,
    /// Bring each case's recording and truth out of the guests, to DIR/KERNEL/BACKEND/CASE
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Instead of the zoo, what happens to people: a real Vite under npm, tmux and earlyoom
    #[arg(long)]
    stories: bool,
    /// Run this in the guests' shell, and show what it says
    #[arg(long, value_name = "COMMAND", conflicts_with = "case")]
    sh: Option<String>,
    /// So many guests at a time; as many as there are processors, if not said
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..))]
    jobs: Option<u8>,
    /// Only list the kernels and backends
    #[arg(long)]
    list: bool,
}

impl Options {
    fn play(&self) -> Play<'_> {
        match &self.sh {
            Some(command) => Play::Command(command),
            None if self.stories => Play::Stories,
            None => Play::Zoo,
        }
    }
}

/// Plays the zoo, or the stories, on every kernel that was asked for.
///
/// # Errors
/// When a case fails, a guest dies, or something that is needed cannot be had.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.list {
        list();
        return Ok(());
    }
    let wanted = if options.stories {
        Part::Stories
    } else if options.all {
        Part::All
    } else {
        Part::Quick
    };
    let runs = matrix::select(&options.kernels, wanted).map_err(|unknown| {
        anyhow!("no kernel is called {unknown}; `cargo xtask vm-test --list` names them")
    })?;
    setup_vm(runs.iter().map(|run| run.kernel.arch))?;
    let job = Job { play: options.play(), cases: &options.case, keep: options.keep.is_some() };
    let mut programs = BTreeMap::new();
    let mut rows: Vec<Option<Row>> = runs.iter().map(|_| None).collect();
    let mut guests = VecDeque::new();
    for (place, run) in runs.into_iter().enumerate() {
        if let Some(reason) = run.backend.missing {
            println!("skipped: {}: {reason}", run.name());
            rows[place] = Some(Row::not_run(&run));
            continue;
        }
        let arch = run.kernel.arch;
        if !programs.contains_key(arch.name()) {
            programs.insert(arch.name(), Programs::build(arch, options.stories)?);
        }
        guests.push_back((place, run, kernel::image(run.kernel)?));
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let guests = Mutex::new(guests);
    let next = || guests.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let work = || -> Result<Vec<(usize, Row)>> {
        let mut done = Vec::new();
        while let Some((place, run, image)) = next() {
            let programs = &programs[run.kernel.arch.name()];
            done.push((place, play(&run, &image, programs, &job, options.keep.as_deref())?));
        }
        Ok(done)
    };
    let done: Result<Vec<_>> = std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..options.jobs.map_or(cores, usize::from)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| bail!("it panicked"))).collect()
    });
    for (place, row) in done?.into_iter().flatten() {
        rows[place] = Some(row);
    }
    summary::close(&rows.into_iter().flatten().collect::<Vec<_>>())
}

fn list() {
    for run in matrix::runs() {
        let remark = match (run.backend.missing, run.is_quick()) {
            (Some(reason), _) => format!("not yet: {reason}"),
            (None, true) => "in the quick half".into(),
            (None, false) => String::new(),
        };
        println!("{:36} {remark}", run.name());
    }
}

/// One guest from boot to end.
fn play(run: &Run, image: &Path, programs: &Programs, job: &Job<'_>, keep: Option<&Path>) -> Result<Row> {
    let dir = tempfile::Builder::new().prefix("guest").tempdir_in(packages::store())?;
    let initramfs = initramfs::build(run, programs, job)?;
    println!("{} boots {}", run.name(), image.display());
    let mut results = Results::default();
    let is_test = !matches!(job.play, Play::Command(_));
    let ran = boot(run, image, &initramfs, dir.path(), &mut |news| {
        for line in news.lines() {
            match results.line(line) {
                Some((case, verdict)) => {
                    println!("{} {case} ... {verdict}{}", run.name(), results.why_not(&case, verdict));
                }
                None if !is_test => println!("{line}"),
                None => {}
            }
        }
    })?;
    // The last line may have been cut short.
    if let Some(rest) = ran.results.rsplit('\n').next().filter(|rest| !rest.is_empty()) {
        let _ = results.line(rest);
    }
    if let Some((case, verdict)) = results.give_up() {
        println!("{} {case} ... {verdict}", run.name());
    }
    let trouble = trouble(&ran, &results, is_test);
    // In one piece: other guests talk, too.
    print!("{}", explain(run, &ran, &results, trouble.as_deref()));
    if let Some(keep) = keep {
        bring_out(&ran.files, &keep.join(run.name()))?;
    }
    Ok(Row::new(run, &results, trouble, ran.took))
}

/// What went wrong beyond cases that failed.
fn trouble(ran: &Ran, results: &Results, is_test: bool) -> Option<String> {
    let panic = ran.console.lines().find_map(|line| line.split_once("Kernel panic").map(|(_, why)| why));
    match (&ran.end, results.ended, panic) {
        (_, None, Some(why)) => Some(format!("the guest's kernel panicked{why}")),
        (End::Silent(time), ..) => Some(format!("the guest said nothing for {} s", time.as_secs())),
        (End::TooLong(time), ..) => Some(format!("the guest ran for {} min", time.as_secs() / 60)),
        (End::Off(_), None, _) if results.up.is_none() => Some("the guest did not come up".into()),
        (End::Off(_), None, _) => Some("the guest ended in the middle".into()),
        (End::Off(_), Some(code), _) if code != 0 && results.explanations().next().is_none() => {
            Some(format!("the tests ended with exit code {code}"))
        }
        (End::Off(_), Some(_), _) if is_test && results.cases.is_empty() => Some("no case ran".into()),
        (End::Off(_), Some(_), _) => None,
    }
}

/// What is known of whatever went wrong.
fn explain(run: &Run, ran: &Ran, results: &Results, trouble: Option<&str>) -> String {
    let name = run.name();
    let mut text = String::new();
    for skipped in &results.skipped {
        text += &format!("skipped: {name} {skipped}\n");
    }
    for (case, verdict, why) in results.explanations() {
        text += &format!("\n---- {name} {case} {verdict} ----\n{}\n", why.trim_end());
    }
    let Some(trouble) = trouble else { return text };
    text += &format!("\n---- {name}: {trouble} ----\n{}", tail(results.stray(), 20));
    text += &format!("---- the end of its console ----\n{}", tail(&ran.console, 40));
    if let End::Off(status) = ran.end
        && !status.success()
    {
        text += &format!("QEMU ended with {status}\n");
    }
    text
}

/// The last lines, safe to print.
fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    let last = &all[all.len().saturating_sub(lines)..];
    last.iter().flat_map(|line| line.chars().filter(|c| !c.is_control()).chain(['\n'])).collect()
}

/// Unpacks what the guest kept.
fn bring_out(archive: &Path, to: &Path) -> Result<()> {
    if fs::metadata(archive).map_or(0, |meta| meta.len()) == 0 {
        bail!("the guest left no files");
    }
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    shell::run(
        Command::new("tar")
            .arg("--extract")
            .arg("--gzip")
            .arg("--file")
            .arg(archive)
            .arg("--directory")
            .arg(to),
    )?;
    println!("kept: {}", to.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;
    use std::time::Duration;

    use super::*;

    fn ran(end: End, console: &str) -> Ran {
        let (results, files) = (String::new(), PathBuf::new());
        Ran { end, results, console: console.into(), files, took: Duration::from_secs(9) }
    }

    fn said(lines: &[&str]) -> Results {
        let mut results = Results::default();
        for line in lines {
            let _ = results.line(line);
        }
        results
    }

    #[test]
    fn a_guest_in_trouble_is_noticed() {
        let off = || End::Off(ExitStatus::from_raw(0));
        let case = "test kill ... ok";
        let whole = said(&["== up 3 s", case, "== ended 0"]);
        assert_eq!(trouble(&ran(off(), ""), &whole, true), None);
        let nothing = said(&["== up 3 s", "== ended 0"]);
        assert_eq!(trouble(&ran(off(), ""), &nothing, true).as_deref(), Some("no case ran"));
        let crashed = said(&["== up 3 s", case, "== ended 134"]);
        let why = trouble(&ran(off(), ""), &crashed, true);
        assert_eq!(why.as_deref(), Some("the tests ended with exit code 134"));
        let cut = said(&["== up 3 s", case]);
        assert_eq!(trouble(&ran(off(), ""), &cut, true).as_deref(), Some("the guest ended in the middle"));
        let panic = ran(off(), "[ 9.1] Kernel panic - not syncing: sysrq triggered crash\n");
        let why = trouble(&panic, &cut, true);
        assert_eq!(why.as_deref(), Some("the guest's kernel panicked - not syncing: sysrq triggered crash"));
        let silent = ran(End::Silent(Duration::from_secs(150)), "");
        let why = trouble(&silent, &cut, true);
        assert_eq!(why.as_deref(), Some("the guest said nothing for 150 s"));
        assert_eq!(trouble(&ran(off(), ""), &said(&[]), true).as_deref(), Some("the guest did not come up"));
    }

    #[test]
    fn the_tail_of_a_console_is_plain_text() {
        assert_eq!(tail("a\nb\x1b[31m\nc", 2), "b[31m\nc\n");
        assert_eq!(tail("", 2), "");
    }
}
