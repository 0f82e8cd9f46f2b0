//! Generic netlink messages: building the two requests, taking apart the replies. Pure.
//!
//! Layouts from include/uapi/linux/{netlink,genetlink,taskstats,acct}.h. Native byte order, everything aligned
//! to four bytes.

use crate::model::event::{Taskstats, WaitStatus};
use crate::model::text::Comm;

const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLMSG_HEADER: usize = 16;
const GENL_HEADER: usize = 4;

const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

const TASKSTATS_CMD_GET: u8 = 1;
const TASKSTATS_CMD_ATTR_REGISTER_CPUMASK: u16 = 3;
const TASKSTATS_TYPE_PID: u16 = 1;
const TASKSTATS_TYPE_STATS: u16 = 3;
const TASKSTATS_TYPE_AGGR_PID: u16 = 4;

/// `ac_flag`: ended through a signal.
const AXSIG: u8 = 0x10;
/// `ac_flag`: the last thread of its process, from version 12.
const AGROUP: u8 = 0x20;

/// Where the fields of `struct taskstats` are.
struct Layout {
    pid: usize,
    hiwater_rss: usize,
    tgid: usize,
}

/// All versions but one only added fields at the end.
const LAYOUT: Layout = Layout { pid: 128, hiwater_rss: 200, tgid: 368 };
/// `ac_comm` is so far before `ac_pid`.
const PID_AFTER_COMM: usize = 48;
/// Version 15 (Linux 6.14, early 6.15) put two fields into the middle of seven groups by mistake; version 16
/// moved them to the end.
const LAYOUT_V15: Layout = Layout { pid: 176, hiwater_rss: 248, tgid: 464 };

/// One netlink message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    body: &'a [u8],
}

/// The messages of a datagram; stops at the first malformed one.
pub(super) fn messages(datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let len = usize::try_from(u32_at(rest, 0)?).ok()?;
        let kind = u16_at(rest, 4)?;
        let body = rest.get(NLMSG_HEADER..len)?;
        rest = rest.get(align(len)..).unwrap_or_default();
        Some(Message { kind, body })
    })
}

/// The errno of an error message, 0 for an acknowledgement; `None` for any other message.
pub(super) fn error(message: &Message<'_>) -> Option<i32> {
    let errno = u32_at(message.body, 0).filter(|_| message.kind == NLMSG_ERROR)?;
    Some(errno.cast_signed().checked_neg().unwrap_or(i32::MAX))
}

/// A request for the number of a generic netlink family.
pub(super) fn get_family(name: &str) -> Vec<u8> {
    request(GENL_ID_CTRL, NLM_F_REQUEST, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, name)
}

/// The family number in the reply to [`get_family`].
pub(super) fn family_id(reply: &[u8]) -> Option<u16> {
    messages(reply).find_map(|message| {
        let attributes = message.body.get(GENL_HEADER..)?;
        u16_at(attribute(attributes, CTRL_ATTR_FAMILY_ID)?, 0)
    })
}

/// A request to be told of every exit on these CPUs, `0-3`.
pub(super) fn register_cpus(family: u16, cpus: &str) -> Vec<u8> {
    let flags = NLM_F_REQUEST | NLM_F_ACK;
    request(family, flags, TASKSTATS_CMD_GET, TASKSTATS_CMD_ATTR_REGISTER_CPUMASK, cpus)
}

