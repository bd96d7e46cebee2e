//! A decoder in f64, written from the definitions.
#![allow(dead_code)]

use super::random_model::Model;
use kinglet::backend::spec::*;
use kinglet::backend::{LayerSlot, RopeFactors, Slot};

/// One vector a position.
pub type Rows = Vec<Vec<f64>>;

pub struct Expected {
    /// The residual stream after `embed`, and after each layer's `attention_out` and `down`.
    pub streams: Vec<Rows>,
    pub logits: Rows,
}

/// All of `tokens`, from position 0 on.
pub fn decode(model: &Model, tokens: &[u32]) -> Expected {
    let spec = &model.spec;
    let get = |slot| model.tensors.get(&slot).map(|t| t.values.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>());
    let product = |slot, x: &[f64]| -> Vec<f64> {
        let w = &model.tensors[&slot].values;
        w.chunks(x.len()).map(|row| row.iter().zip(x).map(|(&w, x)| f64::from(w) * x).sum()).collect()
    };
    let norm = |x: &[f64], w: &[f64]| -> Vec<f64> {
        let rms = (x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64 + f64::from(spec.norm_eps)).sqrt();
        x.iter().zip(w).map(|(x, w)| x / rms * w).collect()
    };
    let turn = |head: &mut [f64], rope: &Rope, position: usize| {
        let half = rope.dim / 2;
        for i in 0..half {
            let mut frequency = f64::from(rope.base).powf(-2.0 * i as f64 / rope.dim as f64);
            let mut amplitude = 1.0;
            match rope.scaling {
                RopeScaling::None => {}
                RopeScaling::Linear(by) => frequency /= f64::from(by),
                RopeScaling::Factors { attention_factor, .. } => {
                    frequency /= get(Slot::RopeFactors(RopeFactors::Short)).unwrap()[i];
                    amplitude = f64::from(attention_factor);
                }
            }
            let (sin, cos) = (position as f64 * frequency).sin_cos();
            let (a, b) = match rope.pairs {
                RopePairs::Neighbours => (2 * i, 2 * i + 1),
                RopePairs::Halves => (i, i + half),
            };
            let (x, y) = (head[a], head[b]);
            (head[a], head[b]) = ((x * cos - y * sin) * amplitude, (x * sin + y * cos) * amplitude);
        }
    };
    let embedding = get(Slot::TokenEmbedding).unwrap();
    let mut stream: Rows = tokens
        .iter()
        .map(|&t| {
            let row = &embedding[t as usize * spec.hidden..][..spec.hidden];
            row.iter().map(|x| x * f64::from(spec.embedding_scale)).collect()
        })
        .collect();
    let mut streams = vec![stream.clone()];
    for layer in 0..spec.layers {
        use LayerSlot::*;
        let at = |slot| Slot::Layer(layer, slot);
        let rope = match spec.layer_kinds[layer] {
            LayerKind::NoRope => None,
            LayerKind::Local => Some(spec.local_rope.as_ref().unwrap_or(&spec.rope)),
            LayerKind::Global => Some(&spec.rope),
        };
        let window = match spec.layer_kinds[layer] {
            LayerKind::Local => spec.sliding_window.unwrap(),
            _ => usize::MAX,
        };
        let mut heads: [Rows; 3] = Default::default();
        for (position, x) in stream.iter().enumerate() {
            let x = norm(x, &get(at(AttentionNorm)).unwrap());
            let parts = [(Query, QueryBias, Some(QueryNorm)), (Key, KeyBias, Some(KeyNorm)), (Value, ValueBias, None)];
            for ((slot, bias, head_norm), rows) in parts.into_iter().zip(&mut heads) {
                let mut row = product(at(slot), &x);
                if let Some(bias) = get(at(bias)) {
                    row.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
                }
                if let Some(head_norm) = head_norm {
                    for head in row.chunks_mut(spec.head_dim) {
                        if let Some(w) = get(at(head_norm)) {
                            head.copy_from_slice(&norm(head, &w));
                        }
                        if let Some(rope) = rope {
                            turn(head, rope, position);
                        }
                    }
                }
                rows.push(row);
            }
        }
        let [queries, keys, values] = heads;
        for (position, x) in stream.iter_mut().enumerate() {
            let mut attended = Vec::new();
            for h in 0..spec.heads {
                let (q, kv) = (h * spec.head_dim, h / (spec.heads / spec.kv_heads) * spec.head_dim);
                let seen = (position + 1).saturating_sub(window)..position + 1;
                let score = |p: usize| -> f64 {
                    (0..spec.head_dim).map(|d| queries[position][q + d] * keys[p][kv + d]).sum::<f64>()
                        * f64::from(spec.attention_scale)
                };
                let scores: Vec<f64> = seen.clone().map(score).collect();
                let max = scores.iter().copied().fold(f64::MIN, f64::max);
                let exps: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
                let sum: f64 = exps.iter().sum();
                for d in 0..spec.head_dim {
                    attended.push(seen.clone().zip(&exps).map(|(p, e)| values[p][kv + d] * e / sum).sum());
                }
            }
            let mut out = product(at(AttentionOutput), &attended);
            if let Some(w) = get(at(PostAttentionNorm)) {
                out = norm(&out, &w);
            }
            x.iter_mut().zip(out).for_each(|(x, o)| *x += o);
        }
        streams.push(stream.clone());
        for x in &mut stream {
            let normed = norm(x, &get(at(FfnNorm)).unwrap());
            let activation = |g: f64| match spec.activation {
                Activation::Silu => g / (1.0 + (-g).exp()),
                Activation::Gelu => {
                    0.5 * g * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (g + 0.044715 * g * g * g)).tanh())
                }
            };
            let inner: Vec<f64> = product(at(Gate), &normed)
                .into_iter()
                .zip(product(at(Up), &normed))
                .map(|(g, u)| activation(g) * u)
                .collect();
            let mut out = product(at(Down), &inner);
            if let Some(w) = get(at(PostFfnNorm)) {
                out = norm(&out, &w);
            }
            x.iter_mut().zip(out).for_each(|(x, o)| *x += o);
        }
        streams.push(stream.clone());
    }
    let head = if spec.tied_head { Slot::TokenEmbedding } else { Slot::Head };
    let logits = stream.iter().map(|x| product(head, &norm(x, &get(Slot::OutputNorm).unwrap()))).collect();
    Expected { streams, logits }
}
