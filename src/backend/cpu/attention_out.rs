//! Output product (and post-norm), added to the residual stream.

use super::matrix::{inputs, products};
use super::{CpuBackend, loaded};
use crate::Result;
use crate::backend::LayerSlot;

impl CpuBackend {
    pub(super) fn attention_out_step(&mut self, layer: usize) -> Result<()> {
        let (spec, batch, pool) = (&self.spec, &mut self.batch, &mut self.pool);
        let weights = &loaded(&self.weights)?.layers[layer];
        let (tokens, width) = (batch.tokens, spec.heads * spec.head_dim);
        let output = &weights.attention_output;
        let attended = &batch.attended;
        batch.panel.fill(pool, tokens, width, &inputs([output]), |t| &attended[t * width..][..width])?;
        products(pool, &mut batch.panel, [(output, &mut batch.hidden)])?;
        self.adapters.add(pool, layer, attended, tokens, [(LayerSlot::AttentionOutput, &mut batch.hidden[..])])?;
        batch.add_to_residual(pool, weights.post_attention_norm.as_deref(), spec);
        Ok(())
    }
}
