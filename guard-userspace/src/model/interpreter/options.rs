//! The options of each interpreter that decide where its script stands, from its manual.

/// How an interpreter's options are written.
pub(super) struct Options {
    /// Short options after which there is no script.
    pub(super) code: &'static str,
    /// Short options whose value names what runs.
    pub(super) script: &'static str,
    /// Short options that take a value, attached or as the next argument.
    pub(super) valued: &'static str,
    /// Short options that take a value only when it is attached.
    pub(super) attached: &'static str,
    /// Long options after which there is no script.
    pub(super) long_code: &'static [&'static str],
    /// Long options whose value, when not given with `=`, is the next argument.
    pub(super) long_valued: &'static [&'static str],
    /// Long options whose next argument names what runs.
    pub(super) long_script: &'static [&'static str],
    pub(super) dialect: Dialect,
}

#[derive(PartialEq, Eq)]
pub(super) enum Dialect {
    /// `-Wignore` and `-W ignore` are the same.
    Getopt,
    /// `-eo pipefail`: a value is always the next argument; `+o` unsets.
    Shell,
    /// One dash or two, an option is a word.
    Words,
}

const NONE: Options = Options {
    code: "",
    script: "",
    valued: "",
    attached: "",
    long_code: &[],
    long_valued: &[
        "--allow-fs-read",
        "--allow-fs-write",
        "--build-snapshot-config",
        "--cpu-prof-dir",
        "--cpu-prof-interval",
        "--cpu-prof-name",
        "--disable-proto",
        "--experimental-policy",
        "--experimental-sea-config",
        "--heap-prof-dir",
        "--heap-prof-interval",
        "--heap-prof-name",
        "--heapsnapshot-near-heap-limit",
        "--inspect-publish-uid",
        "--network-family-autoselection-attempt-timeout",
        "--policy-integrity",
        "--report-dir",
        "--report-directory",
        "--snapshot-blob",
        "--test-shard",
        "--use-largepages",
    ],
    long_script: &[],
    dialect: Dialect::Getopt,
};

/// Node 18 to 24. V8's own options (`--max-old-space-size`) take a value only with `=`.
pub(super) const NODE: Options = Options {
    code: "ep",
    valued: "rC",
    long_code: &["--eval", "--print", "--run"],
    long_valued: &[
        "--require",
        "--import",
        "--loader",
        "--experimental-loader",
        "--conditions",
        "--env-file",
        "--env-file-if-exists",
        "--inspect-port",
        "--debug-port",
        "--title",
        "--input-type",
        "--experimental-default-type",
        "--icu-data-dir",
        "--openssl-config",
        "--redirect-warnings",
        "--disable-warning",
        "--diagnostic-dir",
        "--report-dir",
        "--report-filename",
        "--report-signal",
        "--dns-result-order",
        "--unhandled-rejections",
        "--max-http-header-size",
        "--stack-trace-limit",
        "--trace-event-categories",
        "--trace-event-file-pattern",
        "--watch-path",
        "--watch-kill-signal",
        "--heapsnapshot-signal",
        "--test-reporter",
        "--test-reporter-destination",
        "--test-name-pattern",
        "--test-concurrency",
        "--test-timeout",
        "--localstorage-file",
        "--tls-cipher-list",
        "--tls-keylog",
        "--secure-heap",
        "--secure-heap-min",
    ],
    ..NONE
};
pub(super) const BUN: Options = Options {
    code: "ep",
    valued: "rcdlF",
    long_code: &["--eval", "--print"],
    long_valued: &[
        "--preload",
        "--require",
        "--import",
        "--cwd",
        "--config",
        "--port",
        "--env-file",
        "--define",
        "--loader",
        "--filter",
        "--conditions",
        "--tsconfig-override",
    ],
    ..NONE
};
pub(super) const DENO: Options = Options {
    valued: "cL",
    long_valued: &[
        "--config",
        "--import-map",
        "--lock",
        "--cert",
        "--log-level",
        "--location",
        "--seed",
        "--port",
        "--host",
        "--preload",
    ],
    ..NONE
};
pub(super) const PYTHON: Options =
    Options { code: "c", script: "m", valued: "WXQ", long_valued: &["--check-hash-based-pycs"], ..NONE };
pub(super) const RUBY: Options = Options {
    code: "e",
    valued: "IrCE",
    attached: "WTK0Fxi",
    long_valued: &["--encoding", "--external-encoding", "--internal-encoding"],
    ..NONE
};
pub(super) const PERL: Options = Options { code: "eE", valued: "I", attached: "MmxFiDdCV", ..NONE };
pub(super) const PHP: Options = Options {
    code: "rRBE",
    script: "f",
    valued: "dczStT",
    long_code: &["--run"],
    long_valued: &["--define", "--php-ini", "--zend-extension", "--server", "--docroot"],
    long_script: &["--file"],
    ..NONE
};
pub(super) const LUA: Options = Options { valued: "el", ..NONE };
pub(super) const SHELL: Options = Options {
    code: "cs",
    valued: "oO",
    long_code: &["--command"],
    long_valued: &["--rcfile", "--init-file", "--init-command", "--emulate"],
    dialect: Dialect::Shell,
    ..NONE
};
pub(super) const JAVA: Options = Options {
    long_valued: &[
        "-cp",
        "-classpath",
        "--class-path",
        "-p",
        "--module-path",
        "--upgrade-module-path",
        "--add-modules",
        "--add-opens",
        "--add-exports",
        "--add-reads",
        "--patch-module",
        "--source",
    ],
    long_script: &["-jar", "-m", "--module"],
    dialect: Dialect::Words,
    ..NONE
};
