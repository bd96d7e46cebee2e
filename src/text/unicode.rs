//! Unicode's general categories as far as pre-tokenizers ask for them, from a table of 4 kB (`tests/unicode.rs`
//! makes it from the tables of the regex crates).

use std::sync::OnceLock;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Symbols, controls, unassigned.
    Other,
    /// Lu, Lt.
    Upper,
    /// Ll.
    Lower,
    /// Lm, Lo: letters without case.
    Letter,
    /// M.
    Mark,
    /// N.
    Number,
    /// P.
    Punctuation,
    /// White_Space, which is `\s`.
    Space,
}

use Class::*;

const CLASSES: [Class; 8] = [Other, Upper, Lower, Letter, Mark, Number, Punctuation, Space];

impl Class {
    pub fn of(c: char) -> Class {
        match c {
            'a'..='z' => Lower,
            'A'..='Z' => Upper,
            '0'..='9' => Number,
            c if c.is_whitespace() => Space,
            c => {
                let runs = runs();
                let i = runs.partition_point(|&run| run >> 3 <= c as u32);
                CLASSES[(runs[i - 1] & 7) as usize]
            }
        }
    }

    /// `\p{L}`
    pub fn is_letter(self) -> bool {
        matches!(self, Upper | Lower | Letter)
    }

    /// `[^\s\p{L}\p{N}]`
    pub fn is_symbol(self) -> bool {
        matches!(self, Other | Mark | Punctuation)
    }
}

/// Where each run of one class begins: `first << 3 | class`.
fn runs() -> &'static [u32] {
    static RUNS: OnceLock<Vec<u32>> = OnceLock::new();
    RUNS.get_or_init(|| {
        let table = Varints(include_bytes!("tables/classes.bin"));
        let (mut runs, mut first) = (Vec::new(), 0);
        for run in table {
            runs.push(first << 3 | run & 7);
            first += run >> 3;
        }
        runs
    })
}

/// Little-endian base 128.
pub(super) struct Varints(pub &'static [u8]);

impl Iterator for Varints {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let (mut value, mut shift) = (0, 0);
        loop {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= (byte as u32 & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return Some(value);
            }
        }
    }
}
