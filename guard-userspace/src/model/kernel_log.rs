//! Lines of the kernel log that bear on deaths.

/// The OOM killer's one-line account (mm/oom_kill.c, `dump_oom_victim`, before 6.9 `dump_header`).
///
/// The kernel prints it at most ten times in five seconds; a missing line says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OomKill {
    /// `CONSTRAINT_NONE`, `CONSTRAINT_MEMCG`, `CONSTRAINT_CPUSET`, `CONSTRAINT_MEMORY_POLICY`.
    pub constraint: String,
    /// The whole machine ran out, rather than one cgroup.
    pub global_oom: bool,
    /// `oom_memcg`: the cgroup whose limit was hit; `None` when it was the machine.
    pub cgroup: Option<String>,
    /// The cgroup the victim sat in; `None` on kernels without memory cgroups.
    pub task_memcg: Option<String>,
    /// The victim's comm.
    pub task: String,
    /// The victim's thread id.
    pub pid: u32,
    pub uid: Option<u32>,
}

/// The OOM killer's last word on a victim, printed for each (mm/oom_kill.c, `__oom_kill_process`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Killed {
    pub pid: u32,
    /// The victim's comm.
    pub task: String,
    /// `Some(true)` for "Memory cgroup out of memory", `Some(false)` for "Out of memory"; `None` when another
    /// word stands there, as before Linux 5.1.
    pub memcg: Option<bool>,
}

/// Whether a line of the kernel log says something about a death.
#[must_use]
pub fn bears_on_deaths(text: &str) -> bool {
    [
        "oom-kill:constraint=",
        "Out of memory",
        "Memory cgroup out of memory",
        "Killed process ",
        "invoked oom-killer",
        "memory.oom.group",
        " segfault at ",
        "traps: ",
        "general protection",
        "sysrq: ",
    ]
    .iter()
    .any(|phrase| text.contains(phrase))
}

/// Reads an `oom-kill:constraint=...` line.
///
/// Fields are found from both ends: the comm and the cgroup names between them may hold commas and anything
/// else their owner likes.
#[must_use]
pub fn oom_kill(text: &str) -> Option<OomKill> {
    let (_, fields) = text.split_once("oom-kill:constraint=")?;
    let (constraint, fields) = fields.split_once(',')?;
    let (fields, uid) = match fields.rsplit_once(",uid=") {
        Some((fields, uid)) => (fields, Some(uid.trim().parse().ok()?)),
        None => (fields, None),
    };
    let (fields, pid) = fields.rsplit_once(",pid=")?;
    let (fields, task) = fields.rsplit_once(",task=")?;
    let (fields, task_memcg) = match fields.rsplit_once(",task_memcg=") {
        Some((fields, path)) => (fields, Some(path.to_owned())),
        None => (fields, None),
    };
    let cgroup = fields.split_once(",oom_memcg=").map(|(_, path)| path.to_owned());
    Some(OomKill {
        constraint: constraint.to_owned(),
        global_oom: cgroup.is_none(),
        cgroup,
        task_memcg,
        task: task.to_owned(),
        pid: pid.trim().parse().ok()?,
        uid,
    })
}

/// Reads a `Killed process 4021 (node) total-vm:...` line.
#[must_use]
pub fn killed(text: &str) -> Option<Killed> {
    let (before, rest) = text.split_once("Killed process ")?;
    let (pid, rest) = rest.split_once(" (")?;
    // The comm itself may hold a parenthesis; what follows it is the kernel's own.
    let (task, _) = rest.rsplit_once(") total-vm:")?;
    let memcg = if before.contains("Memory cgroup out of memory") {
        Some(true)
    } else if before.contains("Out of memory") {
        Some(false)
    } else {
        None
    };
    Some(Killed { pid: pid.parse().ok()?, task: task.to_owned(), memcg })
}

