//! Norm, Q K V products, biases, QK norms, RoPE; K and V into the cache.

use super::matrix::inputs;
use super::{CpuBackend, loaded, math};
use crate::Result;
use crate::backend::LayerSlot::{Key, Query, Value};

impl CpuBackend {
    pub(super) fn qkv_step(&mut self, layer: usize) -> Result<()> {
        let (spec, batch) = (&self.spec, &mut self.batch);
        let weights = &loaded(&self.weights)?.layers[layer];
        let (tokens, head_dim) = (batch.tokens, spec.head_dim);
        let (query_width, key_width) = (spec.heads * head_dim, spec.kv_heads * head_dim);

        batch.normed_panel(
            &weights.attention_norm,
            spec.norm_eps,
            &inputs([&weights.query, &weights.key, &weights.value]),
        )?;
        weights.query.product(0..query_width, &mut batch.panel, &mut batch.query, query_width);
        weights.key.product(0..key_width, &mut batch.panel, &mut batch.key, key_width);
        weights.value.product(0..key_width, &mut batch.panel, &mut batch.value, key_width);

        self.adapters.add(
            layer,
            &batch.hidden,
            tokens,
            [(Query, &mut batch.query[..]), (Key, &mut batch.key[..]), (Value, &mut batch.value[..])],
        )?;

        let turns = self.rope.of(spec.layer_kinds[layer]);
        for t in 0..tokens {
            let query = &mut batch.query[t * query_width..][..query_width];
            let key = &mut batch.key[t * key_width..][..key_width];
            let value = &mut batch.value[t * key_width..][..key_width];
            for (row, bias) in
                [(&mut *query, &weights.query_bias), (&mut *key, &weights.key_bias), (&mut *value, &weights.value_bias)]
            {
                if let Some(bias) = bias {
                    math::add(row, bias);
                }
            }
            for (row, norm) in [(&mut *query, &weights.query_norm), (&mut *key, &weights.key_norm)] {
                if let Some(norm) = norm {
                    row.chunks_exact_mut(head_dim).for_each(|h| math::rms_norm_in_place(h, norm, spec.norm_eps));
                }
                if let Some(turns) = turns {
                    turns.turn(t, row, head_dim);
                }
            }
            self.cache.write(layer, batch.start + t, key, value);
        }
        Ok(())
    }
}
