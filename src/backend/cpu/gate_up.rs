//! Norm, gate and up products, activation(gate) * up, and of that the panel that the down product reads.

use super::matrix::{inputs, products, products_then};
use super::{CpuBackend, loaded, math};
use crate::Result;
use crate::backend::LayerSlot::{Gate, Up};

impl CpuBackend {
    pub(super) fn gate_up_step(&mut self, layer: usize) -> Result<()> {
        let (spec, batch, pool) = (&self.spec, &mut self.batch, &mut self.pool);
        let weights = &loaded(&self.weights)?.layers[layer];
        batch.normed_panel(pool, 0, &weights.ffn_norm, spec.norm_eps, &inputs([&weights.gate, &weights.up]))?;
        let (tokens, width, of_down) = (batch.tokens, spec.ffn, inputs([&weights.down]));
        let both = [(&weights.gate, &mut batch.gate[..]), (&weights.up, &mut batch.up[..])];
        if [Gate, Up].iter().any(|&slot| self.adapters.add_to(layer, slot)) {
            products(pool, &mut batch.panel, both)?;
            let outs = [(Gate, &mut batch.gate[..]), (Up, &mut batch.up[..])];
            self.adapters.add(pool, layer, &batch.hidden, tokens, outs)?;
            math::gated(&mut batch.gate[..tokens * width], &batch.up[..tokens * width], spec.activation);
            let gate = &batch.gate;
            return batch.down_panel.fill(pool, tokens, width, &of_down, |t| &gate[t * width..][..width]);
        }
        let forms = batch.down_panel.prepare(tokens, width, &of_down)?;
        products_then(pool, &mut batch.panel, both, |rows, [gate, up]| {
            let part = |t: usize| t * width + rows.start..t * width + rows.end;
            for t in 0..tokens {
                // SAFETY: the rows are this piece's.
                let (gate, up) = unsafe { (gate.part(part(t)), up.part(part(t))) };
                math::gated(gate, up, spec.activation);
            }
            // SAFETY: and so are they as the columns of the panel.
            unsafe { forms.put(rows.clone(), |t| gate.part(part(t))) };
        })
    }
}
