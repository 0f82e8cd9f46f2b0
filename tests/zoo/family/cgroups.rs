//! cgroups: `cgroup.kill`, forks that race with it, and freezers that put a death off.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use killtrace::model::report::{Confidence, Kind, Mechanism};

use super::Family;
use crate::Case;
use crate::acts::{Args, exit_now, fork_and};
use crate::stage::{Actor, Stage, eventually};

pub(crate) const CGROUPS: Family = Family {
    cases: &[
        Case::new("cgkill", "three in a cgroup, one write to its cgroup.kill", cgroup_kill)
            .needs(kill_file)
            .late(),
        Case::new("cgkillone", "one in a cgroup, by pwrite", |stage| one(stage, "pwrite"))
            .needs(kill_file)
            .late(),
        Case::new("cgkillsendfile", "one in a cgroup, by sendfile", |stage| one(stage, "sendfile"))
            .needs(kill_file)
            .late(),
        Case::new("cgkillself", "the writer of cgroup.kill is in that cgroup", writer_inside)
            .needs(kill_file)
            .late(),
        Case::new("cgkillabove", "the cgroup above its own is killed", killed_from_above)
            .needs(kill_file)
            .late(),
        Case::new("cgkillmoved", "it was moved there just before", moved_before).needs(kill_file).late(),
        Case::new("cgkilleft", "it was moved out before; SIGTERM then", moved_out_before)
            .needs(kill_file)
            .late(),
        Case::new("cgkillterm", "a SIGTERM it caught, and then cgroup.kill", asked_before)
            .needs(kill_file)
            .late(),
        Case::new("cgkilldead", "a SIGTERM it died of, and then cgroup.kill", too_late)
            .needs(kill_file)
            .late(),
        Case::new("cgkillblame", "the writer's own writer told it to", told_to).needs(kill_file).late(),
        Case::new("cgkillfork", "forks that race with cgroup.kill", fork_race).needs(kill_file),
        Case::new("frz1", "SIGKILL while frozen (v1), death at the thaw", frozen_v1).needs(freezer_v1).late(),
        Case::new("frz1two", "SIGTERM and SIGKILL while frozen (v1)", frozen_v1_twice)
            .needs(freezer_v1)
            .late(),
        Case::new("frz1term", "SIGTERM and SIGUSR1 while frozen (v1), death at the thaw", frozen_v1_term)
            .needs(freezer_v1)
            .late(),
        Case::new("frzkill", "SIGKILL while frozen (v2), death at once", |stage| frozen_v2(stage, "KILL"))
            .needs(freezer_v2)
            .late(),
        Case::new("frzterm", "SIGTERM while frozen (v2), death at once", |stage| frozen_v2(stage, "TERM"))
            .needs(freezer_v2)
            .late(),
        Case::new("frzcaught", "SIGTERM while frozen (v2), handled at the thaw", frozen_and_caught)
            .needs(freezer_v2)
            .late(),
    ],
    acts: &[
        ("join-cgroup", |args| {
            fs::write(Path::new(args.text(0)).join("cgroup.procs"), "0").expect("a cgroup")
        }),
        ("echo", |args| fs::write(args.text(0), args.text(1)).expect("it can be written")),
        ("pwrite", |args| {
            let file = fs::OpenOptions::new().write(true).open(args.text(0)).expect("it is there");
            file.write_all_at(args.text(1).as_bytes(), 0).expect("it can be written");
        }),
        ("sendfile", sendfile),
        ("breed", |_| breed()),
    ],
};

/// `sendfile:PATH,TEXT`, through a file that holds the text.
fn sendfile(args: &Args<'_>) {
    let source = tempfile::NamedTempFile::new().expect("a file");
    fs::write(source.path(), args.text(1)).expect("it can be written");
    let target = fs::OpenOptions::new().write(true).open(args.text(0)).expect("it is there");
    // SAFETY: both descriptors are open; no offset is passed.
    let sent = unsafe {
        libc::sendfile(
            target.as_raw_fd(),
            source.as_file().as_raw_fd(),
            std::ptr::null_mut(),
            args.text(1).len(),
        )
    };
    assert!(sent > 0, "sendfile: {}", std::io::Error::last_os_error());
}

/// Forks children that wait, one after the other, until it is killed.
fn breed() -> ! {
    for _ in 0..2000 {
        fork_and("pause");
    }
    exit_now(9)
}

/// A cgroup of the case's own. Nobody may be left in it when it is dropped.
pub(super) struct Group {
    dir: PathBuf,
    /// As /proc/PID/cgroup shows it.
    path: String,
}

impl Group {
    fn new(root: &Path, name: &str) -> Self {
        let path = format!("/kz-{name}-{}", std::process::id());
        let dir = root.join(&path[1..]);
        fs::create_dir(&dir).expect("root may make cgroups");
        Self { dir, path }
    }

