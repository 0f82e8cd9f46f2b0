//! The configuration file of `killtrace record`: what its command line leaves open.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use super::args::{Included, RecordArgs, duration, size};
use super::failure::{Failure, exit};
use super::keeper::Exports;
use crate::export::endpoint;
use crate::store::{self, Limits};

/// Read where no other file is named, if it is there.
const DEFAULT_FILE: &str = "/etc/killtrace.toml";

const DEFAULT_MAX_SIZE: u64 = 64 << 20;
const DEFAULT_MAX_AGE: Duration = Duration::from_secs(30 * 86_400);

/// What may stand in the file, under the names of the options of `record`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(super) struct Config {
    store: Option<PathBuf>,
    #[serde(deserialize_with = "parsed_size")]
    max_size: Option<u64>,
    #[serde(deserialize_with = "parsed_duration")]
    max_age: Option<Duration>,
    include: Option<Vec<Included>>,
    journal: bool,
    #[serde(deserialize_with = "parsed_endpoint")]
    otlp: Option<String>,
    metrics: Option<PathBuf>,
}

impl Config {
    /// Reads the file that is named, or the usual one if it is there.
    ///
    /// # Errors
    /// When it cannot be read, or holds what is not known.
    pub(super) fn read(named: Option<&Path>) -> Result<Self, Failure> {
        let path = named.unwrap_or(Path::new(DEFAULT_FILE));
        let text = match fs::read_to_string(path) {
            Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read.map_err(|error| {
                let what = format!("cannot read the configuration file {}", path.display());
                let help = "name one that is there and that you may read, or leave --config away for the usual settings";
                Failure::new(anyhow::Error::new(error).context(what)).help(help)
            })?,
        };
        Self::parse(&text).map_err(|why| {
            Failure::usage(
                format!("cannot use the configuration file {}", path.display()),
                "`killtrace record --help` says what its options mean; the file has the same, by the same names",
            )
            .because(why)
            .with_code(exit::USAGE)
        })
    }

    /// Reads the text of a file, or says which line is wrong, and why.
    fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| {
            let why = error.message();
            let Some(before) = error.span().and_then(|span| text.get(..span.start)) else {
                return why.to_owned();
            };
            let number = before.matches('\n').count();
            let line = text.lines().nth(number).unwrap_or_default();
            format!("line {}, `{}`: {why}", number + 1, line.trim())
        })
    }

    /// What the command line says goes first.
    pub(super) fn overridden_by(self, args: &RecordArgs) -> Self {
        Self {
            store: args.store.clone().or(self.store),
            max_size: args.max_size.or(self.max_size),
            max_age: args.max_age.or(self.max_age),
            include: args.include.clone().or(self.include),
            journal: args.journal || self.journal,
            otlp: args.otlp.clone().or(self.otlp),
            metrics: args.metrics.clone().or(self.metrics),
        }
    }

    pub(super) fn store(&self) -> &Path {
        self.store.as_deref().unwrap_or(Path::new(store::DEFAULT))
    }

    pub(super) fn limits(&self) -> Limits {
        Limits {
            max_bytes: self.max_size.unwrap_or(DEFAULT_MAX_SIZE),
            max_age: self.max_age.unwrap_or(DEFAULT_MAX_AGE),
        }
    }

    pub(super) fn include(&self) -> &[Included] {
        self.include.as_deref().unwrap_or_default()
    }

    pub(super) fn exports(&self) -> Exports {
        Exports { journal: self.journal, otlp: self.otlp.clone(), metrics: self.metrics.clone() }
    }
}

fn parsed_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    size(&String::deserialize(deserializer)?).map(Some).map_err(de::Error::custom)
}

fn parsed_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(&String::deserialize(deserializer)?).map(Some).map_err(de::Error::custom)
}

fn parsed_endpoint<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    endpoint(&String::deserialize(deserializer)?).map(Some).map_err(de::Error::custom)
}

