//! Removes DWARF from an eBPF object: five times the size of the rest, and of no use after linking.
//!
//! Done here and not by a tool, so that the same input gives the same bytes on every machine.
//! Format: System V ABI, 64-bit little-endian ELF.

use anyhow::{Context, Result, ensure};

const HEADER_LEN: usize = 64;
const SECTION_LEN: usize = 64;
const SYMBOL_LEN: usize = 24;
const REL_LEN: usize = 16;
const SHT_SYMTAB: u32 = 2;
const SHT_NOBITS: u32 = 8;
const SHT_REL: u32 = 9;
/// Section numbers from here on stand for something else.
const SHN_LORESERVE: u16 = 0xff00;

/// A section header's fields, and the bytes it describes.
#[derive(Clone)]
struct Section {
    name: String,
    name_at: u32,
    kind: u32,
    flags: u64,
    address: u64,
    size: u64,
    link: u32,
    info: u32,
    align: u64,
    entry_size: u64,
    data: Vec<u8>,
}

/// The object without its `.debug_*` sections and whatever refers only to them.
pub(super) fn strip_debug(elf: &[u8]) -> Result<Vec<u8>> {
    ensure!(elf.get(..6) == Some(b"\x7fELF\x02\x01"), "it is not a 64-bit little-endian ELF file");
    let sections = sections(elf)?;
    let keep: Vec<bool> = sections.iter().map(|section| !is_debug(section, &sections)).collect();
    let new_index = renumber(&keep);

    let symbols_at = sections.iter().position(|section| section.kind == SHT_SYMTAB).context("no symbols")?;
    let (symbols, new_symbol, locals) = keep_symbols(&sections[symbols_at], &keep, &new_index)?;

    let mut kept = Vec::new();
    for (section, _) in sections.iter().zip(&keep).filter(|&(_, &keep)| keep) {
        let mut section = section.clone();
        match section.kind {
            SHT_SYMTAB => {
                section.data.clone_from(&symbols);
                section.size = u64::try_from(symbols.len())?;
                section.info = locals;
            }
            SHT_REL => {
                section.data = keep_relocations(&section, &new_symbol)?;
                section.info = mapped(&new_index, section.info)?;
            }
            _ => {}
        }
        section.link = mapped(&new_index, section.link)?;
        kept.push(section);
    }
    let names_at = mapped(&new_index, u16_at(elf, 62)?.into())?;
    assemble(elf, &kept, u16::try_from(names_at)?)
}

fn sections(elf: &[u8]) -> Result<Vec<Section>> {
    let table = usize::try_from(u64_at(elf, 40)?)?;
    let count = usize::from(u16_at(elf, 60)?);
    let names = usize::from(u16_at(elf, 62)?);
    let header = |index: usize| {
        let at = table.checked_add(index * SECTION_LEN)?;
        elf.get(at..at.checked_add(SECTION_LEN)?)
    };
    let names_header = header(names).context("no section names")?;
    let names = usize::try_from(u64_at(names_header, 24)?)?;
    (0..count)
        .map(|index| {
            let header = header(index).context("a section header is cut off")?;
            let (kind, size) = (u32_at(header, 4)?, u64_at(header, 32)?);
            let start = usize::try_from(u64_at(header, 24)?)?;
            let len = if kind == SHT_NOBITS { 0 } else { usize::try_from(size)? };
            let data = start.checked_add(len).and_then(|end| elf.get(start..end));
            let name_at = u32_at(header, 0)?;
            let name = elf.get(names.saturating_add(usize::try_from(name_at)?)..).unwrap_or_default();
            let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
            Ok(Section {
                name: String::from_utf8_lossy(name).into_owned(),
                name_at,
                kind,
                flags: u64_at(header, 8)?,
                address: u64_at(header, 16)?,
                size,
                link: u32_at(header, 40)?,
                info: u32_at(header, 44)?,
                align: u64_at(header, 48)?,
                entry_size: u64_at(header, 56)?,
                data: data.context("a section is cut off")?.to_vec(),
            })
        })
        .collect()
}