    fn v2(name: &str) -> Self {
        Self::new(&hierarchy("cgroup2", None).expect("checked"), name)
    }

    pub(super) fn freezer_v1(name: &str) -> Self {
        Self::new(&hierarchy("cgroup", Some("freezer")).expect("checked"), name)
    }

    fn below(&self, name: &str) -> Self {
        let dir = self.dir.join(name);
        fs::create_dir(&dir).expect("root may make cgroups");
        Self { dir, path: format!("{}/{name}", self.path) }
    }

    fn file(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.join(name), text).expect("a cgroup's file");
    }

    pub(super) fn join(&self) -> String {
        format!("join-cgroup:{}", self.dir.display())
    }

    /// Freezes all that is in it (v1), and waits until it is.
    pub(super) fn freeze_v1(&self) {
        self.write("freezer.state", "FROZEN");
        let frozen =
            || fs::read_to_string(self.dir.join("freezer.state")).is_ok_and(|state| state.trim() == "FROZEN");
        eventually("a frozen cgroup", || frozen().then_some(()));
    }

    fn freeze_v2(&self) {
        self.write("cgroup.freeze", "1");
        let events = || fs::read_to_string(self.dir.join("cgroup.events")).unwrap_or_default();
        eventually("a frozen cgroup", || events().contains("frozen 1").then_some(()));
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A frozen one can be left by nobody. And the kernel lets a dead member go a little after its reaping.
        let _ = fs::write(self.dir.join("freezer.state"), "THAWED");
        let _ = fs::write(self.dir.join("cgroup.kill"), "1");
        for _ in 0..200 {
            if fs::remove_dir(&self.dir).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

/// Where a hierarchy is mounted.
fn hierarchy(kind: &str, controller: Option<&str>) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        let options = fields.get(3)?.split(',').collect::<Vec<_>>();
        (fields.get(2) == Some(&kind) && controller.is_none_or(|controller| options.contains(&controller)))
            .then(|| PathBuf::from(fields[1]))
    })
}

fn kill_file() -> Option<String> {
    with_file("cgroup.kill", "the kernel has no cgroup.kill (5.14)")
}

fn freezer_v2() -> Option<String> {
    with_file("cgroup.freeze", "the kernel has no cgroup.freeze (5.2)")
}

/// The root has no such file, a cgroup has.
fn with_file(file: &str, lack: &str) -> Option<String> {
    let Some(root) = hierarchy("cgroup2", None) else {
        return Some("no cgroup v2 hierarchy is mounted".to_owned());
    };
    let probe = root.join(format!("kz-probe-{}", std::process::id()));
    if let Err(error) = fs::create_dir(&probe) {
        return Some(format!("no cgroup can be made in {}: {error}", root.display()));
    }
    let there = probe.join(file).exists();
    let _ = fs::remove_dir(&probe);
    (!there).then(|| lack.to_owned())
}

pub(super) fn freezer_v1() -> Option<String> {
    hierarchy("cgroup", Some("freezer")).is_none().then(|| "no v1 freezer hierarchy is mounted".to_owned())
}

fn member(stage: &mut Stage, group: &Group) -> Actor {
    stage.victim(&[&group.join(), "ready", "pause"])
}

fn cgroup_kill(stage: &mut Stage) {
    let group = Group::v2("many");
    let mut members = [member(stage, &group), member(stage, &group), member(stage, &group)];
    stage.curtain();
    let killer = stage.perform("kz-killer", &[&format!("echo:{},1", group.file("cgroup.kill"))]);
    let pids = members.each_ref().map(Actor::pid);
    for member in &mut members {
        let mut death = stage
            .death_of(member, Kind::CgroupKill)
            .by_signal(libc::SIGKILL)
            .mechanism(Mechanism::CgroupKill)
            .killer(&killer)
            .actor(&killer)
            .cgroup(&group.path)
            .chain(&["wrote to cgroup.kill", "was killed by SIGKILL"])
            .summary(&["was killed with its whole cgroup: kz-killer"])
            .without_btf(Kind::CgroupKill, Confidence::Likely);
        for other in pids {
            if other != member.pid() {
                death = death.also_died(other, None);
            }
        }
    }
}

/// Written in one way or another.
fn one(stage: &mut Stage, way: &str) {
    let group = Group::v2("one");
    let mut victim = member(stage, &group);
    stage.curtain();
    let killer = stage.perform("kz-killer", &[&format!("{way}:{},1", group.file("cgroup.kill"))]);
    stage
        .death_of(&mut victim, Kind::CgroupKill)
        .by_signal(libc::SIGKILL)
        .mechanism(Mechanism::CgroupKill)
        .killer(&killer)
        .without_btf(Kind::CgroupKill, Confidence::Likely);
}