/// Reads a text as a configuration file, for the fuzz targets.
#[cfg(fuzzing)]
pub fn read_as_config(text: &str) {
    match Config::parse(text) {
        Ok(config) => {
            let _ = (config.store(), config.limits(), config.include(), config.exports());
        }
        Err(why) => assert!(!why.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::super::args::{Cli, Command};
    use super::*;

    const PACKAGED: &str = include_str!("../../packaging/killtrace.toml");

    fn record(args: &[&str]) -> RecordArgs {
        match Cli::try_parse_from(["killtrace", "record"].iter().chain(args)).unwrap().command {
            Command::Record(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_packaged_file_says_nothing_but_what_is_anyway() {
        assert_eq!(Config::parse(PACKAGED), Ok(Config::default()));
        let (kept, told) = PACKAGED.split_once("# Where else").unwrap();
        let settings = |text| -> Vec<&str> {
            let lines = str::lines(text).filter_map(|line| line.strip_prefix('#'));
            lines.filter(|line| line.starts_with(char::is_alphabetic)).collect()
        };
        let config = Config::parse(&settings(kept).join("\n")).unwrap();
        let default = Config::default();
        assert_eq!(
            (config.store(), config.limits(), config.include()),
            (default.store(), default.limits(), default.include())
        );
        // Examples: nobody is told who is not named.
        let exports = Config::parse(&settings(told).join("\n")).unwrap().exports();
        assert!(exports.journal && exports.otlp.is_some() && exports.metrics.is_some());
        for (text, heading) in [(kept, None), (told, Some("Where else to tell"))] {
            let options = Cli::command();
            let options = options.find_subcommand("record").unwrap().get_arguments();
            let options = options.filter(|option| option.get_help_heading() == heading);
            let options = options.filter_map(clap::Arg::get_long).filter(|&name| name != "config");
            let settings = settings(text);
            let named = settings.iter().map(|line| line.split(' ').next().unwrap());
            assert_eq!(named.collect::<Vec<_>>(), options.collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_command_line_goes_before_the_file_and_the_file_before_what_is_usual() {
        let file = Config::parse("store = '/srv/x'\nmax-size = '1M'\ninclude = ['pipe', 'nonzero']").unwrap();
        let config = file.clone().overridden_by(&record(&["--max-size", "2M", "--include", "interrupt"]));
        assert_eq!(config.store(), Path::new("/srv/x"));
        assert_eq!(config.limits(), Limits { max_bytes: 2 << 20, max_age: DEFAULT_MAX_AGE });
        assert_eq!(config.include(), [Included::Interrupt]);
        assert_eq!(file.clone().overridden_by(&record(&[])), file);
        let file = Config::parse("otlp = 'http://a:4318'\nmetrics = '/run/x.prom'").unwrap();
        let exports = file.overridden_by(&record(&["--journal", "--otlp", "http://b:4318"])).exports();
        assert_eq!((exports.journal, exports.otlp.as_deref()), (true, Some("http://b:4318/v1/logs")));
        assert_eq!(exports.metrics.as_deref(), Some(Path::new("/run/x.prom")));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_what_is_allowed() {
        for (text, line, why) in [
            (
                "\n# x\nmax_size = '1M'",
                "line 3, `max_size = '1M'`",
                "`store`, `max-size`, `max-age`, `include`, `journal`, `otlp`, `metrics`",
            ),
            ("max-size = '1'", "line 1, `max-size = '1'`", "at least 256K"),
            ("\nmax-size = 64", "line 2, `max-size = 64`", "expected a string"),
            ("store = '/x'\nmax-age = 'long'", "line 2, `max-age = 'long'`", "write it like"),
            ("include = ['pip']", "line 1, `include = ['pip']`", "`nonzero`, `pipe`, `interrupt`"),
            ("store = '/x'\nstore = '/y'", "line 2, `store = '/y'`", "duplicate key"),
            ("otlp = 'b:4318'", "line 1, `otlp = 'b:4318'`", "http://"),
            ("include = [", "line 1, `include = [`", ""),
        ] {
            let said = Config::parse(text).unwrap_err();
            assert!(said.starts_with(line) && said.contains(why), "{text}: {said}");
        }
    }
}
