//! What a model is said to take before it is loaded, against what it takes.

#[path = "common/gpu.rs"]
mod gpu;
#[path = "common/random_model.rs"]
mod random_model;

use gpu::gpu;
use kinglet::backend::cpu::pool::Pool;
use kinglet::backend::cpu::{self, CpuBackend};
use kinglet::backend::webgpu::{self, GpuOptions, Room, WebGpuBackend};
use kinglet::backend::{Backend, DecoderSpec, HeadRows, Memory, TensorShape};
use kinglet::formats::Format;
use kinglet::model::decoder::forward;
use pollster::block_on;
use random_model::{Formats, Model, gemma, llama, others};

/// Wide enough for blocks of 256, long enough for the cache to grow.
fn wide(spec: DecoderSpec) -> DecoderSpec {
    DecoderSpec { hidden: 256, ffn: 256, heads: 8, kv_heads: 2, head_dim: 32, context_length: 300, vocab: 1203, ..spec }
}

fn specs() -> Vec<DecoderSpec> {
    let dim = |spec: DecoderSpec| {
        let mut spec = wide(spec);
        spec.rope.dim = spec.rope.dim.min(32);
        spec
    };
    vec![dim(llama()), dim(gemma()), dim(others())]
}

/// Each kind of model with a third of the formats.
fn turns() -> Vec<(DecoderSpec, Vec<Format>)> {
    let formats = |i: usize| Format::ALL.into_iter().skip(i).step_by(3).collect();
    specs().into_iter().enumerate().map(|(i, spec)| (spec, formats(i))).collect()
}

fn shapes(model: &Model) -> Vec<TensorShape> {
    let shape =
        |(&slot, t): (&_, &random_model::Tensor)| TensorShape { slot, format: t.format, rows: t.rows(), cols: t.cols };
    model.tensors.iter().map(shape).collect()
}

/// A prompt and answer that fill the context.
fn fill<B: Backend>(backend: &mut B) {
    let (context, vocab) = (backend.spec().context_length as u32, backend.spec().vocab as u32);
    let tokens: Vec<u32> = (0..context).map(|i| (i * 7 + 1) % vocab).collect();
    let mut start = 0;
    while start < tokens.len() - 1 {
        let end = (start + backend.max_batch()).min(tokens.len() - 1);
        forward(backend, &tokens[start..end], start, HeadRows::Last).unwrap();
        block_on(backend.catch_up()).unwrap();
        start = end;
    }
    forward(backend, &tokens[start..], start, HeadRows::Last).unwrap();
    block_on(backend.logits()).unwrap();
}

fn close(what: &str, estimated: Memory, measured: Memory) {
    let parts = |memory: Memory| [memory.weights, memory.kv_cache, memory.scratch];
    for (part, (e, m)) in ["weights", "cache", "scratch"].iter().zip(parts(estimated).into_iter().zip(parts(measured)))
    {
        let off = (e as f64 - m as f64).abs() / m as f64;
        assert!(m > 0 && off < 0.03, "{what}: {part} of {m} bytes was estimated as {e}");
    }
}

#[test]
fn of_the_cpu() {
    let on = |threads, spec: &DecoderSpec| CpuBackend::with_pool(spec.clone(), Pool::new(threads).unwrap());
    for (threads, (spec, formats)) in (1..).zip(turns()) {
        for (i, format) in formats.into_iter().enumerate() {
            let spec = DecoderSpec { kv_int8: i % 2 == 1, ..spec.clone() };
            let model = Model::new(spec.clone(), Formats::all(format), 3);
            let mut backend = model.load(on(threads, &spec));
            fill(&mut backend);
            close(&format!("{format:?}"), cpu::estimate(&spec, &shapes(&model), threads), backend.memory());
        }
        let mix = Formats { value: Format::Q6_K, down: Format::F16, ..Formats::all(Format::Q4_0) };
        let model = Model::new(spec.clone(), mix, 4);
        let mut backend = model.load(on(threads, &spec));
        fill(&mut backend);
        close("a mix", cpu::estimate(&spec, &shapes(&model), threads), backend.memory());
    }
}

#[test]
fn of_the_gpu() {
    let Some(options) = gpu() else { return };
    for (i, (spec, formats)) in turns().into_iter().enumerate() {
        for (j, format) in formats.into_iter().enumerate() {
            // The embedding in several parts, sometimes.
            let binding_limit = if (i + j) % 2 == 0 { 1 << 19 } else { 128 << 20 };
            let kv_int8 = j % 3 == 0;
            let options = GpuOptions { binding_limit: Some(binding_limit), ..options.clone() };
            let spec = DecoderSpec { kv_int8, ..spec.clone() };
            let model = Model::new(spec.clone(), Formats::all(format), 3);
            let mut backend = model.load(block_on(WebGpuBackend::new(spec.clone(), &options)).unwrap());
            fill(&mut backend);
            let estimated = webgpu::estimate(&spec, &shapes(&model), Room { binding_limit }).unwrap();
            close(&format!("{format:?}"), estimated, backend.memory());
        }
    }
}

#[test]
fn what_exceeds_a_binding_is_named() {
    let spec = wide(llama());
    let model = Model::new(spec.clone(), Formats::all(Format::F32), 3);
    let room = Room { binding_limit: 1 << 18 };
    let error = webgpu::estimate(&spec, &shapes(&model), room).unwrap_err().to_string();
    assert!(error.contains("Query") && error.contains("layer 0"), "{error}");
}
