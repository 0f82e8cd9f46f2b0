//! What this kernel shows of signals and deaths, and whether it runs the programs that watch them.

use std::error::Error;
use std::fs;
use std::io;
use std::path::Path;

use aya::maps::MapType;
use aya::programs::ProgramType;
use aya::sys::{BpfHelper, is_helper_supported, is_map_supported, is_program_supported};
use guard_ebpf::Probe;

use super::{About, Check, Lack, State, Verdict};
use crate::collect::tracefs::Tracefs;
use crate::collect::{Backend, CollectError, Options, SOURCES, Source};
use crate::report::escape::cut_middle;

const BTF: &str = "/sys/kernel/btf/vmlinux";

pub(super) fn checks() -> Vec<Check> {
    let tracefs = Tracefs::open().map_err(|error| lack(&error));
    let mut checks = vec![tracefs_check(&tracefs)];
    checks.extend(Probe::ALL.map(|probe| tracepoint(&tracefs, probe)));
    checks.extend([system_call(), ring_buffer(), tracing_programs(), btf(), saved_registers()]);
    checks
}

/// tracefs, mounted for this process alone where nobody else has mounted it.
fn tracefs_check(tracefs: &Result<Tracefs, Lack>) -> Check {
    let about = About {
        name: "tracefs",
        required: true,
        lost: "nothing can be watched: it says what the kernel's probes record",
        kernel_option: Some("CONFIG_FTRACE and CONFIG_ENABLE_DEFAULT_TRACERS, or any tracer"),
        fix: EVERYWHERE,
    };
    about.tried(match tracefs {
        // An own mount has no place in the file system.
        Ok(tracefs) if tracefs.path().is_relative() => {
            Ok("not mounted; killtrace mounts it for itself alone".to_owned())
        }
        Ok(tracefs) => Ok(tracefs.path().display().to_string()),
        Err(lack) => Err(lack.clone()),
    })
}

fn tracepoint(tracefs: &Result<Tracefs, Lack>, probe: Probe) -> Check {
    let (category, name) = probe.tracepoint();
    let check = about_probe(probe).tried(match tracefs {
        Ok(tracefs) => match tracefs.format(category, name) {
            Ok(Some(_)) => Ok("there".to_owned()),
            Ok(None) => Err(Lack::Absent("this kernel has no such tracepoint".to_owned())),
            Err(error) => Err(lack(&error)),
        },
        Err(Lack::Privileges(_)) => Err(Lack::Privileges("tracefs cannot be read".to_owned())),
        Err(Lack::Absent(_)) => Err(Lack::Absent("no tracefs".to_owned())),
    });
    Check { name: name.to_owned(), ..check }
}

/// What a tracepoint is for.
fn about_probe(probe: Probe) -> About {
    let (required, lost, kernel_option) = match probe {
        Probe::SignalGenerate => (true, "who sent which signal", "CONFIG_TRACING"),
        Probe::SignalDeliver => (false, "whether a signal was handled or killed at once", "CONFIG_TRACING"),
        Probe::MarkVictim => (true, "whom the OOM killer chose", "CONFIG_TRACING"),
        Probe::ProcessExit => (true, "when processes end", "CONFIG_TRACING"),
        Probe::ProcessExec => (true, "which program a killer ran", "CONFIG_TRACING"),
        Probe::NewTask => (true, "who started whom", "CONFIG_TRACING"),
        Probe::TaskRename => (false, "names that processes give themselves", "CONFIG_TRACING"),
        Probe::SockState => (false, "who starts to listen on a port after watching began", "CONFIG_INET"),
        Probe::CgroupAttach => (false, "moves between cgroups after watching began", "CONFIG_CGROUPS"),
    };
    About { name: "", required, lost, kernel_option: Some(kernel_option), fix: EVERYWHERE }
}

fn system_call() -> Check {
    let about = About {
        name: "bpf system call",
        required: false,
        lost: NO_EBPF,
        kernel_option: Some("CONFIG_BPF_SYSCALL"),
        fix: EVERYWHERE,
    };
    // The simplest type of program: where even that is refused, the type is not to blame.
    about.tried(match is_program_supported(ProgramType::SocketFilter) {
        Ok(true) => Ok("loads programs".to_owned()),
        Ok(false) => Err(Lack::Absent("loads no programs".to_owned())),
        Err(error) => Err(lack(&error)),
    })
}

