//! Batches of a prompt on the GPU: against Hugging Face's golden logits, against the GPU's own tokens one by one, and
//! against plain decoders on small models of every shape.

#[path = "common/golden.rs"]
mod golden;
#[path = "common/gpu.rs"]
mod gpu;
#[path = "common/reference.rs"]
mod reference;
#[path = "common/runner.rs"]
mod runner;

use golden::*;
use gpu::gpu;
use kinglet::ErrorCode;
use kinglet::backend::cpu::CpuBackend;
use kinglet::backend::spec::*;
use kinglet::backend::webgpu::{GpuOptions, WebGpuBackend};
use kinglet::backend::{Backend, HeadRows, LayerSlot, Slot, TensorShape};
use kinglet::formats::Format;
use kinglet::generate::sampler::SplitMix64;
use kinglet::model::decoder::forward;
use kinglet::session::{LoadOptions, Session};
use pollster::block_on;
use proptest::prelude::*;
use reference::Reference;
use runner::runner;
use std::cell::RefCell;

fn on_gpu(spec: DecoderSpec, options: &GpuOptions) -> WebGpuBackend {
    block_on(WebGpuBackend::new(spec, options)).unwrap()
}

fn arithmetics(options: &GpuOptions) -> [GpuOptions; 3] {
    ["dot", "f16", "f32"].map(|name| GpuOptions { arithmetic: Some(name.into()), ..options.clone() })
}

#[test]
fn batches_agree_with_transformers() {
    let Some(options) = gpu() else { return };
    for options in arithmetics(&options) {
        println!("{}:", options.arithmetic.as_deref().unwrap());
        check(|spec| on_gpu(spec, &options), tolerance, usize::MAX);
    }
}

/// Logits of every position; `cuts` are the sizes of the batches, over and over.
fn in_batches<B: Backend>(backend: &mut B, tokens: &[u32], cuts: &[usize]) -> Vec<f32> {
    let (mut all, mut start) = (Vec::new(), 0);
    for &cut in cuts.iter().cycle() {
        let end = tokens.len().min(start + cut);
        forward(backend, &tokens[start..end], start, HeadRows::All).unwrap();
        all.extend_from_slice(block_on(backend.logits()).unwrap());
        block_on(backend.catch_up()).unwrap();
        start = end;
        if start == tokens.len() {
            break;
        }
    }
    all
}

#[test]
fn any_cut_into_batches_equals_one_pass() {
    let Some(options) = gpu() else { return };
    for (name, golden, _) in goldens().into_iter().filter(|(name, ..)| ["f32", "q4_0", "q6_k"].contains(&&name[..])) {
        let backend = RefCell::new(load(format!("{GOLDEN}/{name}.gguf"), |spec| on_gpu(spec, &options)));
        let vocab = backend.borrow().spec().vocab;
        let tokens = golden.prompts.concat();
        let whole = in_batches(&mut *backend.borrow_mut(), &tokens, &[tokens.len()]);
        // The order of sums differs, and with it what quantized activations are rounded to.
        let limit = if golden.dtype == "f32" { 1e-3 } else { 1e-2 };
        let cuts = prop::collection::vec(prop_oneof![Just(1), 2..40usize], 1..4);
        runner(12, 12)
            .run(&cuts, |cuts| {
                let cut = in_batches(&mut *backend.borrow_mut(), &tokens, &cuts);
                let Agreement { relative_l2, .. } = compare(&whole, &cut, vocab, 1.0);
                prop_assert!(relative_l2 <= limit, "{name} by {cuts:?}: {relative_l2:e}");
                Ok(())
            })
            .unwrap();
    }
}

/// The last row alone comes another way than all of them.
#[test]
fn the_last_row_is_the_last_of_all() {
    let Some(options) = gpu() else { return };
    let mut backend = load(format!("{GOLDEN}/q8_0.gguf"), |spec| on_gpu(spec, &options));
    let vocab = backend.spec().vocab;
    let tokens: Vec<u32> = (0..21).map(|i| (5 * i + 1) % vocab as u32).collect();
    forward(&mut backend, &tokens, 0, HeadRows::All).unwrap();
    let all = block_on(backend.logits()).unwrap().to_vec();
    forward(&mut backend, &tokens, 0, HeadRows::Last).unwrap();
    let last = block_on(backend.logits()).unwrap();
    let Agreement { relative_l2, .. } = compare(&all[20 * vocab..], last, vocab, 1.0);
    assert!(relative_l2 <= 1e-3, "{relative_l2:e}");
}

struct Tensor {
    shape: TensorShape,
    bytes: Vec<u8>,
}

