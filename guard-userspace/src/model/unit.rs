//! systemd units and containers, from cgroup paths.

use serde::{Deserialize, Serialize};

use super::event::Cgroups;
use super::report::UnitScope;

/// A systemd unit and the manager it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    pub name: String,
    pub scope: UnitScope,
}

/// The unit a process belongs to, as `systemctl status PID` would name it on the host.
///
/// A container's own systemd is not looked into: its units mean nothing to the host's `systemctl`. Names keep
/// systemd's escaping (`dev-disk-by\x2did.device`), because that is how systemctl wants them.
#[must_use]
pub fn unit(cgroups: &Cgroups) -> Option<Unit> {
    paths(cgroups).find_map(unit_of_path)
}

/// The same where it is a service: scopes and slices are nothing that a person has written and looks after.
#[must_use]
pub fn service(cgroups: &Cgroups) -> Option<Unit> {
    unit(cgroups).filter(|unit| unit.name.ends_with(".service"))
}

/// The unit a process belongs to, by its cgroup: alike only for members of one unit.
#[must_use]
pub fn unit_path(cgroups: &Cgroups) -> Option<&str> {
    paths(cgroups).find_map(|path| {
        let name = unit_of_path(path)?.name;
        let from = path.rfind(&format!("/{name}"))?;
        path.get(..from + 1 + name.len())
    })
}

/// Whether the systemd that lives here runs the unit of a member; `None` when this is not where a systemd lives.
///
/// It moves itself to `init.scope`, beside which are all its units (systemd's src/core/cgroup.c,
/// `manager_setup_cgroup`). Below the units of the machine's are those of the users', which are not its own.
#[must_use]
pub fn runs(manager: &Cgroups, member: &Cgroups) -> Option<bool> {
    const HOME: &str = "/init.scope";
    let top = paths(manager).find_map(|path| path.strip_suffix(HOME))?;
    let (own, unit) = (unit(manager)?, unit(member)?);
    let below = |path: &str| path.strip_prefix(top).is_some_and(|rest| rest.starts_with('/'));
    Some(own.name == HOME[1..] && own.scope == unit.scope && paths(member).any(below))
}

/// A container, as far as the path of a cgroup tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// The 64 hex digits of docker, containerd, podman and cri-o, or the name of an LXC or nspawn container.
    pub id: String,
    /// `None` where the path does not say.
    pub runtime: Option<Runtime>,
}

/// Who has the container, and would be asked to change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    Docker,
    Podman,
    /// Whatever runs it: its limits are its pod's business.
    Kubernetes,
    Lxc,
    Nspawn,
}

/// The container a process belongs to, the innermost one.
#[must_use]
pub fn container(cgroups: &Cgroups) -> Option<Container> {
    paths(cgroups).find_map(container_of_path)
}

impl Container {
    /// As its runtime shows it.
    #[must_use]
    pub fn short_id(&self) -> &str {
        short_id(&self.id)
    }
}

/// The id of a container as `docker ps` shows it; a name is whole.
#[must_use]
pub fn short_id(id: &str) -> &str {
    const SHOWN: usize = 12;
    let is_number = id.len() > SHOWN && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_number { &id[..SHOWN] } else { id }
}

/// Whether a unit of this name holds the process, `.service` being understood; also one further out, so that
/// `user@1000` or `app.slice` select everything below.
#[must_use]
pub fn belongs_to(cgroups: &Cgroups, name: &str) -> bool {
    paths(cgroups).flat_map(|path| path.split('/')).any(|component| {
        component == name && kind(component).is_some()
            || component.strip_suffix(".service").is_some_and(|stem| stem == name)
    })
}

