//! What a process is, from its executable, command line, unit and ancestry; and who decided an act.

use crate::model::report::Role;
use crate::model::select::{self, basename};

use super::package_script;
use super::process::{ProcId, Process};
use super::programs::{HELPERS, PROGRAMS, SHELLS};
use super::table::Table;
use super::test_file::test_file;

/// What a process does, as far as it matters to who decided something.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Doing {
    /// A helper such as `pkill`.
    Helping,
    /// `sh -c '...'`: does what whoever started it wrote.
    RunningCommand,
    /// A shell that runs a script file: somebody's programme of action.
    RunningScript,
    /// `npm run NAME`.
    PackageScript,
    /// Anything else decides for itself.
    OwnBusiness,
}

/// Basename of its executable, or its first argument, or its comm.
fn base(process: &Process) -> String {
    let exe = process.image.exe.as_deref().map(basename).filter(|name| !name.is_empty());
    exe.map_or_else(|| process.comm.to_text(), |name| name.trim_end_matches(" (deleted)").to_owned())
}

/// `npm run NAME` and its like: the whole command, as its user typed it.
#[must_use]
pub fn package_script(process: &Process) -> Option<String> {
    package_script::find(process.image.cmdline.as_deref()?)
}

fn doing(process: &Process) -> Doing {
    if package_script(process).is_some() {
        return Doing::PackageScript;
    }
    let base = base(process);
    let args = process.image.cmdline.as_deref().unwrap_or_default();
    if SHELLS.contains(&base.as_str()) && args.first().is_none_or(|name| !HELPERS.contains(&basename(name))) {
        // Options and a string, a descriptor, or nothing: only a file is a script.
        return match select::script(process.image.exe.as_deref(), args) {
            Some(_) => Doing::RunningScript,
            // It was gone before its arguments could be read, and a shell that a person uses is not.
            None if process.image.cmdline.is_none() => Doing::RunningCommand,
            None if args.len() > 1 && !waits_for_commands(args) => Doing::RunningCommand,
            None => Doing::OwnBusiness,
        };
    }
    if HELPERS.contains(&base.as_str()) || HELPERS.contains(&process.comm.to_text().as_str()) {
        return Doing::Helping;
    }
    Doing::OwnBusiness
}

/// `bash -i`, `zsh -l`: options only, none of which brings a command.
fn waits_for_commands(args: &[String]) -> bool {
    let brings = |arg: &String| !arg.starts_with('-') || (!arg.starts_with("--") && arg.contains('c'));
    !args.iter().skip(1).any(brings)
}

/// A shell waiting for a person's commands.
fn interactive_shell(process: &Process) -> bool {
    SHELLS.contains(&base(process).trim_start_matches('-')) && doing(process) == Doing::OwnBusiness
}

/// Who decided an act that `killer` carried out at some time: up from helpers and `sh -c` to the package script, the script
/// or the program that started them; from scripts only to scripts further up, for whoever merely started a
/// script did not write what it does.
#[must_use]
pub fn decider(table: &Table, killer: ProcId, t_ns: u64) -> ProcId {
    let Some(first) = table.as_of(killer, t_ns) else { return killer };
    let mut decided = killer;
    let mut scripted = false;
    let mut at = doing(&first);
    for parent in table.ancestors(killer) {
        if at == Doing::OwnBusiness || parent.tgid <= 1 || hosts(table, parent) {
            break;
        }
        scripted |= matches!(at, Doing::RunningScript | Doing::PackageScript);
        at = doing(&parent.as_of(t_ns));
        if !scripted || matches!(at, Doing::RunningScript | Doing::PackageScript) {
            decided = parent.id;
        }
    }
    decided
}

/// Starts what others ask for: it did not decide.
fn hosts(table: &Table, process: &Process) -> bool {
    let role = program_role(process);
    matches!(
        role,
        Some(Role::ServiceManager | Role::Init | Role::Terminal | Role::ContainerRuntime | Role::CiRunner)
    ) || table.is_kernel_thread(process.id)
        || table.is_own(process)
}

/// What it is by the table of programs.
pub(super) fn program_role(process: &Process) -> Option<Role> {
    let (base, comm, name) = (base(process), process.comm.to_text(), process.name());
    PROGRAMS
        .iter()
        .find(|(_, names)| [&base, &comm, &name].into_iter().any(|known| names.contains(&known.as_str())))
        .map(|(role, _)| *role)
}

