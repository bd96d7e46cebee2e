//! The CPU backend's steps against a plain f64 decoder written from the definitions: every switch of the families, any
//! cut of a text into batches, a cache that grows and one that is cut back.

use std::collections::HashMap;

use kinglet::backend::cpu::CpuBackend;
use kinglet::backend::spec::*;
use kinglet::backend::{Backend, HeadRows, LayerSlot, RopeFactors, Slot};
use kinglet::formats::Format;
use kinglet::model::decoder::forward;

struct Rng(u64);
impl Rng {
    /// About -1 to 1.
    fn float(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

type Tensors = HashMap<Slot, (usize, usize, Vec<f32>)>;

fn plain_rope() -> Rope {
    Rope { base: 10000.0, dim: 16, pairs: RopePairs::Neighbours, scaling: RopeScaling::None }
}

fn llama() -> DecoderSpec {
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
        rope: plain_rope(),
        local_rope: None,
        sliding_window: None,
        layer_kinds: vec![LayerKind::Global; 3],
        activation: Activation::Silu,
        embedding_scale: 1.0,
        attention_scale: 0.25,
        tied_head: true,
        qkv_bias: false,
        qk_norm: false,
        post_norms: false,
    }
}

fn gemma() -> DecoderSpec {
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
fn others() -> DecoderSpec {
    DecoderSpec {
        kv_heads: 6,
        tied_head: false,
        qkv_bias: true,
        layer_kinds: vec![LayerKind::Global, LayerKind::NoRope, LayerKind::Global],
        rope: Rope {
            dim: 12,
            pairs: RopePairs::Halves,
            scaling: RopeScaling::Factors { original_context: 4096, attention_factor: 1.19 },
            base: 1e4,
        },
        ..llama()
    }
}

fn tensors(spec: &DecoderSpec, seed: u64) -> Tensors {
    let mut rng = Rng(seed);
    let mut all = Tensors::new();
    let mut add = |slot, rows: usize, cols: usize, about: f32, spread: f32| {
        all.insert(slot, (rows, cols, (0..rows * cols).map(|_| about + spread * rng.float()).collect()));
    };
    let (h, q, k) = (spec.hidden, spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim);
    add(Slot::TokenEmbedding, spec.vocab, h, 0.0, 1.0);
    add(Slot::OutputNorm, 1, h, 1.0, 0.5);
    if !spec.tied_head {
        add(Slot::Head, spec.vocab, h, 0.0, 0.5);
    }
    if matches!(spec.rope.scaling, RopeScaling::Factors { .. }) {
        add(Slot::RopeFactors(RopeFactors::Short), 1, spec.rope.dim / 2, 2.0, 1.0);
    }
    for i in 0..spec.layers {
        use LayerSlot::*;
        let mut add = |slot, rows, cols, about, spread| add(Slot::Layer(i, slot), rows, cols, about, spread);
        for slot in [AttentionNorm, FfnNorm] {
            add(slot, 1, h, 1.0, 0.5);
        }
        for (slot, rows, cols) in [
            (Query, q, h),
            (Key, k, h),
            (Value, k, h),
            (AttentionOutput, h, q),
            (Gate, spec.ffn, h),
            (Up, spec.ffn, h),
            (Down, h, spec.ffn),
        ] {
            add(slot, rows, cols, 0.0, 0.3);
        }
        if spec.qkv_bias {
            for (slot, cols) in [(QueryBias, q), (KeyBias, k), (ValueBias, k)] {
                add(slot, 1, cols, 0.0, 1.0);
            }
        }
        if spec.qk_norm {
            for slot in [QueryNorm, KeyNorm] {
                add(slot, 1, spec.head_dim, 1.0, 0.5);
            }
        }
        if spec.post_norms {
            for slot in [PostAttentionNorm, PostFfnNorm] {
                add(slot, 1, h, 1.0, 0.5);
            }
        }
    }
    all
}

fn backend(spec: &DecoderSpec, tensors: &Tensors) -> CpuBackend {
    let mut backend = CpuBackend::new(spec.clone());
    for (&slot, (rows, cols, values)) in tensors {
        backend.allocate(slot, Format::F32, *rows, *cols).unwrap();
        for (i, rows) in values.chunks(5 * cols).enumerate() {
            let bytes: Vec<u8> = rows.iter().flat_map(|x| x.to_le_bytes()).collect();
            backend.upload(slot, 5 * i, &bytes).unwrap();
        }
    }
    backend.finish().unwrap();
    backend
}

/// Logits of all positions, from the definitions.
fn reference(spec: &DecoderSpec, tensors: &Tensors, tokens: &[u32]) -> Vec<Vec<f64>> {
    let get = |slot| tensors.get(&slot).map(|(_, _, v)| v.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>());
    let product = |slot, x: &[f64]| -> Vec<f64> {
        let w = get(slot).unwrap();
        w.chunks(x.len()).map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
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
    let mut stream: Vec<Vec<f64>> = tokens
        .iter()
        .map(|&t| {
            let row = &embedding[t as usize * spec.hidden..][..spec.hidden];
            row.iter().map(|x| x * f64::from(spec.embedding_scale)).collect()
        })
        .collect();
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
        let mut heads: [Vec<Vec<f64>>; 3] = Default::default();
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
    }
    let head = if spec.tied_head { Slot::TokenEmbedding } else { Slot::Head };
    stream.iter().map(|x| product(head, &norm(x, &get(Slot::OutputNorm).unwrap()))).collect()
}

/// Logits of all positions of `tokens`, which are fed in batches of these sizes.
fn run(backend: &mut CpuBackend, tokens: &[u32], start: usize, batches: &[usize]) -> Vec<Vec<f32>> {
    let vocab = backend.spec().vocab;
    let (mut at, mut out) = (0, Vec::new());
    for &size in batches.iter().cycle() {
        let size = size.min(tokens.len() - at);
        if size == 0 {
            break;
        }
        forward(backend, &tokens[at..at + size], start + at, HeadRows::All).unwrap();
        let logits = pollster::block_on(backend.logits()).unwrap();
        assert_eq!(logits.len(), size * vocab);
        out.extend(logits.chunks(vocab).map(<[f32]>::to_vec));
        at += size;
    }
    out
}

fn relative_error(got: &[f32], expected: &[f64]) -> f64 {
    let difference: f64 = got.iter().zip(expected).map(|(&a, b)| (f64::from(a) - b).powi(2)).sum();
    (difference / expected.iter().map(|b| b * b).sum::<f64>()).sqrt()
}

fn text(len: usize, vocab: usize) -> Vec<u32> {
    let mut rng = Rng(77);
    (0..len).map(|_| ((rng.float() + 1.0) / 2.0 * vocab as f32) as u32 % vocab as u32).collect()
}

#[test]
fn equals_the_definitions() {
    for spec in [llama(), gemma(), others()] {
        let tensors = tensors(&spec, 3);
        let tokens = text(40, spec.vocab);
        let expected = reference(&spec, &tensors, &tokens);
        for batches in [&[40][..], &[1], &[3, 1, 7], &[16, 5]] {
            let got = run(&mut backend(&spec, &tensors), &tokens, 0, batches);
            for (position, (got, expected)) in got.iter().zip(&expected).enumerate() {
                let error = relative_error(got, expected);
                assert!(error < 1e-4, "{:?} in batches of {batches:?}, position {position}: {error}", spec.activation);
            }
        }
    }
}

#[test]
fn the_cache_grows_and_is_cut_back() {
    for spec in [llama(), gemma()] {
        let tensors = tensors(&spec, 4);
        let tokens = text(600, spec.vocab);
        let expected = reference(&spec, &tensors, &tokens);
        let mut backend = backend(&spec, &tensors);
        // 256 positions at first, then 512, then the context's 700.
        let got = run(&mut backend, &tokens, 0, &[100, 1]);
        let errors = got.iter().zip(&expected).map(|(got, expected)| relative_error(got, expected));
        let worst = errors.fold(0.0, f64::max);
        assert!(worst < 1e-4, "{worst}");
        // From position 300 on anew: what came before is reused.
        let again = run(&mut backend, &tokens[300..320], 300, &[6]);
        for (got, expected) in again.iter().zip(&expected[300..]) {
            assert!(relative_error(got, expected) < 1e-4);
        }
        assert!(backend.memory().kv_cache > 0);
    }
}

#[test]
fn only_the_rows_asked_for() {
    let spec = llama();
    let tensors = tensors(&spec, 5);
    let tokens = text(9, spec.vocab);
    let mut backend = backend(&spec, &tensors);
    let all = run(&mut backend, &tokens, 0, &[9]);
    forward(&mut backend, &tokens, 0, HeadRows::Last).unwrap();
    assert_eq!(pollster::block_on(backend.logits()).unwrap(), all[8]);
    forward(&mut backend, &tokens, 0, HeadRows::None).unwrap();
    assert!(pollster::block_on(backend.logits()).unwrap().is_empty());
}

#[test]
fn wrong_batches_and_tensors_are_errors() {
    use kinglet::ErrorCode::*;
    let spec = llama();
    let tensors = tensors(&spec, 6);
    let mut backend = backend(&spec, &tensors);
    let code = |r: kinglet::Result<()>| r.expect_err("must fail").code();
    assert_eq!(code(backend.embed(&[], 0)), BadRequest, "nothing");
    assert_eq!(code(backend.embed(&[1], 1)), BadRequest, "a hole in the cache");
    assert_eq!(code(backend.embed(&[75], 0)), BadRequest, "no such token");
    let max = backend.max_batch();
    assert_eq!(code(backend.embed(&vec![1; max + 1], 0)), BadRequest, "too many");
    for at in 0..7 {
        run(&mut backend, &[1; 100], 100 * at, &[100]);
    }
    assert_eq!(code(backend.embed(&[1], 700)), ContextExceeded);

    let mut empty = CpuBackend::new(spec.clone());
    assert_eq!(code(forward(&mut empty, &[1], 0, HeadRows::Last)), BadRequest, "not loaded");
    assert_eq!(code(empty.upload(Slot::OutputNorm, 0, &[0; 4])), BadRequest, "not allocated");
    assert_eq!(code(empty.finish()), CorruptFile, "no tensors");
    let mut wrong = CpuBackend::new(spec.clone());
    for (&slot, &(rows, cols, _)) in &tensors {
        let cols = if slot == Slot::Layer(2, LayerSlot::Down) { cols + 1 } else { cols };
        wrong.allocate(slot, Format::F32, rows, cols).unwrap();
        wrong.upload(slot, 0, &vec![0; rows * cols * 4]).unwrap();
    }
    assert_eq!(code(wrong.finish()), CorruptFile, "a wrong shape");
}