fn writer_inside(stage: &mut Stage) {
    let group = Group::v2("inside");
    let mut victim = member(stage, &group);
    let mut writer = stage.victim(&[&group.join(), "ready", "obey"]);
    stage.curtain();
    writer.order(&format!("echo:{},1", group.file("cgroup.kill")));
    let (pid, who) = (writer.pid(), writer.who().clone());
    stage
        .death_of(&mut victim, Kind::CgroupKill)
        .by_signal(libc::SIGKILL)
        .killer(&who)
        .also_died(pid, None)
        .without_btf(Kind::CgroupKill, Confidence::Likely);
    // Its own doing: nobody else's.
    stage
        .death_of(&mut writer, Kind::CgroupKill)
        .by_signal(libc::SIGKILL)
        .no_killer()
        .summary(&["it wrote to cgroup.kill itself"])
        .without_btf(Kind::CgroupKill, Confidence::Likely);
}

fn killed_from_above(stage: &mut Stage) {
    let above = Group::v2("above");
    let group = above.below("below");
    let mut victim = member(stage, &group);
    stage.curtain();
    let killer = stage.perform("kz-killer", &[&format!("echo:{},1", above.file("cgroup.kill"))]);
    stage
        .death_of(&mut victim, Kind::CgroupKill)
        .killer(&killer)
        .cgroup(&group.path)
        .without_btf(Kind::CgroupKill, Confidence::Likely);
}

fn moved_before(stage: &mut Stage) {
    let (first, second) = (Group::v2("first"), Group::v2("second"));
    let mut victim = member(stage, &first);
    stage.curtain();
    second.write("cgroup.procs", &victim.id());
    let killer = stage.perform("kz-killer", &[&format!("echo:{},1", second.file("cgroup.kill"))]);
    stage
        .death_of(&mut victim, Kind::CgroupKill)
        .killer(&killer)
        .cgroup(&second.path)
        .without_btf(Kind::CgroupKill, Confidence::Likely);
}

fn moved_out_before(stage: &mut Stage) {
    let (first, second) = (Group::v2("first"), Group::v2("second"));
    let mut victim = member(stage, &first);
    let mut other = member(stage, &first);
    stage.curtain();
    second.write("cgroup.procs", &victim.id());
    let writer = stage.perform("kz-writer", &[&format!("echo:{},1", first.file("cgroup.kill"))]);
    let killer = stage.strike("kz-killer", victim.pid(), "TERM");
    stage
        .death_of(&mut other, Kind::CgroupKill)
        .killer(&writer)
        .innocent(killer.pid)
        .without_btf(Kind::CgroupKill, Confidence::Likely);
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .killer(&killer)
        .innocent(writer.pid)
        .cgroup(&second.path);
}

fn asked_before(stage: &mut Stage) {
    let group = Group::v2("asked");
    let mut victim = stage.victim(&[&group.join(), "catch:TERM,return", "ready", "pause"]);
    stage.curtain();
    let decoy = stage.strike("kz-decoy", victim.pid(), "TERM");
    let killer = stage.perform("kz-killer", &[&format!("echo:{},1", group.file("cgroup.kill"))]);
    stage
        .death_of(&mut victim, Kind::CgroupKill)
        .by_signal(libc::SIGKILL)
        .killer(&killer)
        .innocent(decoy.pid)
        .other_signal("SIGTERM")
        .without_btf(Kind::CgroupKill, Confidence::Likely);
}

fn too_late(stage: &mut Stage) {
    let group = Group::v2("late");
    let mut victim = member(stage, &group);
    stage.curtain();
    let killer = stage.strike("kz-killer", victim.pid(), "TERM");
    let writer = stage.perform("kz-writer", &[&format!("echo:{},1", group.file("cgroup.kill"))]);
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGTERM)
        .mechanism(Mechanism::Kill)
        .killer(&killer)
        .innocent(writer.pid);
}

fn told_to(stage: &mut Stage) {
    let group = Group::v2("told");
    let mut victim = member(stage, &group);
    stage.curtain();
    let boss =
        stage.perform("kz-boss", &[&format!("spawn:kz-killer:echo:{},1", group.file("cgroup.kill")), "wait"]);
    stage
        .death_of(&mut victim, Kind::CgroupKill)
        .ancestry(&[boss.pid])
        .without_btf(Kind::CgroupKill, Confidence::Likely);
}

