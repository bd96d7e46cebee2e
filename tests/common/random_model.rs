//! Random models of any shape and of any mix of formats, quantized by candle.
#![allow(dead_code)]

use std::collections::HashMap;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor as Candle};
use kinglet::backend::lora::{Factor, LowRank};
use kinglet::backend::spec::*;
use kinglet::backend::{Backend, LayerSlot, RopeFactors, Slot, TensorShape};
use kinglet::formats::Format;
use kinglet::generate::sampler::SplitMix64;
use pollster::block_on;

pub struct Tensor {
    pub format: Format,
    pub cols: usize,
    /// As in a file.
    pub bytes: Vec<u8>,
    /// As candle reads them.
    pub values: Vec<f32>,
}

impl Tensor {
    pub fn rows(&self) -> usize {
        self.values.len() / self.cols
    }
}

pub struct Model {
    pub spec: DecoderSpec,
    pub tensors: HashMap<Slot, Tensor>,
}

/// Of the matrices.
#[derive(Clone, Copy, Debug)]
pub struct Formats {
    pub embedding: Format,
    pub head: Format,
    pub query: Format,
    pub key: Format,
    pub value: Format,
    pub attention_out: Format,
    pub gate: Format,
    pub up: Format,
    pub down: Format,
}

impl Formats {
    pub fn all(format: Format) -> Formats {
        let [embedding, head, query, key, value, attention_out, gate, up, down] = [format; 9];
        Formats { embedding, head, query, key, value, attention_out, gate, up, down }
    }
}

pub fn llama() -> DecoderSpec {
    DecoderSpec {
        architecture: "test".to_string(),
        layers: 3,
        hidden: 64,
        ffn: 172,
        heads: 6,
        kv_heads: 2,
        head_dim: 16,
        vocab: 75,
        context_length: 700,
        norm_eps: 1e-5,
        rope: Rope { base: 10000.0, dim: 16, pairs: RopePairs::Neighbours, scaling: RopeScaling::None },
        local_rope: None,
        sliding_window: None,
        layer_kinds: vec![LayerKind::Global; 3],
        activation: Activation::Silu,
        embedding_scale: 1.0,
        attention_scale: 0.25,
        kv_int8: false,
        tied_head: true,
        qkv_bias: false,
        qk_norm: false,
        post_norms: false,
    }
}

pub fn gemma() -> DecoderSpec {
    DecoderSpec {
        heads: 4,
        kv_heads: 1,
        head_dim: 20,
        attention_scale: 0.3,
        rope: Rope { dim: 20, pairs: RopePairs::Halves, scaling: RopeScaling::Linear(8.0), base: 1e6 },
        local_rope: Some(Rope { dim: 20, pairs: RopePairs::Halves, scaling: RopeScaling::None, base: 1e4 }),
        sliding_window: Some(7),
        layer_kinds: vec![LayerKind::Local, LayerKind::Global, LayerKind::Local],
        activation: Activation::Gelu,
        embedding_scale: 8.0,
        qk_norm: true,
        post_norms: true,
        ..llama()
    }
}

/// Qwen's biases, Phi's partial RoPE with factors, SmolLM3's layers without RoPE.
pub fn others() -> DecoderSpec {
    DecoderSpec {
        kv_heads: 6,
        tied_head: false,
        qkv_bias: true,
        layer_kinds: vec![LayerKind::Global, LayerKind::NoRope, LayerKind::Global],
        rope: Rope {
            dim: 12,
            pairs: RopePairs::Halves,
            scaling: RopeScaling::Factors { original_context: None, attention_factor: 1.19 },
            base: 1e4,
        },
        ..llama()
    }
}

fn candle_type(format: Format) -> GgmlDType {
    match format {
        Format::F32 => GgmlDType::F32,
        Format::F16 => GgmlDType::F16,
        Format::BF16 => GgmlDType::BF16,
        Format::Q4_0 => GgmlDType::Q4_0,
        Format::Q4_1 => GgmlDType::Q4_1,
        Format::Q5_0 => GgmlDType::Q5_0,
        Format::Q5_1 => GgmlDType::Q5_1,
        Format::Q8_0 => GgmlDType::Q8_0,
        Format::Q4_K => GgmlDType::Q4K,
        Format::Q5_K => GgmlDType::Q5K,
        Format::Q6_K => GgmlDType::Q6K,
    }
}

