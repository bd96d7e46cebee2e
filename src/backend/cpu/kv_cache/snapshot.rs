//! The cache's first positions as bytes: how far the sequence was written (u64), then of each layer its keys, values and their
//! scales, each head's first chunks as they stand, or all of a ring that has gone round.

use super::super::memory::reserve;
use super::{CHUNK, KvCache, LayerCache};
use crate::{Error, Result};

impl KvCache {
    pub fn layout(&self) -> &'static str {
        "cpu-int-1"
    }

    /// Of a layer whose first `positions` are saved.
    fn saved_of(&self, layer: &LayerCache, positions: usize) -> usize {
        let ring = self.ring.filter(|_| layer.is_ring).map_or(usize::MAX, |(_, room)| room);
        positions.next_multiple_of(CHUNK).min(ring)
    }

    fn saved_bytes(&self, positions: usize) -> usize {
        let row = 2 * (self.row_bytes() + size_of::<f32>());
        let saved = |layer| self.kv_heads * self.saved_of(layer, positions) * row;
        size_of::<u64>() + self.layers.iter().map(saved).sum::<usize>()
    }

    /// Errors: [`Error::OutOfMemory`]; [`Error::BadRequest`] where it does not hold so many any more.
    pub fn save(&self, positions: usize, into: &mut Vec<u8>) -> Result<()> {
        if positions == 0 || !self.holds(positions) {
            return Err(Error::BadRequest(format!("the cache does not hold its first {positions} positions any more")));
        }
        // And a little for who goes on writing.
        reserve(into, self.saved_bytes(positions) + 64, "a saved prefix")?;
        into.extend((self.written as u64).to_le_bytes());
        for layer in &self.layers {
            let saved = self.saved_of(layer, positions);
            for plane in [&layer.keys, &layer.values] {
                heads(plane.len(), self.kv_heads).for_each(|at| into.extend(&plane[at..][..saved * self.row_bytes()]));
            }
            for plane in [&layer.key_scales, &layer.value_scales] {
                let floats = heads(plane.len(), self.kv_heads).flat_map(|at| &plane[at..][..saved]);
                into.extend(floats.flat_map(|x| x.to_le_bytes()));
            }
        }
        Ok(())
    }

    /// Errors: [`Error::BadRequest`] where the bytes are not those of so many positions; [`Error::OutOfMemory`].
    pub fn load(&mut self, positions: usize, bytes: &[u8]) -> Result<()> {
        self.clear();
        let written = bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)) as usize;
        if positions > self.context
            || bytes.len() != self.saved_bytes(positions)
            || !(positions..=self.context).contains(&written)
        {
            return Err(Error::BadRequest(format!("{} bytes are not those of {positions} positions", bytes.len())));
        }
        self.extend(0, positions)?;
        let (kv_heads, row_bytes) = (self.kv_heads, self.row_bytes());
        let saved: Vec<usize> = self.layers.iter().map(|layer| self.saved_of(layer, positions)).collect();
        let mut rest = &bytes[size_of::<u64>()..];
        let mut take = |n: usize| {
            let (taken, behind) = rest.split_at(n);
            rest = behind;
            taken
        };
        for (layer, saved) in self.layers.iter_mut().zip(saved) {
            for plane in [&mut layer.keys, &mut layer.values] {
                for at in heads(plane.len(), kv_heads) {
                    plane[at..][..saved * row_bytes].copy_from_slice(take(saved * row_bytes));
                }
            }
            for plane in [&mut layer.key_scales, &mut layer.value_scales] {
                for at in heads(plane.len(), kv_heads) {
                    for (x, from) in plane[at..].iter_mut().zip(take(saved * size_of::<f32>()).as_chunks().0) {
                        *x = f32::from_le_bytes(*from);
                    }
                }
            }
        }
        self.written = written;
        match self.holds(positions) {
            true => Ok(()),
            false => {
                self.clear();
                Err(Error::BadRequest(format!("its first {positions} positions had been overwritten")))
            }
        }
    }
}

/// Where each head begins.
fn heads(len: usize, heads: usize) -> impl Iterator<Item = usize> {
    (0..heads).map(move |h| h * (len / heads))
}
