//! The fused steps in their plainest form: f32 weights, one position and one row at a time. An oracle for sessions and
//! kernels that shares no code with the backends.

use kinglet::backend::spec::{Activation, LayerKind, Rope, RopePairs, RopeScaling};
use kinglet::backend::{Backend, DecoderSpec, HeadRows, LayerSlot, Memory, RopeFactors, Slot};
use kinglet::formats::Format;
use kinglet::{Error, Result};
use std::collections::HashMap;

struct Tensor {
    format: Format,
    cols: usize,
    data: Vec<f32>,
}

pub struct Reference {
    spec: DecoderSpec,
    max_batch: usize,
    /// Activations that meet quantized weights are rounded to int8 per 32, as the backends do.
    rounds: bool,
    tensors: HashMap<Slot, Tensor>,
    factors: RopeFactors,
    start: usize,
    /// One row a position.
    residual: Vec<Vec<f32>>,
    query: Vec<Vec<f32>>,
    inner: Vec<Vec<f32>>,
    /// Of each layer, one row a position.
    keys: Vec<Vec<Vec<f32>>>,
    values: Vec<Vec<Vec<f32>>>,
    logits: Vec<f32>,
}

impl Reference {
    pub fn new(spec: DecoderSpec, max_batch: usize) -> Self {
        let cache = vec![Vec::new(); spec.layers];
        Self {
            spec,
            max_batch,
            rounds: false,
            tensors: HashMap::new(),
            factors: RopeFactors::Short,
            start: 0,
            residual: Vec::new(),
            query: Vec::new(),
            inner: Vec::new(),
            keys: cache.clone(),
            values: cache,
            logits: Vec::new(),
        }
    }

    #[allow(dead_code)]
    pub fn rounding(self) -> Self {
        Self { rounds: true, ..self }
    }

    fn tensor(&self, slot: Slot) -> Option<&Tensor> {
        self.tensors.get(&slot)
    }

    fn vector(&self, slot: Slot) -> Option<&[f32]> {
        self.tensor(slot).map(|tensor| &tensor.data[..])
    }

    fn product(&self, slot: Slot, x: &[f32]) -> Vec<f32> {
        let matrix = self.tensor(slot).unwrap_or_else(|| panic!("{slot:?} was never uploaded"));
        assert_eq!(matrix.cols, x.len(), "{slot:?}");
        let rounded;
        let x = if self.rounds && matrix.format.block_len() > 1 {
            rounded = x.chunks(32).flat_map(|block| round(block, 127.0)).collect::<Vec<f32>>();
            &rounded
        } else {
            x
        };
        matrix.data.chunks(matrix.cols).map(|row| dot(row, x)).collect()
    }

    fn norm(&self, slot: Slot, x: &[f32]) -> Vec<f32> {
        let weight = self.vector(slot).unwrap_or_else(|| panic!("{slot:?} was never uploaded"));
        let mean = dot(x, x) / x.len() as f32;
        let scale = 1.0 / (mean + self.spec.norm_eps).sqrt();
        x.iter().zip(weight).map(|(x, w)| x * scale * w).collect()
    }

    /// Adds a product (and its norm, where the spec has one) to the residual stream.
    fn add(&mut self, layer: usize, matrix: LayerSlot, post_norm: LayerSlot) {
        for i in 0..self.residual.len() {
            let mut out = self.product(Slot::Layer(layer, matrix), &self.inner[i]);
            if self.spec.post_norms {
                out = self.norm(Slot::Layer(layer, post_norm), &out);
            }
            self.residual[i].iter_mut().zip(&out).for_each(|(r, o)| *r += o);
        }
    }

    fn turn(&self, layer: usize, position: usize, x: &mut [f32]) {
        let rope = match self.spec.layer_kinds[layer] {
            LayerKind::NoRope => return,
            LayerKind::Local => self.spec.local_rope.as_ref().unwrap_or(&self.spec.rope),
            LayerKind::Global => &self.spec.rope,
        };
        let factors = self.vector(Slot::RopeFactors(self.factors));
        for head in x.chunks_mut(self.spec.head_dim) {
            rotate(head, rope, position, factors);
        }
    }
}

