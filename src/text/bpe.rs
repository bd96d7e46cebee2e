//! The merge loop of byte pair encoding, for rank tables and for SentencePiece's scores alike: neighbours are merged,
//! the best pair first, the leftmost among equals, in O(n log n).

use super::tokens::{Index, Tokens, mix};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// No token, no neighbour.
pub(super) const NONE: u32 = u32::MAX;

/// Which neighbours merge, into what, and how early.
pub(super) enum Merges {
    Ranks(RankTable),
    /// SentencePiece: any two neighbours whose bytes together are a token; by id, the higher the earlier.
    Scores(Vec<f32>),
}

/// `(left, right) -> (rank, merged)`, the rank being the position in `merges`.
pub(super) struct RankTable {
    /// Left, right, merged.
    merges: Vec<[u32; 3]>,
    /// Position in `merges` plus one, by hash with open addressing; 0 is empty.
    slots: Vec<u32>,
}

impl RankTable {
    pub fn with_capacity(merges: usize) -> RankTable {
        RankTable { merges: Vec::with_capacity(merges), slots: vec![0; (merges * 2).max(2).next_power_of_two()] }
    }

    pub fn len(&self) -> usize {
        self.merges.len()
    }

    /// The next merge in rank. `merged` may be [`NONE`]: it keeps its rank and does nothing. At most as many as
    /// `with_capacity` was told.
    pub fn push(&mut self, left: u32, right: u32, merged: u32) {
        self.merges.push([left, right, merged]);
        if merged != NONE
            && let Err(slot) = self.probe(left, right)
        {
            self.slots[slot] = self.merges.len() as u32;
        }
    }

    fn get(&self, left: u32, right: u32) -> Option<(u32, u32)> {
        let rank = self.probe(left, right).ok()?;
        Some((rank as u32, self.merges[rank][2]))
    }

    /// The rank, or the empty slot where it belongs.
    fn probe(&self, left: u32, right: u32) -> Result<usize, usize> {
        let mask = self.slots.len() - 1;
        let mut at = (mix((left as u64) << 32 | right as u64) >> 32) as usize & mask;
        while self.slots[at] != 0 {
            let rank = self.slots[at] as usize - 1;
            let [l, r, _] = self.merges[rank];
            if (l, r) == (left, right) {
                return Ok(rank);
            }
            at = (at + 1) & mask;
        }
        Err(at)
    }
}

/// A piece of the text: `start..end` in bytes, with its neighbours.
struct Symbol {
    start: u32,
    end: u32,
    /// [`NONE`] for a character that is not in the vocabulary.
    id: u32,
    previous: u32,
    next: u32,
}

/// The loop with its scratch memory, which lives for one text.
pub(super) struct Merger<'a> {
    pub tokens: &'a Tokens,
    pub plain: &'a Index,
    pub merges: &'a Merges,
    symbols: Vec<Symbol>,
    /// (rank, left symbol, bytes of the pair, merged id): the smallest is the next to merge.
    queue: BinaryHeap<Reverse<(u32, u32, u32, u32)>>,
}

impl<'a> Merger<'a> {
    pub fn new(tokens: &'a Tokens, plain: &'a Index, merges: &'a Merges) -> Self {
        Self { tokens, plain, merges, symbols: Vec::new(), queue: BinaryHeap::new() }
    }

    /// Adds the next symbol of a word.
    pub fn push(&mut self, len: usize, id: u32) {
        let n = self.symbols.len() as u32;
        let start = self.symbols.last().map_or(0, |s| s.end);
        self.symbols.push(Symbol { start, end: start + len as u32, id, previous: n.wrapping_sub(1), next: n + 1 });
    }

    /// Merges the symbols of `word` and hands out what is left, in order: bytes and id. Forgets them.
    pub fn finish(&mut self, word: &[u8], mut emit: impl FnMut(&[u8], u32)) {
        if let Some(last) = self.symbols.last_mut() {
            last.next = NONE;
        }
        for left in 1..self.symbols.len() as u32 {
            self.consider(word, left - 1, left);
        }
        while let Some(Reverse((_, left, bytes, merged))) = self.queue.pop() {
            let Symbol { start, next: right, .. } = self.symbols[left as usize];
            // Stale when one of the two has merged with another since: gone (empty), or longer.
            if right == NONE
                || is_gone(&self.symbols[left as usize])
                || self.symbols[right as usize].end - start != bytes
            {
                continue;
            }
            let Symbol { end, next, .. } = self.symbols[right as usize];
            self.symbols[right as usize].start = end;
            let symbol = &mut self.symbols[left as usize];
            (symbol.end, symbol.id, symbol.next) = (end, merged, next);
            let previous = symbol.previous;
            if next != NONE {
                self.symbols[next as usize].previous = left;
                self.consider(word, left, next);
            }
            if previous != NONE {
                self.consider(word, previous, left);
            }
        }
        for s in self.symbols.drain(..).filter(|s| !is_gone(s)) {
            emit(&word[s.start as usize..s.end as usize], s.id);
        }
    }

    fn consider(&mut self, word: &[u8], left: u32, right: u32) {
        let (l, r) = (&self.symbols[left as usize], &self.symbols[right as usize]);
        let found = match self.merges {
            Merges::Ranks(table) => table.get(l.id, r.id),
            Merges::Scores(scores) => {
                let id = self.plain.find(self.tokens, &word[l.start as usize..r.end as usize]);
                id.map(|id| (rank_of(scores[id as usize]), id))
            }
        };
        if let Some((rank, merged)) = found {
            self.queue.push(Reverse((rank, left, r.end - l.start, merged)));
        }
    }
}

fn is_gone(s: &Symbol) -> bool {
    s.start == s.end
}

/// An integer that is the smaller, the higher the score.
fn rank_of(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits(); // -0.0 is 0.0
    if bits >> 31 == 0 { !(bits | 1 << 31) } else { bits }
}