/// Magic SysRq f was pressed or written (drivers/tty/sysrq.c, `__handle_sysrq`): an OOM kill follows that nobody's
/// lack of memory has asked for.
#[must_use]
pub fn manual_oom(text: &str) -> bool {
    text.starts_with("sysrq: ") && text.contains("Manual OOM execution")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From Linux 6.18, a Python process in a v1 memory cgroup inside another that has a limit of 20 MiB.
    const MEMCG: &str = "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,\
        oom_memcg=/kt7615,task_memcg=/kt7615/in,ner,task=python3,pid=15151,uid=0";
    const MEMCG_KILLED: &str = "Memory cgroup out of memory: Killed process 15151 (python3) total-vm:30956kB, \
        anon-rss:20224kB, file-rss:6612kB, shmem-rss:0kB, UID:0 pgtables:108kB oom_score_adj:0";

    #[test]
    fn a_memcg_oom_names_the_cgroup_whose_limit_was_hit() {
        let kill = oom_kill(MEMCG).unwrap();
        assert_eq!(kill.constraint, "CONSTRAINT_MEMCG");
        assert!(!kill.global_oom);
        assert_eq!(kill.cgroup.as_deref(), Some("/kt7615"));
        assert_eq!(kill.task_memcg.as_deref(), Some("/kt7615/in,ner"));
        assert_eq!((kill.task.as_str(), kill.pid, kill.uid), ("python3", 15151, Some(0)));
    }

    #[test]
    fn a_global_oom_has_no_limited_cgroup() {
        let line = "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,\
            task_memcg=/user.slice/user-1000.slice/session-3.scope,task=node,pid=4021,uid=1000";
        let kill = oom_kill(line).unwrap();
        assert!(kill.global_oom);
        assert_eq!(kill.cgroup, None);
        assert_eq!(kill.task_memcg.as_deref(), Some("/user.slice/user-1000.slice/session-3.scope"));
        assert_eq!((kill.pid, kill.uid), (4021, Some(1000)));
    }

    #[test]
    fn a_kernel_without_memory_cgroups_names_only_the_task() {
        let line =
            "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,task=sh,pid=9,uid=0";
        let kill = oom_kill(line).unwrap();
        assert!(kill.global_oom);
        assert_eq!((kill.task_memcg, kill.task.as_str(), kill.pid), (None, "sh", 9));
    }

    #[test]
    fn a_comm_cannot_forge_the_pid() {
        let kill = oom_kill(&MEMCG.replace("python3", "x,pid=1,uid=0")).unwrap();
        assert_eq!((kill.pid, kill.task.as_str()), (15151, "x,pid=1,uid=0"));
        let killed = killed(&MEMCG_KILLED.replace("python3", "a) total-vm:(b")).unwrap();
        assert_eq!((killed.pid, killed.task.as_str()), (15151, "a) total-vm:(b"));
    }

    #[test]
    fn the_last_word_on_a_victim_tells_the_scope() {
        let memcg = killed(MEMCG_KILLED).unwrap();
        assert_eq!(memcg, Killed { pid: 15151, task: "python3".to_owned(), memcg: Some(true) });
        let global = killed(
            "Out of memory: Killed process 4021 (node) total-vm:1kB, anon-rss:1kB, file-rss:0kB, shmem-rss:0kB, \
             UID:0 pgtables:1kB oom_score_adj:0",
        );
        assert_eq!(global.unwrap().memcg, Some(false));
        let old =
            killed("Killed process 4021 (node) total-vm:1kB, anon-rss:1kB, file-rss:0kB, shmem-rss:0kB");
        assert_eq!(old.unwrap().memcg, None);
    }

    #[test]
    fn other_lines_are_neither() {
        for line in
            ["", "oom-kill:constraint=", "Killed process", "Killed process x (y) total-vm:", "eth0: link up"]
        {
            assert_eq!((oom_kill(line), killed(line)), (None, None), "{line:?}");
        }
    }

    #[test]
    fn lines_about_deaths_are_kept() {
        for line in [
            MEMCG,
            MEMCG_KILLED,
            "node invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0",
            "node[4021]: segfault at 0 ip 0000555d sp 00007ffc error 6 in node[1000+2000]",
            "traps: node[4021] trap invalid opcode ip:401136 sp:7ffd error:0 in node[401000+1000]",
            "traps: node[4021] general protection fault ip:401136 sp:7ffd error:0",
            "sysrq: Terminate All Tasks",
            "Tasks in /a are going to be killed due to memory.oom.group set",
        ] {
            assert!(bears_on_deaths(line), "{line:?}");
        }
        for line in ["eth0: link up", "audit: type=1400", "oom_reaper: reaped process 1 (x)"] {
            assert!(!bears_on_deaths(line), "{line:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_victim_is_called_its_pid_is_right(comm in "[ -~]{0,15}") {
            let kill = oom_kill(&MEMCG.replace("task=python3", &format!("task={comm}"))).unwrap();
            proptest::prop_assert_eq!((kill.pid, kill.uid), (15151, Some(0)));
            let killed = killed(&MEMCG_KILLED.replace("python3", &comm)).unwrap();
            proptest::prop_assert_eq!((killed.pid, killed.memcg), (15151, Some(true)));
        }
    }
}
