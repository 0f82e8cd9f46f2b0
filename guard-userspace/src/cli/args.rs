//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Deserialize;

use super::when::moment;
use crate::collect::SOURCES;
use crate::export::endpoint;
use crate::model::time::Timestamp;
use crate::report::REPORTS;

/// What killed this process, and why?
#[derive(Debug, Parser)]
#[command(name = "killtrace", version, arg_required_else_help = true, max_term_width = 100)]
#[command(after_help = "Examples:
  sudo killtrace demo                        a first look, in five seconds
  sudo killtrace watch --comm vite           why does vite keep dying?
  sudo killtrace run -- npm test             run a command and explain what dies in it
  sudo killtrace record                      remember every death on this machine
  sudo killtrace why vite                    why did vite die last time?
  killtrace report report.json               read a saved report again

Exit codes: 0 fine, 1 killtrace failed, 2 wrong usage, 3 nothing died (--once, --duration) or nothing
matches (`why`), 77 missing privileges. `run` exits with the command's own code.")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Watch(WatchArgs),
    Run(RunArgs),
    Record(RecordArgs),
    Why(WhyArgs),
    Report(ReportArgs),
    Doctor(DoctorArgs),
    Demo(DemoArgs),
}

/// Watch processes and say what killed them
///
/// Prints one paragraph for every death in the trees of the selected processes,
/// as it happens. Processes that match later, such as a restarted server, are
/// picked up by themselves.
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:
  sudo killtrace watch --comm vite
  sudo killtrace watch --port 5173 -o report.json
  sudo killtrace watch --unit argos-dev-monitor --duration 1h
  sudo killtrace watch --cmdline 'tsx .*server' --once --json

Stop it with Ctrl-C; a report asked for with -o is saved at every death and at the end."
)]
pub struct WatchArgs {
    #[command(flatten)]
    pub select: SelectArgs,

    #[command(flatten)]
    pub report: OutputArgs,

    /// Stop after the first selected process has died
    #[arg(long, help_heading = "When to stop")]
    pub once: bool,

    /// Stop after this long: 90, 10s, 5m, 1h30m
    #[arg(long, help_heading = "When to stop", value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,

    #[command(flatten)]
    pub collect: CollectArgs,
}

/// Which processes to watch. Can be given more than once; a process that any of them matches is watched,
/// with all its descendants.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Which processes (repeatable, any match counts)")]
pub struct SelectArgs {
    /// Name of the process, its program, or the script it runs
    #[arg(long, value_name = "NAME", value_parser = not_empty)]
    pub comm: Vec<String>,

    /// Process id
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Vec<u32>,

    /// Regular expression found in the command line
    #[arg(long, value_name = "REGEX", value_parser = not_empty)]
    pub cmdline: Vec<String>,

    /// Whoever listens on this TCP port, now or later
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Vec<u16>,

    /// systemd unit, system or user
    #[arg(long, value_name = "NAME", value_parser = not_empty)]
    pub unit: Vec<String>,

    /// Control group, and those below it
    #[arg(long, value_name = "PATH", value_parser = not_empty)]
    pub cgroup: Vec<String>,

    /// Everything a user runs
    #[arg(long, value_name = "NAME", value_parser = not_empty)]
    pub user: Vec<String>,
}

/// Where the report goes.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Report")]
pub struct OutputArgs {
    /// Save the report here, at every death and at the end; `-` is stdout
    ///
    /// Its name chooses the format: .html, .md, .perfetto.json, .txt; JSON if it says nothing.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Format of the report
    ///
    /// Without it, a saved report is JSON unless its name says otherwise, and a
    /// terminal gets text. Without -o, any other format than text goes to stdout at
    /// the end, and deaths are told on stderr.
    #[arg(long, verbatim_doc_comment, value_parser = formats())]
    pub format: Option<String>,

    /// Same as --format json
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
}

