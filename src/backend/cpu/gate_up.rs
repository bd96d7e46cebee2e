//! Norm, gate and up products, activation(gate) * up.

use super::matrix::{inputs, products};
use super::pool::Parts;
use super::{CpuBackend, loaded, math};
use crate::Result;
use crate::backend::LayerSlot::{Gate, Up};

/// Multiply-adds that take as long as one activation.
const GATING: usize = 16;

impl CpuBackend {
    pub(super) fn gate_up_step(&mut self, layer: usize) -> Result<()> {
        let (spec, batch, pool) = (&self.spec, &mut self.batch, &mut self.pool);
        let weights = &loaded(&self.weights)?.layers[layer];
        batch.normed_panel(pool, 0, &weights.ffn_norm, spec.norm_eps, &inputs([&weights.gate, &weights.up]))?;
        products(pool, &mut batch.panel, [(&weights.gate, &mut batch.gate), (&weights.up, &mut batch.up)])?;
        let outs = [(Gate, &mut batch.gate[..]), (Up, &mut batch.up[..])];
        self.adapters.add(pool, layer, &batch.hidden, batch.tokens, outs)?;
        let (width, up, gate) = (spec.ffn, &batch.up, Parts::of(&mut batch.gate));
        pool.divide(batch.tokens, GATING * width, |tokens, _| {
            let of = tokens.start * width..tokens.end * width;
            // SAFETY: each token is given out once.
            math::gated(unsafe { gate.part(of.clone()) }, &up[of], spec.activation);
        });
        Ok(())
    }
}
