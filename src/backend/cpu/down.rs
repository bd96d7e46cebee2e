//! Down product (and post-norm), added to the residual stream.

use super::matrix::inputs;
use super::{CpuBackend, loaded};
use crate::Result;
use crate::backend::LayerSlot;

impl CpuBackend {
    pub(super) fn down_step(&mut self, layer: usize) -> Result<()> {
        let (spec, batch) = (&self.spec, &mut self.batch);
        let weights = &loaded(&self.weights)?.layers[layer];
        let tokens = batch.tokens;
        batch.panel.fill(&batch.gate[..tokens * spec.ffn], tokens, spec.ffn, &inputs([&weights.down]))?;
        weights.down.product(0..spec.hidden, &mut batch.panel, &mut batch.hidden, spec.hidden);
        self.adapters.add(layer, &batch.gate, tokens, [(LayerSlot::Down, &mut batch.hidden[..])])?;
        batch.add_to_residual(weights.post_ffn_norm.as_deref(), spec);
        Ok(())
    }
}
