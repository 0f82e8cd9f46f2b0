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
}

const EBPF: Backend = Backend { name: "ebpf", arguments: "--backend ebpf" };
const NO_BTF: Backend = Backend { name: "ebpf-no-btf", arguments: "--backend ebpf --no-btf" };
const PERF: Backend = Backend { name: "perf", arguments: "--backend perf" };

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
}

/// All runs, in the order of the list.
pub(super) fn runs() -> impl Iterator<Item = Run> {
    KERNELS.iter().flat_map(|kernel| kernel.backends.iter().map(move |&backend| Run { kernel, backend }))
}

/// What is called `KERNEL` or `KERNEL/BACKEND`, for each name.
///
/// # Errors
/// With the first name that is none.
pub(super) fn select(wanted: &[String]) -> Result<Vec<Run>, String> {
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
    fn runs_are_selected_by_name() {
        let names = |wanted: &[&str]| {
            let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
            select(&wanted).map(|runs| runs.iter().map(Run::name).collect::<Vec<_>>())
        };
        assert_eq!(names(&["pi5-bpf"]).expect("it is known"), ["pi5-bpf/ebpf"]);
        assert_eq!(
            names(&["debian-6.12-arm64-16k/ebpf-no-btf"]).expect("it is known"),
            ["debian-6.12-arm64-16k/ebpf-no-btf"]
        );
        assert_eq!(names(&["pi5-bpf", "pi6"]).expect_err("there is no such machine"), "pi6");
    }
}
