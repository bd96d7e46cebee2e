//! The steps of both backends against a plain f64 decoder written from the definitions: every switch of the families, odd
//! shapes and mixes of formats, any cut of a text into batches, a cache that grows and one that is cut back.

#[path = "common/definitions.rs"]
mod definitions;
#[path = "common/gpu.rs"]
mod gpu;
#[path = "common/random_model.rs"]
mod random_model;
#[path = "common/runner.rs"]
mod runner;

use definitions::{Rows, decode};
use kinglet::backend::cpu::CpuBackend;
use kinglet::backend::spec::*;
use kinglet::backend::webgpu::{GpuOptions, WebGpuBackend};
use kinglet::backend::{Backend, HeadRows, LayerSlot, Slot};
use kinglet::formats::Format;
use kinglet::generate::sampler::SplitMix64;
use kinglet::model::decoder::forward;
use pollster::block_on;
use proptest::prelude::*;
use random_model::*;
use runner::runner;

/// A way to compute, and how close it must come.
trait Device {
    type Backend: Backend;
    /// Random models to try, outside a soak.
    const CASES: u32;
    fn name(&self) -> &str;
    fn load(&self, model: &Model) -> Self::Backend;
    /// The batch's residual stream.
    fn stream(&self, backend: &mut Self::Backend) -> Vec<f32>;
    /// Relative L2 error of a position's logits.
    fn limit(&self, model: &Model) -> f64;
}

/// Activations in int8 per 32: each is off by up to 1/254 of the largest beside it, about 0.5 % of a product in all, and
/// the errors of a dozen products add up.
const INT8: f64 = 6e-2;

struct Cpu;

impl Device for Cpu {
    type Backend = CpuBackend;
    const CASES: u32 = 32;

    fn name(&self) -> &str {
        "cpu"
    }

    fn load(&self, model: &Model) -> CpuBackend {
        model.load(CpuBackend::new(model.spec.clone()))
    }

    fn stream(&self, backend: &mut CpuBackend) -> Vec<f32> {
        backend.residual().to_vec()
    }

    fn limit(&self, model: &Model) -> f64 {
        // Keys and values of 14 bits.
        if model.is_float() { 2e-3 } else { INT8 }
    }
}

struct WebGpu(String, GpuOptions);

impl Device for WebGpu {
    type Backend = WebGpuBackend;
    /// Of each variant: a software GPU takes seconds to compile the kernels of one model.
    const CASES: u32 = 4;

    fn name(&self) -> &str {
        &self.0
    }

    fn load(&self, model: &Model) -> WebGpuBackend {
        model.load(block_on(WebGpuBackend::new(model.spec.clone(), &self.1)).unwrap())
    }

    fn stream(&self, backend: &mut WebGpuBackend) -> Vec<f32> {
        block_on(backend.residual()).unwrap()
    }

    fn limit(&self, model: &Model) -> f64 {
        let exact = model.is_float() || self.1.arithmetic.as_deref() == Some("f32");
        // The cache's halves: keys are off by 2^-12, and scores of 10 by that much of 10.
        if exact { 3e-3 } else { INT8 }
    }
}

/// Each test body on the CPU, and on the GPU in every variant of its kernels.
macro_rules! on_each_backend {
    ($($body:ident),* $(,)?) => {
        mod cpu {
            $(#[test] fn $body() { super::$body(&super::Cpu); })*
        }
        mod webgpu {
            $(#[test] fn $body() {
                for (name, options) in super::gpu::variants() {
                    super::$body(&super::WebGpu(name, options));
                }
            })*
        }
    };
}

on_each_backend!(
    equals_the_definitions,
    any_shape_and_formats,
    the_cache_grows_and_is_cut_back,
    only_the_rows_asked_for
);

/// Logits of all positions of `tokens`, which are fed in batches of these sizes, or as large as the backend takes.
fn run<B: Backend>(backend: &mut B, tokens: &[u32], start: usize, batches: &[usize]) -> Vec<Vec<f32>> {
    let vocab = backend.spec().vocab;
    let (mut at, mut out) = (0, Vec::new());
    for &size in batches.iter().cycle() {
        let size = size.min(tokens.len() - at).min(backend.max_batch());
        if size == 0 {
            break;
        }
        forward(backend, &tokens[at..at + size], start + at, HeadRows::All).unwrap();
        let logits = block_on(backend.logits()).unwrap();
        assert_eq!(logits.len(), size * vocab);
        out.extend(logits.chunks(vocab).map(<[f32]>::to_vec));
        at += size;
    }
    out
}

fn relative_error(got: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let difference: f64 = got.iter().zip(expected).map(|(&a, b)| (f64::from(a) - b).powi(2)).sum();
    (difference / expected.iter().map(|b| b * b).sum::<f64>()).sqrt()
}

fn worst(got: &[Vec<f32>], expected: &[Vec<f64>]) -> f64 {
    assert_eq!(got.len(), expected.len());
    // NaN counts as the worst.
    got.iter().zip(expected).map(|(g, e)| relative_error(g, e)).fold(0.0, |a, b| if b <= a { a } else { b })
}

