//! V8's heap: how large it may become, and whether it was full.

use crate::model::select;
use crate::model::units::bytes;

use super::process::Process;

/// `cause.detail` of an abort for want of heap.
pub const HEAP_LIMIT: &str = "heap_limit";

/// Programs that run on V8. Extend freely; basenames of executables.
const PROGRAMS: &[&str] = &["node", "nodejs", "deno", "electron", "chrome", "chromium", "code"];
const MIB: u64 = 1024 * 1024;
/// V8 chooses no smaller limit by itself where a process could fill it (v8/src/heap/heap.cc, `Heap::HeapSizeFromPhysicalMemory`).
const LEAST_BY_DEFAULT: u64 = 256 * MIB;

/// The heap of a process that runs on V8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heap {
    /// By its command line, else by NODE_OPTIONS.
    pub limit_bytes: Option<u64>,
    /// What the process held in memory: the heap and everything else.
    pub held_bytes: Option<u64>,
}

impl Heap {
    /// `None` for what does not run on V8.
    #[must_use]
    pub fn of(process: &Process) -> Option<Self> {
        let exe = process.image.exe.as_deref()?;
        PROGRAMS.contains(&select::basename(exe)).then(|| Self {
            limit_bytes: limit(exe, process.image.cmdline.as_deref().unwrap_or_default())
                .or_else(|| process.image.node_options.as_deref().and_then(limit_by_environment)),
            held_bytes: process.rss_bytes.max(process.peak_rss_bytes),
        })
    }

    /// An abort looks like V8's own: the process held as much as its heap may. A process that held less than its heap's
    /// limit aborted for another reason.
    #[must_use]
    pub fn looks_full(&self) -> bool {
        let least = self.limit_bytes.unwrap_or(LEAST_BY_DEFAULT);
        self.held_bytes.is_some_and(|held| held >= least)
    }

    /// ` It held 101 MiB in all; the limit of its heap was 64 MiB (--max-old-space-size).`
    #[must_use]
    pub fn figures(&self) -> String {
        match (self.held_bytes, self.limit_bytes) {
            (Some(held), Some(limit)) => format!(
                " It held {} in all; the limit of its heap was {} (--max-old-space-size).",
                bytes(held),
                bytes(limit)
            ),
            (Some(held), None) => format!(" It held {}.", bytes(held)),
            (None, _) => String::new(),
        }
    }
}

/// What `--max-old-space-size=64` says, the last time it is said. What follows the script is the script's.
fn limit(exe: &str, cmdline: &[String]) -> Option<u64> {
    let script = select::script(Some(exe), cmdline);
    let is_script = |arg: &String| script.is_some_and(|script| select::basename(arg) == script);
    let options = cmdline.iter().skip(1).take_while(|arg| !is_script(arg));
    options.filter_map(|option| heap_bytes(option)).last()
}

/// The command line overrides the variable (node(1), NODE_OPTIONS).
fn limit_by_environment(node_options: &str) -> Option<u64> {
    node_options.split_whitespace().filter_map(heap_bytes).next_back()
}

/// What one option allows.
fn heap_bytes(option: &str) -> Option<u64> {
    let option = option.strip_prefix("--js-flags=").unwrap_or(option).trim_start_matches('-');
    let (name, value) = option.split_once('=')?;
    let known =
        matches!(name, "max-old-space-size" | "max_old_space_size" | "max-heap-size" | "max_heap_size");
    value.parse::<u64>().ok().filter(|_| known).map(|mib| mib.saturating_mul(MIB))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit_of(args: &[&str]) -> Option<u64> {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        limit("/usr/bin/node", &args).map(|limit| limit / MIB)
    }

    #[test]
    fn the_limit_is_the_interpreters_last_not_the_scripts() {
        assert_eq!(limit_of(&["node", "--max-old-space-size=64", "/app/leak.js"]), Some(64));
        assert_eq!(
            limit_of(&["node", "--max_old_space_size=64", "--max-old-space-size=128", "a.js"]),
            Some(128)
        );
        assert_eq!(limit_of(&["node", "-e", "leak()", "--max-old-space-size=64"]), Some(64));
        assert_eq!(limit_of(&["node", "/app/leak.js", "--max-old-space-size=64"]), None);
        assert_eq!(limit_of(&["node", "--max-old-space-size=much", "a.js"]), None);
        assert_eq!(limit_of(&["node"]), None);
        assert_eq!(limit_by_environment("--trace-gc --max-old-space-size=64"), Some(64 * MIB));
        assert_eq!(limit_by_environment("--trace-gc"), None);
    }

    #[test]
    fn a_heap_is_full_when_the_process_holds_as_much() {
        let heap = |limit: Option<u64>, held: Option<u64>| Heap {
            limit_bytes: limit.map(|mib| mib * MIB),
            held_bytes: held.map(|mib| mib * MIB),
        };
        assert!(heap(Some(64), Some(101)).looks_full());
        assert!(!heap(Some(4096), Some(101)).looks_full(), "an assertion that failed");
        assert!(heap(None, Some(2_100)).looks_full() && !heap(None, Some(60)).looks_full());
        assert!(!heap(Some(64), None).looks_full(), "not known");
        assert_eq!(
            heap(Some(64), Some(101)).figures(),
            " It held 101 MiB in all; the limit of its heap was 64 MiB (--max-old-space-size)."
        );
    }
}
