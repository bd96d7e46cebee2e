//! Output product (and post-norm), added to the residual stream.

use super::matrix::inputs;
use super::{CpuBackend, loaded};
use crate::Result;
use crate::backend::LayerSlot;

impl CpuBackend {
    pub(super) fn attention_out_step(&mut self, layer: usize) -> Result<()> {
        let (spec, batch) = (&self.spec, &mut self.batch);
        let weights = &loaded(&self.weights)?.layers[layer];
        let (tokens, width) = (batch.tokens, spec.heads * spec.head_dim);
        let output = &weights.attention_output;
        batch.panel.fill(&batch.attended[..tokens * width], tokens, width, &inputs([output]))?;
        output.product(0..spec.hidden, &mut batch.panel, &mut batch.hidden, spec.hidden);
        self.adapters.add(layer, &batch.attended, tokens, [(LayerSlot::AttentionOutput, &mut batch.hidden[..])])?;
        batch.add_to_residual(weights.post_attention_norm.as_deref(), spec);
        Ok(())
    }
}