/// What a message says of one thread's end; `None` when its layout is unknown.
///
/// A message about the last thread of a process also holds sums for the whole process, which are not used.
pub(super) fn exit(message: &Message<'_>) -> Option<Taskstats> {
    let thread = attribute(message.body.get(GENL_HEADER..)?, TASKSTATS_TYPE_AGGR_PID)?;
    let tid = u32_at(attribute(thread, TASKSTATS_TYPE_PID)?, 0)?;
    let stats = attribute(thread, TASKSTATS_TYPE_STATS)?;
    let version = u16_at(stats, 0)?;
    // The pid, known from its own attribute, shows which layout it is, whatever the version claims: kernels
    // between two releases, and vendors' ones, have the one with the number of the other.
    let layout = [LAYOUT, LAYOUT_V15].into_iter().find(|layout| u32_at(stats, layout.pid) == Some(tid))?;
    let flags = *stats.get(8)?;
    Some(Taskstats {
        tid,
        tgid: (version >= 12).then(|| u32_at(stats, layout.tgid)).flatten(),
        status: WaitStatus(u32_at(stats, 4)?.cast_signed()),
        comm: stats
            .get(layout.pid.checked_sub(PID_AFTER_COMM)?..)
            .and_then(|rest| rest.first_chunk::<16>())
            .map(|&comm| Comm::from(comm)),
        group_dead: (version >= 12).then_some(flags & AGROUP != 0),
        signaled: flags & AXSIG != 0,
        // In KiB, and only on kernels with CONFIG_TASK_XACCT; 0 for a kernel thread.
        max_rss_bytes: u64_at(stats, layout.hiwater_rss)
            .filter(|&kib| kib != 0)
            .and_then(|kib| kib.checked_mul(1024)),
    })
}

fn request(kind: u16, flags: u16, command: u8, attribute: u16, text: &str) -> Vec<u8> {
    let attribute_len = 4 + text.len() + 1;
    let len = NLMSG_HEADER + GENL_HEADER + align(attribute_len);
    let mut message = Vec::with_capacity(len);
    message.extend(u32::try_from(len).unwrap_or(u32::MAX).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    // Sequence number and port: one request at a time on a socket of our own needs neither.
    message.extend([0; 8]);
    message.extend([command, 1, 0, 0]);
    message.extend(u16::try_from(attribute_len).unwrap_or(u16::MAX).to_ne_bytes());
    message.extend(attribute.to_ne_bytes());
    message.extend(text.as_bytes());
    message.resize(len, 0);
    message
}

/// The payload of the first attribute of a type.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    /// Without the flag bits for nesting and byte order.
    const NLA_TYPE_MASK: u16 = 0x3fff;
    loop {
        let len = usize::from(u16_at(attributes, 0)?);
        let kind = u16_at(attributes, 2)? & NLA_TYPE_MASK;
        let payload = attributes.get(4..len)?;
        if kind == wanted {
            return Some(payload);
        }
        attributes = attributes.get(align(len)..)?;
    }
}

