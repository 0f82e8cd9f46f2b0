//! Incidents of several steps: who decided, what followed, what else died, and what lived on.

use killtrace::model::report::{Confidence, Kind, Mechanism, Role};

use super::Family;
use crate::Case;
use crate::stage::{Actor, Person, Stage};

pub(crate) const CHAINS: Family = Family {
    cases: &[
        Case::new("longchain", "killer, wrapper, terminal, leader, job, and the job's child", long_chain)
            .watch(&["--comm", "kz-victim", "--comm", "kz-leader"])
            .late(),
        Case::new("keepalive", "a script restarts what its own package script kills", keepalive),
        Case::new("packagescript", "a package script that a shell runs kills it", package_script).late(),
        Case::new("shellscript", "a script that restarts nothing kills it", shell_script).late(),
        Case::new("supervisor", "a service manager stops what it started", supervisor).late(),
        Case::new("runtime", "a container runtime's helper kills it", runtime).late(),
        Case::new("roledebugger", "gdb kills it", debugger).late(),
        Case::new("roletests", "a test runner kills it", test_runner).late(),
        Case::new("roleinit", "a container's init kills it", container_init).late(),
        Case::new("roleterminal", "tmux closes its terminal", terminal).late(),
        Case::new("oomdkill", "earlyoom kills it", oom_daemon).late(),
        Case::new("forwarded", "a wrapper passes on the SIGTERM that it got", forwarded).late(),
        Case::new("notforwarded", "a wrapper that was asked to stop long ago kills it now", not_forwarded),
        Case::new("groupfell", "one act ends three, one of them with children", group_fell)
            .watch(&["--comm", "kz-victim"])
            .late(),
        Case::new("portholder", "its child holds the port and lives on, adopted", port_holder).late(),
        Case::new("treesurvives", "it is killed; two of three descendants live on", tree_survives).late(),
        Case::new("unrelated", "two die at the same moment, by two who do not know each other", unrelated)
            .late(),
        Case::new("samekiller", "one kills two, by two acts", same_killer).late(),
        Case::new("daemonkiller", "the killer is a daemon that left its parents long ago", daemon_killer)
            .late(),
        Case::new("killerkilled", "the killer is killed right after it struck", killer_killed).late(),
    ],
    acts: &[],
};

fn long_chain(stage: &mut Stage) {
    stage.adopt_orphans();
    let acts =
        "pty:kz-leader:(job:kz-job:(spawn:kz-victim:setpgid+pdeathsig:TERM+ready:me+pause)+pause)+pause";
    let mut wrapper = stage.start("kz-wrapper", &[acts, "pause"]);
    let victim = Person::of(wrapper.facts[0]);
    let job = Person::of(victim.parent());
    let leader = Person::of(job.parent());
    for pid in [victim.pid, job.pid, leader.pid] {
        stage.clean_up(pid);
    }
    stage.curtain();
    let killer = stage.strike("kz-killer", wrapper.pid(), "KILL");
    wrapper.wait();
    let statuses = [leader.pid, job.pid, victim.pid].map(|pid| stage.reap(pid));
    stage
        .died(leader.pid, Some(statuses[0]), Kind::TtyHangup)
        .by_signal(libc::SIGHUP)
        .killer(&killer)
        .also_died(job.pid, Some(leader.pid));
    stage
        .died(job.pid, Some(statuses[1]), Kind::TtyHangup)
        .by_signal(libc::SIGHUP)
        .killer(&killer)
        .also_died(victim.pid, Some(job.pid));
    stage
        .died(victim.pid, Some(statuses[2]), Kind::ParentDeathSignal)
        .by_signal(libc::SIGTERM)
        .killer(&killer)
        .actor(&killer)
        .innocent(wrapper.pid())
        .innocent(leader.pid)
        .innocent(job.pid)
        .chain(&[
            "kz-killer",
            "sent SIGKILL to kz-wrapper",
            "kz-wrapper",
            "was killed by SIGKILL",
            "the terminal",
            "kernel sent SIGHUP to kz-leader",
            "kz-leader",
            "was killed by SIGHUP",
            "kernel sent SIGHUP to kz-job",
            "kz-job",
            "was killed by SIGHUP",
            "had asked for SIGTERM",
            "kz-victim",
            "was killed by SIGTERM",
        ])
        .summary(&["kz-victim", "kz-job", "because kz-killer", "sent SIGKILL to kz-wrapper"]);
}

