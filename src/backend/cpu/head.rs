//! Final norm and head, for the rows asked for.

use super::matrix::{inputs, products};
use super::memory::reserve;
use super::{CpuBackend, loaded, math};
use crate::Result;
use crate::backend::HeadRows;

impl CpuBackend {
    pub(super) fn head_step(&mut self, rows: HeadRows) -> Result<()> {
        let (spec, batch, pool) = (&self.spec, &mut self.batch, &mut self.pool);
        let weights = loaded(&self.weights)?;
        let head = weights.head.as_ref().unwrap_or(&weights.embedding);
        let first = match rows {
            HeadRows::None => batch.tokens,
            HeadRows::Last => batch.tokens - 1,
            HeadRows::All => 0,
        };
        let count = batch.tokens - first;
        batch.logits.clear();
        reserve(&mut batch.logits, count * spec.vocab, "the logits")?;
        batch.logits.resize(count * spec.vocab, 0.0);
        if count == 0 {
            return Ok(());
        }
        batch.normed_panel(pool, first, &weights.output_norm, spec.norm_eps, &inputs([head]))?;
        products(pool, &mut batch.panel, [(head, &mut batch.logits)])
    }

    /// Of all positions, after the final norm.
    pub(super) fn hidden_states(&self) -> Result<Vec<f32>> {
        let (weights, hidden) = (loaded(&self.weights)?, self.spec.hidden);
        let mut states = self.batch.residual[..self.batch.tokens * hidden].to_vec();
        states
            .chunks_exact_mut(hidden)
            .for_each(|x| math::rms_norm_in_place(x, &weights.output_norm, self.spec.norm_eps));
        Ok(states)
    }
}
