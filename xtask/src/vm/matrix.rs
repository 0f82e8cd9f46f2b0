//! What is tested on what: kernels, and killtrace's ways to listen to each.

use crate::dist::Arch;

/// A kernel to boot.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kernel {
    pub(super) name: &'static str,
    pub(super) arch: Arch,
    pub(super) image: Image,
    pub(super) ports: Ports,
    /// Kernel parameters beyond those of every guest.
    pub(super) parameters: &'static str,
    pub(super) backends: &'static [&'static Backend],
}

/// Where a kernel comes from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Image {
    /// Debian's package `linux-image-RELEASE.*-FLAVOUR-unsigned`, the newest.
    Debian { release: &'static str, flavour: &'static str },
    /// Built from Debian's source: what `tests/vm/pi5-stock.fragment` and then these options say.
    Pi5 { file: &'static str, enable: &'static [&'static str] },
}

/// What the kernel has built in to talk to the host, beside its console.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ports {
    /// A PC's serial ports.
    Serial,
    VirtioPci,
    VirtioMmio,
}

/// One of killtrace's ways to listen to the kernel.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Backend {
    pub(super) name: &'static str,
    /// For `killtrace watch`.
    pub(super) arguments: &'static str,
    /// Why it cannot be tested yet.
    pub(super) missing: Option<&'static str>,
}

const EBPF: Backend = Backend { name: "ebpf", arguments: "--backend ebpf", missing: None };
const NO_BTF: Backend = Backend { name: "ebpf-no-btf", arguments: "--backend ebpf --no-btf", missing: None };
const PERF: Backend = Backend { name: "perf", arguments: "--backend perf", missing: None };

/// Every kernel, and every way that should work on it.
static KERNELS: [Kernel; 6] = [
    Kernel {
        name: "debian-6.1-amd64",
        arch: Arch::X86_64,
        image: Image::Debian { release: "6.1", flavour: "amd64" },
        ports: Ports::Serial,
        parameters: "",
        backends: &[&EBPF, &PERF],
    },
    Kernel {
        name: "debian-6.12-amd64",
        arch: Arch::X86_64,
        image: Image::Debian { release: "6.12", flavour: "amd64" },
        ports: Ports::Serial,
        parameters: "",
        backends: &[&EBPF, &PERF],
    },
    Kernel {
        name: "debian-6.12-arm64-16k",
        arch: Arch::Aarch64,
        image: Image::Debian { release: "6.12", flavour: "arm64-16k" },
        ports: Ports::VirtioPci,
        parameters: "",
        backends: &[&EBPF, &NO_BTF, &PERF],
    },
    Kernel {
        name: "pi5-bpf",
        arch: Arch::Aarch64,
        image: Image::Pi5 { file: "Image-6.12-pi5-bpf", enable: &["KPROBES", "UPROBE_EVENTS"] },
        ports: Ports::VirtioMmio,
        parameters: "",
        backends: &[&EBPF],
    },
    // The firmware of a Raspberry Pi switches the memory controller off.
    Kernel {
        name: "pi5-stock",
        arch: Arch::Aarch64,
        image: Image::Pi5 { file: "Image-6.12-pi5-stock", enable: &[] },
        ports: Ports::VirtioMmio,
        parameters: "cgroup_disable=memory",
        backends: &[&PERF],
    },
    Kernel {
        name: "pi5-stock-memcg",
        arch: Arch::Aarch64,
        image: Image::Pi5 { file: "Image-6.12-pi5-stock", enable: &[] },
        ports: Ports::VirtioMmio,
        parameters: "",
        backends: &[&PERF],
    },
];

/// The quick half: one kernel that shows most for each way, and the oldest.
const QUICK: [(&str, &str); 4] = [
    ("debian-6.1-amd64", "ebpf"),
    ("debian-6.12-arm64-16k", "ebpf"),
    ("pi5-bpf", "ebpf"),
    ("pi5-stock", "perf"),
];

/// Where stories are told: the machine of the first story, and its kin.
const STORIES: [(&str, &str); 3] =
    [("debian-6.12-arm64-16k", "ebpf"), ("pi5-bpf", "ebpf"), ("pi5-stock", "perf")];

/// What is played when no kernel is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    All,
    Quick,
    Stories,
}

impl Part {
    fn has(self, run: &Run) -> bool {
        match self {
            Self::All => true,
            Self::Quick => run.is_quick(),
            Self::Stories => STORIES.contains(&(run.kernel.name, run.backend.name)),
        }
    }
}

/// One boot: a kernel, and a way to listen to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) kernel: &'static Kernel,
    pub(super) backend: &'static Backend,
}

impl Run {
    /// `debian-6.12-amd64/ebpf`
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.kernel.name, self.backend.name)
    }

    pub(super) fn is_quick(&self) -> bool {
        QUICK.contains(&(self.kernel.name, self.backend.name))
    }
}

/// All runs, in the order of the list.
pub(super) fn runs() -> impl Iterator<Item = Run> {
    KERNELS.iter().flat_map(|kernel| kernel.backends.iter().map(move |&backend| Run { kernel, backend }))
}

/// What was asked for: `KERNEL` or `KERNEL/BACKEND` each, else a part of the matrix.
///
/// # Errors
/// With the first name that is none.
pub(super) fn select(wanted: &[String], part: Part) -> Result<Vec<Run>, String> {
    if wanted.is_empty() {
        return Ok(runs().filter(|run| part.has(run)).collect());
    }
    let names = |run: &Run, name: &String| *name == run.kernel.name || *name == run.name();
    match wanted.iter().find(|name| !runs().any(|run| names(&run, name))) {
        Some(unknown) => Err(unknown.clone()),
        None => Ok(runs().filter(|run| wanted.iter().any(|name| names(run, name))).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_part_of_all() {
        let part = |part| select(&[], part).expect("nothing was named");
        let all = part(Part::All);
        assert_eq!(part(Part::Quick).len(), QUICK.len());
        assert_eq!(part(Part::Stories).len(), STORIES.len());
        assert!(part(Part::Quick).iter().all(|run| all.contains(run)) && all.len() > QUICK.len());
    }

    #[test]
    fn runs_are_selected_by_name() {
        let names = |wanted: &[&str]| {
            let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
            select(&wanted, Part::Quick).map(|runs| runs.iter().map(Run::name).collect::<Vec<_>>())
        };
        assert_eq!(names(&["pi5-bpf"]).expect("it is known"), ["pi5-bpf/ebpf"]);
        assert_eq!(
            names(&["debian-6.12-arm64-16k/ebpf-no-btf"]).expect("it is known"),
            ["debian-6.12-arm64-16k/ebpf-no-btf"]
        );
        assert_eq!(names(&["pi5-bpf", "pi6"]).expect_err("there is no such machine"), "pi6");
    }
}
