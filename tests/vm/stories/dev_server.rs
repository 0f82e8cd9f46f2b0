//! A Vite that somebody runs in tmux.

use std::path::Path;
use std::process::Command;

use killtrace_tests::{Sandbox, Vite, eventually, free_port};

/// A shell in tmux, and the Vite that runs in it.
pub(crate) struct DevServer {
    /// The shell, which leads the session of its terminal.
    pub(crate) wrapper: u32,
    pub(crate) vite: u32,
    pub(crate) port: u16,
}

impl DevServer {
    /// A tmux session for one command: `zsh -c "npm run dev"`. It ends with it.
    pub(crate) fn in_wrapper(sandbox: &Sandbox, shell: &str) -> Self {
        let port = free_port();
        // With something left to do, the shell stays.
        let dev = format!("{}; true", Vite::command(port).join(" "));
        Self::start(sandbox, port, &[shell, "-c", &dev], |_| ())
    }

    /// A tmux session with a prompt, where somebody types `npm run dev`.
    pub(crate) fn at_prompt(sandbox: &Sandbox, shell: &[&str]) -> Self {
        let port = free_port();
        Self::start(sandbox, port, shell, |tmux| {
            tmux(&["send-keys", "-t", "dev", &Vite::command(port).join(" "), "Enter"]);
        })
    }

    fn start(
        sandbox: &Sandbox,
        port: u16,
        command: &[&str],
        then: impl FnOnce(&dyn Fn(&[&str]) -> String),
    ) -> Self {
        let app = Vite::app().expect("the guest has it");
        let tmux = |args: &[&str]| tmux(sandbox, &app, args);
        tmux(&[&["new-session", "-d", "-s", "dev"], command].concat());
        let wrapper = tmux(&["list-panes", "-t", "dev", "-F", "#{pane_pid}"]);
        let wrapper = wrapper.trim().parse().expect("tmux knows its pane's process");
        then(&tmux);
        let vite = Vite::wait(port, || tmux(&["capture-pane", "-p", "-t", "dev"]));
        Self { wrapper, vite, port }
    }

    /// As people do who have heard of earlyoom: the server is protected, and what it runs in is not.
    pub(crate) fn protect_all_but_the_wrapper(&self) {
        adjust(self.wrapper, 200);
        let mut family = killtrace_tests::children(self.wrapper);
        while let Some(pid) = family.pop() {
            adjust(pid, -500);
            family.extend(killtrace_tests::children(pid));
        }
    }

    pub(crate) fn until_dead(&self, what_else: impl FnMut()) {
        until_dead(self.vite, "Vite", what_else);
    }
}

/// Waits for a process to be gone, doing something else meanwhile.
pub(crate) fn until_dead(pid: u32, name: &str, mut what_else: impl FnMut()) {
    let path = format!("/proc/{pid}/exe");
    eventually(30, &format!("{name} to die"), || {
        what_else();
        // A zombie has none, either.
        Path::new(&path).read_link().is_err().then_some(())
    });
}

fn adjust(pid: u32, badness: i32) {
    std::fs::write(format!("/proc/{pid}/oom_score_adj"), badness.to_string()).expect("it lives");
}

fn tmux(sandbox: &Sandbox, app: &Path, args: &[&str]) -> String {
    let mut command: Command = sandbox.command(app, "tmux");
    command.arg("-S").arg(sandbox.dir().join("tmux")).args(["-f", "/dev/null"]).args(args);
    let output = command.env("TERM", "xterm").output().expect("cannot run tmux");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tmux {args:?} failed ({}): {stderr}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}
