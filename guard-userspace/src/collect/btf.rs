//! The kernel's type information (BTF): where the members of its structures are.
//!
//! Reads only what is asked for, in one pass over `/sys/kernel/btf/vmlinux`: a full parse builds 150,000
//! objects and takes longer than everything else at start-up. Format: Documentation/bpf/btf.rst.

use std::io;

/// Where the kernel shows its own BTF.
const PATH: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
/// Bytes of a type's common part: name, info, size or type.
const TYPE_LEN: usize = 12;
/// Bytes of one member: name, type, offset in bits.
const MEMBER_LEN: usize = 12;
/// Modifiers and anonymous members nest a few deep; deeper is damage.
const MAX_DEPTH: u32 = 16;

const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_TYPE_TAG: u32 = 18;

/// Reads the running kernel's BTF; `None` when it has none.
///
/// # Errors
/// When it is there and cannot be read.
pub fn read_kernel() -> io::Result<Option<Vec<u8>>> {
    match std::fs::read(PATH) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The structures that were asked for.
#[derive(Debug)]
pub struct Structs<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where each type is in `types`; the first has id 1.
    starts: Vec<u32>,
    /// Name and position of the structures asked for. A name can occur more than once.
    found: Vec<(&'static str, usize)>,
}

impl<'a> Structs<'a> {
    /// Finds structures by name; `None` when `btf` is not BTF that this can read.
    #[must_use]
    pub fn find(btf: &'a [u8], names: &[&'static str]) -> Option<Self> {
        let header_len = usize::try_from(u32_at(btf, 4)?).ok()?;
        if u16_at(btf, 0)? != MAGIC || header_len < 24 {
            return None;
        }
        let section = |offset_at, len_at| {
            let start = header_len.checked_add(usize::try_from(u32_at(btf, offset_at)?).ok()?)?;
            btf.get(start..start.checked_add(usize::try_from(u32_at(btf, len_at)?).ok()?)?)
        };
        let mut this =
            Self { types: section(8, 12)?, strings: section(16, 20)?, starts: Vec::new(), found: Vec::new() };
        this.starts.reserve(this.types.len() / 24);
        let mut position = 0;
        while position < this.types.len() {
            this.starts.push(u32::try_from(position).ok()?);
            let info = u32_at(this.types, position + 4)?;
            if kind(info) == KIND_STRUCT {
                let name = u32_at(this.types, position)?;
                if let Some(&name) = names.iter().find(|&&wanted| this.is_named(name, wanted)) {
                    this.found.push((name, position));
                }
            }
            position = position.checked_add(TYPE_LEN)?.checked_add(trailing_len(info)?)?;
        }
        Some(this)
    }

    /// Where a member is in its structure, in bytes: `member("task_struct", "pending.signal")`.
    ///
    /// Looks into anonymous members. `None` when there is no such member, or when it is a bit field.
    #[must_use]
    pub fn member(&self, structure: &str, path: &str) -> Option<u32> {
        self.named(structure).find_map(|start| {
            let mut start = Some(start);
            let mut bits = 0_u32;
            for name in path.split('.') {
                let (offset, type_id) = self.member_of(start?, name, 0)?;
                bits = bits.checked_add(offset)?;
                start = self.structure(type_id);
            }
            bits.is_multiple_of(8).then_some(bits / 8)
        })
    }

    /// The size of a structure, in bytes.
    #[must_use]
    pub fn size(&self, structure: &str) -> Option<u32> {
        self.named(structure).find_map(|start| u32_at(self.types, start + 8))
    }

    fn named(&self, structure: &str) -> impl Iterator<Item = usize> {
        self.found.iter().filter(move |(name, _)| *name == structure).map(|&(_, start)| start)
    }

    /// Offset in bits and type of one member of the structure at `start`.
    fn member_of(&self, start: usize, name: &str, depth: u32) -> Option<(u32, u32)> {
        let info = u32_at(self.types, start + 4)?;
        let has_bit_sizes = info >> 31 != 0;
        for index in 0..vlen(info) {
            let member = start.checked_add(TYPE_LEN + index * MEMBER_LEN)?;
            let member_name = u32_at(self.types, member)?;
            let type_id = u32_at(self.types, member + 4)?;
            let packed = u32_at(self.types, member + 8)?;
            let (bit_size, offset) =
                if has_bit_sizes { (packed >> 24, packed & 0x00ff_ffff) } else { (0, packed) };
            if !name.is_empty() && self.is_named(member_name, name) {
                return (bit_size == 0).then_some((offset, type_id));
            }
            if self.is_named(member_name, "") && depth < MAX_DEPTH {
                let inner = self.structure(type_id).and_then(|inner| self.member_of(inner, name, depth + 1));
                if let Some((inside, type_id)) = inner {
                    return Some((offset.checked_add(inside)?, type_id));
                }
            }
        }
        None
    }

    /// Where the structure or union behind typedefs and qualifiers is; `None` when the type is another.
    fn structure(&self, mut type_id: u32) -> Option<usize> {
        for _ in 0..MAX_DEPTH {
            let index = usize::try_from(type_id.checked_sub(1)?).ok()?;
            let start = usize::try_from(*self.starts.get(index)?).ok()?;
            match kind(u32_at(self.types, start + 4)?) {
                KIND_STRUCT | KIND_UNION => return Some(start),
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => {
                    type_id = u32_at(self.types, start + 8)?;
                }
                _ => return None,
            }
        }
        None
    }

    /// The string at `offset` is exactly `name`.
    fn is_named(&self, offset: u32, name: &str) -> bool {
        let text = usize::try_from(offset).ok().and_then(|offset| self.strings.get(offset..));
        text.is_some_and(|text| text.get(name.len()) == Some(&0) && text.starts_with(name.as_bytes()))
    }
}

