//! The table of tokens: flat bytes, a kind each, and hash indexes over them. No per-token allocation, so that a
//! vocabulary of 262,144 tokens is ready in milliseconds.

use crate::{Error, Result};

/// GGUF's `token_type` numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

impl Kind {
    pub fn from_gguf(n: i64) -> Option<Kind> {
        use Kind::*;
        [Normal, Unknown, Control, UserDefined, Unused, Byte].into_iter().find(|k| *k as i64 == n)
    }

    /// Found in the text as a whole, never by merging.
    pub fn is_added(self) -> bool {
        matches!(self, Kind::Control | Kind::UserDefined | Kind::Unknown)
    }
}

/// Bytes and kind of each id. Ids that no token has are empty.
#[derive(Default)]
pub(super) struct Tokens {
    bytes: Vec<u8>,
    /// End of each token in `bytes`.
    ends: Vec<u32>,
    kinds: Vec<Kind>,
}

impl Tokens {
    pub fn with_capacity(tokens: usize) -> Tokens {
        let (bytes, ends) = (Vec::with_capacity(tokens * 7), Vec::with_capacity(tokens));
        Tokens { bytes, ends, kinds: Vec::with_capacity(tokens) }
    }

    /// Adds the next id; `write` appends its bytes.
    pub fn push(&mut self, kind: Kind, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len() as u32);
        self.kinds.push(kind);
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Empty for an id out of range.
    pub fn get(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let Some(&end) = self.ends.get(id) else { return &[] };
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        &self.bytes[start as usize..end as usize]
    }

    pub fn kind(&self, id: u32) -> Option<Kind> {
        self.kinds.get(id as usize).copied()
    }

    pub fn set_kind(&mut self, id: u32, kind: Kind) {
        self.kinds[id as usize] = kind;
    }

    pub fn ids_of(&self, wanted: impl Fn(Kind) -> bool) -> impl Iterator<Item = u32> {
        (0..self.len() as u32).filter(move |&id| wanted(self.kinds[id as usize]))
    }
}

/// Token bytes to id, for some of the tokens. Open addressing; the upper half of a slot is the hash, the lower `id + 1`.
pub(super) struct Index {
    slots: Vec<u64>,
}

impl Index {
    /// An index of the tokens of `wanted` kinds, empty ones left out. Two tokens of the same bytes are an error.
    pub fn new(tokens: &Tokens, wanted: impl Fn(Kind) -> bool) -> Result<Index> {
        let mut index = Index { slots: vec![0; (tokens.ids_of(&wanted).count() * 2).max(2).next_power_of_two()] };
        for id in tokens.ids_of(wanted) {
            let bytes = tokens.get(id);
            if bytes.is_empty() {
                continue;
            }
            let hash = hash(bytes);
            match index.probe(tokens, bytes, hash) {
                Ok(other) => {
                    let text = String::from_utf8_lossy(bytes);
                    return Err(Error::Tokenizer(format!("token {text:?} is there twice, as {other} and as {id}")));
                }
                Err(slot) => index.slots[slot] = (hash as u64) << 32 | (id + 1) as u64,
            }
        }
        Ok(index)
    }

    pub fn find(&self, tokens: &Tokens, bytes: &[u8]) -> Option<u32> {
        self.probe(tokens, bytes, hash(bytes)).ok()
    }

    /// The id, or the empty slot where it belongs.
    fn probe(&self, tokens: &Tokens, bytes: &[u8], hash: u32) -> Result<u32, usize> {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                return Err(at);
            }
            let id = slot as u32 - 1;
            if (slot >> 32) as u32 == hash && tokens.get(id) == bytes {
                return Ok(id);
            }
            at = (at + 1) & mask;
        }
    }
}

/// A multiplicative hash, eight bytes a step; the last step overlaps the one before.
fn hash(bytes: &[u8]) -> u32 {
    let n = bytes.len();
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let half = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as u64;
    let h = match n {
        0 => 0,
        1..4 => bytes[0] as u64 | (bytes[n / 2] as u64) << 8 | (bytes[n - 1] as u64) << 16,
        4..8 => half(0) | half(n - 4) << 32,
        _ => {
            let mut h = 0;
            let mut at = 0;
            while at + 8 < n {
                h = mix(h ^ word(at));
                at += 8;
            }
            h ^ word(n - 8)
        }
    };
    (mix(h ^ (n as u64) << 56) >> 32) as u32
}

/// Spreads every bit over the upper half.
pub(super) fn mix(h: u64) -> u64 {
    let h = h.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (h ^ h >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9)
}
