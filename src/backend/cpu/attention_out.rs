//! Output product (and post-norm), added to the residual stream.

use super::CpuBackend;
use super::matrix::inputs;
use crate::Result;

impl CpuBackend {
    pub(super) fn attention_out_step(&mut self, layer: usize) -> Result<()> {
        self.weights()?;
        let (spec, batch) = (&self.spec, &mut self.batch);
        let weights = &self.weights.as_ref().expect("looked at above").layers[layer];
        let (tokens, width) = (batch.tokens, spec.heads * spec.head_dim);
        let output = &weights.attention_output;
        batch.panel.fill(&batch.attended[..tokens * width], tokens, width, &inputs([output]))?;
        output.product(0..spec.hidden, &mut batch.panel, &mut batch.hidden, spec.hidden);
        batch.add_to_residual(weights.post_attention_norm.as_deref(), spec);
        Ok(())
    }
}
