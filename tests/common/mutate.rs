//! A deterministic mutation fuzzer.

#![allow(dead_code)]

use kinglet::generate::sampler::SplitMix64;

/// Any seed will do, so that execution i can be run again alone.
pub struct Random(SplitMix64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(SplitMix64(seed))
    }

    pub fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// Numbers that break parsers: around zero, powers of two, the file's length, all ones.
    fn hostile(&mut self, len: usize) -> u64 {
        let base = match self.below(5) {
            0 => 0,
            1 => 1u64 << self.below(64),
            2 => len as u64,
            3 => u64::MAX,
            _ => self.next() >> self.below(64),
        };
        base.wrapping_add(self.below(5) as u64).wrapping_sub(2)
    }
}

pub fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    let len = bytes.len();
    // Headers are at the front: half of all mutations go into the first KiB.
    let at = if random.below(2) == 0 { random.below(len.min(1024)) } else { random.below(len) };
    let width = random.below(32).min(len - at);
    match random.below(9) {
        0 if len > 0 => bytes[at] ^= 1 << random.below(8),
        1 if len > 0 => bytes[at] = random.next() as u8,
        2 if len >= at + 4 => bytes[at..at + 4].copy_from_slice(&(random.hostile(len) as u32).to_le_bytes()),
        3 if len >= at + 8 => bytes[at..at + 8].copy_from_slice(&random.hostile(len).to_le_bytes()),
        4 if len >= at + 4 => bytes[at..at + 4].copy_from_slice(&(random.below(16) as u32).to_le_bytes()),
        5 => drop(bytes.drain(at..at + width)),
        6 => {
            let inserted: Vec<u8> = (0..width).map(|_| random.next() as u8).collect();
            bytes.splice(at..at, inserted);
        }
        7 => {
            let (copy, to) = (bytes[at..at + width].to_vec(), random.below(len - width + 1));
            bytes[to..to + width].copy_from_slice(&copy);
        }
        _ => bytes.truncate(at.max(random.below(len))),
    }
}