/// A process whose acts are after `--`: what stands before is what it seems to be doing.
fn seeming(name: &str, args: &str, acts: &str) -> String {
    let args = if args.is_empty() { String::new() } else { format!("{args}+") };
    format!("(spawn:{name}:{args}--+{acts})")
}

/// `sh -c` that starts `pkill`, which kills.
fn shell_and_pkill(pid: u32) -> String {
    let pkill = seeming("pkill", "-f+kz-victim", &format!("kill:{pid},TERM"));
    seeming("sh", "-c+pkill", &format!("{pkill}+wait"))
}

/// `npm run dev` is started, `npm run kill-dev` kills what it started, and it is started again: by one script. At the
/// second time it is known for what it is, however long a restart takes.
fn keepalive(stage: &mut Stage) {
    stage.adopt_orphans();
    let dev = seeming("npm", "run+dev", "(spawn:kz-victim:ready:me+pause)+wait");
    let mut script = stage.start("sh", &["keepalive.sh", "--", "obey"]);
    let victims = [(); 2].map(|()| {
        script.order(inner(&dev));
        let victim = two_answers(&mut script);
        stage.clean_up(victim);
        let kill = seeming("npm", "run+kill-dev", &format!("{}+wait", shell_and_pkill(victim)));
        script.tell(inner(&kill));
        stage.until_gone(victim);
        victim
    });
    for (time, victim) in victims.into_iter().enumerate() {
        let death = stage
            .died(victim, None, Kind::KilledByProcess)
            .actor(script.who())
            .chain(&[
                "keepalive.sh",
                "started `npm run kill-dev`",
                "started sh",
                "started pkill",
                "pkill",
                "sent SIGTERM to kz-victim",
                "was killed by SIGTERM",
            ])
            .summary(&["was killed by SIGTERM from pkill", "`npm run kill-dev`", "from keepalive.sh"]);
        if time > 0 {
            death.role(Role::Watchdog);
        }
    }
}

/// An order to start something that says its pid, and the answer to the order: in either order.
fn two_answers(actor: &mut Actor) -> u32 {
    let said = [actor.hear(), actor.hear()];
    *said.iter().flatten().next().expect("it says its pid")
}

/// `name args -- act`, as a process of its own that does it at once.
fn strike(stage: &mut Stage, name: &str, args: &[&str], acts: &[&str]) -> Person {
    let all: Vec<&str> = args.iter().copied().chain(["--"]).chain(acts.iter().copied()).collect();
    stage.perform(name, &all)
}

fn package_script(stage: &mut Stage) {
    let mut victim = stage.victim(&["ready", "pause"]);
    stage.curtain();
    let npm = strike(stage, "npm", &["run", "kill-dev"], &[inner(&shell_and_pkill(victim.pid())), "wait"]);
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .actor(&npm)
        .role(Role::PackageScript)
        .action("sent SIGTERM to kz-victim")
        .chain(&["`npm run kill-dev`", "started sh", "started pkill", "sent SIGTERM to kz-victim"])
        .summary(&["from pkill", "`npm run kill-dev`"]);
}

/// Without the parentheses around it.
fn inner(act: &str) -> &str {
    act.strip_prefix('(').and_then(|act| act.strip_suffix(')')).unwrap_or(act)
}