fn text(len: usize, vocab: usize) -> Vec<u32> {
    let mut rng = SplitMix64(77);
    (0..len).map(|_| (rng.next_u64() % vocab as u64) as u32).collect()
}

fn equals_the_definitions<D: Device>(device: &D) {
    for spec in [llama(), gemma(), others()] {
        let model = Model::new(spec, Formats::all(Format::F32), 3);
        let tokens = text(40, model.spec.vocab);
        let expected = decode(&model, &tokens).logits;
        let mut backend = device.load(&model);
        for batches in [&[40][..], &[1], &[3, 1, 7], &[16, 5]] {
            let error = worst(&run(&mut backend, &tokens, 0, batches), &expected);
            assert!(error < device.limit(&model), "{}, batches of {batches:?}: {error:e}", device.name());
        }
    }
}

/// What a random model is made of, in sizes that are rounded up to what the formats can hold.
#[derive(Clone, Debug)]
struct Draft {
    /// 0: floats; 1: blocks of 32 too; 2: K-quants too.
    family: usize,
    formats: [usize; 9],
    hidden: usize,
    ffn: usize,
    kv_heads: usize,
    group: usize,
    head_quads: usize,
    rope_pairs: usize,
    vocab: usize,
    window: usize,
    /// One bit a switch.
    switches: u64,
    batches: Vec<usize>,
    seed: u64,
}

fn drafts() -> impl Strategy<Value = Draft> {
    let shape = (1..300usize, 1..300usize, 1..4usize, 1..5usize, 1..13usize, 1..25usize, 1..90usize, 1..20usize);
    let rest = (prop::array::uniform9(0..11usize), any::<u64>(), prop::collection::vec(1..6usize, 1..4), any::<u64>());
    (0..3usize, shape, rest).prop_map(|(family, shape, (formats, switches, batches, seed))| {
        let (hidden, ffn, kv_heads, group, head_quads, rope_pairs, vocab, window) = shape;
        #[rustfmt::skip]
        let draft = Draft {
            family, formats, hidden, ffn, kv_heads, group, head_quads, rope_pairs, vocab, window, switches, batches, seed,
        };
        draft
    })
}

impl Draft {
    fn model(&self) -> Model {
        let most = [1, 32, 256][self.family];
        let known: Vec<Format> = Format::ALL.into_iter().filter(|format| format.block_len() <= most).collect();
        let [embedding, head, query, key, value, attention_out, gate, mut up, down] =
            self.formats.map(|i| known[i % known.len()]);
        let switch = |i: u64| self.switches >> i & 1 == 1;
        if switch(12) {
            up = gate;
        }
        let formats = Formats { embedding, head, query, key, value, attention_out, gate, up, down };
        let block = [embedding, head, query, key, value, gate, up].map(Format::block_len).into_iter().max().unwrap();
        let mut head_dim = 4 * self.head_quads;
        let mut group = self.group;
        match attention_out.block_len() {
            256 => (head_dim, group) = (64, 4),
            block => head_dim = head_dim.next_multiple_of(block),
        }
        let pairs = |i| if switch(i) { RopePairs::Halves } else { RopePairs::Neighbours };
        let rope_dim = 2 * self.rope_pairs.min(head_dim / 2);
        let scaling = if switch(0) { RopeScaling::Linear(4.0) } else { RopeScaling::None };
        let kind = |i| match (switch(i), switch(i + 1)) {
            (false, _) => LayerKind::Global,
            (true, false) => LayerKind::Local,
            (true, true) => LayerKind::NoRope,
        };
        // A sum of one or a few elements may nearly cancel, and rounding to eight bits is all that is left of it.
        let least = if self.family == 0 { 1 } else { 32 };
        let local = Rope { base: 1e4, dim: rope_dim, pairs: pairs(1), scaling: RopeScaling::None };
        let spec = DecoderSpec {
            layers: 2,
            hidden: self.hidden.max(least).next_multiple_of(block),
            ffn: self.ffn.next_multiple_of(down.block_len()),
            heads: self.kv_heads * group,
            kv_heads: self.kv_heads,
            head_dim,
            vocab: self.vocab.max(least),
            rope: Rope { base: 1e5, dim: rope_dim, pairs: pairs(1), scaling },
            local_rope: switch(2).then_some(local),
            sliding_window: Some(self.window),
            layer_kinds: vec![kind(3), kind(5)],
            activation: if switch(7) { Activation::Gelu } else { Activation::Silu },
            embedding_scale: if switch(8) { 1.0 } else { 3.5 },
            attention_scale: 1.0 / (head_dim as f32).sqrt(),
            kv_int8: false,
            tied_head: switch(9),
            qkv_bias: switch(10),
            qk_norm: switch(11),
            post_norms: switch(13),
            ..llama()
        };
        Model::new(spec, formats, self.seed)
    }
}

