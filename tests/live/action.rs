//! The GitHub Action, with its steps run by bash as the runner would: inputs put in their places, files named by
//! `GITHUB_*`. What only GitHub has (`uses:`) is left out.

#![allow(clippy::expect_used, reason = "a test may")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use killtrace_tests::{killtrace_path, live};
use serde_json::Value;

const ACTION: &str = include_str!("../../action.yml");

fn action() -> Value {
    serde_saphyr::from_str(ACTION).expect("action.yml is YAML")
}

/// A job on a machine of its own.
struct Job {
    dir: tempfile::TempDir,
    /// `inputs.run`, `github.server_url`, `steps.get.outputs.path`
    values: BTreeMap<String, String>,
    failed: bool,
    log: String,
}

impl Job {
    fn new(inputs: &[(&str, &str)]) -> Self {
        let action = action();
        let defaults = action["inputs"].as_object().expect("it has inputs").iter();
        let default = |input: &Value| input["default"].as_str().unwrap_or_default().to_owned();
        let mut values: BTreeMap<_, _> =
            defaults.map(|(name, input)| (format!("inputs.{name}"), default(input))).collect();
        for (name, value) in inputs {
            assert!(
                values.insert(format!("inputs.{name}"), (*value).to_owned()).is_some(),
                "no input {name}"
            );
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        for name in ["bin", "temp", "workspace"] {
            fs::create_dir(dir.path().join(name)).expect("a directory");
        }
        fs::write(dir.path().join("summary"), "").expect("a file");
        // Whoever runs the tests is root already.
        let sudo = dir.path().join("bin/sudo");
        fs::write(&sudo, "#!/bin/sh\nexec \"$@\"\n").expect("a file");
        fs::set_permissions(&sudo, fs::Permissions::from_mode(0o755)).expect("it is ours");
        values.insert("github.action_path".to_owned(), env!("CARGO_MANIFEST_DIR").replace("/tests", ""));
        Self { dir, values, failed: false, log: String::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Runs all steps.
    fn run(mut self) -> Self {
        let action = action();
        for step in action["runs"]["steps"].as_array().expect("it has steps") {
            let wanted = step["if"].as_str().map_or(!self.failed, |condition| self.holds(condition));
            if let (true, Some(script)) = (wanted, step["run"].as_str()) {
                assert_eq!(step["shell"], "bash", "a composite action has to name the shell");
                let status = self.bash(script, step);
                self.failed |= status != 0;
                self.values
                    .insert(format!("status.{}", step["name"].as_str().expect("a name")), status.to_string());
            }
        }
        self
    }

    /// As the runner runs `shell: bash`.
    fn bash(&mut self, script: &str, step: &Value) -> i32 {
        let file = self.path("temp/step.sh");
        fs::write(&file, script).expect("a file");
        let output_file = self.path("output");
        fs::write(&output_file, "").expect("a file");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("bash");
        command.args(["--noprofile", "--norc", "-e", "-o", "pipefail"]).arg(&file);
        command
            .current_dir(self.path("workspace"))
            .env("PATH", format!("{}:{path}", self.path("bin").display()));
        command.env("RUNNER_TEMP", self.path("temp")).env("GITHUB_WORKSPACE", self.path("workspace"));
        command.env("GITHUB_OUTPUT", &output_file).env("GITHUB_STEP_SUMMARY", self.path("summary"));
        command.env("GITHUB_ACTIONS", "true").env("LD_LIBRARY_PATH", "/opt/lib");
        for (name, value) in step["env"].as_object().into_iter().flatten() {
            command.env(name, self.fill(value.as_str().expect("a text")));
        }
        let output = command.output().expect("bash runs");
        self.log.push_str(&String::from_utf8_lossy(&output.stdout));
        self.log.push_str(&String::from_utf8_lossy(&output.stderr));
        for line in self.read("output").lines() {
            let (name, value) = line.split_once('=').expect("NAME=VALUE");
            let id = step["id"].as_str().expect("who has outputs has an id");
            self.values.insert(format!("steps.{id}.outputs.{name}"), value.to_owned());
        }
        output.status.code().expect("it exits")
    }

    /// Puts values in the places of expressions.
    fn fill(&self, text: &str) -> String {
        let mut parts = text.split("${{");
        let mut filled = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (expression, rest) = part.split_once("}}").expect("an expression ends");
            filled.push_str(&self.value(expression));
            filled.push_str(rest);
        }
        filled
    }

    /// `a || b`, a context's value, or a literal.
    fn value(&self, expression: &str) -> String {
        let one = |operand: &str| match operand.trim().strip_prefix('\'') {
            Some(literal) => literal.trim_end_matches('\'').to_owned(),
            None => self.values.get(operand.trim()).cloned().unwrap_or_default(),
        };
        expression.split("||").map(one).find(|value| !value.is_empty()).unwrap_or_default()
    }

    fn holds(&self, condition: &str) -> bool {
        let condition = condition.trim().trim_start_matches("${{").trim_end_matches("}}");
        condition.split("&&").all(|term| match term.trim() {
            "!success()" => self.failed,
            term => match (term.split_once("!="), term.split_once("==")) {
                (Some((left, right)), _) => self.value(left) != self.value(right),
                (_, Some((left, right))) => self.value(left) == self.value(right),
                _ => panic!("the test does not know {term:?}"),
            },
        })
    }

    /// It uploads the report in the end.
    fn uploads(&self) -> bool {
        let action = action();
        let steps = action["runs"]["steps"].as_array().expect("it has steps").iter();
        let upload =
            |step: &&Value| step["uses"].as_str().is_some_and(|uses| uses.starts_with("actions/upload"));
        self.holds(steps.clone().find(upload).expect("it can")["if"].as_str().expect("only on failure"))
    }
}

fn killtrace() -> &'static str {
    killtrace_path().to_str().expect("UTF-8")
}

#[test]
fn every_step_is_what_a_composite_action_may_have() {
    let action = action();
    assert_eq!(action["runs"]["using"], "composite");
    for step in action["runs"]["steps"].as_array().expect("it has steps") {
        let step = step.as_object().expect("a mapping");
        assert!(
            step.contains_key("uses") || step.contains_key("run") && step.contains_key("shell"),
            "{step:?}"
        );
        let known = ["name", "id", "if", "env", "shell", "run", "uses", "with", "working-directory"];
        assert!(step.keys().all(|key| known.contains(&key.as_str())), "{step:?}");
        // Inputs reach a script only through its environment: in its text they could be commands.
        assert!(!step.get("run").and_then(Value::as_str).unwrap_or_default().contains("${{"), "{step:?}");
    }
}

#[test]
fn what_fails_is_explained_and_uploaded() {
    let Some(_alone) = live() else { return };
    let job = Job::new(&[
        ("binary", killtrace()),
        ("run", "echo \"lib $LD_LIBRARY_PATH\"\nbash -c 'kill -9 $$'\necho no"),
    ]);
    let job = job.run();
    assert_eq!(job.values["status.Run the command"], "137", "{}", job.log);
    assert!(job.log.contains("lib /opt/lib\n") && !job.log.contains("\nno\n"), "{}", job.log);
    assert!(job.log.contains("::error title=bash"), "{}", job.log);
    assert!(job.read("summary").starts_with("## "), "{}", job.log);
    assert!(job.read("workspace/killtrace-report.json").contains("killtrace.report/1"), "{}", job.log);
    assert!(job.read("workspace/killtrace-report.html").starts_with("<!doctype html>"), "{}", job.log);
    assert!(job.uploads());
}

#[test]
fn what_goes_well_leaves_nothing() {
    let Some(_alone) = live() else { return };
    let job = Job::new(&[("binary", killtrace()), ("run", "echo fine")]).run();
    assert_eq!((job.log.as_str(), job.read("summary").as_str(), job.failed), ("fine\n", "", false));
    assert!(!job.path("workspace/killtrace-report.json").exists() && !job.uploads());
}

/// Answers every request with the file of that name.
fn serve(dir: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap_or(0);
            let line = String::from_utf8_lossy(&request[..length]);
            let name =
                line.split_whitespace().nth(1).and_then(|path| path.rsplit('/').next()).unwrap_or_default();
            let body = fs::read(dir.join(name));
            let status = if body.is_ok() { "200 OK" } else { "404 Not Found" };
            let body = body.unwrap_or_default();
            let head =
                format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    format!("http://{address}")
}

fn release(dir: &Path) {
    let arch = std::env::consts::ARCH;
    let name = format!("killtrace-{arch}");
    fs::copy(killtrace_path(), dir.join(&name)).expect("there is room");
    let sums = Command::new("sha256sum").arg(&name).current_dir(dir).output().expect("sha256sum");
    fs::write(dir.join("SHA256SUMS"), sums.stdout).expect("there is room");
}

#[test]
fn a_release_is_used_only_if_its_checksum_is_right() {
    let Some(_alone) = live() else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    release(dir.path());
    let server = serve(dir.path().to_owned());
    let run = || {
        let mut job = Job::new(&[("run", "exit 5")]);
        job.values.insert("github.server_url".to_owned(), server.clone());
        job.run()
    };
    let job = run();
    assert_eq!(job.values["status.Run the command"], "5", "{}", job.log);
    let name = format!("killtrace-{}", std::env::consts::ARCH);
    let mut file = fs::OpenOptions::new().append(true).open(dir.path().join(&name)).expect("it is there");
    file.write_all(b"!").expect("there is room");
    let job = run();
    assert!(job.failed && !job.values.contains_key("status.Run the command"), "{}", job.log);
    assert!(job.log.contains("FAILED"), "{}", job.log);
    fs::remove_file(dir.path().join("SHA256SUMS")).expect("it is there");
    let job = run();
    assert!(job.failed && job.log.contains("::error title=killtrace::cannot download"), "{}", job.log);
}

#[test]
fn the_examples_are_yaml_and_the_scripts_are_clean() {
    for text in [include_str!("../../examples/gitlab-ci.yml"), include_str!("../../examples/kubernetes.yml")]
    {
        let value: Value = serde_saphyr::from_str(text).expect("it is YAML");
        assert!(value.is_object());
    }
    for step in action()["runs"]["steps"].as_array().expect("it has steps") {
        let Some(script) = step["run"].as_str() else { continue };
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        fs::write(file.path(), script).expect("there is room");
        let checker =
            Command::new("shellcheck").args(["--shell=bash", "--severity=style"]).arg(file.path()).output();
        let Ok(output) = checker else { return killtrace_tests::skip("shellcheck is not installed") };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}