fn shell_script(stage: &mut Stage) {
    let mut victim = stage.victim(&["ready", "pause"]);
    stage.curtain();
    let pkill = seeming("pkill", "-f+kz-victim", &format!("kill:{},TERM", victim.pid()));
    let script = strike(stage, "bash", &["clean-up.sh"], &[inner(&pkill), "wait"]);
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .actor(&script)
        .role(Role::Shell)
        .chain(&["clean-up.sh", "started pkill", "pkill", "sent SIGTERM to kz-victim"])
        .summary(&["from pkill", "started by clean-up.sh"]);
}

/// SIGTERM, some patience, SIGKILL: to the service that it started.
fn supervisor(stage: &mut Stage) {
    stage.adopt_orphans();
    let mut manager =
        stage.start("supervisord", &["spawn:kz-victim:catch:TERM,return+ready:me+pause", "obey"]);
    let victim = Person::of(manager.facts[0]);
    stage.clean_up(victim.pid);
    stage.curtain();
    manager.tell("kill:child,TERM");
    manager.tell("sleep:30");
    manager.tell("kill:child,KILL");
    let status = super::terminals::child_status(&mut manager);
    stage
        .died(victim.pid, status, Kind::KilledByProcess)
        .by_signal(libc::SIGKILL)
        .mechanism(Mechanism::Kill)
        .killer(manager.who())
        .role(Role::ServiceManager)
        .other_signal("SIGTERM")
        .summary(&["was killed by SIGKILL from supervisord"]);
}

/// dockerd decides, runc strikes and is gone.
fn runtime(stage: &mut Stage) {
    let mut victim = stage.victim(&["ready", "pause"]);
    let mut daemon = stage.start("dockerd", &["ready", "obey"]);
    stage.curtain();
    daemon.order(&format!("spawn:runc:kill+init+--+kill:{},KILL", victim.pid()));
    daemon.hear();
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGKILL)
        .role(Role::ContainerRuntime)
        .ancestry(&[daemon.pid()])
        .chain(&["runc", "sent SIGKILL to kz-victim"]);
}

/// Killed by a program of this name that lives on.
fn killed_by(stage: &mut Stage, name: &str, role: Role) {
    let mut victim = stage.victim(&["ready", "pause"]);
    let mut killer = stage.start(name, &["ready", "obey"]);
    stage.curtain();
    killer.tell(&format!("kill:{},KILL", victim.pid()));
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGKILL)
        .killer(killer.who())
        .actor(killer.who())
        .role(role)
        .action("sent SIGKILL to kz-victim")
        .summary(&[&format!("was killed by SIGKILL from {name} (pid {})", killer.pid())]);
}

fn debugger(stage: &mut Stage) {
    killed_by(stage, "gdb", Role::Debugger);
}

fn test_runner(stage: &mut Stage) {
    killed_by(stage, "pytest", Role::TestRunner);
}

fn container_init(stage: &mut Stage) {
    killed_by(stage, "tini", Role::Init);
}

fn oom_daemon(stage: &mut Stage) {
    killed_by(stage, "earlyoom", Role::OomDaemon);
}

fn terminal(stage: &mut Stage) {
    let mut tmux = stage.start("tmux", &["pty:kz-victim:ready:me+pause", "obey"]);
    let victim = Person::of(tmux.facts[0]);
    stage.clean_up(victim.pid);
    stage.curtain();
    tmux.tell("close");
    let status = super::terminals::child_status(&mut tmux);
    stage
        .died(victim.pid, status, Kind::TtyHangup)
        .by_signal(libc::SIGHUP)
        .killer(tmux.who())
        .role(Role::Terminal)
        .action("closed the terminal of kz-victim")
        .summary(&["terminal was closed by tmux"]);
}

/// A wrapper that obeys, and its child.
fn wrapped(stage: &mut Stage, name: &str, wrapper: &[&str]) -> (Actor, Person) {
    stage.adopt_orphans();
    let mut acts = vec!["spawn:kz-victim:ready:me+pause"];
    acts.extend(wrapper);
    let mut wrapper = stage.start(name, &acts);
    // Both say that they are ready, the victim with its pid.
    let said = [wrapper.facts.clone(), wrapper.hear()].concat();
    let victim = Person::of(said[0]);
    stage.clean_up(victim.pid);
    (wrapper, victim)
}

