//! The formats of the files under /proc/PID. Pure: bytes in, values out.

use crate::model::event::{Cgroups, SignalMasks};
use crate::model::text::Comm;

/// The fields of /proc/PID/stat that killtrace uses (fs/proc/array.c, `do_task_stat`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) comm: Comm,
    pub(super) state: u8,
    pub(super) ppid: u32,
    pub(super) pgid: u32,
    pub(super) sid: u32,
    pub(super) tty_nr: u32,
    /// `PF_*`.
    pub(super) flags: u32,
    pub(super) threads: u32,
    /// In clock ticks since boot.
    pub(super) start_ticks: u64,
}

impl Stat {
    const PF_EXITING: u32 = 0x4;
    const PF_KTHREAD: u32 = 0x0020_0000;

    /// Dead and not reaped. A leader that has left before its threads looks the same but for their number.
    pub(super) fn zombie(&self) -> bool {
        self.dead() && self.threads <= 1
    }

    /// Its leader thread has ended, others live on.
    pub(super) fn leaderless(&self) -> bool {
        self.dead() && self.threads > 1
    }

    fn dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }

    /// By SIGSTOP or its like; a tracer's stop says `t`.
    pub(super) fn stopped(&self) -> bool {
        self.state == b'T'
    }

    /// Its arguments can no longer be read.
    pub(super) fn exiting(&self) -> bool {
        self.dead() || self.flags & Self::PF_EXITING != 0
    }

    pub(super) fn kernel_thread(&self) -> bool {
        self.flags & Self::PF_KTHREAD != 0
    }
}

/// Reads a stat line. The comm may hold anything, parentheses, spaces and newlines too, so the fields start
/// after the last `)`: everything behind it is numbers.
pub(super) fn stat(line: &[u8]) -> Option<Stat> {
    let open = line.iter().position(|&byte| byte == b'(')?;
    let close = line.iter().rposition(|&byte| byte == b')')?;
    let comm = Comm::from(line.get(open + 1..close)?);
    let rest = std::str::from_utf8(line.get(close + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    // Process ids are never negative; a session or group outside our PID namespace reads as 0.
    let ppid = fields.next()?.parse().ok()?;
    let pgid = fields.next()?.parse().ok()?;
    let sid = fields.next()?.parse().ok()?;
    // Printed signed, but a device number.
    let tty_nr = fields.next()?.parse::<i32>().ok()?.cast_unsigned();
    let flags = fields.nth(1)?.parse().ok()?;
    let threads = fields.nth(10)?.parse().ok()?;
    let start_ticks = fields.nth(1)?.parse().ok()?;
    Some(Stat { comm, state, ppid, pgid, sid, tty_nr, flags, threads, start_ticks })
}

/// The fields of /proc/PID/status that killtrace uses (fs/proc/array.c, `proc_pid_status`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    /// Real user id.
    pub(super) uid: Option<u32>,
    /// Innermost id, when the process lives in a PID namespace below ours.
    pub(super) ns_tgid: Option<u32>,
    pub(super) tracer: Option<u32>,
    pub(super) signals: Option<SignalMasks>,
    pub(super) rss_bytes: Option<u64>,
    pub(super) peak_rss_bytes: Option<u64>,
}

/// Reads a status file. Lines that this kernel does not have stay `None`.
pub(super) fn status(text: &[u8]) -> Status {
    let mut status = Status::default();
    let (mut blocked, mut ignored, mut caught, mut waiting) = (None, None, None, 0);
    for line in text.split(|&byte| byte == b'\n') {
        // `Name:` escapes newlines, so no line is the process's own invention.
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let (key, value) = line.split_at(colon);
        let Ok(value) = std::str::from_utf8(&value[1..]) else { continue };
        let mut words = value.split_ascii_whitespace();
        match key {
            b"Uid" => status.uid = words.next().and_then(|uid| uid.parse().ok()),
            b"NSpid" => status.ns_tgid = words.skip(1).last().and_then(|pid| pid.parse().ok()),
            b"TracerPid" => {
                status.tracer = words.next().and_then(|pid| pid.parse().ok()).filter(|&pid| pid != 0);
            }
            b"VmHWM" => status.peak_rss_bytes = kb(words.next()),
            b"VmRSS" => status.rss_bytes = kb(words.next()),
            b"SigPnd" | b"ShdPnd" => waiting |= mask(words.next()).unwrap_or(0),
            b"SigBlk" => blocked = mask(words.next()),
            b"SigIgn" => ignored = mask(words.next()),
            b"SigCgt" => caught = mask(words.next()),
            _ => {}
        }
    }
    if let (Some(blocked), Some(ignored), Some(caught)) = (blocked, ignored, caught) {
        status.signals = Some(SignalMasks { blocked, ignored, caught, waiting });
    }
    status
}

fn kb(word: Option<&str>) -> Option<u64> {
    word?.parse::<u64>().ok()?.checked_mul(1024)
}

fn mask(word: Option<&str>) -> Option<u64> {
    u64::from_str_radix(word?, 16).ok()
}

/// Reads /proc/PID/cgroup, lines of `id:controllers:path`.
pub(super) fn cgroups(text: &[u8]) -> Cgroups {
    let mut cgroups = Cgroups::default();
    for line in String::from_utf8_lossy(text).lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(id), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        // A removed v2 cgroup that a zombie still sits in.
        let path = path.strip_suffix(" (deleted)").unwrap_or(path);
        if id == "0" && controllers.is_empty() {
            cgroups.v2 = Some(path.to_owned());
        } else if controllers == "name=systemd" {
            cgroups.systemd = Some(path.to_owned());
        } else if controllers.split(',').any(|controller| controller == "memory") {
            cgroups.memory = Some(path.to_owned());
        }
    }
    cgroups
}

