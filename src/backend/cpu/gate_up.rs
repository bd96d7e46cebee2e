//! Norm, gate and up products, activation(gate) * up.

use super::matrix::{inputs, products, products_then};
use super::{CpuBackend, loaded, math};
use crate::Result;
use crate::backend::LayerSlot::{Gate, Up};

impl CpuBackend {
    pub(super) fn gate_up_step(&mut self, layer: usize) -> Result<()> {
        let (spec, batch, pool) = (&self.spec, &mut self.batch, &mut self.pool);
        let weights = &loaded(&self.weights)?.layers[layer];
        batch.normed_panel(pool, 0, &weights.ffn_norm, spec.norm_eps, &inputs([&weights.gate, &weights.up]))?;
        let (tokens, width) = (batch.tokens, spec.ffn);
        let both = [(&weights.gate, &mut batch.gate[..]), (&weights.up, &mut batch.up[..])];
        if [Gate, Up].iter().any(|&slot| self.adapters.add_to(layer, slot)) {
            products(pool, &mut batch.panel, both)?;
            let outs = [(Gate, &mut batch.gate[..]), (Up, &mut batch.up[..])];
            self.adapters.add(pool, layer, &batch.hidden, tokens, outs)?;
            math::gated(&mut batch.gate[..tokens * width], &batch.up[..tokens * width], spec.activation);
            return Ok(());
        }
        products_then(pool, &mut batch.panel, both, |rows, [gate, up]| {
            for t in 0..tokens {
                let of = t * width + rows.start..t * width + rows.end;
                // SAFETY: the rows are this piece's.
                let (gate, up) = unsafe { (gate.part(of.clone()), up.part(of)) };
                math::gated(gate, up, spec.activation);
            }
        })
    }
}
