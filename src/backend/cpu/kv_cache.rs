//! Keys and values of all layers, in f32, grown by doubling.
//!
//! Keys stand as `[kv_head][position / 4][dim][4]`, so that four positions' scores are one vector; values as
//! `[kv_head][position][dim]`.

use super::memory::zeros;
use super::pool::Parts;
use crate::Result;
use crate::backend::spec::DecoderSpec;

/// Room at the start.
pub const FIRST_POSITIONS: usize = 256;

/// Positions that attention may read together, those behind the last being any numbers.
pub const BLOCK: usize = 16;

pub struct KvCache {
    kv_heads: usize,
    dim: usize,
    context: usize,
    /// Positions all layers have room for; a multiple of BLOCK.
    capacity: usize,
    /// Positions that hold something.
    pub len: usize,
    layers: Vec<LayerCache>,
}

#[derive(Default)]
struct LayerCache {
    /// Positions of each head.
    capacity: usize,
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl LayerCache {
    fn grow(&mut self, capacity: usize, kv_heads: usize, dim: usize) -> Result<()> {
        let (old, new) = (self.capacity * dim, capacity * dim);
        if old >= new {
            return Ok(());
        }
        let grown = |from: &[f32]| -> Result<Vec<f32>> {
            let mut to = zeros(kv_heads * new, "the KV cache")?;
            for h in 0..kv_heads {
                to[h * new..][..old].copy_from_slice(&from[h * old..][..old]);
            }
            Ok(to)
        };
        let (keys, values) = (grown(&self.keys)?, grown(&self.values)?);
        *self = LayerCache { capacity, keys, values };
        Ok(())
    }
}

impl KvCache {
    pub fn new(spec: &DecoderSpec) -> KvCache {
        KvCache {
            kv_heads: spec.kv_heads,
            dim: spec.head_dim,
            context: spec.context_length,
            capacity: 0,
            len: 0,
            layers: (0..spec.layers).map(|_| LayerCache::default()).collect(),
        }
    }

    /// Makes room for `positions`, keeping what is there; one layer at a time, so that old and new stand side by side for
    /// one layer only. Errors: [`crate::Error::OutOfMemory`], with nothing lost.
    pub fn grow(&mut self, positions: usize) -> Result<()> {
        if positions <= self.capacity {
            return Ok(());
        }
        let doubled = (self.capacity * 2).max(FIRST_POSITIONS).min(self.context);
        let capacity = positions.max(doubled).next_multiple_of(BLOCK);
        for layer in &mut self.layers {
            layer.grow(capacity, self.kv_heads, self.dim)?;
        }
        self.capacity = capacity;
        Ok(())
    }

    pub fn writer(&mut self, layer: usize) -> Writer<'_> {
        let layer = &mut self.layers[layer];
        Writer {
            dim: self.dim,
            kv_heads: self.kv_heads,
            stride: layer.capacity * self.dim,
            keys: Parts::of(&mut layer.keys),
            values: Parts::of(&mut layer.values),
        }
    }

    /// All keys and values of one head, whole BLOCKs.
    pub fn head(&self, layer: usize, kv_head: usize) -> (&[f32], &[f32]) {
        let layer = &self.layers[layer];
        let stride = layer.capacity * self.dim;
        (&layer.keys[kv_head * stride..][..stride], &layer.values[kv_head * stride..][..stride])
    }

    /// Of a cache with room for `positions`.
    pub fn bytes_of(spec: &DecoderSpec, positions: usize) -> u64 {
        let floats = 2 * spec.layers as u64 * spec.kv_heads as u64 * spec.head_dim as u64;
        (4 * floats).saturating_mul((positions as u64).next_multiple_of(BLOCK as u64))
    }

    pub fn bytes(&self) -> u64 {
        self.layers.iter().map(|l| 4 * (l.keys.capacity() + l.values.capacity()) as u64).sum()
    }
}

/// Of one layer, for several threads.
pub struct Writer<'a> {
    dim: usize,
    kv_heads: usize,
    /// Elements of a head.
    stride: usize,
    keys: Parts<'a, f32>,
    values: Parts<'a, f32>,
}

impl Writer<'_> {
    /// Keys and values of one position, `[kv_heads * dim]` each.
    ///
    /// # Safety
    /// Nobody else writes this position at the same time.
    pub unsafe fn write(&self, position: usize, key: &[f32], value: &[f32]) {
        let dim = self.dim;
        for h in 0..self.kv_heads {
            let (key, value) = (&key[h * dim..][..dim], &value[h * dim..][..dim]);
            let block = h * self.stride + position / 4 * 4 * dim;
            for (d, &k) in key.iter().enumerate() {
                let at = block + 4 * d + position % 4;
                // SAFETY: the caller's; the block's other positions are other elements.
                unsafe { self.keys.part(at..at + 1)[0] = k };
            }
            let at = h * self.stride + position * dim;
            // SAFETY: the caller's.
            unsafe { self.values.part(at..at + dim) }.copy_from_slice(value);
        }
    }
}
