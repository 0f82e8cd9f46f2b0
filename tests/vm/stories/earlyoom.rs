//! earlyoom kills the shell that Vite runs in, and the terminal takes Vite along.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use killtrace::model::report::{Confidence, Death, Kind, Role};
use killtrace_tests::{Outcome, Sandbox, Watch};

use crate::ballast::Ballast;
use crate::dev_server::{DevServer, until_dead};
use crate::journald::Journald;

/// `zsh -c "npm run dev"` dies of the SIGTERM that earlyoom sends when a tenth of the memory is left. What earlyoom says
/// of that in the journal is a witness.
pub(crate) fn kills_the_wrapper() {
    let journald = Journald::start();
    let sandbox = Sandbox::new();
    let watch = Watch::start(&["--comm", "vite"]);
    let server = DevServer::in_wrapper(&sandbox, "zsh");
    let outcome = run_out_of_memory(watch, &sandbox, &server);
    drop(journald);
    let death = check(&outcome, &server, "zsh", "SIGTERM");
    let killer = death.killer.as_ref().map(|killer| killer.pid);
    let said = format!("sending SIGTERM to process {}", server.wrapper);
    let line = death.journal.iter().find(|line| line.text.contains(&said));
    let line = line.unwrap_or_else(|| panic!("no line says {said:?}: {:#?}", death.journal));
    assert_eq!((Some(line.writer.pid), line.writer.comm.as_str()), (killer, "earlyoom"), "{line:?}");
}

/// An interactive bash ignores SIGTERM. With a twentieth left, earlyoom sends SIGKILL.
pub(crate) fn kills_the_stubborn_shell() {
    let sandbox = Sandbox::new();
    let watch = Watch::start(&["--comm", "vite"]);
    let server = DevServer::at_prompt(&sandbox, &["bash", "--norc", "--noprofile", "-i"]);
    let outcome = run_out_of_memory(watch, &sandbox, &server);
    check(&outcome, &server, "bash", "SIGKILL");
}

fn run_out_of_memory(watch: Watch, sandbox: &Sandbox, server: &DevServer) -> Outcome {
    server.protect_all_but_the_wrapper();
    let earlyoom = Earlyoom::start(sandbox);
    let mut ballast = Ballast::new();
    until_dead(server.wrapper, "the shell", || ballast.more());
    drop(ballast);
    server.until_dead(|| ());
    watch.until_dead(&[server.vite]);
    if earlyoom.logs {
        let _said = watch.until_said(&format!("(pid {}): Journal", server.vite));
    }
    drop(earlyoom);
    watch.stop()
}

struct Earlyoom {
    child: Child,
    /// To the journal, which is there.
    logs: bool,
}

impl Earlyoom {
    fn start(sandbox: &Sandbox) -> Self {
        let logs = Path::new(Journald::SOCKET).exists();
        // `systemd-cat` becomes the program that it is given, as one that systemd starts with the journal as its output.
        let mut command: Command =
            sandbox.command(sandbox.dir(), if logs { "systemd-cat" } else { "earlyoom" });
        command.args(logs.then_some("earlyoom"));
        // It would say every second how much there is.
        command.args(["-r", "3600"]).stdout(Stdio::null()).stderr(Stdio::null());
        Self { child: command.spawn().expect("cannot run earlyoom"), logs }
    }
}

impl Drop for Earlyoom {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn check<'a>(outcome: &'a Outcome, server: &DevServer, shell: &str, signal: &str) -> &'a Death {
    let death: &Death = outcome.death(server.vite);
    let summary = &death.summary;
    println!("{summary}");
    assert_eq!(death.victim.name, "vite", "{summary}");
    assert_eq!(
        (death.cause.kind, death.cause.confidence),
        (Kind::SessionLeaderExit, Confidence::Certain),
        "{summary}"
    );
    assert_eq!(
        (death.exit.signal.as_deref(), death.exit.shell_status),
        (Some("SIGHUP"), Some(129)),
        "{summary}"
    );
    let killer = death.killer.as_ref().unwrap_or_else(|| panic!("no killer: {summary}"));
    assert_eq!((killer.comm.as_str(), killer.role), ("earlyoom", Role::OomDaemon), "{summary}");
    let root = death.root_cause.as_ref().unwrap_or_else(|| panic!("no root cause: {summary}"));
    let actor = root.actor.as_ref().unwrap_or_else(|| panic!("nobody decided it: {summary}"));
    assert_eq!((actor.pid, actor.role), (killer.pid, Role::OomDaemon), "{summary}");
    for said in [shell, signal, &server.wrapper.to_string()] {
        assert!(root.action.contains(said), "no {said} in {:?}", root.action);
    }
    let chain: Vec<&str> = death.chain.iter().map(|step| step.text.as_str()).collect();
    let at = |what: &[&str]| {
        let found = chain.iter().position(|step| what.iter().all(|what| step.contains(what)));
        found.unwrap_or_else(|| panic!("no step with {what:?} in {chain:#?}"))
    };
    let (sent, died) = (at(&["earlyoom", signal, shell]), at(&[shell, "killed", signal]));
    let (hung_up, end) = (at(&["SIGHUP", "vite"]), at(&["vite", "killed", "SIGHUP"]));
    assert!(sent < died && died < hung_up && hung_up <= end, "{chain:#?}");
    assert!(summary.contains("earlyoom") && summary.contains(shell), "{summary}");
    death
}
