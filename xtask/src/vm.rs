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
mod plan;
mod programs;
mod results;
mod summary;
mod userland;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use self::guest::{End, Ran, boot};
use self::initramfs::Job;
use self::plan::{Boot, Machine, Next, Part, Play, Queue};
use self::programs::Programs;
use self::results::Results;
use self::summary::Row;
use crate::setup::setup_vm;
use crate::shell;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Kernels, or `KERNEL/BACKEND`; without any, the quick half of the matrix
    kernels: Vec<String>,
    /// All of the matrix, the quick half first
    #[arg(long, conflicts_with = "kernels")]
    all: bool,
    /// With `--all`: beyond the quick half, boot only what will end within so many minutes
    #[arg(long, value_name = "MINUTES", requires = "all")]
    within: Option<u32>,
    /// Only cases with this in their name
    #[arg(long, default_value = "")]
    case: String,
    /// Bring each case's recording and truth out of the guests, to DIR/KERNEL/BACKEND/CASE
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Instead of the zoo, what happens to people: a real Vite under npm, tmux and earlyoom
    #[arg(long)]
    stories: bool,
    /// Instead of the zoo, machines that systemd boots: its services, systemd-oomd, killtrace's package
    #[arg(long, conflicts_with = "stories")]
    systemd: bool,
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
    /// # Errors
    /// When a kernel is called otherwise.
    fn boots(&self) -> Result<Vec<Boot>> {
        let play = match self {
            Self { sh: Some(_), .. } => Play::Command,
            Self { stories: true, .. } => Play::Stories,
            Self { systemd: true, .. } => Play::Systemd,
            _ => Play::Zoo,
        };
        let named =
            |name: &str| anyhow!("no kernel is called {name}; `cargo xtask vm-test --list` names them");
        let runs = matrix::select(&self.kernels).map_err(|unknown| named(&unknown))?;
        let mut boots = match play {
            _ if !runs.is_empty() => plan::named(runs, play),
            Play::Stories => plan::stories(),
            Play::Systemd => plan::systemd(),
            _ if self.all => plan::all(self.within.is_none()),
            _ => plan::quick(),
        };
        if play == Play::Command {
            // Once for each, whatever else would be played there.
            boots.retain(|boot| boot.play == Play::Command || boot.play == Play::OnTime);
            boots.iter_mut().for_each(|boot| boot.play = Play::Command);
        } else if play == Play::Zoo && !self.case.is_empty() {
            boots.retain(|boot| !boot.play.is_story());
        }
        if self.sh.is_some() || !self.case.is_empty() {
            boots.iter_mut().for_each(|boot| boot.part = Part::WHOLE);
        }
        Ok(boots)
    }

    /// What a guest is. A command finds the programs of what it stands in for.
    fn machine(&self, play: Play) -> Machine {
        match (self.stories, self.systemd) {
            (true, _) => Machine::Dev,
            (_, true) => Machine::Systemd,
            _ => play.machine(),
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
    let start = Instant::now();
    let boots = options.boots()?;
    setup_vm(boots.iter().map(|boot| boot.run.kernel.arch))?;
    let mut programs = BTreeMap::new();
    for Boot { run, play, always, .. } in &boots {
        let (arch, machine) = (run.kernel.arch, options.machine(*play));
        if let Entry::Vacant(place) = programs.entry((arch.name(), machine)) {
            place.insert(Programs::build(arch, machine)?);
        }
        // The others' kernels are fetched or built when it is certain that they are booted.
        if *always {
            kernel::image(run.kernel)?;
        }
    }
    let limit = options.within.map(|minutes| Duration::from_secs(60 * u64::from(minutes)));
    let queue = Mutex::new(Queue::new(&boots, limit));
    let queue = || -> MutexGuard<'_, Queue> { queue.lock().unwrap_or_else(PoisonError::into_inner) };
    let fetching = Mutex::new(());
    let image = |kernel| {
        let _one_at_a_time = fetching.lock().unwrap_or_else(PoisonError::into_inner);
        kernel::image(kernel)
    };
    let work = || -> Result<Vec<(usize, Row)>> {
        let mut done = Vec::new();
        loop {
            let next = queue().next(start.elapsed());
            let (place, boot) = match next {
                None => return Ok(done),
                Some(Next::NoTime(place, boot, estimate)) => {
                    println!("{} is not booted: it may take {} min", boot.name(), estimate.as_secs() / 60);
                    done.push((place, Row::not_booted(&boot)));
                    continue;
                }
                Some(Next::Boot(place, boot)) => (place, boot),
            };
            let machine = options.machine(boot.play);
            let programs = &programs[&(boot.run.kernel.arch.name(), machine)];
            let command = options.sh.as_deref().unwrap_or_default();
            let job = Job { boot, machine, cases: &options.case, keep: options.keep.is_some(), command };
            let row = play(&image(boot.run.kernel)?, programs, &job, options.keep.as_deref())?;
            queue().learn(&boot, row.took);
            done.push((place, row));
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let done: Result<Vec<_>> = std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..options.jobs.map_or(cores, usize::from)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| bail!("it panicked"))).collect()
    });
    let mut rows: Vec<(usize, Row)> = done?.into_iter().flatten().collect();
    rows.sort_by_key(|(place, _)| *place);
    let rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
    // The whole of it: what no guest plays is then a fault.
    summary::close(&rows, options.all && options.within.is_none() && options.case.is_empty())
}

fn list() {
    let quick = plan::quick();
    for run in matrix::runs() {
        let plays: Vec<&str> =
            quick.iter().filter(|boot| boot.run == run).map(|boot| boot.play.subject()).collect();
        match plays.is_empty() {
            true => println!("{}", run.name()),
            false => println!("{:36} in the quick half: {}", run.name(), plays.join(", ")),
        }
    }
}

/// One guest from boot to end.
fn play(image: &Path, programs: &Programs, job: &Job<'_>, keep: Option<&Path>) -> Result<Row> {
    let (run, name) = (&job.boot.run, job.boot.name());
    let dir = tempfile::Builder::new().prefix("guest").tempdir_in(packages::store())?;
    let initramfs = initramfs::build(programs, job)?;
    println!("{name} boots {}", image.display());
    let mut results = Results::default();
    let is_test = job.boot.play != Play::Command;
    let ran = boot((run, job.machine), image, &initramfs, dir.path(), &mut |news| {
        for line in news.lines() {
            match results.line(line) {
                Some((case, verdict)) => {
                    println!("{name} {case} ... {verdict}{}", results.why_not(&case, verdict));
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
        println!("{name} {case} ... {verdict}");
    }
    let trouble = trouble(&ran, &results, is_test);
    // In one piece: other guests talk, too.
    print!("{}", explain(&name, &ran, &results, trouble.as_deref()));
    if let Some(keep) = keep {
        bring_out(&ran.files, &keep.join(run.name()))?;
    }
    Ok(Row::new(&job.boot, results, trouble, ran.took))
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
fn explain(name: &str, ran: &Ran, results: &Results, trouble: Option<&str>) -> String {
    let mut text = String::new();
    for skipped in &results.skipped {
        text += &format!("skipped: {name} {skipped}\n");
    }
    let case = |again: &String| again.split(':').next().unwrap_or_default().to_owned();
    for tries in results.again.chunk_by(|one, other| case(one) == case(other)) {
        text.extend(tries.iter().map(|again| format!("played again: {name} {again}\n")));
        text += results.details(&case(&tries[0]));
    }
    for absent in &results.absent {
        text += &format!("not on {name}: {absent}\n");
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