/// DWARF, or relocations of it.
fn is_debug(section: &Section, sections: &[Section]) -> bool {
    let of = usize::try_from(section.info).ok().and_then(|index| sections.get(index));
    section.name.starts_with(".debug_")
        || (section.kind == SHT_REL && of.is_some_and(|of| of.name.starts_with(".debug_")))
}

/// New numbers for what is kept.
fn renumber(keep: &[bool]) -> Vec<Option<u32>> {
    let mut next = 0;
    keep.iter()
        .map(|&keep| {
            let number = next;
            next += u32::from(keep);
            keep.then_some(number)
        })
        .collect()
}

fn mapped(new: &[Option<u32>], old: u32) -> Result<u32> {
    let new = new.get(usize::try_from(old)?).copied().flatten();
    new.context("something that is kept refers to something that is not")
}

/// The symbols of the sections that are kept, their new numbers, and how many of them are local.
fn keep_symbols(
    table: &Section,
    keep: &[bool],
    new_index: &[Option<u32>],
) -> Result<(Vec<u8>, Vec<Option<u32>>, u32)> {
    let symbols: Vec<&[u8]> = table.data.chunks_exact(SYMBOL_LEN).collect();
    let kept: Vec<bool> = symbols
        .iter()
        .map(|symbol| {
            let section = u16_at(symbol, 6)?;
            Ok(section >= SHN_LORESERVE || keep.get(usize::from(section)).copied().unwrap_or(false))
        })
        .collect::<Result<_>>()?;
    let mut out = Vec::new();
    let mut locals = 0;
    for (index, (symbol, _)) in symbols.iter().zip(&kept).enumerate().filter(|(_, (_, kept))| **kept) {
        locals += u32::from(index < usize::try_from(table.info)?);
        let section = u16_at(symbol, 6)?;
        let section = match section {
            SHN_LORESERVE.. => section,
            _ => u16::try_from(mapped(new_index, section.into())?)?,
        };
        out.extend(&symbol[..6]);
        out.extend(section.to_le_bytes());
        out.extend(&symbol[8..]);
    }
    Ok((out, renumber(&kept), locals))
}

fn keep_relocations(section: &Section, new_symbol: &[Option<u32>]) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(section.data.len());
    for relocation in section.data.chunks_exact(REL_LEN) {
        out.extend(&relocation[..12]);
        out.extend(mapped(new_symbol, u32_at(relocation, 12)?)?.to_le_bytes());
    }
    Ok(out)
}

fn assemble(elf: &[u8], sections: &[Section], names_at: u16) -> Result<Vec<u8>> {
    let mut out = elf.get(..HEADER_LEN).context("the header is cut off")?.to_vec();
    let mut table = Vec::new();
    for section in sections {
        if section.kind != 0 {
            pad(&mut out, usize::try_from(section.align)?);
        }
        let start = if section.kind == 0 { 0 } else { u64::try_from(out.len())? };
        table.extend(section.name_at.to_le_bytes());
        table.extend(section.kind.to_le_bytes());
        for field in [section.flags, section.address, start, section.size] {
            table.extend(field.to_le_bytes());
        }
        table.extend(section.link.to_le_bytes());
        table.extend(section.info.to_le_bytes());
        table.extend(section.align.to_le_bytes());
        table.extend(section.entry_size.to_le_bytes());
        out.extend(&section.data);
    }
    pad(&mut out, 8);
    let table_at = u64::try_from(out.len())?;
    out.extend(table);
    out[40..48].copy_from_slice(&table_at.to_le_bytes());
    out[60..62].copy_from_slice(&u16::try_from(sections.len())?.to_le_bytes());
    out[62..64].copy_from_slice(&names_at.to_le_bytes());
    Ok(out)
}