fn align(len: usize) -> usize {
    len.saturating_add(3) & !3
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(offset..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(offset..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(offset..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nla(kind: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(4 + payload.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(payload);
        bytes.resize(align(bytes.len()), 0);
        bytes
    }

    fn datagram(kind: u16, attributes: &[u8]) -> Vec<u8> {
        let len = NLMSG_HEADER + GENL_HEADER + attributes.len();
        let mut bytes = u32::try_from(len).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend([2, 1, 0, 0]);
        bytes.extend(attributes);
        bytes
    }

    fn stats(version: u16, size: usize, layout: &Layout) -> Vec<u8> {
        let mut stats = vec![0; size];
        stats[..2].copy_from_slice(&version.to_ne_bytes());
        stats[4..8].copy_from_slice(&0x0700u32.to_ne_bytes());
        stats[8] = AGROUP | 1;
        stats[layout.pid..layout.pid + 4].copy_from_slice(&4021u32.to_ne_bytes());
        stats[layout.hiwater_rss..layout.hiwater_rss + 8].copy_from_slice(&100u64.to_ne_bytes());
        stats[layout.pid - 48..][..6].copy_from_slice(b"worker");
        if size >= layout.tgid + 4 {
            stats[layout.tgid..layout.tgid + 4].copy_from_slice(&4020u32.to_ne_bytes());
        }
        stats
    }

    /// As the kernel nests it, with the padding attribute (6) that aligns the struct.
    fn exit_of(stats: &[u8]) -> Option<Taskstats> {
        let thread =
            [nla(TASKSTATS_TYPE_PID, &4021u32.to_ne_bytes()), nla(6, &[]), nla(TASKSTATS_TYPE_STATS, stats)];
        let whole = datagram(30, &nla(TASKSTATS_TYPE_AGGR_PID | 0x8000, &thread.concat()));
        messages(&whole).next().and_then(|message| exit(&message))
    }

    #[test]
    fn each_layout_is_found_by_the_pid_in_it() {
        let expected = Taskstats {
            tid: 4021,
            tgid: Some(4020),
            status: WaitStatus(0x700),
            comm: Some(Comm::from("worker")),
            group_dead: Some(true),
            signaled: false,
            max_rss_bytes: Some(102_400),
        };
        assert_eq!(exit_of(&stats(13, 416, &LAYOUT)), Some(expected));
        assert_eq!(exit_of(&stats(16, 544, &LAYOUT)), Some(expected));
        assert_eq!(exit_of(&stats(15, 544, &LAYOUT_V15)), Some(expected));
        assert_eq!(exit_of(&stats(14, 544, &LAYOUT_V15)), Some(expected));
    }

    #[test]
    fn before_version_12_the_group_is_unknown() {
        let exit = exit_of(&stats(8, 328, &LAYOUT)).unwrap();
        assert_eq!((exit.tgid, exit.group_dead), (None, None));
        assert_eq!(exit.status.code(), Some(7));
    }

    #[test]
    fn a_struct_with_the_pid_elsewhere_is_not_read() {
        let moved = Layout { pid: 140, ..LAYOUT };
        assert_eq!(exit_of(&stats(20, 416, &moved)), None);
    }

    #[test]
    fn cut_messages_give_nothing_and_do_not_panic() {
        let thread = [
            nla(TASKSTATS_TYPE_PID, &4021u32.to_ne_bytes()),
            nla(TASKSTATS_TYPE_STATS, &stats(13, 416, &LAYOUT)),
        ];
        let whole = datagram(30, &nla(TASKSTATS_TYPE_AGGR_PID, &thread.concat()));
        for len in 0..whole.len() {
            assert!(messages(&whole[..len]).find_map(|message| exit(&message)).is_none());
        }
        assert!(messages(&whole).find_map(|message| exit(&message)).is_some());
        // A length of zero must not loop.
        assert!(attribute(&[0; 16], 1).is_none());
        assert_eq!(messages(&[0; 32]).count(), 0);
    }

    #[test]
    fn several_messages_share_a_datagram() {
        let one = datagram(30, &nla(TASKSTATS_TYPE_AGGR_PID, &[]));
        assert_eq!(messages(&[one.clone(), one].concat()).count(), 2);
    }

    #[test]
    fn requests_are_well_formed() {
        let bytes = get_family("TASKSTATS");
        let message = messages(&bytes).next().unwrap();
        assert_eq!(message.kind, GENL_ID_CTRL);
        assert_eq!(attribute(&message.body[GENL_HEADER..], CTRL_ATTR_FAMILY_NAME), Some(&b"TASKSTATS\0"[..]));
        assert_eq!(bytes.len() % 4, 0);
    }

    #[test]
    fn an_acknowledgement_is_no_error() {
        let reply = |errno: i32| {
            let mut bytes = 36u32.to_ne_bytes().to_vec();
            bytes.extend(NLMSG_ERROR.to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend(errno.to_ne_bytes());
            bytes.resize(36, 0);
            bytes
        };
        let errno = |bytes: &[u8]| messages(bytes).find_map(|message| error(&message));
        assert_eq!(errno(&reply(0)), Some(0));
        assert_eq!(errno(&reply(-1)), Some(1));
        assert_eq!(errno(&datagram(30, &[])), None);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_break_the_decoder(bytes: Vec<u8>) {
            for datagram in [bytes.clone(), datagram(30, &bytes), datagram(30, &nla(TASKSTATS_TYPE_AGGR_PID, &bytes))] {
                family_id(&datagram);
                for message in messages(&datagram) {
                    error(&message);
                    exit(&message);
                }
            }
        }
    }
}