/// Splits an argument area at its NULs.
///
/// Programs that change their title (`setproctitle`, Node's `process.title`, npm) write one string over the
/// area and fill the rest with NULs: that stays one string. A single argument followed by empty ones looks
/// the same and loses them, which nobody will miss.
pub(super) fn cmdline(area: &[u8]) -> Vec<String> {
    let title_end = area.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let title = &area[..title_end];
    if !title.contains(&0) {
        return if title.is_empty() { Vec::new() } else { vec![lossy(title)] };
    }
    area.strip_suffix(&[0]).unwrap_or(area).split(|&byte| byte == 0).map(lossy).collect()
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Name of a terminal from its device number (`tty_nr`), `None` for a device not known here.
///
/// Numbers from Documentation/admin-guide/devices.txt. No terminal is an empty string.
pub(super) fn tty(tty_nr: u32) -> Option<String> {
    if tty_nr == 0 {
        return Some(String::new());
    }
    let (major, minor) = device(tty_nr);
    match (major, minor) {
        (4, 0..64) => Some(format!("tty{minor}")),
        (4, _) => Some(format!("ttyS{}", minor - 64)),
        (5, 1) => Some("console".to_owned()),
        (136..=143, _) => Some(format!("pts/{}", (major - 136) * 256 + minor)),
        (166, _) => Some(format!("ttyACM{minor}")),
        (188, _) => Some(format!("ttyUSB{minor}")),
        (204, 64..80) => Some(format!("ttyAMA{}", minor - 64)),
        (229, _) => Some(format!("hvc{minor}")),
        _ => None,
    }
}

/// Major and minor of an encoded device number (include/linux/kdev_t.h, `new_encode_dev`).
pub(super) fn device(encoded: u32) -> (u32, u32) {
    ((encoded >> 8) & 0xfff, (encoded & 0xff) | ((encoded >> 12) & 0xf_ff00))
}

/// What NODE_OPTIONS in /proc/PID/environ says of V8's heap; of all else nothing is kept.
pub(super) fn node_heap_options(environ: &[u8]) -> Option<String> {
    let value = environ.split(|&byte| byte == 0).find_map(|entry| entry.strip_prefix(b"NODE_OPTIONS="))?;
    let value = String::from_utf8_lossy(value);
    let of_heap = |word: &&str| {
        let name = word.trim_start_matches('-').split('=').next().unwrap_or_default().replace('_', "-");
        matches!(name.as_str(), "max-old-space-size" | "max-heap-size")
    };
    let words: Vec<&str> = value.split_whitespace().filter(of_heap).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "S 4010 4021 3990 34819 4021 4194304 1 2 3 4 5 6 7 8 20 0 11 0 987654 1000 200 \
        18446744073709551615 1 1 0 0 0 0 0 0 81922 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0";

    #[test]
    fn stat_fields_follow_the_last_parenthesis() {
        for comm in ["node", "a) S 1 (b", "x\ny z", ")", "", "((("] {
            let line = format!("4021 ({comm}) {STAT}\n");
            let stat = stat(line.as_bytes()).unwrap();
            assert_eq!(stat.comm, Comm::from(comm));
            assert_eq!((stat.state, stat.ppid, stat.pgid, stat.sid), (b'S', 4010, 4021, 3990));
            assert_eq!((stat.tty_nr, stat.flags), (34819, 4_194_304));
            assert_eq!((stat.threads, stat.start_ticks), (11, 987_654));
            assert!(!stat.zombie() && !stat.exiting() && !stat.kernel_thread());
        }
    }

    #[test]
    fn a_broken_stat_line_is_refused() {
        for line in ["", "12", "12 (node", "12 (node) S 1", "12 )node( S 1 2 3"] {
            assert_eq!(stat(line.as_bytes()), None, "{line:?}");
        }
    }

    #[test]
    fn zombies_and_kernel_threads_are_recognised() {
        let left = STAT.replacen('S', "Z", 1);
        let left = stat(format!("1 (x) {left}").as_bytes()).unwrap();
        assert!(left.leaderless() && left.exiting() && !left.zombie(), "a leader that its threads outlive");
        let zombie = STAT.replacen('S', "Z", 1).replacen(" 0 11 0 ", " 0 1 0 ", 1);
        let zombie = stat(format!("1 (x) {zombie}").as_bytes()).unwrap();
        assert!(zombie.zombie() && !zombie.leaderless());
        let kernel = STAT.replacen("4194304", "2129984", 1);
        assert!(stat(format!("2 (kthreadd) {kernel}").as_bytes()).unwrap().kernel_thread());
        let exiting = STAT.replacen("4194304", "4194308", 1);
        assert!(stat(format!("2 (x) {exiting}").as_bytes()).unwrap().exiting());
    }

    #[test]
    fn status_gives_user_namespace_pid_masks_and_memory() {
        let text =
            b"Name:\tno\\nde\nState:\tS (sleeping)\nTgid:\t4021\nUid:\t1000\t0\t0\t0\nNSpid:\t4021\t77\t12\n\
            VmHWM:\t  204800 kB\nVmRSS:\t  102400 kB\nSigPnd:\t0000000000000001\nShdPnd:\t0000000000004000\nSigBlk:\t0000000000010000\nSigIgn:\t0000000001001000\n\
            SigCgt:\t0000000188004202\n";
        let status = status(text);
        assert_eq!((status.uid, status.ns_tgid), (Some(1000), Some(12)));
        assert_eq!((status.rss_bytes, status.peak_rss_bytes), (Some(104_857_600), Some(209_715_200)));
        let masks = status.signals.unwrap();
        assert_eq!(masks.waiting, 0x4001);
        assert_eq!((masks.blocked, masks.ignored, masks.caught), (0x10000, 0x100_1000, 0x1_8800_4202));
    }

    #[test]
    fn a_process_of_the_initial_namespace_has_no_inner_pid() {
        assert_eq!(status(b"NSpid:\t4021\n").ns_tgid, None);
        assert_eq!(status(b"SigBlk:\t0\n").signals, None);
    }

    #[test]
    fn cgroup_lines_of_v1_v2_and_hybrid() {
        let v2 = cgroups(b"0::/user.slice/user-1000.slice/session-3.scope\n");
        assert_eq!(v2.v2.as_deref(), Some("/user.slice/user-1000.slice/session-3.scope"));
        assert_eq!((v2.systemd, v2.memory), (None, None));
        let hybrid = cgroups(
            b"9:name=systemd:/system.slice/a.service\n4:cpu,memory:/m:with:colons\n3:cpuset:/\n0::/gone (deleted)\n",
        );
        assert_eq!(hybrid.systemd.as_deref(), Some("/system.slice/a.service"));
        assert_eq!(hybrid.memory.as_deref(), Some("/m:with:colons"));
        assert_eq!(hybrid.v2.as_deref(), Some("/gone"));
    }

    #[test]
    fn arguments_are_split_and_titles_are_not() {
        assert_eq!(cmdline(b"node\0/app/vite\0"), ["node", "/app/vite"]);
        assert_eq!(cmdline(b"npm run dev\0\0\0\0\0\0"), ["npm run dev"]);
        assert_eq!(cmdline(b"sshd: kali@pts/0"), ["sshd: kali@pts/0"]);
        assert_eq!(cmdline(b"grep\0\0file\0\0"), ["grep", "", "file", ""]);
        assert_eq!(cmdline(b"a\0\xff\0"), ["a", "\u{fffd}"]);
        assert!(cmdline(b"").is_empty() && cmdline(b"\0\0").is_empty());
    }

    #[test]
    fn terminals_are_named() {
        assert_eq!(tty(0).as_deref(), Some(""));
        assert_eq!(tty(34819).as_deref(), Some("pts/3"));
        assert_eq!(tty(0x0010_8812).as_deref(), Some("pts/274"));
        assert_eq!(tty(1025).as_deref(), Some("tty1"));
        assert_eq!(tty(1088).as_deref(), Some("ttyS0"));
        assert_eq!(tty(0xcc40).as_deref(), Some("ttyAMA0"));
        assert_eq!(tty(0x501).as_deref(), Some("console"));
        assert_eq!(tty(0xff00), None);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_break_a_parser(bytes: Vec<u8>, comm: [u8; 15]) {
            stat(&bytes);
            status(&bytes);
            cgroups(&bytes);
            cmdline(&bytes);
            let line = [b"4021 (", comm.as_slice(), b") ", STAT.as_bytes(), b"\n"].concat();
            let parsed = stat(&line);
            proptest::prop_assert_eq!(parsed.map(|stat| (stat.comm, stat.ppid)), Some((Comm::from(comm.as_slice()), 4010)));
        }
    }

    #[test]
    fn of_the_environment_only_the_heap_is_read() {
        let environ = b"NODE_OPTIONS_X=1\0NODE_OPTIONS=--require /secret --max-old-space-size=64\0HOME=/\0";
        assert_eq!(node_heap_options(environ).as_deref(), Some("--max-old-space-size=64"));
        assert_eq!(node_heap_options(b"HOME=/\0NODE_OPTIONS=--trace-gc\0"), None);
        assert_eq!(node_heap_options(b""), None);
    }
}
