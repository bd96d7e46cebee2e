//! Down product (and post-norm), added to the residual stream.

use super::CpuBackend;
use super::matrix::inputs;
use crate::Result;

impl CpuBackend {
    pub(super) fn down_step(&mut self, layer: usize) -> Result<()> {
        self.weights()?;
        let (spec, batch) = (&self.spec, &mut self.batch);
        let weights = &self.weights.as_ref().expect("looked at above").layers[layer];
        let tokens = batch.tokens;
        batch.panel.fill(&batch.gate[..tokens * spec.ffn], tokens, spec.ffn, &inputs([&weights.down]))?;
        weights.down.product(0..spec.hidden, &mut batch.panel, &mut batch.hidden, spec.hidden);
        batch.add_to_residual(weights.post_ffn_norm.as_deref(), spec);
        Ok(())
    }
}