fn quantized(format: Format, cols: usize, values: Vec<f32>) -> Tensor {
    if format == Format::F32 {
        let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        return Tensor { format, cols, bytes, values };
    }
    let shape = (values.len() / cols, cols);
    let tensor = QTensor::quantize(&Candle::from_vec(values, shape, &Device::Cpu).unwrap(), candle_type(format));
    let tensor = tensor.unwrap();
    let values = tensor.dequantize(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    Tensor { format, cols, bytes: tensor.data().unwrap().to_vec(), values }
}

impl Model {
    pub fn new(spec: DecoderSpec, formats: Formats, seed: u64) -> Model {
        let mut rng = SplitMix64(seed);
        let mut tensors = HashMap::new();
        let mut add = |slot, format: Format, rows: usize, cols: usize, about: f32, spread: f32| {
            let value = |_| about + spread * (2.0 * rng.unit() as f32 - 1.0);
            tensors.insert(slot, quantized(format, cols, (0..rows * cols).map(value).collect()));
        };
        let (h, q, k) = (spec.hidden, spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim);
        add(Slot::TokenEmbedding, formats.embedding, spec.vocab, h, 0.0, 1.0);
        add(Slot::OutputNorm, Format::F32, 1, h, 1.0, 0.5);
        if !spec.tied_head {
            add(Slot::Head, formats.head, spec.vocab, h, 0.0, 0.5);
        }
        if matches!(spec.rope.scaling, RopeScaling::Factors { .. }) {
            add(Slot::RopeFactors(RopeFactors::Short), Format::F32, 1, spec.rope.dim / 2, 2.0, 1.0);
        }
        for i in 0..spec.layers {
            use LayerSlot::*;
            // Products stay about as large as their input, so that no softmax saturates and blows errors up.
            for (slot, format, rows, cols) in [
                (Query, formats.query, q, h),
                (Key, formats.key, k, h),
                (Value, formats.value, k, h),
                (AttentionOutput, formats.attention_out, h, q),
                (Gate, formats.gate, spec.ffn, h),
                (Up, formats.up, spec.ffn, h),
                (Down, formats.down, h, spec.ffn),
            ] {
                add(Slot::Layer(i, slot), format, rows, cols, 0.0, 2.4 / (cols as f32).sqrt());
            }
            let mut vector = |slot, cols, about, spread| add(Slot::Layer(i, slot), Format::F32, 1, cols, about, spread);
            for slot in [AttentionNorm, FfnNorm] {
                vector(slot, h, 1.0, 0.5);
            }
            if spec.qkv_bias {
                for (slot, cols) in [(QueryBias, q), (KeyBias, k), (ValueBias, k)] {
                    vector(slot, cols, 0.0, 1.0);
                }
            }
            if spec.qk_norm {
                for slot in [QueryNorm, KeyNorm] {
                    vector(slot, spec.head_dim, 1.0, 0.5);
                }
            }
            if spec.post_norms {
                for slot in [PostAttentionNorm, PostFfnNorm] {
                    vector(slot, h, 1.0, 0.5);
                }
            }
        }
        Model { spec, tensors }
    }

    /// All matrices are floats.
    pub fn is_float(&self) -> bool {
        self.tensors.values().all(|tensor| tensor.format.block_len() == 1)
    }

    /// An adapter of all matrices of the layers but every `but`-th, whose ranks differ.
    pub fn adapter(&self, most_ranks: usize, but: usize, seed: u64) -> Vec<LowRank> {
        use LayerSlot::*;
        let mut rng = SplitMix64(seed);
        let mut factor = |rows: usize, cols: usize, spread: f32| {
            let size = spread / (cols as f32).sqrt();
            let value = |_| (size * (2.0 * rng.unit() as f32 - 1.0)).to_le_bytes();
            Factor { format: Format::F32, rows, cols, bytes: (0..rows * cols).flat_map(value).collect() }
        };
        let mut pairs = Vec::new();
        for layer in 0..self.spec.layers {
            for slot in [Query, Key, Value, AttentionOutput, Gate, Up, Down] {
                let tensor = &self.tensors[&Slot::Layer(layer, slot)];
                let rank = 1 + (7 * pairs.len() + layer) % most_ranks;
                let (a, b) = (factor(rank, tensor.cols, 2.0), factor(tensor.rows(), rank, 0.8));
                pairs.push(LowRank { layer, slot, a, b, scale: 0.75 });
            }
        }
        let mut count = 0;
        pairs.retain(|_| {
            count += 1;
            count % but != 0
        });
        pairs
    }

    /// With the adapter's product in its floats; for the definitions only.
    pub fn merge(&mut self, pairs: &[LowRank], scale: f32) {
        for LowRank { layer, slot, a, b, scale: own } in pairs {
            let tensor = self.tensors.get_mut(&Slot::Layer(*layer, *slot)).unwrap();
            let (rank, x, y) = (a.rows, a.values(), b.values());
            for (r, row) in tensor.values.chunks_mut(tensor.cols).enumerate() {
                for (c, value) in row.iter_mut().enumerate() {
                    let inner = |i: usize| f64::from(y[r * rank + i]) * f64::from(x[i * tensor.cols + c]);
                    *value += (f64::from(scale * own) * (0..rank).map(inner).sum::<f64>()) as f32;
                }
            }
        }
    }

    pub fn load<B: Backend>(&self, mut backend: B) -> B {
        let shape = |(&slot, t): (&Slot, &Tensor)| TensorShape { slot, format: t.format, rows: t.rows(), cols: t.cols };
        backend.prepare(&self.tensors.iter().map(shape).collect::<Vec<_>>()).unwrap();
        for (&slot, tensor) in &self.tensors {
            backend.allocate(slot, tensor.format, tensor.rows(), tensor.cols).unwrap();
            for (i, rows) in tensor.bytes.chunks(5 * tensor.format.row_bytes(tensor.cols)).enumerate() {
                block_on(backend.upload(slot, 5 * i, rows)).unwrap();
            }
        }
        block_on(backend.finish()).unwrap();
        backend
    }
}
