//! Unicode's composed form (NFC), which Qwen2's vocabularies are made for, from a table of 12 kB (`tests/unicode.rs`
//! makes it from the tables that Hugging Face's `tokenizers` uses).

use super::unicode::Varints;
use std::borrow::Cow;
use std::sync::OnceLock;

/// `text` in NFC.
pub(super) fn compose(text: Cow<str>) -> Cow<str> {
    // No character before U+0300 (in UTF-8: 0xCC 0x80) combines or decomposes into something else under NFC.
    if text.bytes().all(|b| b < 0xCC) {
        return text;
    }
    let tables = tables();
    let mut chars: Vec<(u8, char)> = Vec::with_capacity(text.len());
    for c in text.chars() {
        tables.decompose(c, &mut chars);
    }
    for run in chars.chunk_by_mut(|a, b| a.0 != 0 && b.0 != 0) {
        run.sort_by_key(|(class, _)| *class);
    }

    let mut out: Vec<char> = Vec::with_capacity(chars.len());
    // Where the last starter is in `out`, and the class of the last character kept after it.
    let (mut starter, mut last) = (None, None);
    for (class, c) in chars {
        let blocked = last.is_some_and(|last| last >= class);
        let composed = starter.filter(|_| !blocked).and_then(|at: usize| Some((at, tables.pair(out[at], c)?)));
        match composed {
            Some((at, whole)) => out[at] = whole,
            None => {
                out.push(c);
                last = Some(class);
                if class == 0 {
                    (starter, last) = (Some(out.len() - 1), None);
                }
            }
        }
    }
    Cow::Owned(out.into_iter().collect())
}

struct Tables {
    /// Where each run of one combining class begins: `first << 8 | class`.
    classes: Vec<u32>,
    /// Character, its two parts (the second 0 if there is one only); sorted.
    decompositions: Vec<(u32, u32, u32)>,
    /// Two parts, character; sorted.
    pairs: Vec<(u32, u32, u32)>,
}

fn tables() -> &'static Tables {
    static TABLES: OnceLock<Tables> = OnceLock::new();
    TABLES.get_or_init(|| {
        let mut data = Varints(include_bytes!("tables/nfc.bin"));
        let mut next = || data.next();
        let (mut classes, mut first) = (Vec::new(), 0);
        while let Some(len @ 1..) = next() {
            classes.push(first << 8 | next().unwrap_or(0));
            first += len;
        }
        classes.push(first << 8);
        let (mut decompositions, mut pairs, mut c) = (Vec::new(), Vec::new(), 0);
        while let (Some(step), Some(part), Some(second)) = (next(), next(), next()) {
            c += step;
            decompositions.push((c, part >> 1, second));
            if part & 1 == 1 {
                pairs.push((part >> 1, second, c));
            }
        }
        pairs.sort_unstable();
        Tables { classes, decompositions, pairs }
    })
}

/// Hangul syllables are computed: lead, vowel and tail consonants.
const SYLLABLES: std::ops::Range<u32> = 0xAC00..0xAC00 + 11172;
const LEADS: u32 = 0x1100;
const VOWELS: u32 = 0x1161;
const TAILS: u32 = 0x11A7;

impl Tables {
    fn class(&self, c: u32) -> u8 {
        let i = self.classes.partition_point(|&run| run >> 8 <= c);
        self.classes[i - 1] as u8
    }

    fn decompose(&self, c: char, out: &mut Vec<(u8, char)>) {
        let n = c as u32;
        let mut part = |n: u32| {
            if let Some(c) = char::from_u32(n) {
                self.decompose(c, out);
            }
        };
        if SYLLABLES.contains(&n) {
            let (lead_vowel, tail) = ((n - SYLLABLES.start) / 28, (n - SYLLABLES.start) % 28);
            part(LEADS + lead_vowel / 21);
            part(VOWELS + lead_vowel % 21);
            if tail > 0 {
                part(TAILS + tail);
            }
        } else if let Ok(i) = self.decompositions.binary_search_by_key(&n, |(c, ..)| *c) {
            let (_, first, second) = self.decompositions[i];
            part(first);
            if second > 0 {
                part(second);
            }
        } else {
            out.push((self.class(n), c));
        }
    }

    fn pair(&self, a: char, b: char) -> Option<char> {
        let (a, b) = (a as u32, b as u32);
        if (LEADS..LEADS + 19).contains(&a) && (VOWELS..VOWELS + 21).contains(&b) {
            return char::from_u32(SYLLABLES.start + ((a - LEADS) * 21 + b - VOWELS) * 28);
        }
        if SYLLABLES.contains(&a) && (a - SYLLABLES.start).is_multiple_of(28) && (TAILS + 1..TAILS + 28).contains(&b) {
            return char::from_u32(a + b - TAILS);
        }
        let i = self.pairs.binary_search_by_key(&(a, b), |(a, b, _)| (*a, *b)).ok()?;
        char::from_u32(self.pairs[i].2)
    }
}
