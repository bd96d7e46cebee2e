//! Causal attention of the batch's queries over the cache. Keys and values of a head are read once for up to four of the
//! queries that share it.

use super::memory::reserve;
use super::{CpuBackend, math};
use crate::Result;
use crate::backend::spec::LayerKind;
use crate::num::v128::*;

impl CpuBackend {
    pub(super) fn attention_step(&mut self, layer: usize) -> Result<()> {
        let (spec, batch) = (&self.spec, &mut self.batch);
        let dim = spec.head_dim;
        let per_kv = spec.heads / spec.kv_heads;
        let window = match spec.layer_kinds[layer] {
            LayerKind::Local => spec.sliding_window.unwrap_or(usize::MAX),
            _ => usize::MAX,
        };
        let need = 4 * (batch.start + batch.tokens).next_multiple_of(8) + 4 * dim;
        if batch.scores.len() < need {
            let more = need - batch.scores.len();
            reserve(&mut batch.scores, more, "attention scores")?;
            batch.scores.resize(need, 0.0);
        }
        for kv_head in 0..spec.kv_heads {
            let (keys, values) = self.cache.head(layer, kv_head);
            // (token, head) of the queries that share this head.
            let count = batch.tokens * per_kv;
            let place = |i: usize| (i / per_kv * spec.heads + kv_head * per_kv + i % per_kv) * dim;
            let mut i = 0;
            while i < count {
                let rows = (count - i).min(4);
                let mut tile = Tile {
                    keys,
                    values,
                    dim,
                    scale: spec.attention_scale,
                    offsets: std::array::from_fn(|r| place((i + r).min(count - 1))),
                    ends: std::array::from_fn(|r| batch.start + (i + r).min(count - 1) / per_kv + 1),
                    window,
                    queries: &batch.query,
                    out: &mut batch.attended,
                    scratch: &mut batch.scores,
                };
                match rows {
                    4 => tile.run::<4>(),
                    3 => tile.run::<3>(),
                    2 => tile.run::<2>(),
                    _ => tile.run::<1>(),
                }
                i += rows;
            }
        }
        Ok(())
    }
}

/// Up to four queries of one KV head.
struct Tile<'a> {
    /// `[position / 4][dim][4]`
    keys: &'a [f32],
    /// `[position][dim]`
    values: &'a [f32],
    dim: usize,
    scale: f32,
    /// Where each query, and its result, begins.
    offsets: [usize; 4],
    /// Each query sees the positions before this one, ascending.
    ends: [usize; 4],
    window: usize,
    queries: &'a [f32],
    out: &'a mut [f32],
    /// The queries as `[dim][R]`, then the scores as `[R][positions]`.
    scratch: &'a mut [f32],
}

impl Tile<'_> {
    fn run<const R: usize>(&mut self) {
        let dim = self.dim;
        // The blocks of eight positions that any of the queries sees.
        let first = self.ends[0].saturating_sub(self.window) / 8 * 8;
        let end = self.ends[R - 1].next_multiple_of(8);
        let len = end - first;
        let (query, scores) = self.scratch.split_at_mut(4 * dim);
        for r in 0..R {
            for (q, &x) in query[r..].iter_mut().step_by(R).zip(&self.queries[self.offsets[r]..][..dim]) {
                *q = x * self.scale;
            }
        }
        // The cache ends with a whole block of 4; of its last block of 8 only the first half may be there.
        let blocks = self.keys.len() / (4 * dim);
        for at in (first..end).step_by(8) {
            let mut acc = [[f32x4_splat(0.0); 2]; R];
            let low = self.keys[at * dim..][..4 * dim].as_ptr().cast::<u8>();
            let second = if at / 4 + 1 < blocks { at + 4 } else { at };
            let high = self.keys[second * dim..][..4 * dim].as_ptr().cast::<u8>();
            for d in 0..dim {
                // SAFETY: both blocks hold `4 dim` floats, `query` `R dim`.
                unsafe {
                    let (low, high) = (v128_load(low.add(16 * d)), v128_load(high.add(16 * d)));
                    for (r, acc) in acc.iter_mut().enumerate() {
                        let q = v128_load32_splat(query.as_ptr().cast::<u8>().add(4 * (d * R + r)));
                        acc[0] = f32x4_madd(low, q, acc[0]);
                        acc[1] = f32x4_madd(high, q, acc[1]);
                    }
                }
            }
            for (r, acc) in acc.into_iter().enumerate() {
                let place = &mut scores[r * len + at - first..][..8];
                // SAFETY: eight floats.
                unsafe {
                    v128_store(place.as_mut_ptr().cast(), acc[0]);
                    v128_store(place[4..].as_mut_ptr().cast(), acc[1]);
                }
            }
        }
        let mut inverse = [0.0; R];
        for r in 0..R {
            let row = &mut scores[r * len..][..len];
            let seen = self.ends[r].saturating_sub(self.window).max(first) - first..self.ends[r] - first;
            inverse[r] = 1.0 / math::softmax_unscaled(&mut row[seen.clone()]);
            row[..seen.start].fill(0.0);
            row[seen.end..].fill(0.0);
        }
        let last = self.ends[R - 1];
        let scores = scores.as_ptr();
        let mut d = 0;
        while d < dim {
            let wide = dim - d >= 8;
            let mut acc = [[f32x4_splat(0.0); 2]; R];
            if wide {
                let values = self.values[first * dim + d..(last - 1) * dim + d + 8].as_ptr();
                for p in 0..last - first {
                    // SAFETY: eight floats of each position in the slice; R rows of `len` scores.
                    unsafe {
                        let v = values.add(p * dim).cast::<u8>();
                        let (low, high) = (v128_load(v), v128_load(v.add(16)));
                        for (r, acc) in acc.iter_mut().enumerate() {
                            let s = v128_load32_splat(scores.add(r * len + p).cast());
                            acc[0] = f32x4_madd(low, s, acc[0]);
                            acc[1] = f32x4_madd(high, s, acc[1]);
                        }
                    }
                }
            }
            for r in 0..R {
                let out = &mut self.out[self.offsets[r] + d..self.offsets[r] + dim.min(d + 8)];
                if wide {
                    let factor = f32x4_splat(inverse[r]);
                    // SAFETY: eight floats.
                    unsafe {
                        v128_store(out.as_mut_ptr().cast(), f32x4_mul(acc[r][0], factor));
                        v128_store(out[4..].as_mut_ptr().cast(), f32x4_mul(acc[r][1], factor));
                    }
                } else {
                    for (i, out) in out.iter_mut().enumerate() {
                        // SAFETY: R rows of `len` scores.
                        let score = |p: usize| unsafe { *scores.add(r * len + p) };
                        *out = (first..last).map(|p| self.values[p * dim + d + i] * score(p - first)).sum::<f32>()
                            * inverse[r];
                    }
                }
            }
            d += 8;
        }
    }
}
