//! Causal attention of the batch's queries over the cache. Keys and values of a head are read once for up to four of the
//! queries that share it.

use super::kv_cache::BLOCK;
use super::memory::reserve;
use super::pool::Parts;
use super::{CpuBackend, math};
use crate::Result;
use crate::backend::spec::{DecoderSpec, LayerKind};
use crate::num::v128::*;

impl CpuBackend {
    pub(super) fn attention_step(&mut self, layer: usize) -> Result<()> {
        let (spec, batch, pool) = (&self.spec, &mut self.batch, &mut self.pool);
        let dim = spec.head_dim;
        let per_kv = spec.heads / spec.kv_heads;
        let window = match spec.layer_kinds[layer] {
            LayerKind::Local => spec.sliding_window.unwrap_or(usize::MAX),
            _ => usize::MAX,
        };
        let positions = batch.start + batch.tokens;
        let scratch = scores_of(spec, positions) as usize;
        let need = scratch * pool.threads();
        if batch.scores.len() < need {
            let more = need - batch.scores.len();
            reserve(&mut batch.scores, more, "attention scores")?;
            batch.scores.resize(need, 0.0);
        }
        // (token, head) of the queries that share a head of the cache, in tiles of four.
        let count = batch.tokens * per_kv;
        let tiles = count.div_ceil(4);
        let (cache, queries, start) = (&self.cache, &batch.query, batch.start);
        let (attended, scores) = (Parts::of(&mut batch.attended), Parts::of(&mut batch.scores));
        pool.divide(spec.kv_heads * tiles, 8 * dim * positions.min(window), |given, thread| {
            for unit in given {
                let (kv_head, i) = (unit / tiles, unit % tiles * 4);
                let place = |i: usize| (i / per_kv * spec.heads + kv_head * per_kv + i % per_kv) * dim;
                let (keys, values) = cache.head(layer, kv_head);
                let mut tile = Tile {
                    keys,
                    values,
                    dim,
                    scale: spec.attention_scale,
                    offsets: std::array::from_fn(|r| place((i + r).min(count - 1))),
                    ends: std::array::from_fn(|r| start + (i + r).min(count - 1) / per_kv + 1),
                    window,
                    queries,
                    out: attended,
                    // SAFETY: each thread has its own.
                    scratch: unsafe { scores.part(thread * scratch..(thread + 1) * scratch) },
                };
                match count - i {
                    4.. => tile.run::<4, 2>(),
                    3 => tile.run::<3, 4>(),
                    2 => tile.run::<2, 4>(),
                    _ => tile.run::<1, 4>(),
                }
            }
        });
        Ok(())
    }
}

/// Floats of a thread's scratch for a context of so many positions.
pub(super) fn scores_of(spec: &DecoderSpec, positions: usize) -> u64 {
    4 * (positions as u64).next_multiple_of(BLOCK as u64) + 4 * (spec.head_dim + BLOCK) as u64
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
    /// Each tile has its own places.
    out: Parts<'a, f32>,
    /// The queries as `[dim][R]`, then the scores as `[R][positions]`, from the first block that is seen.
    scratch: &'a mut [f32],
}

impl Tile<'_> {
    /// W vectors of four positions, and then of four dimensions, against R queries at a time; R (W + 1) + 1 is at most 16,
    /// the registers there are.
    fn run<const R: usize, const W: usize>(&mut self) {
        let dim = self.dim;
        // Whole blocks of the positions that any of the queries sees.
        let first = self.ends[0].saturating_sub(self.window) / BLOCK * BLOCK;
        let len = (self.ends[R - 1] - first).next_multiple_of(BLOCK);
        let (query, scores) = self.scratch.split_at_mut(4 * dim);
        for r in 0..R {
            for (q, &x) in query[r..].iter_mut().step_by(R).zip(&self.queries[self.offsets[r]..][..dim]) {
                *q = x * self.scale;
            }
        }
        for at in (0..len).step_by(4 * W) {
            let keys = &self.keys[(first + at) * dim..][..4 * W * dim];
            let mut acc = [[f32x4_splat(0.0); W]; R];
            for d in 0..dim {
                // SAFETY: W blocks of `4 dim` keys, and `R dim` of the queries.
                unsafe {
                    let keys: [v128; W] =
                        std::array::from_fn(|w| v128_load(keys.as_ptr().add(4 * (w * dim + d)).cast()));
                    for (r, acc) in acc.iter_mut().enumerate() {
                        let q = v128_load32_splat(query.as_ptr().add(d * R + r).cast());
                        for w in 0..W {
                            acc[w] = f32x4_madd(keys[w], q, acc[w]);
                        }
                    }
                }
            }
            for (r, acc) in acc.into_iter().enumerate() {
                let place = &mut scores[r * len + at..][..4 * W];
                for (place, acc) in place.chunks_exact_mut(4).zip(acc) {
                    // SAFETY: four floats.
                    unsafe { v128_store(place.as_mut_ptr().cast(), acc) };
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
        let seen = Seen {
            values: &self.values[first * dim..self.ends[R - 1] * dim],
            dim,
            scores: &scores[..R * len],
            len,
            inverse,
        };
        let mut d = 0;
        while d + 4 * W <= dim {
            seen.weighted::<W>(d, self.out, &self.offsets);
            d += 4 * W;
        }
        while d + 4 <= dim {
            seen.weighted::<1>(d, self.out, &self.offsets);
            d += 4;
        }
        for d in d..dim {
            for r in 0..R {
                let weighted = seen.values[d..].iter().step_by(dim).zip(&seen.scores[r * len..]).map(|(v, s)| v * s);
                let at = self.offsets[r] + d;
                // SAFETY: the tile's.
                unsafe { self.out.part(at..at + 1)[0] = weighted.sum::<f32>() * inverse[r] };
            }
        }
    }
}

/// Values and their weights.
struct Seen<'a, const R: usize> {
    /// `[position][dim]`
    values: &'a [f32],
    dim: usize,
    /// `[R][len]`
    scores: &'a [f32],
    len: usize,
    /// What makes each row of scores sum to 1.
    inverse: [f32; R],
}

impl<const R: usize> Seen<'_, R> {
    /// Sums of the dimensions d..d + 4 W.
    #[inline(always)]
    fn weighted<const W: usize>(&self, d: usize, out: Parts<f32>, offsets: &[usize; 4]) {
        let mut acc = [[f32x4_splat(0.0); W]; R];
        let positions = self.values.len() / self.dim;
        assert!(d + 4 * W <= self.dim && positions <= self.len && self.scores.len() >= R * self.len);
        for p in 0..positions {
            // SAFETY: position p has `dim` values and, in each row, a score.
            unsafe {
                let values = self.values.as_ptr().add(p * self.dim + d);
                let values: [v128; W] = std::array::from_fn(|w| v128_load(values.add(4 * w).cast()));
                for (r, acc) in acc.iter_mut().enumerate() {
                    let s = v128_load32_splat(self.scores.as_ptr().add(r * self.len + p).cast());
                    for w in 0..W {
                        acc[w] = f32x4_madd(values[w], s, acc[w]);
                    }
                }
            }
        }
        for r in 0..R {
            // SAFETY: the tile's.
            let out = unsafe { out.part(offsets[r] + d..offsets[r] + d + 4 * W) };
            for (out, acc) in out.chunks_exact_mut(4).zip(acc[r]) {
                // SAFETY: four floats.
                unsafe { v128_store(out.as_mut_ptr().cast(), f32x4_mul(acc, f32x4_splat(self.inverse[r]))) };
            }
        }
    }
}
