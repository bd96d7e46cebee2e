//! Norm, Q K V products, biases, QK norms, RoPE; K and V into the cache.

use std::ops::Range;

use super::matrix::{inputs, products};
use super::pool::Parts;
use super::{CpuBackend, loaded, math};
use crate::Result;
use crate::backend::LayerSlot::{Key, Query, Value};

/// Multiply-adds that take as long as what happens to an element after its product.
const TURNING: usize = 32;

impl CpuBackend {
    pub(super) fn qkv_step(&mut self, layer: usize) -> Result<()> {
        let (spec, batch, pool) = (&self.spec, &mut self.batch, &mut self.pool);
        let weights = &loaded(&self.weights)?.layers[layer];
        let (tokens, head_dim) = (batch.tokens, spec.head_dim);
        let (query_width, key_width) = (spec.heads * head_dim, spec.kv_heads * head_dim);

        batch.normed_panel(
            pool,
            0,
            &weights.attention_norm,
            spec.norm_eps,
            &inputs([&weights.query, &weights.key, &weights.value]),
        )?;
        let outs = [
            (&weights.query, &mut batch.query[..]),
            (&weights.key, &mut batch.key[..]),
            (&weights.value, &mut batch.value[..]),
        ];
        products(pool, &mut batch.panel, outs)?;

        self.adapters.add(
            pool,
            layer,
            &batch.hidden,
            tokens,
            [(Query, &mut batch.query[..]), (Key, &mut batch.key[..]), (Value, &mut batch.value[..])],
        )?;

        let turns = self.rope.of(spec.layer_kinds[layer]);
        let start = batch.start;
        let (query, key, value) = (Parts::of(&mut batch.query), Parts::of(&mut batch.key), Parts::of(&mut batch.value));
        let cache = self.cache.writer(layer);
        // Of a token the queries that share a head of the cache, and that head.
        let shared = spec.heads / spec.kv_heads;
        let work = |unit: usize| {
            let (t, head) = (unit / spec.kv_heads, unit % spec.kv_heads);
            let (queries, keys) =
                (head * shared * head_dim..(head + 1) * shared * head_dim, head * head_dim..(head + 1) * head_dim);
            let of = |width: usize, columns: &Range<usize>| t * width + columns.start..t * width + columns.end;
            // SAFETY: each unit is given out once.
            let [query, key, value] = unsafe {
                [
                    query.part(of(query_width, &queries)),
                    key.part(of(key_width, &keys)),
                    value.part(of(key_width, &keys)),
                ]
            };
            for (row, bias, columns) in [
                (&mut *query, &weights.query_bias, &queries),
                (&mut *key, &weights.key_bias, &keys),
                (&mut *value, &weights.value_bias, &keys),
            ] {
                if let Some(bias) = bias {
                    math::add(row, &bias[columns.clone()]);
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
            // SAFETY: nor has anyone else its position.
            unsafe { cache.write(start + t, head, key, value) };
        };
        pool.divide(tokens * spec.kv_heads, TURNING * (shared + 2) * head_dim, |units, _| units.for_each(&work));
        Ok(())
    }
}