/// The paths that can name a unit. On a hybrid system only the `systemd` hierarchy does, and v2 says `/`; a
/// cgroupfs container runtime without systemd shows in any.
pub(super) fn paths(cgroups: &Cgroups) -> impl Iterator<Item = &str> {
    let Cgroups { v2, systemd, memory, moved } = cgroups;
    [v2, systemd, memory, moved].into_iter().filter_map(|path| path.as_deref())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Component {
    /// Groups units; holds no processes itself.
    Slice,
    /// Holds processes.
    Leaf,
}

fn kind(component: &str) -> Option<Component> {
    let (stem, suffix) = component.rsplit_once('.')?;
    match suffix {
        _ if stem.is_empty() => None,
        "slice" => Some(Component::Slice),
        "service" | "scope" | "socket" | "mount" | "swap" => Some(Component::Leaf),
        _ => None,
    }
}

/// Slices, then the unit; below `user@UID.service` the user's own manager starts again (systemd's
/// src/basic/cgroup-util.c, `cg_path_get_unit` and `cg_path_get_user_unit`).
fn unit_of_path(path: &str) -> Option<Unit> {
    let mut components = path.split('/').filter(|component| !component.is_empty());
    let system = first_leaf(&mut components)?;
    let user = is_user_manager(system).then(|| first_leaf(&mut components)).flatten();
    Some(match user {
        Some(name) => Unit { name: name.to_owned(), scope: UnitScope::User },
        None => Unit { name: system.to_owned(), scope: UnitScope::System },
    })
}

fn first_leaf<'a>(components: &mut impl Iterator<Item = &'a str>) -> Option<&'a str> {
    components
        .map(|component| (component, kind(component)))
        .find(|(_, kind)| *kind != Some(Component::Slice))
        .filter(|(_, kind)| *kind == Some(Component::Leaf))
        .map(|(component, _)| component)
}

