//! The Unicode tables in `src/text/tables` are those of the crates that Hugging Face's `tokenizers` uses.
//! `UPDATE_TABLES=1 cargo test --test unicode` writes them anew.

use std::collections::BTreeMap;
use unicode_normalization_alignments::char::{canonical_combining_class, compose, decompose_canonical};

/// Runs of one class, as varints of `length << 3 | class`, from U+0000 on (see `text::unicode::Class`).
fn classes() -> Vec<u8> {
    let mut class = vec![0u8; 0x110000];
    for (i, set) in [r"[\p{Lu}\p{Lt}]", r"\p{Ll}", r"[\p{Lm}\p{Lo}]", r"\p{M}", r"\p{N}", r"\p{P}"].iter().enumerate() {
        let hir = regex_syntax::Parser::new().parse(set).unwrap();
        let regex_syntax::hir::HirKind::Class(regex_syntax::hir::Class::Unicode(set)) = hir.into_kind() else {
            panic!()
        };
        for range in set.ranges() {
            class[range.start() as usize..=range.end() as usize].fill(i as u8 + 1);
        }
    }
    let mut out = Vec::new();
    for run in class.chunk_by(|a, b| a == b) {
        varint((run.len() as u32) << 3 | run[0] as u32, &mut out);
    }
    out
}

/// Canonical combining classes as runs (varints of length and class) up to a zero length; then the decompositions
/// (varint distance from the previous character, `first << 1 | composes`, second), where `composes` says that the
/// pair composes to the character as well.
fn nfc() -> Vec<u8> {
    let ccc: Vec<u8> = (0..0x110000).map(|c| char::from_u32(c).map_or(0, canonical_combining_class)).collect();
    let end = ccc.iter().rposition(|&c| c != 0).unwrap() + 1;
    let mut out = Vec::new();
    for run in ccc[..end].chunk_by(|a, b| a == b) {
        varint(run.len() as u32, &mut out);
        varint(run[0] as u32, &mut out);
    }
    varint(0, &mut out);

    let hangul = 0xAC00..0xAC00 + 11172;
    let mut full = BTreeMap::new();
    for c in (0..0x110000).filter(|c| !hangul.contains(c)).filter_map(char::from_u32) {
        let mut parts = Vec::new();
        decompose_canonical(c, |d| parts.push(d));
        if parts != [c] {
            full.insert(c, parts);
        }
    }
    let mut previous = 0;
    for (&c, parts) in &full {
        let (last, head) = parts.split_last().unwrap();
        let (first, second) = match head {
            [] => (*last, '\0'),
            [one] => (*one, *last),
            many => {
                let whole = many[1..].iter().try_fold(many[0], |a, &b| compose(a, b));
                let whole = whole.or_else(|| full.iter().find(|(_, p)| *p == many).map(|(c, _)| *c));
                (whole.expect("a head is a character of its own"), *last)
            }
        };
        let composes = second != '\0' && compose(first, second) == Some(c);
        varint(c as u32 - previous, &mut out);
        varint((first as u32) << 1 | composes as u32, &mut out);
        varint(second as u32, &mut out);
        previous = c as u32;
    }
    out
}

fn varint(mut v: u32, out: &mut Vec<u8>) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

fn check(name: &str, expected: Vec<u8>) {
    let path = format!("{}/src/text/tables/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_TABLES").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    assert!(
        std::fs::read(&path).unwrap() == expected,
        "{name} is out of date: UPDATE_TABLES=1 cargo test --test unicode"
    );
}

#[test]
fn tables_match_the_crates() {
    check("classes.bin", classes());
    check("nfc.bin", nfc());
}
