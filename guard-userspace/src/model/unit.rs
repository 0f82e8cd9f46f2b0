//! systemd units and containers, from cgroup paths.

use super::event::Cgroups;
use super::report::UnitScope;

/// A systemd unit and the manager it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    pub name: String,
    pub scope: UnitScope,
}

/// The unit a process belongs to.
#[must_use]
pub fn unit(_cgroups: &Cgroups) -> Option<Unit> {
    None
}

/// The id of the container a process belongs to (docker, containerd, podman, cri-o, lxc path patterns).
#[must_use]
pub fn container(_cgroups: &Cgroups) -> Option<String> {
    None
}
