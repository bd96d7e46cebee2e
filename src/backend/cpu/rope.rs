//! Rotary position embeddings: cosines and sines of the batch's positions, made once per batch.

use super::weights::Weights;
use crate::Result;
use crate::backend::RopeFactors;
use crate::backend::rope::Frequencies;
use crate::backend::spec::{DecoderSpec, LayerKind, Rope, RopePairs};

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
    /// `[tokens, dim / 2]` of (cos, sin).
    turns: Vec<(f32, f32)>,
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
        for position in start..start + tokens {
            self.turns.extend(self.frequencies.turns(position));
        }
    }

    /// Turns all heads of one row, which is the batch's token `t`.
    pub fn turn(&self, t: usize, row: &mut [f32], head_dim: usize) {
        let half = self.dim / 2;
        let turns = &self.turns[t * half..][..half];
        for head in row.chunks_exact_mut(head_dim) {
            match self.pairs {
                RopePairs::Neighbours => {
                    for (pair, &(cos, sin)) in head.chunks_exact_mut(2).zip(turns) {
                        let (a, b) = (pair[0], pair[1]);
                        (pair[0], pair[1]) = (a * cos - b * sin, a * sin + b * cos);
                    }
                }
                RopePairs::Halves => {
                    let (low, high) = head[..self.dim].split_at_mut(half);
                    for ((low, high), &(cos, sin)) in low.iter_mut().zip(high).zip(turns) {
                        let (a, b) = (*low, *high);
                        (*low, *high) = (a * cos - b * sin, a * sin + b * cos);
                    }
                }
            }
        }
    }
}
