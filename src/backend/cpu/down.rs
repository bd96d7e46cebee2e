//! Down product (and post-norm), added to the residual stream.

use super::matrix::{inputs, products};
use super::{CpuBackend, loaded};
use crate::Result;
use crate::backend::LayerSlot;

impl CpuBackend {
    pub(super) fn down_step(&mut self, layer: usize) -> Result<()> {
        let (spec, batch, pool) = (&self.spec, &mut self.batch, &mut self.pool);
        let weights = &loaded(&self.weights)?.layers[layer];
        let (tokens, width) = (batch.tokens, spec.ffn);
        let gate = &batch.gate;
        batch.panel.fill(pool, tokens, width, &inputs([&weights.down]), |t| &gate[t * width..][..width])?;
        products(pool, &mut batch.panel, [(&weights.down, &mut batch.hidden)])?;
        self.adapters.add(pool, layer, gate, tokens, [(LayerSlot::Down, &mut batch.hidden[..])])?;
        batch.add_to_residual(pool, weights.post_ffn_norm.as_deref(), spec);
        Ok(())
    }
}