/// How events are collected.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "How to watch")]
pub struct CollectArgs {
    /// Where events come from
    #[arg(long, value_enum, default_value_t)]
    pub backend: Backend,

    /// Record every event to this file, for `killtrace report` to replay
    #[arg(long, value_name = "FILE")]
    pub events: Option<PathBuf>,

    /// Say more about what killtrace does; twice for the kernel side too
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// Pretend that the kernel has no BTF, to test what remains without it
    #[arg(long, hide = true)]
    pub no_btf: bool,
}

/// Run a command and say what kills it, or anything it starts
///
/// The command keeps its terminal, its input and output, and its exit status.
/// What killtrace has to say goes to stderr.
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:
  sudo killtrace run -- npm test
  sudo killtrace run -o killtrace.json -- make -j8 check
  sudo --preserve-env=GITHUB_ACTIONS,GITHUB_STEP_SUMMARY \\
       killtrace run --on-failure -o killtrace.html -- npm test

Signals are passed on to the command. When it fails in a GitHub workflow, what killtrace found is
added to the step's summary ($GITHUB_STEP_SUMMARY).

Exits as the command does: its own code, 128+N when signal N killed it. 125 means that killtrace
failed and the command did not run, 126 that it cannot be executed, 127 that it was not found."
)]
pub struct RunArgs {
    #[command(flatten)]
    pub report: OutputArgs,

    /// Report only if the command fails, or something in it is killed or crashes
    ///
    /// Until it has ended, nothing is said.
    #[arg(long, help_heading = "Report")]
    pub on_failure: bool,

    #[command(flatten)]
    pub collect: CollectArgs,

    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    #[arg(value_name = "CMD", help_heading = "What to run")]
    pub command: Vec<OsString>,
}

/// Remember every death on this machine, for `killtrace why`
///
/// The flight recorder: it watches all processes and keeps those that were killed,
/// crashed, ran out of memory or were asked to stop, each with its evidence, in a
/// store that never grows beyond its bounds. What it could not see is kept as well,
/// as gaps. Run it as a service.
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:
  sudo killtrace record
  sudo killtrace record --store /srv/deaths --max-size 500M --max-age 90d
  sudo killtrace record --include nonzero,interrupt

What the command line leaves open, the configuration file may say, in TOML: `max-size = \"500M\"`.
Stop it with Ctrl-C or SIGTERM. Only its owner can read the store."
)]
pub struct RecordArgs {
    /// Where the deaths are kept [default: /var/lib/killtrace]
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,

    /// How large the store may become; the oldest deaths go first: 500K, 64M, 2G [default: 64M]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_size: Option<u64>,

    /// How long deaths are kept: 12h, 30d [default: 30d]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub max_age: Option<Duration>,

    /// Keep these as well, which are normal on most machines
    #[arg(long, value_name = "WHAT", value_enum, value_delimiter = ',')]
    pub include: Option<Vec<Included>>,

    /// The configuration file [default: /etc/killtrace.toml, where there is one]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Tell systemd's journal of each death, too
    #[arg(long, help_heading = "Where else to tell")]
    pub journal: bool,

    /// Send each death to an OpenTelemetry collector: http://localhost:4318
    #[arg(long, value_name = "URL", value_parser = endpoint, help_heading = "Where else to tell")]
    pub otlp: Option<String>,

    /// Count deaths in a file for Prometheus' node_exporter (its textfile collector)
    #[arg(long, value_name = "FILE", help_heading = "Where else to tell")]
    pub metrics: Option<PathBuf>,

    #[command(flatten)]
    pub collect: CollectArgs,
}

/// Deaths that are kept only on request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Included {
    /// Whatever ended by itself with another exit status than 0
    Nonzero,
    /// Commands whose reader went away, as in `yes | head`
    Pipe,
    /// Commands that were ended by a key, such as Ctrl-C
    Interrupt,
}