/// npm, sudo, timeout, dumb-init: what they get, they pass on to their child.
fn forwarded(stage: &mut Stage) {
    let (mut wrapper, victim) =
        wrapped(stage, "kz-wrapper", &["catch:TERM,forward,TERM", "ready", "wait:tell", "exit:0"]);
    stage.curtain();
    let killer = stage.strike("kz-killer", wrapper.pid(), "TERM");
    let status = wrapper.hear()[0].cast_signed();
    wrapper.wait();
    stage
        .died(victim.pid, Some(status), Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .killer(&killer)
        .actor(&killer)
        .innocent(wrapper.pid())
        .chain(&["kz-killer", "sent SIGTERM to kz-wrapper", "kz-wrapper", "sent SIGTERM to kz-victim"])
        .summary(&["kz-victim", "kz-killer"]);
}

/// The old request has nothing to do with it: the wrapper ignored it, and decides now by itself.
fn not_forwarded(stage: &mut Stage) {
    let (mut wrapper, victim) = wrapped(stage, "kz-wrapper", &["ignore:TERM", "ready", "obey"]);
    let decoy = stage.strike("kz-decoy", wrapper.pid(), "TERM");
    wrapper.tell("kill:child,TERM");
    let status = super::terminals::child_status(&mut wrapper);
    stage
        .died(victim.pid, status, Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .killer(wrapper.who())
        .role(Role::Parent)
        .innocent(decoy.pid);
}

fn group_fell(stage: &mut Stage) {
    stage.adopt_orphans();
    let acts = [
        "setpgid",
        "spawn:kz-one:ready:me+pause",
        "spawn:kz-two:(spawn:kz-three:pdeathsig:TERM+setpgid+ready:me+pause)+pause",
        "pause",
    ];
    let mut victim = stage.victim(&acts);
    let said = [victim.facts[0], victim.hear()[0]];
    let named = |name: &str| {
        said.into_iter().find(|pid| Person::of(*pid).comm.as_deref() == Some(name)).expect("it speaks")
    };
    let (one, three) = (named("kz-one"), named("kz-three"));
    let two = Person::of(three).parent();
    for pid in [one, two, three] {
        stage.clean_up(pid);
    }
    stage.curtain();
    let killer = stage.perform("kz-killer", &[&format!("kill:-{},KILL", victim.pid())]);
    let statuses = [one, two, three].map(|pid| stage.reap(pid));
    stage.died(one, Some(statuses[0]), Kind::KilledByProcess).killer(&killer).also_died(two, None);
    stage
        .died(two, Some(statuses[1]), Kind::KilledByProcess)
        .killer(&killer)
        .also_died(three, Some(two))
        .also_died(one, None);
    stage
        .died(three, Some(statuses[2]), Kind::ParentDeathSignal)
        .by_signal(libc::SIGTERM)
        .killer(&killer)
        .chain(&["sent SIGKILL to kz-two", "had asked for SIGTERM"]);
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGKILL)
        .mechanism(Mechanism::KillGroup)
        .killer(&killer)
        .also_died(one, None)
        .also_died(two, None)
        .without_btf(Kind::KilledByProcess, Confidence::Certain)
        .chain(&["kz-killer", "sent SIGKILL to kz-victim", "was killed by SIGKILL"]);
}

/// What `EADDRINUSE` is about, next time.
fn port_holder(stage: &mut Stage) {
    stage.adopt_orphans();
    let mut victim = stage.victim(&["spawn:kz-server:listen+ready:me+pause", "pause"]);
    let (server, port) = (victim.facts[0], victim.facts[1]);
    victim.hear();
    stage.clean_up(server);
    stage.curtain();
    let killer = stage.strike("kz-killer", victim.pid(), "KILL");
    let port = u16::try_from(port).expect("a port");
    stage.death_of(&mut victim, Kind::KilledByProcess).killer(&killer).alone().survivor(
        server,
        Some(Person::director().pid),
        &[port],
    );
    stage.lives_on(server);
}

fn tree_survives(stage: &mut Stage) {
    stage.adopt_orphans();
    let acts = [
        "spawn:kz-child:(spawn:kz-grandchild:ready:me+pause)+pause",
        "spawn:kz-dependent:pdeathsig:TERM+ready:me+pause",
        "pause",
    ];
    let mut victim = stage.victim(&acts);
    let said = [victim.facts[0], victim.hear()[0]];
    let is_grandchild = |pid: &u32| Person::of(*pid).comm.as_deref() == Some("kz-grandchild");
    let grandchild = said.into_iter().find(is_grandchild).expect("it speaks");
    let dependent = said.into_iter().find(|pid| *pid != grandchild).expect("it speaks");
    let child = Person::of(grandchild).parent();
    for pid in [child, grandchild, dependent] {
        stage.clean_up(pid);
    }
    stage.curtain();
    let killer = stage.strike("kz-killer", victim.pid(), "KILL");
    stage
        .death_of_orphan(dependent, Kind::ParentDeathSignal)
        .by_signal(libc::SIGTERM)
        .killer(&killer)
        .actor(&killer);
    let victim_pid = victim.pid();
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .killer(&killer)
        .also_died(dependent, Some(victim_pid))
        .survivor(child, Some(Person::director().pid), &[])
        // Its own parent lives.
        .survivor(grandchild, Some(child), &[]);
}

fn unrelated(stage: &mut Stage) {
    let mut one = stage.victim(&["ready", "pause"]);
    let mut other = stage.victim(&["ready", "pause"]);
    let mut first = stage.start("kz-first", &["ready", "obey"]);
    let mut second = stage.start("kz-second", &["ready", "obey"]);
    stage.curtain();
    first.order(&format!("kill:{},TERM", one.pid()));
    second.order(&format!("kill:{},TERM", other.pid()));
    stage.death_of(&mut one, Kind::KilledByProcess).killer(first.who()).innocent(second.pid()).alone();
    stage.death_of(&mut other, Kind::KilledByProcess).killer(second.who()).innocent(first.pid()).alone();
}

fn same_killer(stage: &mut Stage) {
    let mut one = stage.victim(&["ready", "pause"]);
    let mut other = stage.victim(&["ready", "pause"]);
    stage.curtain();
    let acts =
        [format!("kill:{},TERM", one.pid()), "sleep:40".to_owned(), format!("kill:{},TERM", other.pid())];
    let killer = stage.perform("kz-killer", &acts.each_ref().map(String::as_str));
    stage.death_of(&mut one, Kind::KilledByProcess).mechanism(Mechanism::Kill).killer(&killer).alone();
    stage.death_of(&mut other, Kind::KilledByProcess).mechanism(Mechanism::Kill).killer(&killer).alone();
}

/// Its parents are gone and it was adopted: who started it is still known, from its birth.
fn daemon_killer(stage: &mut Stage) {
    stage.adopt_orphans();
    let mut victim = stage.victim(&["ready", "pause"]);
    let mut starter = stage.start("kz-starter", &["spawn:kz-daemon:setsid+ready:me+obey", "sleep:30"]);
    let daemon = Person::of(starter.facts[0]);
    stage.clean_up(daemon.pid);
    starter.wait();
    stage.curtain();
    starter.order(&format!("kill:{},TERM", victim.pid()));
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .killer(&daemon)
        .actor(&daemon)
        .chain(&["kz-daemon", "sent SIGTERM to kz-victim"]);
}

fn killer_killed(stage: &mut Stage) {
    let mut victim = stage.victim(&["ready", "pause"]);
    stage.curtain();
    let act = [format!("kill:{},TERM", victim.pid()), "kill:me,KILL".to_owned()];
    let mut killer = stage.start("kz-killer", &act.each_ref().map(String::as_str));
    killer.wait();
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .killer(killer.who())
        .actor(killer.who())
        .alone();
}