/// To integers of at most `most`.
fn round(block: &[f32], most: f32) -> Vec<f32> {
    let step = block.iter().fold(0.0f32, |max, x| max.max(x.abs())) / most;
    block.iter().map(|x| if step > 0.0 { (x / step).round_ties_even() * step } else { 0.0 }).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32
}

fn rotate(head: &mut [f32], rope: &Rope, position: usize, factors: Option<&[f32]>) {
    for i in 0..rope.dim / 2 {
        let mut angle = position as f64 * f64::from(rope.base).powf(-2.0 * i as f64 / rope.dim as f64);
        let mut scale = 1.0;
        match rope.scaling {
            RopeScaling::None => {}
            RopeScaling::Linear(factor) => angle /= f64::from(factor),
            RopeScaling::Factors { attention_factor, .. } => {
                angle /= f64::from(factors.expect("rope factors were never uploaded")[i]);
                scale = f64::from(attention_factor);
            }
        }
        let (a, b) = match rope.pairs {
            RopePairs::Neighbours => (2 * i, 2 * i + 1),
            RopePairs::Halves => (i, i + rope.dim / 2),
        };
        let (sin, cos) = (angle.sin() * scale, angle.cos() * scale);
        let (x, y) = (f64::from(head[a]), f64::from(head[b]));
        (head[a], head[b]) = ((x * cos - y * sin) as f32, (x * sin + y * cos) as f32);
    }
}