fn kind(info: u32) -> u32 {
    (info >> 24) & 0x1f
}

/// How many members, values or parameters a type has.
fn vlen(info: u32) -> usize {
    usize::from(u16::try_from(info & 0xffff).unwrap_or_default())
}

/// Bytes that follow the common part of a type; `None` for a kind that is not known, after which nothing
/// can be found any more.
fn trailing_len(info: u32) -> Option<usize> {
    Some(match kind(info) {
        // INT, VAR, DECL_TAG
        1 | 14 | 17 => 4,
        // PTR, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FLOAT, TYPE_TAG
        2 | 7..=12 | 16 | 18 => 0,
        // ARRAY
        3 => 12,
        // STRUCT, UNION, DATASEC, ENUM64
        4 | 5 | 15 | 19 => 12 * vlen(info),
        // ENUM, FUNC_PROTO
        6 | 13 => 8 * vlen(info),
        _ => return None,
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Builds BTF by hand.
    #[derive(Default)]
    struct Builder {
        types: Vec<u8>,
        strings: Vec<u8>,
    }

    impl Builder {
        fn text(&mut self, text: &str) -> u32 {
            if self.strings.is_empty() {
                self.strings.push(0);
            }
            if text.is_empty() {
                return 0;
            }
            let at = u32::try_from(self.strings.len()).unwrap();
            self.strings.extend(text.bytes().chain([0]));
            at
        }

        fn words(&mut self, words: &[u32]) {
            self.types.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
        }

        /// An `unsigned int`.
        fn int(&mut self) {
            let name = self.text("unsigned int");
            self.words(&[name, 1 << 24, 4, 32]);
        }

        fn alias(&mut self, kind: u32, name: &str, type_id: u32) {
            let name = self.text(name);
            self.words(&[name, kind << 24, type_id]);
        }

        /// Members as name, type, bits.
        fn structure(
            &mut self,
            kind: u32,
            name: &str,
            size: u32,
            bit_fields: bool,
            members: &[(&str, u32, u32)],
        ) {
            let name = self.text(name);
            let vlen = u32::try_from(members.len()).unwrap();
            self.words(&[name, u32::from(bit_fields) << 31 | kind << 24 | vlen, size]);
            for &(name, type_id, bits) in members {
                let name = self.text(name);
                self.words(&[name, type_id, bits]);
            }
        }

        fn finish(self) -> Vec<u8> {
            let (types, strings) =
                (u32::try_from(self.types.len()).unwrap(), u32::try_from(self.strings.len()).unwrap());
            let mut out = vec![];
            out.extend(MAGIC.to_ne_bytes());
            out.extend([1, 0]);
            for word in [24, 0, types, types, strings] {
                out.extend(u32::to_ne_bytes(word));
            }
            out.extend(self.types);
            out.extend(self.strings);
            out
        }
    }

    fn sample() -> Vec<u8> {
        let mut btf = Builder::default();
        btf.int(); // 1
        btf.structure(KIND_STRUCT, "inner", 8, false, &[("first", 1, 0), ("second", 1, 32)]); // 2
        btf.alias(KIND_TYPEDEF, "inner_t", 2); // 3
        btf.alias(KIND_CONST, "", 3); // 4
        btf.structure(KIND_UNION, "", 8, false, &[("choice", 1, 0), ("", 6, 0)]); // 5
        btf.structure(KIND_STRUCT, "", 8, false, &[("left", 1, 0), ("deep", 1, 32)]); // 6
        let members =
            [("start", 1, 0), ("", 5, 64), ("nested", 4, 128), ("flag", 1, 1 << 24 | 192), ("last", 1, 224)];
        btf.structure(KIND_STRUCT, "outer", 32, true, &members); // 7
        btf.finish()
    }

    #[test]
    fn members_are_found_through_names_typedefs_and_anonymous_unions() {
        let btf = sample();
        let structs = Structs::find(&btf, &["outer", "inner"]).unwrap();
        for (path, offset) in [
            ("start", Some(0)),
            ("choice", Some(8)),
            ("left", Some(8)),
            ("deep", Some(12)),
            ("nested", Some(16)),
            ("nested.second", Some(20)),
            ("flag", None),
            ("last", Some(28)),
            ("start.second", None),
            ("nope", None),
            ("", None),
        ] {
            assert_eq!(structs.member("outer", path), offset, "{path}");
        }
        assert_eq!(structs.member("inner", "second"), Some(4));
        assert_eq!(structs.size("outer"), Some(32));
        assert_eq!(structs.size("not asked for"), None);
    }

    #[test]
    fn what_is_not_btf_is_refused() {
        assert!(Structs::find(b"", &["outer"]).is_none());
        let mut wrong = sample();
        wrong[0] = 0;
        assert!(Structs::find(&wrong, &["outer"]).is_none());
    }

    #[test]
    fn a_structure_that_holds_itself_ends_the_search() {
        let mut btf = Builder::default();
        btf.structure(KIND_STRUCT, "loop", 8, false, &[("", 1, 0)]);
        btf.alias(KIND_TYPEDEF, "turn", 2);
        let btf = btf.finish();
        let structs = Structs::find(&btf, &["loop"]).unwrap();
        assert_eq!(structs.member("loop", "nope"), None);
    }

    #[test]
    fn the_running_kernels_btf_knows_the_task() {
        let Some(btf) = read_kernel().unwrap() else {
            println!("skipped: this kernel has no BTF");
            return;
        };
        let structs = Structs::find(&btf, &["task_struct", "signal_struct", "kernel_siginfo"]).unwrap();
        let pid = structs.member("task_struct", "pid").unwrap();
        assert_eq!(structs.member("task_struct", "tgid"), Some(pid + 4));
        assert!(pid < structs.size("task_struct").unwrap());
        assert!(structs.member("signal_struct", "live.counter").is_some());
        assert_eq!(structs.member("kernel_siginfo", "si_code"), Some(8));
    }

    proptest! {
        #[test]
        fn damage_never_panics(flips in prop::collection::vec((0_usize..400, any::<u8>()), 0..8), cut in 0_usize..500) {
            let mut btf = sample();
            for (at, value) in flips {
                if let Some(byte) = btf.get_mut(at) {
                    *byte = value;
                }
            }
            btf.truncate(cut.max(1));
            if let Some(structs) = Structs::find(&btf, &["outer", "inner"]) {
                for path in ["deep", "nested.second", "flag", "nope.nope"] {
                    let _ = structs.member("outer", path);
                }
                let _ = structs.size("inner");
            }
        }
    }
}
