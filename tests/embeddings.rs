//! Embeddings against transformers' (tests/fixtures/make_embeddings.py), on both backends.

#[path = "common/golden.rs"]
mod golden;
#[cfg(feature = "webgpu")]
#[path = "common/gpu.rs"]
#[allow(dead_code)]
mod gpu;

use golden::GOLDEN;
use kinglet::Error;
use kinglet::backend::Backend;
use kinglet::backend::cpu::CpuBackend;
use kinglet::session::{LoadOptions, Request, Session, Step};
use kinglet::source::FileSource;
use pollster::block_on;
use std::collections::BTreeMap;

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

fn load<B: Backend>(
    name: &str,
    new: impl AsyncFnOnce(kinglet::backend::DecoderSpec, usize) -> kinglet::Result<B>,
) -> Session<B> {
    let mut shards = [FileSource::open(format!("{GOLDEN}/{name}.gguf")).unwrap()];
    block_on(Session::load_on(new, &mut shards, LoadOptions::default(), |_, _| {})).unwrap()
}

/// Largest angle to transformers' embedding, as 1 - cosine, over all prompts of all models.
fn check<B: Backend>(limit: f64, new: impl AsyncFn(kinglet::backend::DecoderSpec, usize) -> kinglet::Result<B>) {
    let known: BTreeMap<String, Vec<Vec<f32>>> =
        serde_json::from_str(&std::fs::read_to_string(format!("{GOLDEN}/embeddings.json")).unwrap()).unwrap();
    assert_eq!(known.len(), 7);
    for (name, golden, _) in golden::goldens() {
        let Some(embeddings) = known.get(&name) else { continue };
        let mut session = load(&name, &new);
        let quantized = golden.formats.iter().any(|format| format.starts_with('Q'));
        let limit = if quantized { 2e-3 } else { limit };
        for (prompt, embedding) in golden.prompts.iter().zip(embeddings) {
            let ours = block_on(session.embed_tokens(prompt)).unwrap();
            let angle = 1.0 - cosine(&ours, embedding);
            println!("{name}, {} tokens: {angle:.1e}", prompt.len());
            assert!((cosine(&ours, &ours) - 1.0).abs() < 1e-5);
            assert!(angle < limit, "{name}, {} tokens: 1 - cosine is {angle:e}", prompt.len());
        }
    }
}

#[test]
fn cpu_agrees_with_transformers() {
    check(1e-6, async |spec, _| Ok(CpuBackend::new(spec)));
}

#[cfg(feature = "webgpu")]
#[test]
fn gpu_agrees_with_transformers() {
    let Some(options) = gpu::gpu() else { return };
    check(1e-4, async |spec, _| kinglet::backend::webgpu::WebGpuBackend::new(spec, &options).await);
}

#[test]
fn an_embedding_leaves_the_session_usable_and_the_context_is_its_limit() {
    let mut session = load("f32", async |spec, _| Ok(CpuBackend::new(spec)));
    let request = Request { prompt: Some("a b c".into()), ..Request::default() };
    let mut answer = || {
        session.start(&request).unwrap();
        let mut ids = Vec::new();
        loop {
            match block_on(session.step()).unwrap() {
                Step::Token { id, .. } if ids.len() < 5 => ids.push(id),
                Step::Token { .. } | Step::Done { .. } => {
                    session.abort();
                    return (ids, block_on(session.embed("a b c")).unwrap());
                }
                Step::Prefill { .. } => {}
            }
        }
    };
    let greedy = answer();
    assert_eq!(answer().1, greedy.1);
    let (embedding, tokens) = greedy.1;
    assert!(tokens >= 3 && embedding.iter().all(|x| x.is_finite()));
    let most = session.info().context_length;
    assert!(block_on(session.embed_tokens(&vec![1; most])).is_ok());
    let error = block_on(session.embed_tokens(&vec![1; most + 1])).unwrap_err();
    assert!(matches!(error, Error::ContextExceeded { .. }), "{error}");
}
