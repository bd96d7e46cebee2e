//! Norm, gate and up products, activation(gate) * up.

use super::matrix::inputs;
use super::{CpuBackend, loaded, math};
use crate::Result;
use crate::backend::LayerSlot::{Gate, Up};

impl CpuBackend {
    pub(super) fn gate_up_step(&mut self, layer: usize) -> Result<()> {
        let (spec, batch) = (&self.spec, &mut self.batch);
        let weights = &loaded(&self.weights)?.layers[layer];
        batch.normed_panel(&weights.ffn_norm, spec.norm_eps, &inputs([&weights.gate, &weights.up]))?;
        weights.gate.product(0..spec.ffn, &mut batch.panel, &mut batch.gate, spec.ffn);
        weights.up.product(0..spec.ffn, &mut batch.panel, &mut batch.up, spec.ffn);
        let outs = [(Gate, &mut batch.gate[..]), (Up, &mut batch.up[..])];
        self.adapters.add(layer, &batch.hidden, batch.tokens, outs)?;
        let len = batch.tokens * spec.ffn;
        math::gated(&mut batch.gate[..len], &batch.up[..len], spec.activation);
        Ok(())
    }
}
