//! Down product (and post-norm) of the panel that the step before has made, added to the residual stream.

use super::matrix::products;
use super::{CpuBackend, loaded};
use crate::Result;
use crate::backend::LayerSlot;

impl CpuBackend {
    pub(super) fn down_step(&mut self, layer: usize) -> Result<()> {
        let (spec, batch, pool) = (&self.spec, &mut self.batch, &mut self.pool);
        let weights = &loaded(&self.weights)?.layers[layer];
        products(pool, &mut batch.down_panel, [(&weights.down, &mut batch.hidden)])?;
        self.adapters.add(pool, layer, &batch.gate, batch.tokens, [(LayerSlot::Down, &mut batch.hidden[..])])?;
        batch.add_to_residual(pool, weights.post_ffn_norm.as_deref(), spec);
        Ok(())
    }
}