/// Step by step: what each adds to the residual stream, then the logits.
fn any_shape_and_formats<D: Device>(device: &D) {
    let mut runner = runner(D::CASES, 16 * D::CASES);
    let outcome = runner.run(&drafts(), |draft| {
        let model = draft.model();
        let limit = device.limit(&model);
        let tokens = text(draft.batches.iter().sum(), model.spec.vocab);
        let expected = decode(&model, &tokens);
        let mut backend = device.load(&model);
        let mut start = 0;
        for &batch in &draft.batches {
            let batch = batch.min(backend.max_batch());
            let range = start..start + batch;
            let streams = streams(device, &mut backend, &tokens[range.clone()], start);
            for (step, (got, expected)) in streams.iter().zip(&expected.streams).enumerate() {
                let error = relative_error(got, &flat(expected, range.clone()));
                prop_assert!(error < limit, "{} after step {step}: {error:e}", device.name());
            }
            backend.head(HeadRows::Last).unwrap();
            let error = relative_error(block_on(backend.logits()).unwrap(), &expected.logits[range.end - 1]);
            prop_assert!(error < limit, "{}, logits of {}: {error:e}", device.name(), range.end - 1);
            start += batch;
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{}: {error}", device.name()));
}

fn flat(rows: &Rows, range: std::ops::Range<usize>) -> Vec<f64> {
    rows[range].concat()
}

/// As [`forward`], but for the head: the residual stream after `embed` and after both halves of each layer.
fn streams<D: Device>(device: &D, backend: &mut D::Backend, tokens: &[u32], start: usize) -> Vec<Vec<f32>> {
    backend.embed(tokens, start).unwrap();
    let mut streams = vec![device.stream(backend)];
    for layer in 0..backend.spec().layers {
        backend.qkv(layer).unwrap();
        backend.attention(layer).unwrap();
        backend.attention_out(layer).unwrap();
        streams.push(device.stream(backend));
        backend.gate_up(layer).unwrap();
        backend.down(layer).unwrap();
        streams.push(device.stream(backend));
    }
    streams
}

/// 256 positions at first, then 512, then the context's 700. On a GPU each 128 positions more split the attention anew.
fn the_cache_grows_and_is_cut_back<D: Device>(device: &D) {
    for (spec, batches) in [(llama(), &[100, 1][..]), (llama(), &[1]), (gemma(), &[30, 1, 1, 1])] {
        let model = Model::new(spec, Formats::all(Format::F32), 4);
        let limit = device.limit(&model);
        let tokens = text(600, model.spec.vocab);
        let expected = decode(&model, &tokens).logits;
        let mut backend = device.load(&model);
        let error = worst(&run(&mut backend, &tokens, 0, batches), &expected);
        assert!(error < limit, "{}, batches of {batches:?}: {error:e}", device.name());
        // From position 300 on anew: what came before is reused.
        let error = worst(&run(&mut backend, &tokens[300..320], 300, &[6]), &expected[300..320]);
        assert!(error < limit, "{} from 300 on: {error:e}", device.name());
        assert!(backend.memory().kv_cache > 0);
    }
}

fn only_the_rows_asked_for<D: Device>(device: &D) {
    let model = Model::new(llama(), Formats::all(Format::F32), 5);
    let tokens = text(9, model.spec.vocab);
    let mut backend = device.load(&model);
    let all = run(&mut backend, &tokens, 0, &[9]);
    let batch = backend.max_batch().min(9);
    for start in (0..9).step_by(batch) {
        forward(&mut backend, &tokens[start..9.min(start + batch)], start, HeadRows::Last).unwrap();
    }
    let last: Vec<f64> = all[8].iter().map(|&x| f64::from(x)).collect();
    assert!(relative_error(block_on(backend.logits()).unwrap(), &last) < 1e-5);
    forward(&mut backend, &tokens[..batch], 0, HeadRows::None).unwrap();
    assert!(block_on(backend.logits()).unwrap().is_empty());
}

#[test]
fn wrong_batches_and_tensors_are_errors() {
    use kinglet::ErrorCode::*;
    let model = Model::new(llama(), Formats::all(Format::F32), 6);
    let mut backend = Cpu.load(&model);
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

    let mut empty = CpuBackend::new(model.spec.clone());
    assert_eq!(code(forward(&mut empty, &[1], 0, HeadRows::Last)), BadRequest, "not loaded");
    assert_eq!(code(block_on(empty.upload(Slot::OutputNorm, 0, &[0; 4]))), BadRequest, "not allocated");
    assert_eq!(code(block_on(empty.finish())), CorruptFile, "no tensors");
    let mut wrong = CpuBackend::new(model.spec.clone());
    for (&slot, tensor) in &model.tensors {
        let cols = if slot == Slot::Layer(2, LayerSlot::Down) { tensor.cols + 1 } else { tensor.cols };
        wrong.allocate(slot, Format::F32, tensor.rows(), cols).unwrap();
        block_on(wrong.upload(slot, 0, &vec![0; tensor.rows() * cols * 4])).unwrap();
    }
    assert_eq!(code(block_on(wrong.finish())), CorruptFile, "a wrong shape");
}