/// About -spread to spread around `about`.
fn tensor(
    rng: &mut SplitMix64,
    slot: Slot,
    format: Format,
    [rows, cols]: [usize; 2],
    about: f32,
    spread: f32,
) -> Tensor {
    let mut unit = || rng.next_u64() as i32 as f32 / i32::MAX as f32;
    let bytes = match format {
        Format::F32 => (0..rows * cols).flat_map(|_| (about + spread * unit()).to_le_bytes()).collect(),
        // Any quants: of deviation 4.6 and 73.
        Format::Q4_0 | Format::Q8_0 => {
            let deviation = if format == Format::Q4_0 { 4.6 } else { 73.0 };
            let scale =
                (((cols as f32).sqrt() * deviation).log2().round() as u16).wrapping_neg().wrapping_add(15) << 10;
            let block = |_| {
                let quants = (2..format.block_bytes()).map(|_| (unit() * 127.0) as i8 as u8).collect::<Vec<_>>();
                [&scale.to_le_bytes()[..], &quants].concat()
            };
            (0..rows * cols / 32).flat_map(block).collect()
        }
        other => panic!("no {other:?} here"),
    };
    Tensor { shape: TensorShape { slot, format, rows, cols }, bytes }
}

fn model(spec: &DecoderSpec, format: Format, seed: u64) -> Vec<Tensor> {
    use LayerSlot::*;
    let mut rng = SplitMix64(seed);
    let (h, q, k) = (spec.hidden, spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim);
    let format_of = |cols: usize| if cols.is_multiple_of(format.block_len()) { format } else { Format::F32 };
    let mut all = vec![
        tensor(&mut rng, Slot::TokenEmbedding, format_of(h), [spec.vocab, h], 0.0, 1.0),
        tensor(&mut rng, Slot::OutputNorm, Format::F32, [1, h], 1.0, 0.5),
    ];
    for i in 0..spec.layers {
        let mut vector = |slot, cols, about, spread| {
            all.push(tensor(&mut rng, Slot::Layer(i, slot), Format::F32, [1, cols], about, spread));
        };
        vector(AttentionNorm, h, 1.0, 0.5);
        vector(FfnNorm, h, 1.0, 0.5);
        if spec.qkv_bias {
            for (slot, cols) in [(QueryBias, q), (KeyBias, k), (ValueBias, k)] {
                vector(slot, cols, 0.0, 0.5);
            }
        }
        if spec.post_norms {
            vector(PostAttentionNorm, h, 1.0, 0.5);
            vector(PostFfnNorm, h, 1.0, 0.5);
        }
        if spec.qk_norm {
            for slot in [QueryNorm, KeyNorm] {
                vector(slot, spec.head_dim, 1.0, 0.5);
            }
        }
        let ffn = spec.ffn;
        for (slot, rows, cols) in [
            (Query, q, h),
            // Two formats in one group where the columns allow it.
            (Key, k, h),
            (Value, k, h),
            (AttentionOutput, h, q),
            (Gate, ffn, h),
            (Up, ffn, h),
            (Down, h, ffn),
        ] {
            let mixed = (slot == Value || slot == Up && seed.is_multiple_of(2))
                && format == Format::Q4_0
                && h.is_multiple_of(32);
            let format = if mixed { Format::Q8_0 } else { format_of(cols) };
            let spread = 1.5 / (cols as f32).sqrt();
            all.push(tensor(&mut rng, Slot::Layer(i, slot), format, [rows, cols], 0.0, spread));
        }
    }
    all
}

fn upload<B: Backend>(mut backend: B, tensors: &[Tensor]) -> B {
    backend.prepare(&tensors.iter().map(|tensor| tensor.shape).collect::<Vec<_>>()).unwrap();
    for Tensor { shape, bytes } in tensors {
        backend.allocate(shape.slot, shape.format, shape.rows, shape.cols).unwrap();
        block_on(backend.upload(shape.slot, 0, bytes)).unwrap();
    }
    block_on(backend.finish()).unwrap();
    backend
}

#[derive(Clone, Debug)]
struct Case {
    spec: DecoderSpec,
    format: Format,
    tokens: usize,
    cuts: Vec<usize>,
    seed: u64,
    arithmetic: &'static str,
}

