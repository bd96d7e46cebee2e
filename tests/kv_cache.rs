//! The cache of keys and values: what signed bytes cost in accuracy, and save; windows that keep a ring; batches whose
//! tokens are to the last bit what they are alone.

#[path = "common/gpu.rs"]
mod gpu;
#[path = "common/random_model.rs"]
mod random_model;
#[path = "common/reference.rs"]
mod reference;

use gpu::gpu;
use kinglet::backend::cpu::CpuBackend;
use kinglet::backend::spec::Rope;
use kinglet::backend::webgpu::WebGpuBackend;
use kinglet::backend::{Backend, DecoderSpec, HeadRows};
use kinglet::formats::Format;
use kinglet::model::decoder::forward;
use pollster::block_on;
use random_model::{Formats, Model, gemma, llama, others};
use reference::Reference;

/// Logits after a prompt that outgrows the cache's first size, and after each of some single tokens.
fn run<B: Backend>(backend: &mut B) -> Vec<Vec<f32>> {
    let vocab = backend.spec().vocab as u32;
    let tokens: Vec<u32> = (0..300).map(|i| (i * 7 + i / 5) % vocab).collect();
    let (prompt, rest) = tokens.split_at(290);
    let mut all = Vec::new();
    let mut start = 0;
    for batch in prompt.chunks(backend.max_batch().min(100)) {
        forward(backend, batch, start, HeadRows::Last).unwrap();
        start += batch.len();
    }
    all.push(block_on(backend.logits()).unwrap().to_vec());
    for &token in rest {
        forward(backend, &[token], start, HeadRows::Last).unwrap();
        all.push(block_on(backend.logits()).unwrap().to_vec());
        start += 1;
    }
    all
}

fn relative_l2(expected: &[f32], found: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x).powi(2);
    let difference: f64 = expected.iter().zip(found).map(|(e, f)| square(e - f)).sum();
    (difference / expected.iter().map(|&x| square(x)).sum::<f64>()).sqrt()
}

fn signed_bytes<B: Backend>(new: impl Fn(DecoderSpec) -> B, bytes_of_row: impl Fn(&DecoderSpec) -> u64) {
    for spec in [llama(), others()] {
        let spec = DecoderSpec { context_length: 600, ..spec };
        let model = Model::new(spec.clone(), Formats::all(Format::F32), 5);
        let expected = run(&mut model.load(Reference::new(spec.clone(), 100)));
        let mut of_row = Vec::new();
        // An element is off by about 0.7 % of its row's deviation; random weights hide nothing of that.
        for (kv_int8, tolerance) in [(false, 2e-3), (true, 4e-2)] {
            let spec = DecoderSpec { kv_int8, ..spec.clone() };
            let mut backend = model.load(new(spec.clone()));
            for (i, (expected, found)) in expected.iter().zip(run(&mut backend)).enumerate() {
                let error = relative_l2(expected, &found);
                assert!(error < tolerance, "int8 {kv_int8}, {i}: {error:.1e}");
            }
            of_row.push((backend.memory().kv_cache, bytes_of_row(&spec)));
        }
        assert_eq!(of_row[0].0 * of_row[1].1, of_row[1].0 * of_row[0].1);
    }
}

#[test]
fn signed_bytes_are_close_and_small_on_the_cpu() {
    signed_bytes(CpuBackend::new, |spec| {
        let room = spec.head_dim.next_multiple_of(16) as u64;
        4 + if spec.kv_int8 { room } else { 2 * room }
    });
}

#[test]
fn signed_bytes_are_close_and_small_on_a_gpu() {
    let Some(options) = gpu() else { return };
    let new = |spec| block_on(WebGpuBackend::new(spec, &options)).unwrap();
    signed_bytes(new, |spec| {
        let room = spec.head_dim.next_multiple_of(16) as u64;
        if spec.kv_int8 { room + 16 } else { 2 * room }
    });
}

fn tokens(count: usize) -> Vec<u32> {
    (0..count as u32).map(|i| (i * 7 + i / 5) % 75).collect()
}

/// Evaluates `tokens` from `start` on; the logits of the last.
fn last<B: Backend>(backend: &mut B, tokens: &[u32], start: usize, batch: usize) -> Vec<f32> {
    let mut at = start;
    for batch in tokens[start..].chunks(batch) {
        forward(backend, batch, at, HeadRows::Last).unwrap();
        at += batch.len();
    }
    block_on(backend.logits()).unwrap().to_vec()
}