/// What an actor is, seen from the victim.
#[must_use]
pub fn role(table: &Table, actor: &Process, victim: &Process) -> Role {
    if actor.id == victim.id {
        return Role::Victim;
    }
    if table.is_kernel_thread(actor.id) {
        return Role::Kernel;
    }
    if let Some(role) = program_role(actor) {
        return role;
    }
    if actor.tgid == 1 {
        return Role::Init;
    }
    if test_file(actor).is_some() {
        return Role::TestRunner;
    }
    if package_script(actor).is_some() {
        return Role::PackageScript;
    }
    match doing(actor) {
        Doing::RunningScript if restarts(table, actor, victim) => return Role::Watchdog,
        Doing::RunningScript | Doing::RunningCommand => return Role::Shell,
        _ if interactive_shell(actor) => return Role::Shell,
        _ => {}
    }
    if victim.parent == Some(actor.id) || victim.ppid == Some(actor.tgid) {
        Role::Parent
    } else if actor.parent == Some(victim.id) {
        Role::Child
    } else {
        Role::Process
    }
}

/// It started the victim, and has started or is about to start another in its place: something else below it has,
/// or had, the victim's name, or was started by the same words as the victim's side of the tree.
///
/// Asked at every death, of a script that may have started thousands: the last of them tell, and the more remote
/// ones are not looked at.
fn restarts(table: &Table, script: &Process, victim: &Process) -> bool {
    const LOOKED_AT: usize = 512;
    let line: Vec<ProcId> = table.ancestors(victim.id).map(|process| process.id).collect();
    let Some(depth) = line.iter().position(|&id| id == script.id) else { return false };
    let side = depth.checked_sub(1).map_or(Some(victim), |below| table.get(line[below]));
    let words = side.filter(|side| side.image.cmdline.is_some()).and_then(package_script);
    let name = victim.name();
    below(table, script, victim.id).take(LOOKED_AT).any(|other| {
        let again = || words.is_some() && other.parent == Some(script.id) && package_script(other) == words;
        other.exec.is_some() && !line.contains(&other.id) && (again() || other.name() == name)
    })
}

/// What a process has started and what those have, the newest first, but for one of them and all below it.
fn below<'a>(table: &'a Table, top: &'a Process, without: ProcId) -> impl Iterator<Item = &'a Process> {
    let mut open = vec![top.children.iter().rev()];
    std::iter::from_fn(move || {
        loop {
            let Some(&next) = open.last_mut()?.next() else {
                open.pop();
                continue;
            };
            if let Some(process) = table.get(next).filter(|_| next != without) {
                open.push(process.children.iter().rev());
                return Some(process);
            }
        }
    })
}

/// What a person calls it: the package script, the script, or the program.
#[must_use]
pub fn name(process: &Process) -> String {
    package_script(process).unwrap_or_else(|| process.name())
}