fn ring_buffer() -> Check {
    let about = About {
        name: "BPF ring buffer",
        required: false,
        lost: NO_EBPF,
        kernel_option: None,
        fix: "a kernel that has it, Linux 5.8 and later: what Raspberry Pi OS 11, Debian 11, Ubuntu 22.04, any \
              supported Kali and all later ones come with",
    };
    about.tried(match is_map_supported(MapType::RingBuf) {
        Ok(true) => Ok("there".to_owned()),
        Ok(false) => Err(Lack::Absent("this kernel has none".to_owned())),
        Err(error) => Err(lack(&error)),
    })
}

fn tracing_programs() -> Check {
    let about = About {
        name: "tracing programs",
        required: false,
        lost: NO_EBPF,
        // A hidden option: it is on exactly when these are (kernel/trace/Kconfig).
        kernel_option: Some(
            "CONFIG_BPF_EVENTS, which cannot be chosen itself: it needs CONFIG_BPF_SYSCALL, CONFIG_PERF_EVENTS, and \
             CONFIG_KPROBE_EVENTS (with CONFIG_KPROBES) or CONFIG_UPROBE_EVENTS",
        ),
        fix: NOT_ON_A_PI,
    };
    about.tried(match is_program_supported(ProgramType::TracePoint) {
        Ok(true) => Ok("a tiny one was loaded".to_owned()),
        Ok(false) => Err(Lack::Absent("the kernel does not know this type of program (EINVAL)".to_owned())),
        Err(error) => Err(lack(&error)),
    })
}

fn btf() -> Check {
    let about = About {
        name: "BTF",
        required: false,
        lost: "exit codes, arguments and parents as the kernel has them; other sources make up for most of it",
        kernel_option: Some("CONFIG_DEBUG_INFO_BTF"),
        fix: NOT_ON_A_PI,
    };
    about.tried(match fs::File::open(BTF) {
        Ok(_) => Ok(BTF.to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Lack::Absent("this kernel has none".to_owned()))
        }
        Err(error) => Err(Lack::io(BTF, &error)),
    })
}

fn saved_registers() -> Check {
    let about = About {
        name: "saved registers",
        required: false,
        lost: "the system call behind a signal; most causes can be told apart without it",
        kernel_option: None,
        fix: "a kernel with BTF and the helper bpf_task_pt_regs: Linux 5.15 and later",
    };
    if !Path::new(BTF).exists() {
        return about.tried(Err(Lack::Absent("they need BTF".to_owned())));
    }
    about.tried(match is_helper_supported(ProgramType::RawTracePoint, BpfHelper::BPF_FUNC_task_pt_regs) {
        Ok(true) => Ok("bpf_task_pt_regs".to_owned()),
        Ok(false) => Err(Lack::Absent("this kernel has no helper for them".to_owned())),
        Err(error) => Err(lack(&error)),
    })
}

/// The whole thing: every backend armed as `watch` does it. Also which one `watch` would use.
///
/// One of them is needed, and any will do.
pub(super) fn backends(so_far: Verdict) -> (Vec<Check>, Option<&'static str>) {
    let mut best = None;
    let mut checks = Vec::new();
    for backend in &SOURCES {
        let tried = armed(backend, so_far).map(|source| match source.degraded() {
            // What the one that is not used cannot do is of no interest.
            lacks if best.is_none() && !lacks.is_empty() => {
                format!("armed, and closed again; {}", lacks.join("; "))
            }
            _ => "armed, and closed again".to_owned(),
        });
        if tried.is_ok() {
            best = best.or(Some(backend.name));
        }
        checks.push(Check {
            name: format!("{} backend", backend.name),
            ..about_backend(backend.name).tried(tried)
        });
    }
    if best.is_none() {
        for check in &mut checks {
            check.required = true;
            if check.state == State::Degraded {
                check.state = State::Missing;
            }
        }
    }
    (checks, best)
}

fn about_backend(name: &str) -> About {
    let (lost, kernel_option, fix) = match name {
        "ebpf" => (
            NO_EBPF,
            "CONFIG_BPF_EVENTS",
            "what is missing above; if that is nothing, this is a bug in killtrace: please report it with this output",
        ),
        _ => ("the way to watch where no eBPF program runs", "CONFIG_PERF_EVENTS", EVERYWHERE),
    };
    About { name: "", required: false, lost, kernel_option: Some(kernel_option), fix }
}

