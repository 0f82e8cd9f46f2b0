//! What the kernel log says of OOM kills: whose memory ran out. A witness; its silence changes no verdict.

use std::collections::VecDeque;

use crate::model::kernel_log;
use crate::model::report::OomScope;

/// One kill, as logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OomLog {
    /// The victim's thread id.
    pub tid: u32,
    pub scope: Option<OomScope>,
    /// The cgroup whose limit was hit.
    pub cgroup: Option<String>,
}

/// The last few kills that were logged.
#[derive(Debug, Default)]
pub struct OomLogs {
    recent: VecDeque<OomLog>,
}

impl OomLogs {
    const KEPT: usize = 64;

    /// Reads a line; the victim's thread id when it is about a kill.
    pub fn note(&mut self, text: &str) -> Option<u32> {
        // The long line is rate-limited, the short one is printed for each victim; the long one comes first.
        let log = match kernel_log::oom_kill(text) {
            Some(oom) => OomLog {
                tid: oom.pid,
                scope: Some(if oom.global_oom { OomScope::Global } else { OomScope::Memcg }),
                cgroup: oom.cgroup,
            },
            None => {
                let killed = kernel_log::killed(text)?;
                if self.recent.iter().any(|known| known.tid == killed.pid && known.scope.is_some()) {
                    return Some(killed.pid);
                }
                let scope = killed.memcg.map(|memcg| if memcg { OomScope::Memcg } else { OomScope::Global });
                OomLog { tid: killed.pid, scope, cgroup: None }
            }
        };
        let tid = log.tid;
        self.recent.retain(|known| known.tid != tid);
        if self.recent.len() == Self::KEPT {
            self.recent.pop_front();
        }
        self.recent.push_back(log);
        Some(tid)
    }

    /// What was logged of a kill of this thread.
    #[must_use]
    pub fn of(&self, tid: u32) -> Option<&OomLog> {
        self.recent.iter().find(|log| log.tid == tid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_long_line_says_which_cgroup_and_the_short_one_does_not_undo_it() {
        let mut logs = OomLogs::default();
        logs.note(
            "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/box,\
             task_memcg=/box,task=node,pid=7,uid=0",
        );
        assert_eq!(logs.note("Memory cgroup out of memory: Killed process 7 (node) total-vm:1kB"), Some(7));
        let log = logs.of(7).expect("known");
        assert_eq!((log.scope, log.cgroup.as_deref()), (Some(OomScope::Memcg), Some("/box")));
    }

    #[test]
    fn the_short_line_alone_gives_the_scope() {
        let mut logs = OomLogs::default();
        logs.note("Out of memory: Killed process 8 (node) total-vm:1kB");
        assert_eq!(logs.of(8).and_then(|log| log.scope), Some(OomScope::Global));
        assert_eq!(logs.note("usb 1-1: new device"), None);
    }
}