/// Say why something died, from what `killtrace record` remembers
///
/// Tells the newest death that matches. It asks the store of this machine, or the
/// files and stores that are named: also several at once, also of other machines,
/// also saved reports.
#[derive(Debug, Default, Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:
  sudo killtrace why                         what died last?
  sudo killtrace why vite                    by name
  sudo killtrace why 4021                    by process id
  sudo killtrace why web.service --since yesterday --last 5
  killtrace why vite report.json /mnt/pi/var/lib/killtrace

Exits with 3 when nothing matches."
)]
pub struct WhyArgs {
    /// A name, a process id or a unit; then stores, reports or copied segments
    /// to ask instead of this machine's store, `-` for stdin
    #[arg(verbatim_doc_comment, value_name = "TARGET] [FILE")]
    pub words: Vec<PathBuf>,

    /// The store to ask [default: as `record` is configured, or /var/lib/killtrace]
    #[arg(long, value_name = "DIR")]
    pub store: Vec<PathBuf>,

    /// Answer in JSON
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub select: AskArgs,

    /// Died no earlier: 2h, yesterday, 03:12, 2026-11-21, 2026-11-21T03:12
    #[arg(long, value_name = "TIME", value_parser = moment, help_heading = "Which deaths")]
    pub since: Option<Timestamp>,

    /// Died before that; times are this machine's own, unless they end in Z or +01:00
    #[arg(long, value_name = "TIME", value_parser = moment, help_heading = "Which deaths")]
    pub until: Option<Timestamp>,

    /// How many to tell, newest first
    #[arg(long, value_name = "N", default_value = "1", value_parser = how_many, help_heading = "Which deaths")]
    pub last: usize,
}

/// Which deaths are asked about. Of one kind, any may hold; of different kinds, all must.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Which deaths")]
pub struct AskArgs {
    /// Name of the process, its program, or the script it ran
    #[arg(long, value_name = "NAME", value_parser = not_empty)]
    pub comm: Vec<String>,

    /// Process id, also the one inside a container
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Vec<u32>,

    /// Regular expression found in the command line
    #[arg(long, value_name = "REGEX", value_parser = not_empty)]
    pub cmdline: Vec<String>,

    /// systemd unit, system or user
    #[arg(long, value_name = "NAME", value_parser = not_empty)]
    pub unit: Vec<String>,

    /// User it ran as
    #[arg(long, value_name = "NAME", value_parser = not_empty)]
    pub user: Vec<String>,
}

/// Show a saved report, or replay recorded events into one
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  killtrace report report.json
  killtrace report report.json -o report.html
  killtrace report report.json --format markdown >> \"$GITHUB_STEP_SUMMARY\"
  killtrace report events.jsonl --format json -o report.json")]
pub struct ReportArgs {
    /// A report (`-o`) or a recording (`--events`); `-` is stdin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Format [default: as -o is named, or text]
    #[arg(long, value_parser = formats())]
    pub format: Option<String>,

    /// Save it here instead of printing it; `-` is stdout
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Say what this kernel can do, which backend would be used, and how to get what is missing
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
}

/// A victim, a kill and the answer, in five seconds
#[derive(Debug, Args)]
pub struct DemoArgs {}

/// Where events come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// The best this kernel can do
    #[default]
    Auto,
    /// Programs in the kernel
    Ebpf,
    /// Sampling buffers, for kernels that run no tracing programs
    Perf,
}

impl Backend {
    /// The one that is meant; `None` for the best there is.
    pub(crate) fn named(self) -> Option<&'static crate::collect::Backend> {
        let value = self.to_possible_value()?;
        SOURCES.iter().find(|backend| backend.name == value.get_name())
    }
}

fn formats() -> PossibleValuesParser {
    PossibleValuesParser::new(
        REPORTS.iter().map(|report| PossibleValue::new(report.name()).help(report.about())),
    )
}

fn not_empty(text: &str) -> Result<String, &'static str> {
    if text.is_empty() { Err("it is empty") } else { Ok(text.to_owned()) }
}