fn armed(backend: &Backend, so_far: Verdict) -> Result<Box<dyn Source>, Lack> {
    match so_far {
        Verdict::Works => {}
        Verdict::NeedsPrivileges => return Err(Lack::Privileges("not tried".to_owned())),
        Verdict::DoesNotWork => return Err(Lack::Absent("not tried".to_owned())),
    }
    match (backend.open)(&Options::default()) {
        Ok(source) => Ok(source),
        Err(error @ CollectError::Privileges { .. }) => Err(Lack::Privileges(error.to_string())),
        // The verifier's opinion can be a thousand lines long; why it refused is at the end.
        Err(error) => Err(Lack::Absent(cut_middle(&format!("{:#}", anyhow::Error::new(error)), 400))),
    }
}

/// What it means that no eBPF program can watch.
const NO_EBPF: &str = "the ebpf backend; the perf backend watches instead, and does not know the system call behind a \
                       signal, nor the arguments of a program that ended within a millisecond";

/// For what only kernels without it on purpose lack.
const EVERYWHERE: &str =
    "the kernels of Raspberry Pi OS, Debian, Kali and Ubuntu have it; build your own with this option";

/// For what Raspberry Pi kernels leave out.
const NOT_ON_A_PI: &str = "Debian, Kali and Ubuntu: their standard kernels (linux-image-amd64, linux-image-arm64, \
                           linux-image-generic) have it. Raspberry Pi OS, and Kali on a Raspberry Pi: their kernel \
                           does not, and no package changes that; nothing needs doing, or build a kernel with these \
                           options";

/// What the kernel answered, wherever in the error it is.
fn lack(error: &(dyn Error + 'static)) -> Lack {
    let mut cause = Some(error);
    while let Some(this) = cause {
        if let Some(io) = this.downcast_ref::<io::Error>() {
            return Lack::io("refused", io);
        }
        cause = this.source();
    }
    Lack::Absent(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_watch_needs_is_required() {
        let required: Vec<_> = Probe::ALL.into_iter().filter(|&probe| about_probe(probe).required).collect();
        assert_eq!(
            required,
            [
                Probe::SignalGenerate,
                Probe::MarkVictim,
                Probe::ProcessExit,
                Probe::ProcessExec,
                Probe::NewTask
            ]
        );
    }

    #[test]
    fn without_tracefs_every_tracepoint_lacks_what_it_lacks() {
        let closed = Err(Lack::Privileges("closed".to_owned()));
        assert_eq!(tracefs_check(&closed).state, State::NoPrivileges);
        assert_eq!(tracepoint(&closed, Probe::SignalGenerate).state, State::NoPrivileges);
        let absent = Err(Lack::Absent("none".to_owned()));
        assert_eq!(tracepoint(&absent, Probe::SignalGenerate).state, State::Missing);
        assert_eq!(tracepoint(&absent, Probe::SockState).state, State::Degraded);
    }

    #[test]
    fn one_backend_is_needed_and_none_is_tried_without_what_all_need() {
        for (verdict, state) in
            [(Verdict::NeedsPrivileges, State::NoPrivileges), (Verdict::DoesNotWork, State::Missing)]
        {
            let (checks, best) = backends(verdict);
            assert_eq!(best, None);
            assert_eq!(checks.len(), SOURCES.len());
            assert!(checks.iter().all(|check| check.required && check.state == state), "{checks:?}");
        }
    }

    #[test]
    fn a_refusal_for_lack_of_privileges_is_found_inside_an_error() {
        let refused = CollectError::Tracefs(io::Error::from_raw_os_error(libc::EPERM));
        assert_eq!(lack(&refused), Lack::Privileges("refused: Operation not permitted".to_owned()));
        let absent = CollectError::Tracefs(io::Error::from_raw_os_error(libc::ENODEV));
        assert!(matches!(lack(&absent), Lack::Absent(_)));
        assert_eq!(
            lack(&CollectError::NoTracingPrograms),
            Lack::Absent(CollectError::NoTracingPrograms.to_string())
        );
    }
}
