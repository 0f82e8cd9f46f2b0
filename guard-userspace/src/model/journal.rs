//! The systemd journal: what killers and service managers say of their own acts.

use serde::{Deserialize, Serialize};

use super::unit::Unit;

/// Whose lines are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub writer: Writer,
    /// Only what it says of this unit.
    pub unit: Option<Unit>,
    pub since_boottime_ns: u64,
}

/// A process, as the journal of its own PID namespace knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writer {
    /// `_PID`: from the kernel. What else a line says of its writer, anybody may write.
    pub pid: u32,
    /// The process below whose root directory that journal is; `None` for the machine's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_of: Option<u32>,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When journald received it.
    pub at_boottime_ns: u64,
    pub writer: Writer,
    /// `_COMM` of its writer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comm: Option<String>,
    /// The unit that a service manager speaks of, `UNIT` or `USER_UNIT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Unit>,
    /// As in syslog: 0 for the worst, 7 for debugging.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// `MESSAGE_ID`: the kind of message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    pub text: String,
}

impl Entry {
    /// `Failed with result 'timeout'.` (systemd's sd-messages.h, `SD_MESSAGE_UNIT_FAILURE_RESULT`)
    const FAILURE_RESULT: &str = "d9b373ed55a64feb8242e02dbe79a49c";
    /// `Deactivated successfully.` (`SD_MESSAGE_UNIT_SUCCESS`)
    const SUCCESS: &str = "7ad2d189f7e94e70a38c781354912448";
    /// `Consumed 3.1s CPU time.` (`SD_MESSAGE_UNIT_RESOURCES`)
    const RESOURCES: &str = "ae8f7b866b0347b9af31fe1c80b127c0";
    /// From here on nothing is out of the ordinary: LOG_NOTICE.
    const ORDINARY: u8 = 5;

    /// A service manager's last word on one life of a unit.
    #[must_use]
    pub fn is_result(&self) -> bool {
        matches!(self.message_id.as_deref(), Some(Self::FAILURE_RESULT | Self::SUCCESS))
    }

    /// Out of the ordinary, in the life of a unit.
    #[must_use]
    pub fn is_remarkable(&self) -> bool {
        self.priority.is_some_and(|priority| priority <= Self::ORDINARY)
            && self.message_id.as_deref() != Some(Self::RESOURCES)
    }

    /// Whether an out-of-memory daemon says that it ended this process or the cgroup of this path.
    ///
    /// earlyoom: `sending SIGTERM to process 4021 uid 1000 "node": badness 800, VmRSS 310 MiB` (1.3 to 1.6), with
    /// `oom_score` and `cmdline` in later versions, `Killing process 4021 node` in those before. systemd-oomd: `Killed
    /// /user.slice/... due to memory pressure for ...` and `... due to memory used (...)`, in versions that ask others
    /// before they kill `Marked /user.slice/... for killing due to ...` (src/oom/oomd-manager.c).
    #[must_use]
    pub fn tells_of(&self, pid: u32, cgroups: &[&str]) -> bool {
        let killed = ["Killed /", "Marked /"].iter().find_map(|verb| self.text.strip_prefix(verb));
        let killed = killed.and_then(|rest| rest.split(' ').next());
        let covers = |path: &str| {
            let rest = |cgroup: &&str| cgroup.strip_prefix('/')?.strip_prefix(path).map(str::to_owned);
            let below = |rest: String| rest.is_empty() || rest.starts_with('/');
            !path.is_empty() && cgroups.iter().filter_map(rest).any(below)
        };
        // The first number: the names and arguments behind it are the victim's own choice.
        let process = self.text.split_once("process ").map(|(_, rest)| rest);
        let number = process.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
        killed.is_some_and(covers) || number.is_some_and(|number| number == pid.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(text: &str) -> Entry {
        Entry {
            at_boottime_ns: 0,
            writer: Writer { pid: 812, root_of: None },
            comm: None,
            unit: None,
            priority: None,
            message_id: None,
            text: text.to_owned(),
        }
    }

    #[test]
    fn earlyoom_of_any_version_names_the_process() {
        for text in [
            "Killing process 4021 node",
            "sending SIGTERM to process 4021 \"node\": badness 912, VmRSS 310 MiB",
            "sending SIGTERM to process 4021 uid 1000 \"node\": badness 912, VmRSS 310 MiB",
            "sending SIGKILL to process 4021 uid 1000 \"node\": oom_score 912, VmRSS 310 MiB, cmdline \"node 4022\"",
        ] {
            assert!(says(text).tells_of(4021, &[]), "{text}");
            for other in [402, 21, 1000, 4022] {
                assert!(!says(text).tells_of(other, &[]), "{text}");
            }
        }
        assert!(!says("mem avail:  4021 of 32011 MiB (23.11%)").tells_of(4021, &[]), "a size");
    }

    #[test]
    fn systemd_oomd_names_the_cgroup() {
        let scope = "/user.slice/user-1000.slice/user@1000.service/app.slice/vte.scope";
        let pressure = format!(
            "Killed {scope} due to memory pressure for /user.slice/user-1000.slice/user@1000.service being 62.41% > \
             50.00% for > 20s with reclaim activity"
        );
        let swap = format!(
            "Killed {scope} due to memory used (8114241536) / total (8324579328) and swap used (968478720) / total \
             (1073737728) being more than 90.00%"
        );
        let marked = pressure.replacen("Killed", "Marked", 1).replacen(" due", " for killing due", 1);
        for text in [pressure, marked, swap] {
            assert!(says(&text).tells_of(7, &[scope]), "{text}");
            assert!(says(&text).tells_of(7, &[&format!("{scope}/inner")]), "{text}");
            assert!(
                !says(&text).tells_of(7, &["/user.slice/user-1000.slice/user@1000.service", "/"]),
                "{text}"
            );
            assert!(!says(&text).tells_of(7, &[&format!("{scope}2")]), "{text}");
        }
    }
}