/// Reads `500K`, `64M`, `2G`, powers of 1024.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let wrong = || "write it like 500K, 64M or 2G".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_not_a_number| wrong())?;
    let unit: u64 = match text[digits..].trim_end_matches("iB").trim_end_matches('B') {
        "" => 1,
        "K" | "k" => 1 << 10,
        "M" | "m" => 1 << 20,
        "G" | "g" => 1 << 30,
        "T" | "t" => 1 << 40,
        _ => return Err(wrong()),
    };
    match number.checked_mul(unit) {
        Some(size) if size >= SMALLEST_STORE => Ok(size),
        Some(_) => Err("it must be at least 256K, to hold some deaths".to_owned()),
        None => Err("it is too large".to_owned()),
    }
}

/// A death takes some 10 KiB, and a store is emptied an eighth at a time.
const SMALLEST_STORE: u64 = 256 << 10;

fn how_many(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=MOST_TOLD) => Ok(number),
        _ => Err(format!("write a number from 1 to {MOST_TOLD}")),
    }
}

/// Most deaths that are held in memory at once.
const MOST_TOLD: usize = 1000;

/// Reads `90`, `10s`, `500ms`, `5m`, `1h30m`, `2d`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write it like 90, 10s, 5m or 1h30m".to_owned();
    if let Ok(seconds) = text.parse::<u64>() {
        return positive(Duration::from_secs(seconds));
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_not_a_number| wrong())?;
        let after = &rest[digits..];
        let letters = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let part = match &after[..letters] {
            "ms" => Some(Duration::from_millis(number)),
            "s" => Some(Duration::from_secs(number)),
            "m" | "min" => number.checked_mul(60).map(Duration::from_secs),
            "h" => number.checked_mul(3600).map(Duration::from_secs),
            "d" => number.checked_mul(86_400).map(Duration::from_secs),
            _ => return Err(wrong()),
        };
        total = part.and_then(|part| total.checked_add(part)).ok_or("it is too long")?;
        rest = &after[letters..];
    }
    positive(total)
}

/// The longest time to watch: a century, which also keeps deadlines from overflowing.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

fn positive(duration: Duration) -> Result<Duration, String> {
    if duration.is_zero() {
        return Err("it must be longer than nothing".to_owned());
    }
    if duration > LONGEST { Err("it is too long".to_owned()) } else { Ok(duration) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_backend_can_be_asked_for() {
        let named: Vec<_> = Backend::value_variants().iter().filter_map(|value| value.named()).collect();
        assert_eq!(named.iter().map(|backend| backend.name).collect::<Vec<_>>(), ["ebpf", "perf"]);
        assert_eq!(named.len(), SOURCES.len());
    }

    #[test]
    fn durations_are_read() {
        for (text, seconds) in [("90", 90), ("10s", 10), ("5m", 300), ("1h30m", 5400), ("1d", 86_400)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(duration("1s500ms"), Ok(Duration::from_millis(1500)));
    }

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [("500K", 500 << 10), ("64M", 64 << 20), ("2G", 2 << 30), ("64MiB", 64 << 20)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "64X", "-1M", "1.5G", "10", "99999999999999T", "64M64M"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn nonsense_is_no_duration() {
        for text in ["", "0", "0s", "s", "-5", "5x", "1h30", "1.5h", "h1", "5 m", "99999999999999999999s"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(duration("18446744073709551615").is_err());
        assert!(duration("18446744073709551615h").is_err());
    }

    #[test]
    fn a_command_keeps_its_own_options() {
        let cli =
            Cli::try_parse_from(["killtrace", "run", "-o", "r.json", "--", "npm", "test", "-v"]).unwrap();
        let Command::Run(run) = cli.command else { panic!("not run") };
        assert_eq!(run.command, ["npm", "test", "-v"]);
        assert_eq!(run.collect.verbose, 0);
    }
}