/// Its name in a sentence, where the words of a package script need marks around them.
#[must_use]
pub fn title(process: &Process) -> String {
    match package_script(process) {
        Some(script) => format!("`{script}`"),
        None => process.name(),
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::explain::process::Image;
    use crate::explain::scenario::Scenario;
    use crate::model::text::Comm;

    fn process(exe: &str, args: &[&str]) -> Process {
        let mut process = Process::new(ProcId(1), 100, Comm::from(basename(exe)));
        process.image.exe = Some(Rc::from(exe));
        process.image.cmdline = Some(args.iter().map(|&arg| arg.to_owned()).collect());
        process
    }

    #[test]
    fn programs_are_known_by_executable_script_module_or_title() {
        for (exe, args, role) in [
            ("/usr/bin/earlyoom", &["earlyoom", "-r", "60"][..], Role::OomDaemon),
            ("/usr/lib/systemd/systemd", &["/usr/lib/systemd/systemd", "--user"], Role::ServiceManager),
            ("/usr/bin/node", &["PM2 v5.3.0: God Daemon (/root/.pm2)"], Role::ServiceManager),
            ("/usr/bin/python3.11", &["python3", "-m", "pytest", "tests"], Role::TestRunner),
            ("/usr/bin/node", &["node", "/app/node_modules/.bin/vitest", "run"], Role::TestRunner),
            ("/usr/bin/node", &["node", "/app/node_modules/nodemon/bin/nodemon.js", "a.js"], Role::Watchdog),
            ("/usr/bin/containerd-shim-runc-v2", &["x", "-id", "a"], Role::ContainerRuntime),
        ] {
            assert_eq!(program_role(&process(exe, args)), Some(role), "{args:?}");
        }
        assert_eq!(program_role(&process("/usr/bin/python3", &["python3", "manage.py", "runserver"])), None);
    }

    #[test]
    fn no_program_has_two_roles() {
        let mut names: Vec<&str> = PROGRAMS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn a_shell_runs_a_command_a_script_or_nothing() {
        assert_eq!(doing(&process("/bin/sh", &["sh", "-c", "pkill vite"])), Doing::RunningCommand);
        assert_eq!(doing(&process("/bin/bash", &["bash", "-ec", "pkill vite"])), Doing::RunningCommand);
        assert_eq!(doing(&process("/bin/bash", &["bash", "./keepalive.sh"])), Doing::RunningScript);
        assert_eq!(doing(&process("/bin/zsh", &["-zsh"])), Doing::OwnBusiness);
        let gone = Process {
            image: Image { cmdline: None, ..process("/bin/sh", &[]).image },
            ..process("/bin/sh", &[])
        };
        assert_eq!(doing(&gone), Doing::RunningCommand);
        assert_eq!(doing(&process("/usr/bin/pkill", &["pkill", "-f", "vite"])), Doing::Helping);
    }

    #[test]
    fn what_only_runs_another_program_decides_nothing() {
        let mut scenario = Scenario::new();
        scenario.seed(40, 1, "bash", &["/bin/bash", "/app/keepalive.sh"]).seeded();
        let wrappers: [&[&str]; 6] = [
            &["/usr/bin/nsenter", "--target", "7", "--", "pkill", "vite"],
            &["/usr/bin/unshare", "--pid", "pkill", "vite"],
            &["/usr/bin/setpriv", "--reuid", "7", "pkill", "vite"],
            &["/usr/bin/setsid", "pkill", "vite"],
            &["/usr/bin/env", "A=b", "pkill", "vite"],
            &["/usr/bin/timeout", "5", "pkill", "vite"],
        ];
        for (pid, wrapper) in (100..).zip(wrappers) {
            scenario.spawn(40, pid, wrapper).spawn(pid, pid + 100, &["/usr/bin/pkill", "vite"]);
        }
        let mut table = Table::new(&scenario.header);
        for event in &scenario.events {
            table.apply(event);
        }
        let id = |pid| table.by_tid(pid).expect("it is known");
        for pid in 200..206 {
            assert_eq!(decider(&table, id(pid), u64::MAX), id(40), "{pid}");
        }
    }

    #[test]
    fn a_script_is_known_to_restart_by_the_last_that_it_started() {
        let mut scenario = Scenario::new();
        scenario.seed(40, 1, "bash", &["/bin/bash", "/app/keepalive.sh"]).seeded();
        let vite = ["/usr/bin/node", "/app/node_modules/.bin/vite"];
        let started = |scenario: &mut Scenario, pids: std::ops::Range<u32>, args: &[&str]| {
            for pid in pids {
                scenario.spawn(40, pid, args).exits(pid, 0);
            }
        };
        started(&mut scenario, 100..101, &vite);
        started(&mut scenario, 101..501, &["/usr/bin/sleep", "1"]);
        scenario.spawn(40, 600, &vite).spawn(600, 601, &vite).spawn(600, 602, &["/usr/bin/esbuild"]);
        let mut table = Table::new(&scenario.header);
        for event in &scenario.events {
            table.apply(event);
        }
        let process = |pid| table.by_tid(pid).and_then(|id| table.get(id)).expect("it is remembered");
        assert!(restarts(&table, process(40), process(600)), "after four hundred sleeps");
        assert!(!restarts(&table, process(40), process(602)), "there was one esbuild");
        let seen: Vec<u32> = below(&table, process(40), process(600).id).map(|other| other.tgid).collect();
        assert_eq!(
            (seen.len(), seen[0], seen[400]),
            (401, 500, 100),
            "the newest first, and none of its own"
        );
    }
}
