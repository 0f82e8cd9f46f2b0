//! `killtrace doctor` says what `killtrace watch` does, what is missing, and how to get it.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use killtrace_tests::{Watch, killtrace_path};
use serde_json::Value;

/// What is known of a kernel: the backend for it, and the lacks that doctor has to name, each with what it has to say
/// of them.
struct Kernel {
    names: &'static [&'static str],
    backend: &'static str,
    lacks: &'static [(&'static str, &'static str)],
}

/// What all kernels like a Raspberry Pi's lack.
const BTF: (&str, &str) = ("BTF", "CONFIG_DEBUG_INFO_BTF");
const REGISTERS: (&str, &str) = ("saved registers", "BTF");
const PRESSURE: (&str, &str) = ("memory pressure", "psi=1");
/// And the stock one besides.
const PROGRAMS: (&str, &str) = ("tracing programs", "CONFIG_BPF_EVENTS");
const EBPF: (&str, &str) = ("ebpf backend", "CONFIG_BPF_EVENTS");
const MEMORY: (&str, &str) = ("memory cgroups", "cgroup_enable=memory");

const KERNELS: [Kernel; 4] = [
    Kernel {
        names: &["debian-6.1-amd64", "debian-6.12-amd64", "debian-6.12-arm64-16k"],
        backend: "ebpf",
        lacks: &[],
    },
    Kernel { names: &["pi5-bpf"], backend: "ebpf", lacks: &[BTF, REGISTERS, PRESSURE] },
    Kernel {
        names: &["pi5-stock"],
        backend: "perf",
        lacks: &[BTF, REGISTERS, PRESSURE, PROGRAMS, EBPF, MEMORY],
    },
    Kernel {
        names: &["pi5-stock-memcg"],
        backend: "perf",
        lacks: &[BTF, REGISTERS, PRESSURE, PROGRAMS, EBPF],
    },
];

/// The backend that doctor names is the one that `watch` uses, which says so when it is not the best.
pub(crate) fn agrees_with_watch() {
    let (doctor, _) = doctor(&mut Command::new(killtrace_path()));
    let backend = doctor["backend"].as_str().expect("something can watch here");
    let watch = Watch::start_with(&["--comm", "nobody"]);
    let outcome = watch.stop();
    assert_eq!(outcome.report.collector.backend, backend);
    let reason = outcome.stderr.lines().find(|line| line.contains("using the perf backend: "));
    assert_eq!(reason.is_some(), backend == "perf", "{}", outcome.stderr);
}

/// Where it is known which kernel this is, nothing less and nothing more than what that lacks.
pub(crate) fn names_what_is_missing() {
    let (doctor, text) = doctor(&mut Command::new(killtrace_path()));
    let missing: BTreeMap<&str, &Value> = doctor["checks"]
        .as_array()
        .expect("checks are a list")
        .iter()
        .filter(|check| check["state"] != "ok")
        .map(|check| (check["name"].as_str().expect("each has a name"), check))
        .collect();
    for (name, check) in &missing {
        assert!(check["lost"].is_string() && check["fix"].is_string(), "{name}: {check}");
        assert!(text.contains(name), "{text}");
    }
    let Some(name) = std::env::var_os("KILLTRACE_VM_KERNEL") else { return };
    let kernel = KERNELS.iter().find(|kernel| kernel.names.iter().any(|known| name == *known));
    let Kernel { backend, lacks, .. } = kernel.unwrap_or_else(|| panic!("nothing is known of {name:?}"));
    assert_eq!(doctor["backend"], *backend, "{text}");
    let mut expected: Vec<&str> = lacks.iter().map(|(lack, _)| *lack).collect();
    expected.sort_unstable();
    assert_eq!(missing.keys().copied().collect::<Vec<_>>(), expected, "{text}");
    for (lack, said) in *lacks {
        assert!(missing[lack].to_string().contains(said), "nothing of {said}: {}", missing[lack]);
    }
}

/// As nobody it finds out less, says what it needs, and does not take a closed door for a missing kernel feature.
pub(crate) fn works_without_privileges() {
    const NOBODY: u32 = 65534;
    let mut command = Command::new(killtrace_path());
    let (doctor, text) = doctor(command.uid(NOBODY).gid(NOBODY));
    assert_eq!(doctor["verdict"], "needs_privileges", "{text}");
    assert!(text.contains("sudo"), "{text}");
    let checks = doctor["checks"].as_array().expect("checks are a list");
    let closed = checks.iter().filter(|check| check["state"] == "no_privileges").count();
    let open = checks.iter().filter(|check| check["state"] == "ok").count();
    assert!(closed > 0 && open > 0, "{closed} were closed and {open} open:\n{text}");
}

/// As JSON and as text, which have to agree on the verdict.
fn doctor(command: &mut Command) -> (Value, String) {
    let json = run(command.args(["doctor", "--json"]));
    let mut plain = Command::new(command.get_program());
    plain.arg("doctor").env("NO_COLOR", "1");
    let findings: Value = serde_json::from_slice(&json.stdout).expect("doctor --json prints JSON");
    if findings["verdict"] == "needs_privileges" {
        plain.uid(65534).gid(65534);
    }
    let text = run(&mut plain);
    assert_eq!(text.status.code(), json.status.code());
    let works = findings["verdict"] == "works";
    assert_eq!(json.status.success(), works, "{findings}");
    (findings, String::from_utf8(text.stdout).expect("doctor prints UTF-8"))
}

fn run(command: &mut Command) -> Output {
    let output = command.output().expect("cannot run killtrace");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}