fn pad(out: &mut Vec<u8>, align: usize) {
    let len = out.len().next_multiple_of(align.max(1));
    out.resize(len, 0);
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    let field = at.checked_add(N).and_then(|end| bytes.get(at..end)).context("the file is cut off")?;
    Ok(field.try_into()?)
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16> {
    Ok(u16::from_le_bytes(field(bytes, at)?))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    Ok(u32::from_le_bytes(field(bytes, at)?))
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64> {
    Ok(u64::from_le_bytes(field(bytes, at)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(name_at: u32, name: &str, kind: u32, link: u32, info: u32, data: Vec<u8>) -> Section {
        Section {
            name: name.to_owned(),
            name_at,
            kind,
            flags: 0,
            address: 0,
            size: u64::try_from(data.len()).unwrap(),
            link,
            info,
            align: 8,
            entry_size: 0,
            data,
        }
    }

    fn symbol(name: u32, section: u16, value: u64) -> Vec<u8> {
        let mut out = name.to_le_bytes().to_vec();
        out.extend([0, 0]);
        out.extend(section.to_le_bytes());
        out.extend(value.to_le_bytes());
        out.extend([0; 8]);
        out
    }

    fn relocation(symbol: u32) -> Vec<u8> {
        let mut out = 8_u64.to_le_bytes().to_vec();
        out.extend(1_u32.to_le_bytes());
        out.extend(symbol.to_le_bytes());
        out
    }

    /// An object with code, DWARF and relocations of both.
    fn sample() -> Vec<u8> {
        let names = b"\0.strtab\0code\0.debug_info\0.relcode\0.rel.debug_info\0.symtab\0";
        let at = |name: &str| {
            let found = names.windows(name.len()).position(|window| window == name.as_bytes()).unwrap();
            u32::try_from(found).unwrap()
        };
        let symbols = [symbol(0, 0, 0), symbol(0, 2, 0), symbol(0, 3, 7), symbol(at("code"), 3, 9)].concat();
        let sections = [
            section(0, "", 0, 0, 0, vec![]),
            section(at(".strtab"), ".strtab", 3, 0, 0, names.to_vec()),
            section(at(".debug_info"), ".debug_info", 1, 0, 0, b"/secret/path".to_vec()),
            section(at("code"), "code", 1, 0, 0, vec![0x95; 16]),
            section(at(".relcode"), ".relcode", SHT_REL, 6, 3, relocation(3)),
            section(at(".rel.debug_info"), ".rel.debug_info", SHT_REL, 6, 2, relocation(1)),
            section(at(".symtab"), ".symtab", SHT_SYMTAB, 1, 3, symbols),
        ];
        let mut header = b"\x7fELF\x02\x01".to_vec();
        header.resize(HEADER_LEN, 0);
        assemble(&header, &sections, 1).unwrap()
    }

    #[test]
    fn dwarf_goes_and_the_rest_still_fits_together() {
        let stripped = strip_debug(&sample()).unwrap();
        assert!(!stripped.windows(7).any(|window| window == b"/secret"));
        let sections = sections(&stripped).unwrap();
        let names: Vec<&str> = sections.iter().map(|section| section.name.as_str()).collect();
        assert_eq!(names, ["", ".strtab", "code", ".relcode", ".symtab"]);
        assert_eq!(sections[2].data, [0x95; 16]);
        let relocations = &sections[3];
        assert_eq!((relocations.link, relocations.info), (4, 2));
        // Four symbols were three without the one of the removed section; the last one is number 2 now.
        assert_eq!(relocations.data, relocation(2));
        let symbols = &sections[4];
        assert_eq!((symbols.link, symbols.info), (1, 2));
        assert_eq!(symbols.data.len(), 3 * SYMBOL_LEN);
        assert_eq!(u16_at(&symbols.data, 2 * SYMBOL_LEN + 6).unwrap(), 2);
        assert_eq!(u64_at(&symbols.data, 2 * SYMBOL_LEN + 8).unwrap(), 9);
    }

    #[test]
    fn stripping_twice_changes_nothing() {
        let once = strip_debug(&sample()).unwrap();
        assert_eq!(strip_debug(&once).unwrap(), once);
    }

    #[test]
    fn a_damaged_object_is_an_error() {
        assert!(strip_debug(b"").is_err());
        let sample = sample();
        for len in 0..sample.len() {
            assert!(strip_debug(&sample[..len]).is_err(), "{len}");
        }
    }
}
