//! The command line as users meet it: the built program, its exit codes, and what it says.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const NEWER_REPORT: &str = "{\"schema\": \"killtrace.report/2\", \"deaths\": {}}\n";
const NEWER_RECORDING: &str = "{\"schema\":\"killtrace.events/9\",\"novelty\":1}\n{\"id\":1}\n";

fn killtrace(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_killtrace"));
    command.args(args).env_remove("NOTIFY_SOCKET").output().expect("the program can be run")
}

/// Runs it, and checks the exit code, that stdout stays clean, and that stderr holds each of `said`.
fn fails(args: &[&str], code: i32, said: &[&str]) {
    let output = killtrace(args);
    let stderr = String::from_utf8(output.stderr).expect("errors are UTF-8");
    assert_eq!(output.status.code(), Some(code), "{args:?}:\n{stderr}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{args:?}");
    assert!(stderr.starts_with("error: "), "{args:?}:\n{stderr}");
    for part in said {
        assert!(stderr.contains(part), "{args:?} does not say {part:?}:\n{stderr}");
    }
}

/// A pid that no process can have.
fn no_pid() -> String {
    let max = fs::read_to_string("/proc/sys/kernel/pid_max").expect("every Linux has it");
    (max.trim().parse::<u32>().expect("it is a number") + 1).to_string()
}

#[test]
fn nothing_selected_shows_how_to_select() {
    fails(&["watch"], 2, &["nothing to watch", "--comm vite", "--pid 4021", "--port 5173", "--unit"]);
}

#[test]
fn an_unknown_user_is_a_usage_error() {
    fails(
        &["watch", "--user", "no-such-user"],
        2,
        &["there is no user \"no-such-user\"", "help:", "/etc/passwd"],
    );
}

#[test]
fn a_process_that_does_not_exist_is_a_usage_error() {
    let pid = no_pid();
    fails(&["watch", "--pid", &pid], 2, &[&format!("there is no process {pid}"), "--comm"]);
    fails(&["watch", "--pid", "0"], 2, &["0 is not in 1.."]);
    fails(&["watch", "--pid", "vite"], 2, &["--pid"]);
}

#[test]
fn an_invalid_regex_says_where_it_goes_wrong() {
    fails(
        &["watch", "--cmdline", "node (vite"],
        2,
        &["cannot understand --cmdline", "unclosed group", "help:"],
    );
}

#[test]
fn ports_and_durations_are_checked() {
    fails(&["watch", "--port", "70000"], 2, &["70000"]);
    fails(&["watch", "--port", "0"], 2, &["0 is not in 1.."]);
    fails(&["watch", "--comm", "x", "--duration", "soon"], 2, &["10s, 5m or 1h30m"]);
    fails(&["watch", "--comm", "x", "--duration", "0"], 2, &["longer than nothing"]);
    fails(&["watch", "--comm", ""], 2, &["empty"]);
}

#[test]
fn an_unknown_backend_lists_the_known_ones() {
    fails(&["watch", "--comm", "x", "--backend", "magic"], 2, &["magic", "auto", "ebpf", "perf"]);
}

#[test]
fn an_unknown_format_lists_the_known_ones() {
    fails(&["watch", "--comm", "x", "--format", "xml"], 2, &["xml", "text", "json"]);
    fails(&["watch", "--comm", "x", "--format", "text", "--json"], 2, &["cannot be used with"]);
}

#[test]
fn a_directory_that_does_not_exist_is_found_before_anything_is_armed() {
    let missing =
        ["cannot write /no/such/place/r.json", "/no/such/place does not exist", "mkdir -p /no/such/place"];
    fails(&["watch", "--comm", "x", "-o", "/no/such/place/r.json"], 2, &missing);
    fails(&["watch", "--comm", "x", "--events", "/no/such/place/r.json"], 2, &missing);
    fails(&["watch", "--comm", "x", "-o", "/tmp"], 2, &["/tmp is a directory", "-o /tmp/report.json"]);
    fails(
        &["watch", "--comm", "x", "-o", "/proc/r.json"],
        2,
        &["cannot write to the directory /proc", "why:", "help:"],
    );
    fails(&["watch", "--comm", "x", "--events", "/tmp"], 2, &["cannot write to /tmp", "directory"]);
    // For `run` it is killtrace's own failure, and the command must not have run.
    let directory = tempfile::tempdir().expect("a temporary directory");
    let touched = directory.path().join("touched");
    let touch = ["run", "-o", "/no/such/place/r.json", "--", "touch", touched.to_str().expect("UTF-8")];
    fails(&touch, 125, &["mkdir -p"]);
    assert!(!touched.exists(), "the command ran unwatched");
}

#[test]
fn a_run_needs_a_command() {
    fails(&["run"], 2, &["CMD"]);
    fails(&["run", "--"], 2, &["CMD"]);
}

