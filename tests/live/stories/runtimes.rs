//! Whoever runs containers also ends them.

use std::fs;
use std::process::Command;

use killtrace::model::report::{Kind, Role};
use killtrace_tests::{Sandbox, Victim, Watch, live, striker_path};

#[test]
fn live_stories_container_runtimes_are_known_as_killers() {
    let Some(_turn) = live() else { return };
    let sandbox = Sandbox::new();
    let watch = Watch::start(&["--comm", "victim"]);
    let runtimes = [
        "runc",
        "crun",
        "containerd-shim-runc-v2",
        "dockerd",
        "conmon",
        "podman",
        "kubelet",
        "crio",
        "lxc-stop",
    ];
    let mut killed = Vec::new();
    for runtime in runtimes {
        let mut victim = Victim::start(&["wait"]);
        let program = sandbox.dir().join(runtime);
        fs::copy(striker_path(), &program).expect("there is room");
        let strike = ["kill", &victim.pid().to_string(), "9"];
        assert!(Command::new(&program).args(strike).status().expect("a copy runs").success());
        assert_eq!(victim.wait().signal, Some(9));
        killed.push((runtime, victim.pid()));
    }
    watch.until_dead(&killed.iter().map(|(_, pid)| *pid).collect::<Vec<_>>());
    let outcome = watch.stop();
    for (runtime, pid) in killed {
        let death = outcome.death(pid);
        assert_eq!(death.cause.kind, Kind::KilledByProcess, "{}", death.summary);
        let killer = death.killer.as_ref().expect("a process killed it");
        assert_eq!(
            (killer.name.as_str(), killer.role),
            (runtime, Role::ContainerRuntime),
            "{}",
            death.summary
        );
        let words = format!("by SIGKILL from {runtime} (pid ");
        assert!(death.summary.contains(&words), "{}", death.summary);
        assert!(outcome.stdout.contains("a container runtime"), "{}", outcome.stdout);
    }
}
