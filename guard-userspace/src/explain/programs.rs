//! Programs by what they are: the table to extend.

use crate::model::report::Role;

/// Roles, by basenames of executables or scripts, or the names that processes give themselves.
#[rustfmt::skip]
pub(super) const PROGRAMS: &[(Role, &[&str])] = &[
    (Role::OomDaemon, &["earlyoom", "systemd-oomd", "nohang", "nohang-desktop", "oomd", "bustd", "lmkd"]),
    (
        Role::ServiceManager,
        &[
            // init systems and supervisors
            "systemd", "supervisord", "runsv", "runsvdir", "s6-supervise", "openrc-run", "monit", "circusd",
            "start-stop-daemon",
            // of applications
            "PM2", "foreman", "overmind",
        ],
    ),
    (
        Role::ContainerRuntime,
        &[
            "dockerd", "containerd", "containerd-shim", "containerd-shim-runc-v1", "containerd-shim-runc-v2", "runc",
            "docker-runc", "crun", "youki", "runsc", "kata-runtime", "conmon", "conmonrs", "podman", "nerdctl", "crio",
            "kubelet", "cri-dockerd", "buildkitd", "lxc-start", "lxc-execute", "lxc-stop", "lxc-attach", "lxc-monitord",
            "lxd", "incusd", "systemd-nspawn", "systemd-machined",
        ],
    ),
    (Role::Init, &["init", "tini", "dumb-init", "docker-init", "catatonit", "s6-svscan"]),
    (
        Role::Terminal,
        &[
            // multiplexers
            "tmux", "tmux: server", "screen", "SCREEN", "zellij", "dtach", "script",
            // remote
            "sshd", "sshd-session", "mosh-server", "dropbear", "ttyd",
            // emulators
            "xterm", "konsole", "gnome-terminal-server", "xfce4-terminal", "lxterminal", "alacritty", "kitty", "foot",
            "ghostty", "wezterm-gui", "ptyxis", "code",
        ],
    ),
    (Role::Debugger, &["gdb", "gdbserver", "lldb", "lldb-server", "strace", "ltrace", "rr", "dlv"]),
    (
        Role::TestRunner,
        &[
            // JavaScript
            "vitest", "jest", "mocha", "ava", "karma", "playwright", "cypress",
            // others
            "pytest", "py.test", "tox", "nox", "rspec", "phpunit", "cargo-nextest", "gotestsum", "ctest", "bats", "prove",
        ],
    ),
    (
        Role::CiRunner,
        &[
            // GitHub, Azure, Gitea and Forgejo
            "Runner.Worker", "Runner.Listener", "Agent.Worker", "Agent.Listener", "act", "act_runner", "gitea-runner",
            "forgejo-runner",
            // others
            "gitlab-runner", "gitlab-runner-helper", "buildkite-agent", "circleci-agent", "circleci-runner",
            "woodpecker-agent", "drone-runner-exec", "drone-runner-docker",
            // Jenkins
            "agent.jar", "slave.jar", "remoting.jar", "jenkins.war", "jenkins",
        ],
    ),
    // Restart what they started when a file changes.
    (Role::Watchdog, &["nodemon", "watchexec", "cargo-watch", "entr"]),
];

/// Helpers that only do what they are told: the one who started them decided.
#[rustfmt::skip]
pub(super) const HELPERS: &[&str] = &[
    // send signals
    "kill", "pkill", "killall", "killall5", "skill", "fuser",
    // run another program in another way
    "xargs", "env", "sudo", "doas", "su", "runuser", "pkexec", "nice", "ionice", "chrt", "taskset", "prlimit", "nohup",
    "setsid", "setpriv", "setarch", "stdbuf", "time", "timeout", "busybox", "npx",
    // in another place
    "nsenter", "unshare", "chroot", "flock",
    // ask a manager
    "systemctl", "start-stop-daemon",
];

pub(super) const SHELLS: &[&str] = &["sh", "bash", "dash", "zsh", "ash", "ksh", "mksh", "fish", "busybox"];
