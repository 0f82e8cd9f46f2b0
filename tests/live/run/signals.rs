//! Every signal reaches the command, once; its terminal is its own.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use killtrace_tests::{Terminal, children, eventually, killtrace_path, live, status_field};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// Writes each signal that it gets to a file, and ends with 23 at SIGTERM; also when the file is gone, as after a test that
/// failed. Not in bash's own words: it loses one SIGINT in a hundred when it comes while it forks.
fn counting(file: &Path) -> String {
    let file = file.display();
    format!(
        r#"exec perl -e 'my $file = shift;
for my $name (qw(INT QUIT HUP USR1 USR2 WINCH PWR TERM)) {{
    $SIG{{$name}} = sub {{
        open my $out, ">>", $file; print $out "$name\n"; close $out;
        exit 23 if $name eq "TERM";
    }};
}}
open my $out, ">", $file; close $out;
sleep 1 while -e $file;' {file}"#
    )
}

fn signals_reach_the_command_once(send: impl Fn(Pid, Signal)) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let got = dir.path().join("got");
    let mut command = super::run(&[], &counting(&got));
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("killtrace can be run");
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("pids are small"));
    eventually(20, "the command to be ready", || got.exists().then_some(()));
    let lines = || fs::read_to_string(&got).unwrap_or_default();
    let signals = [Signal::SIGINT, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGHUP, Signal::SIGQUIT];
    for (index, signal) in signals.into_iter().chain([Signal::SIGWINCH, Signal::SIGPWR]).enumerate() {
        send(pid, signal);
        eventually(10, signal.as_str(), || (lines().lines().count() > index).then_some(()));
        // One too many would come now.
        std::thread::sleep(Duration::from_millis(60));
    }
    assert_eq!(lines(), "INT\nUSR1\nUSR2\nHUP\nQUIT\nWINCH\nPWR\n");
    send(pid, Signal::SIGTERM);
    let status = eventually(10, "the end", || child.try_wait().expect("a child can be waited for"));
    assert_eq!((status.code(), lines().matches("TERM").count()), (Some(23), 1));
}

#[test]
fn a_signal_to_killtrace_is_passed_on() {
    if let Some(_alone) = live() {
        signals_reach_the_command_once(|pid, signal| kill(pid, signal).expect("it lives"));
    }
}

#[test]
fn a_signal_to_the_group_is_not_passed_on_again() {
    if let Some(_alone) = live() {
        signals_reach_the_command_once(|pid, signal| killpg(pid, signal).expect("it lives"));
    }
}

/// On a terminal of its own, of which it leads the session.
fn on_terminal(mut run: Command) -> Terminal {
    let mut command = Command::new("setsid");
    command.args(["--ctty", "--wait"]).arg(run.get_program()).args(run.get_args()).env("NO_COLOR", "1");
    run.env_clear();
    Terminal::open(command)
}

#[test]
fn keys_and_sizes_reach_the_command_once() {
    let Some(_alone) = live() else { return };
    let script = "n=0; trap 'echo INT.; n=$((n+1))' INT; trap 'echo WINCH.; n=$((n+1))' WINCH; echo ready; \
                  until [ $n -ge 2 ]; do sleep 0.05; done; sleep 0.3; read line; echo read $line; exit 7";
    let mut terminal = on_terminal(super::run(&[], script));
    terminal.until("ready");
    terminal.press("\x03");
    terminal.until("INT.");
    terminal.resize(33, 99);
    terminal.until("WINCH.");
    std::thread::sleep(Duration::from_millis(200));
    terminal.enter("hello");
    let screen = terminal.until("exited with code 7");
    let (screen, _report) = screen.split_once("read hello").expect("it read the line");
    assert_eq!((screen.matches("INT.").count(), screen.matches("WINCH.").count()), (1, 1), "{screen}");
    terminal.close();
}

#[test]
fn job_control_stops_and_continues_it() {
    let Some(_alone) = live() else { return };
    let mut command = Command::new("setsid");
    command.args(["--ctty", "--wait", "bash", "--norc", "--noprofile", "-i"]).env("NO_COLOR", "1");
    let mut terminal = Terminal::open(command);
    terminal.enter(&format!(
        "{} run -- bash -c 'echo; echo pid $$.; read line; echo \"got  $line\"; exit 5'",
        killtrace_path().display()
    ));
    let screen = eventually(20, "the command", || {
        Some(terminal.screen()).filter(|screen| screen.lines().any(|line| line.starts_with("pid ")))
    });
    let line = screen.lines().find(|line| line.starts_with("pid ")).expect("it was waited for");
    let pid: u32 = line.trim_start_matches("pid ").trim_end().trim_end_matches('.').parse().expect("a pid");
    let killtrace: u32 = status_field(pid, "PPid:").and_then(|pid| pid.parse().ok()).expect("it lives");
    assert_eq!(children(killtrace), [pid]);
    let states = |state: &str| {
        [pid, killtrace]
            .iter()
            .all(|&pid| status_field(pid, "State:").is_some_and(|is| is.starts_with(state)))
    };
    terminal.press("\x1a");
    eventually(10, "both to stop", || states("T").then_some(()));
    terminal.until("Stopped");
    terminal.enter("fg");
    eventually(10, "both to go on", || (!states("T")).then_some(()));
    terminal.enter("again");
    terminal.until("got  again");
    terminal.enter("echo status=$?");
    terminal.until("status=5");
    terminal.enter("exit");
    terminal.close();
}