/// A token on the GPU, whose splits of the context take more than one tile: of 32 positions where heads are large, of 128 beyond
/// sixteen splits of so many.
#[test]
fn splits_of_several_tiles_are_one_sum() {
    let Some(options) = gpu() else { return };
    let rope = Rope { dim: 256, ..llama().rope };
    let large = DecoderSpec { heads: 6, kv_heads: 1, head_dim: 256, rope, attention_scale: 1.0 / 16.0, ..llama() };
    let long = DecoderSpec { context_length: 2300, ..llama() };
    fn newest<B: Backend>(mut backend: B, count: usize) -> Vec<f32> {
        let batch = backend.max_batch().min(100);
        last(&mut backend, &tokens(count - 1), 0, batch);
        last(&mut backend, &tokens(count), count - 1, 1)
    }
    for (spec, count) in [(large, 250), (long, 2200)] {
        let model = Model::new(spec.clone(), Formats::all(Format::F32), 5);
        let expected = newest(model.load(CpuBackend::new(spec.clone())), count);
        let found = newest(model.load(block_on(WebGpuBackend::new(spec, &options)).unwrap()), count);
        let error = relative_l2(&expected, &found);
        assert!(error < 2e-3, "{count} positions: {error:.1e}");
    }
}

/// A window of 7 keeps 448 positions: a batch's, what may be cut back, and the window.
#[test]
fn windows_keep_a_ring() {
    let spec = DecoderSpec { context_length: 2000, ..gemma() };
    let model = Model::new(spec.clone(), Formats::all(Format::F32), 7);
    let mut reference = model.load(Reference::new(spec.clone(), 128));
    let mut cpu = model.load(CpuBackend::new(spec.clone()));
    let all = tokens(1100);
    let close = |expected: &[f32], found: &[f32]| {
        let error = relative_l2(expected, found);
        assert!(error < 2e-3, "{error:e}");
    };
    close(&last(&mut reference, &all, 0, 128), &last(&mut cpu, &all, 0, 128));
    let bytes = cpu.memory().kv_cache;

    // Cut back as far as the ring allows, and on with other tokens, one by one.
    let start = 1100 + 7 - 1 - 448;
    assert_eq!((cpu.reusable(start), cpu.reusable(start - 1), cpu.reusable(0)), (start, 0, 0));
    let other: Vec<u32> = all[..start].iter().copied().chain((0..60).map(|i| i % 75)).collect();
    close(&last(&mut reference, &other, start, 128), &last(&mut cpu, &other, start, 1));
    // What was overwritten stays lost, though the sequence is shorter now.
    assert_eq!((cpu.reusable(start), cpu.reusable(start - 1)), (start, 0));
    let error = forward(&mut cpu, &all[..1], start - 1, HeadRows::Last).unwrap_err().to_string();
    assert!(error.contains("begin the sequence anew"), "{error}");

    // From its beginning on all is well.
    close(&last(&mut reference, &all[..500], 0, 128), &last(&mut cpu, &all[..500], 0, 100));
    assert_eq!((cpu.reusable(499), cpu.memory().kv_cache), (499, bytes));

    // Two of three layers are local ones.
    let global = DecoderSpec { sliding_window: None, ..spec.clone() };
    let mut without = Model::new(global.clone(), Formats::all(Format::F32), 7).load(CpuBackend::new(global));
    last(&mut without, &all, 0, 128);
    let (layer, room) =
        (without.memory().kv_cache / 3, without.memory().kv_cache / 3 * 448 / 2000u64.next_multiple_of(64));
    assert_eq!(bytes, layer + 2 * room);
}

/// In any batch of up to eight, over several parts of a long context.
#[test]
fn a_few_tokens_attend_to_the_bit_as_alone() {
    for (i, spec) in [llama(), gemma(), others()].into_iter().enumerate() {
        for kv_int8 in [false, true] {
            let spec = DecoderSpec { kv_int8, ..spec.clone() };
            let q8 = Format::Q8_0;
            let formats = Formats { query: q8, key: q8, value: q8, ..Formats::all(Format::F32) };
            let model = Model::new(spec.clone(), formats, i as u64);
            let all = tokens(300);
            let attended = |sizes: &[usize]| {
                let mut backend = model.load(CpuBackend::new(spec.clone()));
                last(&mut backend, &all[..250], 0, 50);
                let (mut at, mut streams) = (250, Vec::new());
                for &size in sizes.iter().cycle() {
                    let end = all.len().min(at + size);
                    backend.embed(&all[at..end], at).unwrap();
                    backend.qkv(0).unwrap();
                    backend.attention(0).unwrap();
                    streams.extend(backend.attended().iter().map(|x| x.to_bits()));
                    at = end;
                    if at == all.len() {
                        return streams;
                    }
                }
                unreachable!()
            };
            let alone = attended(&[1]);
            for sizes in [&[2][..], &[3, 8], &[8], &[7, 1, 5]] {
                assert!(attended(sizes) == alone, "{i}, int8 {kv_int8}: {sizes:?}");
            }
        }
    }
}
