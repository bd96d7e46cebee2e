//! Keys and values as signed bytes: what they cost in accuracy, and what they save.

#[path = "common/gpu.rs"]
mod gpu;
#[path = "common/random_model.rs"]
mod random_model;

use gpu::gpu;
use kinglet::backend::cpu::CpuBackend;
use kinglet::backend::webgpu::{GpuOptions, WebGpuBackend};
use kinglet::backend::{Backend, DecoderSpec, HeadRows};
use kinglet::formats::Format;
use kinglet::model::decoder::forward;
use pollster::block_on;
use random_model::{Formats, Model, llama, others};

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

#[test]
fn signed_bytes_are_close_and_small() {
    let Some(options) = gpu() else { return };
    for spec in [llama(), others()] {
        let spec = DecoderSpec { context_length: 600, ..spec };
        let model = Model::new(spec.clone(), Formats::all(Format::F32), 5);
        let expected = run(&mut model.load(CpuBackend::new(spec.clone())));
        let mut bytes = Vec::new();
        // An element is off by about 0.7 % of its row's deviation; random weights hide nothing of that.
        for (kv_int8, tolerance) in [(false, 2e-3), (true, 4e-2)] {
            let options = GpuOptions { kv_int8, ..options.clone() };
            let mut gpu = model.load(block_on(WebGpuBackend::new(spec.clone(), &options)).unwrap());
            for (i, (expected, found)) in expected.iter().zip(run(&mut gpu)).enumerate() {
                let error = relative_l2(expected, &found);
                assert!(error < tolerance, "int8 {kv_int8}, {i}: {error:.1e}");
            }
            bytes.push(gpu.memory().kv_cache);
        }
        let room = spec.head_dim.next_multiple_of(16) as u64;
        assert_eq!(bytes[1] * 2 * room, bytes[0] * (room + 16));
    }
}