fn cases() -> impl Strategy<Value = Case> {
    let shape =
        (1..40usize, 1..90usize, 1..4usize, 1..4usize, prop::sample::select(vec![4, 8, 12, 20, 64, 80, 128, 256]));
    let switches = (any::<[bool; 6]>(), 0..4usize, prop::option::of(1..80usize));
    let format = prop::sample::select(vec![Format::F32, Format::Q8_0, Format::Q4_0]);
    let run = (2..600usize, prop::collection::vec(1..300usize, 1..4), any::<u64>());
    let arithmetic = prop::sample::select(vec!["dot", "f16", "f32"]);
    (shape, switches, format, run, arithmetic).prop_map(
        |((hidden, ffn, group, kv_heads, head_dim), (on, part, window), format, (tokens, cuts, seed), arithmetic)| {
            let block = format.block_len().max(4);
            let hidden = if block == 32 { 32 * (1 + hidden / 8) } else { hidden * block };
            let pairs = if on[3] { RopePairs::Halves } else { RopePairs::Neighbours };
            let dim = (head_dim - head_dim / 8 * part.min(2)) / 2 * 2;
            let rope = Rope { base: 1e4, dim, pairs, scaling: RopeScaling::None };
            let kinds = if window.is_some() { [LayerKind::Local, LayerKind::NoRope] } else { [LayerKind::Global; 2] };
            let spec = DecoderSpec {
                architecture: "test".into(),
                layers: 2,
                hidden,
                ffn: if block == 32 { ffn.div_ceil(16) * 32 } else { ffn },
                heads: group * kv_heads,
                kv_heads,
                head_dim,
                vocab: 75,
                context_length: 600,
                norm_eps: 1e-5,
                local_rope: on[4].then(|| Rope { base: 1e2, ..rope.clone() }),
                rope,
                sliding_window: window,
                layer_kinds: kinds.to_vec(),
                activation: if on[0] { Activation::Gelu } else { Activation::Silu },
                embedding_scale: 1.5,
                attention_scale: 1.0 / (head_dim as f32).sqrt(),
                kv_int8: false,
                tied_head: true,
                qkv_bias: on[1],
                qk_norm: on[2],
                post_norms: on[5],
            };
            Case { spec, format, tokens, cuts, seed, arithmetic }
        },
    )
}

/// Floats against the definitions; rounded inputs against the GPU's own tokens one by one, rounded alike.
#[test]
fn every_shape_agrees() {
    let Some(options) = gpu() else { return };
    runner(16, 200)
        .run(&cases(), |case| {
            let Case { spec, format, tokens, cuts, seed, arithmetic } = &case;
            let tensors = model(spec, *format, *seed);
            let options = GpuOptions { arithmetic: Some((*arithmetic).into()), ..options.clone() };
            let mut gpu = upload(on_gpu(spec.clone(), &options), &tensors);
            let tokens: Vec<u32> = (0..*tokens).map(|i| ((7 * i + i / 3) % spec.vocab) as u32).collect();
            let found = in_batches(&mut gpu, &tokens, cuts);
            let rounded = *arithmetic == "dot" && *format != Format::F32;
            let expected = match rounded {
                true => in_batches(&mut gpu, &tokens, &[1]),
                false => in_batches(&mut upload(Reference::new(spec.clone(), 600), &tensors), &tokens, &[600]),
            };
            let Agreement { relative_l2, .. } = compare(&expected, &found, spec.vocab, 1.0);
            println!(
                "{relative_l2:.1e} {arithmetic} {format:?} {} tokens by {cuts:?}, heads of {}",
                tokens.len(),
                spec.head_dim
            );
            prop_assert!(relative_l2 <= if rounded { 4e-2 } else { 4e-3 }, "{relative_l2:e}");
            Ok(())
        })
        .unwrap();
}

/// The CPU's activations are rounded as the dot product's are.
#[test]
fn batches_agree_with_the_cpu() {
    let Some(options) = gpu() else { return };
    for name in ["q4_0", "q4_k", "f16"] {
        let mut gpu = load(format!("{GOLDEN}/{name}.gguf"), |spec| on_gpu(spec, &options));
        let mut cpu = load(format!("{GOLDEN}/{name}.gguf"), CpuBackend::new);
        let vocab = cpu.spec().vocab;
        let tokens: Vec<u32> = (0..100).map(|i| (5 * i + 1) % vocab as u32).collect();
        let (expected, found) = (in_batches(&mut cpu, &tokens, &[100]), in_batches(&mut gpu, &tokens, &[70]));
        let Agreement { relative_l2, .. } = compare(&expected, &found, vocab, 1.0);
        println!("{name}: {relative_l2:.1e}");
        assert!(relative_l2 <= if name == "f16" { 2e-3 } else { 2e-2 }, "{name}: {relative_l2:e}");
    }
}

#[test]
fn every_wrong_kernel_is_found() {
    let Some(options) = gpu() else { return };
    let (tiny, gemma) = ("models/kinglet-tiny.gguf", "tests/fixtures/golden/gemma3_f32.gguf");
    for (kernel, path) in
        [("panel", tiny), ("matmul", tiny), ("rope_kv", tiny), ("attention_batch", tiny), ("post_norm", gemma)]
    {
        let options = GpuOptions { sabotage: Some(kernel.into()), ..options.clone() };
        let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
        let mut source = [kinglet::source::FileSource::open(path).unwrap()];
        let new = async |spec, _| WebGpuBackend::new(spec, &options).await;
        let error = block_on(Session::load_on(new, &mut source, LoadOptions::default(), |_, _| {})).err();
        assert_eq!(error.map(|error| error.code()), Some(ErrorCode::GpuUntrusted), "{kernel}");
    }
}