#[test]
fn a_report_that_cannot_be_read_says_why() {
    fails(&["report", "/no/such/file"], 1, &["cannot open /no/such/file", "why:  No such file"]);
    fails(&["report", "/tmp"], 1, &["cannot read /tmp", "directory"]);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let given = |name: &str, content: &str| {
        let path = directory.path().join(name);
        fs::write(&path, content).expect("it can be written");
        path.to_str().expect("UTF-8").to_owned()
    };
    let empty = given("empty", "");
    fails(&["report", &empty], 1, &["is empty", "help:", "--events"]);
    let other = given("other", "#!/bin/sh\nexit 1\n");
    fails(&["report", &other], 1, &["neither a report nor a recording", "help:"]);
    let newer = given("newer.json", NEWER_REPORT);
    fails(
        &["report", &newer],
        1,
        &["newer killtrace (killtrace.report/2)", "up to killtrace.report/1", "upgrade"],
    );
    let newer = given("newer.jsonl", NEWER_RECORDING);
    fails(
        &["report", &newer],
        1,
        &["newer killtrace (killtrace.events/9)", "up to killtrace.events/1", "upgrade"],
    );
    let cut = given("cut.json", "{\n  \"schema\": \"killtrace.report/1\",\n  \"tool\": {\"na");
    fails(&["report", &cut], 1, &["is cut off", "help:"]);
    let cut = given("cut.jsonl", "{\"schema\":\"killtrace.events/1\",\"tool\":{\"na");
    fails(&["report", &cut], 1, &["the recording", "is cut off", "help:"]);
}

#[test]
fn a_wrong_configuration_file_names_the_line() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("killtrace.toml");
    let path_text = path.to_str().expect("its path is text");
    fails(&["record", "--config", path_text], 1, &["cannot read the configuration file", "No such file"]);
    fs::write(&path, "# sizes\nmax_size = '1M'\n").expect("it can be written");
    fails(
        &["record", "--config", path_text],
        2,
        &["cannot use the configuration file", "line 2, `max_size = '1M'`", "`max-size`", "help:"],
    );
}

#[test]
fn a_damaged_recording_names_the_line_and_a_torn_one_is_read() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("events.jsonl");
    let path_text = path.to_str().expect("UTF-8");
    fs::write(&path, recording("{\"id\":3,\"t_ns\":3000,\"fact\":\"end\"}\n")).expect("it can be written");
    let whole = killtrace(&["report", path_text, "--format", "json"]);
    assert!(whole.status.success(), "{}", String::from_utf8_lossy(&whole.stderr));
    assert!(String::from_utf8_lossy(&whole.stdout).contains("\"killtrace.report/1\""));

    fs::write(&path, recording("garbage\n{\"id\":3,\"t_ns\":3000,\"fact\":\"end\"}\n"))
        .expect("it can be written");
    fails(&["report", path_text], 1, &["line 4 of the recording", "is damaged", "head -n 3"]);

    fs::write(&path, recording("{\"id\":3,\"t_ns\":30")).expect("it can be written");
    let torn = killtrace(&["report", path_text, "--format", "json"]);
    assert!(torn.status.success(), "{}", String::from_utf8_lossy(&torn.stderr));
    assert!(String::from_utf8_lossy(&torn.stdout).contains("the last line of the recording is cut off"));
}

/// A small recording that ends with `tail`.
fn recording(tail: &str) -> String {
    let header = concat!(
        r#"{"schema":"killtrace.events/1","tool":{"name":"killtrace","version":"0.1.0"},"host":{"hostname":"argos","#,
        r#""kernel":"6.12","arch":"aarch64","page_size":16384,"boot_id":null,"cpus":4,"memory_bytes":null},"#,
        r#""backend":"ebpf","degraded":[],"capabilities":{},"started_at":"2026-02-18T03:12:44.000000000Z","#,
        r#""wall_minus_boottime_ns":1771384000000000000,"selectors":["comm=vite"],"own_tgid":1}"#,
    );
    format!(
        "{header}\n{{\"id\":1,\"t_ns\":1000,\"fact\":\"tick\"}}\n{{\"id\":2,\"t_ns\":2000,\"fact\":\"tick\"}}\n{tail}"
    )
}

#[test]
fn a_closed_pipe_is_no_error() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("events.jsonl");
    fs::write(&path, recording("{\"id\":3,\"t_ns\":3000,\"fact\":\"end\"}\n")).expect("it can be written");
    let mut command = Command::new("sh");
    let script = "{ sleep 0.3; \"$0\" report \"$1\"; echo $? >\"$2\"; } | true";
    let code = directory.path().join("code");
    let status =
        command.args(["-c", script]).arg(env!("CARGO_BIN_EXE_killtrace")).arg(&path).arg(&code).status();
    assert!(status.expect("sh can be run").success());
    // The pipeline's shell waits for both ends.
    assert_eq!(fs::read_to_string(&code).expect("it ended").trim(), "0");
}

#[test]
fn help_says_what_each_command_is_for() {
    for command in ["watch", "run", "record", "why", "report", "doctor", "demo"] {
        let output = killtrace(&[command, "--help"]);
        assert_eq!(output.status.code(), Some(0), "{command}");
        let text = String::from_utf8(output.stdout).expect("help is UTF-8");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{command}:\n{text}");
    }
    let help = String::from_utf8(killtrace(&["--help"]).stdout).expect("help is UTF-8");
    for command in ["watch", "run", "record", "why", "report", "doctor", "demo"] {
        assert!(help.contains(&format!("  {command} ")), "{command} is not in:\n{help}");
    }
    assert!(Path::new(env!("CARGO_BIN_EXE_killtrace")).exists());
}