/// A fork that races with the write is killed by its own fork (kernel/cgroup/cgroup.c, `cgroup_post_fork`): the
/// task that runs then is the parent, which is not to blame.
fn fork_race(stage: &mut Stage) {
    stage.adopt_orphans();
    for round in 0..4 {
        let group = Group::v2("race");
        let mut parents = Vec::new();
        for _ in 0..2 {
            parents.push(stage.victim(&[&group.join(), "ready", "obey"]));
        }
        let mut writer = stage.start("kz-killer", &["ready", "obey"]);
        parents.iter_mut().for_each(|parent| parent.order("breed"));
        stage.rest(1 + round % 2);
        writer.tell(&format!("echo:{},1", group.file("cgroup.kill")));
        let killer = writer.who().clone();
        writer.order("exit:0");
        writer.wait();
        let blameless: Vec<u32> = parents.iter().map(Actor::pid).collect();
        for parent in &mut parents {
            let status = parent.wait();
            fork_race_death(stage, parent.pid(), status, &killer, &blameless);
        }
        while let Some((child, status)) = any_child() {
            fork_race_death(stage, child, status, &killer, &blameless);
        }
    }
}

fn fork_race_death(
    stage: &mut Stage,
    pid: u32,
    status: i32,
    killer: &crate::stage::Person,
    blameless: &[u32],
) {
    let death = stage
        .died(pid, Some(status), Kind::CgroupKill)
        .by_signal(libc::SIGKILL)
        .mechanism(Mechanism::CgroupKill)
        .killer(killer)
        .without_btf(Kind::CgroupKill, Confidence::Likely);
    blameless.iter().fold(death, |death, &pid| death.innocent(pid));
}

/// The next child of the director to end; `None` when there is none left.
fn any_child() -> Option<(u32, i32)> {
    let mut status = 0;
    // SAFETY: `status` is ours to write to.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL) };
    u32::try_from(pid).ok().map(|pid| (pid, status))
}

fn frozen_v1(stage: &mut Stage) {
    let group = Group::freezer_v1("frozen");
    let mut victim = member(stage, &group);
    group.freeze_v1();
    stage.curtain();
    let killer = stage.strike("kz-killer", victim.pid(), "KILL");
    stage.rest(60);
    assert!(crate::stage::alive(victim.pid()), "a v1 freezer holds what was killed");
    let thawer = stage.perform("kz-thawer", &[&format!("echo:{},THAWED", group.file("freezer.state"))]);
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGKILL)
        .mechanism(Mechanism::Kill)
        .killer(&killer)
        .innocent(thawer.pid);
}

/// The freezer marks its victims as if signals were pending, and SIGTERM only queues behind that (kernel/signal.c,
/// `wants_signal`): SIGKILL overtakes it.
fn frozen_v1_twice(stage: &mut Stage) {
    let group = Group::freezer_v1("frozen");
    let mut victim = member(stage, &group);
    group.freeze_v1();
    stage.curtain();
    let first = stage.strike("kz-first", victim.pid(), "TERM");
    let killer = stage.strike("kz-killer", victim.pid(), "KILL");
    group.write("freezer.state", "THAWED");
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGKILL)
        .killer(&killer)
        .innocent(first.pid)
        .other_signal("SIGTERM");
}

fn frozen_v1_term(stage: &mut Stage) {
    let group = Group::freezer_v1("frozen");
    let mut victim = member(stage, &group);
    group.freeze_v1();
    stage.curtain();
    let first = stage.strike("kz-first", victim.pid(), "TERM");
    let killer = stage.strike("kz-killer", victim.pid(), "USR1");
    stage.rest(30);
    let thawer = stage.perform("kz-thawer", &[&format!("echo:{},THAWED", group.file("freezer.state"))]);
    // Of two that wait, the lower number is taken first.
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(libc::SIGUSR1)
        .killer(&killer)
        .innocent(first.pid)
        .innocent(thawer.pid)
        .other_signal("SIGTERM");
}

fn frozen_v2(stage: &mut Stage, name: &str) {
    let group = Group::v2("frozen");
    let mut victim = member(stage, &group);
    group.freeze_v2();
    stage.curtain();
    let killer = stage.perform("kz-killer", &[&format!("kill:{},{name}", victim.pid())]);
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_signal(crate::acts::signo(name))
        .mechanism(Mechanism::Kill)
        .killer(&killer);
}

fn frozen_and_caught(stage: &mut Stage) {
    let group = Group::v2("frozen");
    let mut victim = stage.victim(&[&group.join(), "catch:TERM,exit,143", "ready", "pause"]);
    group.freeze_v2();
    stage.curtain();
    let killer = stage.strike("kz-killer", victim.pid(), "TERM");
    stage.rest(30);
    let thawer = stage.perform("kz-thawer", &[&format!("echo:{},0", group.file("cgroup.freeze"))]);
    stage
        .death_of(&mut victim, Kind::KilledByProcess)
        .by_exit(143)
        .graceful()
        .killer(&killer)
        .innocent(thawer.pid);
}