fn is_user_manager(unit: &str) -> bool {
    unit.strip_prefix("user@")
        .and_then(|rest| rest.strip_suffix(".service"))
        .is_some_and(|uid| !uid.is_empty() && uid.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The innermost container that the path of a cgroup leads into.
#[must_use]
pub fn container_of_path(path: &str) -> Option<Container> {
    let mut components = path.split('/').filter(|component| !component.is_empty());
    let kubernetes = components.clone().any(|component| component.starts_with("kubepods"));
    let mut found = None;
    let mut previous = "";
    for component in components.by_ref() {
        let oci =
            oci_id(component).map(|(id, prefix)| (id.to_owned(), oci_runtime(previous, prefix, kubernetes)));
        let lxc = || Some((lxc_name(previous, component)?.to_owned(), Some(Runtime::Lxc)));
        let nspawn = || Some((nspawn_name(component)?, Some(Runtime::Nspawn)));
        if let Some((id, runtime)) = oci.or_else(lxc).or_else(nspawn) {
            found = Some(Container { id, runtime });
        } else if component == "supervisor" && nspawn_name(previous).is_some() {
            // nspawn itself, beside its `payload` (systemd's src/nspawn/nspawn-cgroup.c).
            found = None;
        }
        previous = component;
    }
    found
}

const ID_LEN: usize = 64;

/// The id, and what stands before it: `ID`, `docker-ID.scope`, `cri-containerd-ID.scope`, `crio-ID`, `libpod-ID.scope`,
/// `...slice:cri-containerd:ID` (containerd in runc's systemd syntax, when it is given to the cgroupfs driver).
fn oci_id(component: &str) -> Option<(&str, &str)> {
    // The monitor of a container is not in it.
    if component.contains("conmon") {
        return None;
    }
    let name = component.strip_suffix(".scope").unwrap_or(component);
    let (prefix, id) = name.rsplit_once(['-', ':']).unwrap_or(("", name));
    (id.len() == ID_LEN && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some((id, prefix))
}

fn oci_runtime(parent: &str, prefix: &str, kubernetes: bool) -> Option<Runtime> {
    match (prefix, parent) {
        _ if kubernetes => Some(Runtime::Kubernetes),
        ("docker", _) | ("", "docker") => Some(Runtime::Docker),
        ("libpod", _) | ("", "libpod_parent") => Some(Runtime::Podman),
        _ => None,
    }
}

/// `lxc.payload.NAME` and, from before LXC 4, `lxc/NAME`. `lxc.monitor.NAME` is outside.
fn lxc_name<'a>(parent: &str, component: &'a str) -> Option<&'a str> {
    let name = component.strip_prefix("lxc.payload.").or_else(|| (parent == "lxc").then_some(component))?;
    (!name.is_empty()).then_some(name)
}

/// `machine-NAME.scope` (systemd's src/machine/machine.c, `machine_start_scope`) and `systemd-nspawn@NAME.service`, with
/// the name escaped. libvirt registers its virtual machines in the same way, as `qemu-1-NAME`: what runs in those is not
/// this kernel's.
fn nspawn_name(component: &str) -> Option<String> {
    let scope = || component.strip_prefix("machine-")?.strip_suffix(".scope");
    let service = || component.strip_prefix("systemd-nspawn@")?.strip_suffix(".service");
    let name = scope().or_else(service)?.replace("\\x2d", "-");
    (!name.is_empty() && !name.starts_with("qemu-")).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4f3cbd1a9e0c4f3cbd1a9e0c4f3cbd1a9e0c4f3cbd1a9e0c4f3cbd1a9e0c0123";

    fn v2(path: &str) -> Cgroups {
        Cgroups { v2: Some(path.to_owned()), ..Cgroups::default() }
    }

    #[test]
    fn units_of_both_managers() {
        use UnitScope::{System, User};
        for (path, name, scope) in [
            ("/system.slice/earlyoom.service", "earlyoom.service", System),
            ("/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service", System),
            ("/system.slice/docker.service/a/b", "docker.service", System),
            ("/init.scope", "init.scope", System),
            ("/user.slice/user-1000.slice/session-3.scope", "session-3.scope", System),
            ("/user.slice/user-1000.slice/user@1000.service/app.slice/vite.service", "vite.service", User),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/app-org.Term.slice/vte-spawn-1.scope",
                "vte-spawn-1.scope",
                User,
            ),
            ("/user.slice/user-1000.slice/user@1000.service/init.scope", "init.scope", User),
            ("/user.slice/user-1000.slice/user@1000.service", "user@1000.service", System),
            ("/system.slice/user@evil.service/x.service", "user@evil.service", System),
            (r"/system.slice/dev\x2dserver.service", r"dev\x2dserver.service", System),
            ("/system.slice/a.service/system.slice/inner.service", "a.service", System),
        ] {
            assert_eq!(unit(&v2(path)), Some(Unit { name: name.to_owned(), scope }), "{path}");
        }
    }

    #[test]
    fn paths_without_a_unit_have_none() {
        for path in ["/", "", "/user.slice", "/docker/abc", "/kubepods/x/y.service", "/.service", "/a.b"] {
            assert_eq!(unit(&v2(path)), None, "{path}");
        }
    }

    #[test]
    fn a_hybrid_system_names_its_units_in_the_systemd_hierarchy() {
        let cgroups = Cgroups {
            v2: Some("/".to_owned()),
            systemd: Some("/system.slice/cron.service".to_owned()),
            memory: Some("/system.slice".to_owned()),
            ..Cgroups::default()
        };
        assert_eq!(unit(&cgroups).unwrap().name, "cron.service");
    }

    fn id_of(path: &str) -> Option<String> {
        container(&v2(path)).map(|container| container.id)
    }

    /// The paths of the runtimes' own documents and sources.
    #[test]
    fn containers_of_every_runtime() {
        use Runtime::{Docker, Kubernetes, Lxc, Nspawn, Podman};
        let slice = "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod0b7632a2_a56e.slice";
        let own = "user.slice/user-1000.slice/user@1000.service/user.slice";
        for (path, id, runtime) in [
            // moby: daemon/oci_linux.go, with the cgroupfs and the systemd driver.
            (format!("/docker/{ID}"), ID, Some(Docker)),
            (format!("/system.slice/docker-{ID}.scope"), ID, Some(Docker)),
            (
                format!("/user.slice/user-1000.slice/user@1000.service/app.slice/docker-{ID}.scope"),
                ID,
                Some(Docker),
            ),
            // A compose file's or a daemon's own cgroup_parent.
            (format!("/shop/{ID}"), ID, None),
            // containerd's CRI plugin, kubelet with either driver, and one given the other's syntax.
            (format!("/{slice}/cri-containerd-{ID}.scope"), ID, Some(Kubernetes)),
            (format!("/kubepods/besteffort/pod0b7632a2-a56e/{ID}"), ID, Some(Kubernetes)),
            (format!("/kubepods/pod0b7632a2-a56e/{ID}"), ID, Some(Kubernetes)),
            (
                format!("/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:{ID}"),
                ID,
                Some(Kubernetes),
            ),
            (format!("/{slice}/docker-{ID}.scope"), ID, Some(Kubernetes)),
            // nerdctl, and ctr in its namespace.
            (format!("/system.slice/nerdctl-{ID}.scope"), ID, None),
            (format!("/default/{ID}"), ID, None),
            // cri-o.
            (format!("/{slice}/crio-{ID}.scope"), ID, Some(Kubernetes)),
            (format!("/{slice}/crio-{ID}.scope/container"), ID, Some(Kubernetes)),
            (format!("/kubepods/burstable/pod1/crio-{ID}"), ID, Some(Kubernetes)),
            // podman: libpod/container_internal_linux.go, `getOCICgroupPath`.
            (format!("/machine.slice/libpod-{ID}.scope"), ID, Some(Podman)),
            (format!("/machine.slice/libpod-{ID}.scope/container"), ID, Some(Podman)),
            (format!("/{own}/libpod-{ID}.scope/container"), ID, Some(Podman)),
            (format!("/libpod_parent/libpod-{ID}"), ID, Some(Podman)),
            (format!("/libpod_parent/libpod-{ID}/ctr"), ID, Some(Podman)),
            // LXC: lxc.container.conf(5), and before 4.0; Proxmox has numbers for names.
            ("/lxc.payload.web/system.slice/x.service".to_owned(), "web", Some(Lxc)),
            ("/lxc/web".to_owned(), "web", Some(Lxc)),
            ("/lxc/101/ns/init.scope".to_owned(), "101", Some(Lxc)),
            // systemd-machined and systemd-nspawn.
            (r"/machine.slice/machine-my\x2dweb.scope".to_owned(), "my-web", Some(Nspawn)),
            (
                r"/machine.slice/machine-web.scope/payload/system.slice/x.service".to_owned(),
                "web",
                Some(Nspawn),
            ),
            ("/machine.slice/systemd-nspawn@web.service/payload".to_owned(), "web", Some(Nspawn)),
        ] {
            let expected = Some(Container { id: id.to_owned(), runtime });
            assert_eq!(container(&v2(&path)), expected, "{path}");
        }
    }

    #[test]
    fn the_innermost_container_counts() {
        let inner = ID.replace('4', "5");
        assert_eq!(id_of(&format!("/docker/{ID}/docker/{inner}")), Some(inner.clone()));
        assert_eq!(id_of(&format!("/lxc.payload.ci/system.slice/docker-{inner}.scope")), Some(inner));
    }

    #[test]
    fn an_id_is_shown_as_runtimes_show_it() {
        let short = |path: &str| container(&v2(path)).map(|container| container.short_id().to_owned());
        assert_eq!(short(&format!("/docker/{ID}")).as_deref(), Some(&ID[..12]));
        assert_eq!(short("/lxc/a-name-that-is-long").as_deref(), Some("a-name-that-is-long"));
    }

    #[test]
    fn what_is_no_container_has_no_id() {
        for path in [
            "/system.slice/docker.service".to_owned(),
            format!("/machine.slice/libpod-conmon-{ID}.scope"),
            format!("/system.slice/crio-conmon-{ID}.scope"),
            "/libpod_parent/conmon".to_owned(),
            "/lxc.monitor.web".to_owned(),
            r"/machine.slice/machine-qemu\x2d1\x2dweb.scope".to_owned(),
            "/machine.slice/machine-web.scope/supervisor".to_owned(),
            "/kubepods.slice/kubepods-besteffort.slice".to_owned(),
            "/docker/abc".to_owned(),
            format!("/docker/{}", &ID[1..]),
        ] {
            assert_eq!(container(&v2(&path)), None, "{path}");
        }
    }

    #[test]
    fn each_systemd_runs_the_units_beside_it() {
        let (system, kali) =
            (v2("/init.scope"), v2("/user.slice/user-1000.slice/user@1000.service/init.scope"));
        let vite = v2("/user.slice/user-1000.slice/user@1000.service/app.slice/vite.service/sub");
        let other = v2("/user.slice/user-1001.slice/user@1001.service/app.slice/vite.service");
        let cron = v2("/system.slice/cron.service");
        for (manager, member, expected) in [
            (&system, &cron, Some(true)),
            (&system, &vite, Some(false)),
            (&kali, &vite, Some(true)),
            (&kali, &other, Some(false)),
            (&kali, &cron, Some(false)),
            (&cron, &cron, None),
            (
                &v2("/machine.slice/box.scope/init.scope"),
                &v2("/machine.slice/box.scope/cron.service"),
                Some(false),
            ),
        ] {
            assert_eq!(runs(manager, member), expected, "{manager:?} {member:?}");
        }
        assert_eq!(
            unit_path(&vite),
            Some("/user.slice/user-1000.slice/user@1000.service/app.slice/vite.service")
        );
    }

    #[test]
    fn a_unit_is_selected_with_or_without_its_suffix() {
        let vite = v2("/user.slice/user-1000.slice/user@1000.service/app.slice/vite.service/sub");
        for name in ["vite", "vite.service", "user@1000", "app.slice"] {
            assert!(belongs_to(&vite, name), "{name}");
        }
        for name in ["vit", "sub", "vite.scope", "app", "user-1000", "", ".service"] {
            assert!(!belongs_to(&vite, name), "{name}");
        }
        let session = v2("/user.slice/user-1000.slice/session-3.scope");
        assert!(belongs_to(&session, "session-3.scope") && !belongs_to(&session, "session-3"));
    }
}
