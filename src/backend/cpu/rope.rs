//! Rotary position embeddings: cosines and sines of the batch's positions, made once per batch.

use super::weights::Weights;
use crate::Result;
use crate::backend::RopeFactors;
use crate::backend::rope::Frequencies;
use crate::backend::spec::{DecoderSpec, LayerKind, Rope, RopePairs};
use crate::num::v128::*;

#[derive(Default)]
pub struct RopeTables {
    global: Option<Table>,
    /// Of the local layers, where it differs.
    local: Option<Table>,
}

pub struct Table {
    pairs: RopePairs,
    dim: usize,
    frequencies: Frequencies,
    /// `[tokens, 2, dim]`: of each column the cosine, and the sine that its partner is multiplied with.
    turns: Vec<f32>,
}

impl RopeTables {
    /// `factors`: those that count.
    pub fn new(spec: &DecoderSpec, weights: &Weights, factors: RopeFactors) -> Result<RopeTables> {
        let factors = weights.rope_factors.get(&factors);
        Ok(RopeTables {
            global: Some(Table::new(&spec.rope, spec, factors)?),
            local: spec.local_rope.as_ref().map(|rope| Table::new(rope, spec, factors)).transpose()?,
        })
    }

    pub fn prepare(&mut self, start: usize, tokens: usize) {
        for table in [&mut self.global, &mut self.local].into_iter().flatten() {
            table.prepare(start, tokens);
        }
    }

    pub fn of(&self, kind: LayerKind) -> Option<&Table> {
        match kind {
            LayerKind::NoRope => None,
            LayerKind::Local => self.local.as_ref().or(self.global.as_ref()),
            LayerKind::Global => self.global.as_ref(),
        }
    }
}

impl Table {
    fn new(rope: &Rope, spec: &DecoderSpec, factors: Option<&Vec<f32>>) -> Result<Table> {
        let frequencies = Frequencies::new(rope, spec, factors)?;
        Ok(Table { pairs: rope.pairs, dim: rope.dim, frequencies, turns: Vec::new() })
    }

    fn prepare(&mut self, start: usize, tokens: usize) {
        self.turns.clear();
        self.turns.resize(tokens * 2 * self.dim, 0.0);
        for (position, turns) in (start..).zip(self.turns.chunks_exact_mut(2 * self.dim)) {
            let (cosines, sines) = turns.split_at_mut(self.dim);
            for (i, (cos, sin)) in self.frequencies.turns(position).enumerate() {
                let (a, b) = match self.pairs {
                    RopePairs::Neighbours => (2 * i, 2 * i + 1),
                    RopePairs::Halves => (i, i + self.dim / 2),
                };
                (cosines[a], cosines[b], sines[a], sines[b]) = (cos, cos, -sin, sin);
            }
        }
    }

    /// Turns all heads of one row, which is the batch's token `t`.
    pub fn turn(&self, t: usize, row: &mut [f32], head_dim: usize) {
        let (cosines, sines) = self.turns[t * 2 * self.dim..][..2 * self.dim].split_at(self.dim);
        for head in row.chunks_exact_mut(head_dim) {
            let head = &mut head[..self.dim];
            match self.pairs {
                RopePairs::Neighbours => {
                    for (i, four) in head.as_chunks_mut().0.iter_mut().enumerate() {
                        let [cos, sin] = [cosines, sines].map(|all| f32x4_load(&all.as_chunks().0[i]));
                        let x = f32x4_load(four);
                        f32x4_store(four, turned(x, f32x4_swap_pairs(x), cos, sin));
                    }
                    for i in (self.dim / 4 * 4..self.dim).step_by(2) {
                        let [a, b] = [head[i], head[i + 1]];
                        head[i] = a * cosines[i] + b * sines[i];
                        head[i + 1] = b * cosines[i + 1] + a * sines[i + 1];
                    }
                }
                RopePairs::Halves => {
                    let half = self.dim / 2;
                    let (low, high) = head.split_at_mut(half);
                    let (cosines, sines) = (&cosines[half..], &sines[half..]);
                    let fours = low.as_chunks_mut().0.iter_mut().zip(high.as_chunks_mut().0);
                    for (i, (low, high)) in fours.enumerate() {
                        let [cos, sin] = [cosines, sines].map(|all| f32x4_load(&all.as_chunks().0[i]));
                        let (a, b) = (f32x4_load(low), f32x4_load(high));
                        f32x4_store(low, turned(a, b, cos, f32x4_neg(sin)));
                        f32x4_store(high, turned(b, a, cos, sin));
                    }
                    for i in half / 4 * 4..half {
                        let (a, b) = (low[i], high[i]);
                        low[i] = a * cosines[i] - b * sines[i];
                        high[i] = b * cosines[i] + a * sines[i];
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn turned(x: v128, partner: v128, cos: v128, sin: v128) -> v128 {
    f32x4_add(f32x4_mul(x, cos), f32x4_mul(partner, sin))
}