impl Backend for Reference {
    fn name(&self) -> &'static str {
        "reference"
    }

    fn max_batch(&self) -> usize {
        self.max_batch
    }

    fn allocate(&mut self, slot: Slot, format: Format, rows: usize, cols: usize) -> Result<()> {
        self.tensors.insert(slot, Tensor { format, cols, data: Vec::with_capacity(rows * cols) });
        Ok(())
    }

    async fn upload(&mut self, slot: Slot, first_row: usize, bytes: &[u8]) -> Result<()> {
        let tensor = self.tensors.get_mut(&slot).expect("allocated");
        assert_eq!(tensor.data.len(), first_row * tensor.cols, "rows of {slot:?} come in order");
        let elements = bytes.len() / tensor.format.block_bytes() * tensor.format.block_len();
        let old = tensor.data.len();
        tensor.data.resize(old + elements, 0.0);
        tensor.format.dequantize(bytes, &mut tensor.data[old..]);
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        Ok(())
    }

    fn expect_positions(&mut self, positions: usize) -> Result<bool> {
        let factors = self.spec.rope_factors(positions);
        Ok(std::mem::replace(&mut self.factors, factors) != factors)
    }

    fn embed(&mut self, tokens: &[u32], start: usize) -> Result<()> {
        assert!(!tokens.is_empty() && tokens.len() <= self.max_batch);
        assert!(self.keys.iter().all(|layer| layer.len() >= start), "the cache does not reach position {start}");
        for layer in self.keys.iter_mut().chain(&mut self.values) {
            layer.truncate(start);
        }
        self.start = start;
        let table = self.tensor(Slot::TokenEmbedding).ok_or_else(|| Error::BadRequest("no embedding".into()))?;
        let row = |&id: &u32| &table.data[id as usize * table.cols..][..table.cols];
        self.residual =
            tokens.iter().map(|id| row(id).iter().map(|x| x * self.spec.embedding_scale).collect()).collect();
        Ok(())
    }

    fn qkv(&mut self, layer: usize) -> Result<()> {
        use LayerSlot::*;
        self.query.clear();
        for i in 0..self.residual.len() {
            let x = self.norm(Slot::Layer(layer, AttentionNorm), &self.residual[i]);
            let part = |matrix, bias, norm: Option<LayerSlot>| {
                let mut out = self.product(Slot::Layer(layer, matrix), &x);
                if let Some(bias) = self.vector(Slot::Layer(layer, bias)) {
                    out.iter_mut().zip(bias).for_each(|(o, b)| *o += b);
                }
                if let Some(norm) = norm {
                    if self.spec.qk_norm {
                        let normed = |head| self.norm(Slot::Layer(layer, norm), head);
                        out = out.chunks(self.spec.head_dim).flat_map(normed).collect();
                    }
                    self.turn(layer, self.start + i, &mut out);
                }
                out
            };
            let query = part(Query, QueryBias, Some(QueryNorm));
            let [key, value] =
                [part(Key, KeyBias, Some(KeyNorm)), part(Value, ValueBias, None)].map(|row| match self.rounds {
                    true => row.chunks(self.spec.head_dim).flat_map(|head| round(head, 8191.0)).collect(),
                    false => row,
                });
            self.query.push(query);
            self.keys[layer].push(key);
            self.values[layer].push(value);
        }
        Ok(())
    }

    fn attention(&mut self, layer: usize) -> Result<()> {
        let dim = self.spec.head_dim;
        let group = self.spec.heads / self.spec.kv_heads;
        let window = match self.spec.layer_kinds[layer] {
            LayerKind::Local => self.spec.sliding_window.unwrap_or(usize::MAX),
            _ => usize::MAX,
        };
        self.inner.clear();
        for (i, query) in self.query.iter().enumerate() {
            let end = self.start + i + 1;
            let positions = end.saturating_sub(window)..end;
            let mut out = Vec::new();
            for (head, query) in query.chunks(dim).enumerate() {
                let part = head / group * dim..head / group * dim + dim;
                let keys = &self.keys[layer][positions.clone()];
                let scores: Vec<f32> =
                    keys.iter().map(|key| dot(query, &key[part.clone()]) * self.spec.attention_scale).collect();
                let max = scores.iter().copied().fold(f32::MIN, f32::max);
                let weights: Vec<f32> = scores.iter().map(|score| (score - max).exp()).collect();
                let sum: f32 = weights.iter().sum();
                let values = &self.values[layer][positions.clone()];
                out.extend(
                    part.map(|d| {
                        values.iter().zip(&weights).map(|(value, weight)| value[d] * weight).sum::<f32>() / sum
                    }),
                );
            }
            self.inner.push(out);
        }
        Ok(())
    }

    fn attention_out(&mut self, layer: usize) -> Result<()> {
        self.add(layer, LayerSlot::AttentionOutput, LayerSlot::PostAttentionNorm);
        Ok(())
    }

    fn gate_up(&mut self, layer: usize) -> Result<()> {
        let activate = |x: f32| match self.spec.activation {
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::Gelu => 0.5 * x * (1.0 + (0.797_884_6 * (x + 0.044_715 * x * x * x)).tanh()),
        };
        let step = |x: &Vec<f32>| {
            let x = self.norm(Slot::Layer(layer, LayerSlot::FfnNorm), x);
            let gate = self.product(Slot::Layer(layer, LayerSlot::Gate), &x);
            let up = self.product(Slot::Layer(layer, LayerSlot::Up), &x);
            gate.iter().zip(up).map(|(&gate, up)| activate(gate) * up).collect()
        };
        self.inner = self.residual.iter().map(step).collect();
        Ok(())
    }

    fn down(&mut self, layer: usize) -> Result<()> {
        self.add(layer, LayerSlot::Down, LayerSlot::PostFfnNorm);
        Ok(())
    }

    fn head(&mut self, rows: HeadRows) -> Result<()> {
        let first = match rows {
            HeadRows::None => self.residual.len(),
            HeadRows::Last => self.residual.len() - 1,
            HeadRows::All => 0,
        };
        let matrix = if self.spec.tied_head { Slot::TokenEmbedding } else { Slot::Head };
        let row = |x: &Vec<f32>| self.product(matrix, &self.norm(Slot::OutputNorm, x));
        self.logits = self.residual[first..].iter().flat_map(row).collect();
        Ok(())
    }

    async fn hidden(&mut self) -> Result<Vec<f32>> {
        Ok(self.residual.iter().flat_map(|x| self.norm(Slot::OutputNorm, x)).collect())
    }

    async fn logits(&mut self) -> Result<&[f32]> {
        Ok(&self.logits)
    }

    fn memory(&self) -> Memory {
        Memory::default()
    }

    fn spec(&self) -> &DecoderSpec {
        &self.spec
    }
}
