//! A GPU that is wrong, small, absent or lost: what was asked is answered all the same.

#[path = "common/gpu.rs"]
mod gpu;

use gpu::gpu;
use kinglet::backend::any::AnyBackend;
use kinglet::backend::cpu::pool::Pool;
use kinglet::backend::webgpu::{GpuOptions, WebGpuBackend};
use kinglet::generate::GenerateOptions;
use kinglet::generate::sampler::SplitMix64;
use kinglet::session::{LoadOptions, Request, Session, Step};
use kinglet::source::FileSource;
use kinglet::{ErrorCode, Result};
use pollster::block_on;

const EMBEDDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/kinglet-tiny.gguf");

fn source() -> [FileSource; 1] {
    [FileSource::open(EMBEDDED).unwrap()]
}

fn load(options: Option<&GpuOptions>) -> Result<Session<AnyBackend>> {
    let backend = async |spec, _| match options {
        Some(options) => Ok(AnyBackend::WebGpu(Box::new(WebGpuBackend::new(spec, options).await?))),
        None => Ok(AnyBackend::cpu(spec, Pool::single())),
    };
    block_on(Session::load_on(backend, &mut source(), LoadOptions::default(), |_, _| {}))
}

fn request(max_tokens: usize) -> Request {
    let options = GenerateOptions {
        temperature: 0.0,
        max_tokens: Some(max_tokens),
        ignore_eos: true,
        ..GenerateOptions::default()
    };
    Request { prompt: Some("Once upon a time there was a".into()), options, ..Request::default() }
}

/// The text of the running request; `lose`: after how many tokens the device is destroyed.
fn finish(session: &mut Session<AnyBackend>, lose: Option<usize>) -> (String, Vec<u32>) {
    let (mut text, mut ids) = (String::new(), Vec::new());
    loop {
        if lose == Some(ids.len()) && session.info().backend == "webgpu" {
            session.backend().lose_device();
        }
        match block_on(session.step()) {
            Ok(Step::Prefill { .. }) => {}
            Ok(Step::Token { id, text: piece, .. }) => {
                ids.push(id);
                text += &piece;
            }
            Ok(Step::Done { text: piece, .. }) => return (text + &piece, ids),
            Err(error) => {
                assert_eq!(error.code(), ErrorCode::DeviceLost, "{error}");
                let cpu = async |spec| Ok(AnyBackend::cpu(spec, Pool::single()));
                block_on(session.reload_on(cpu, &mut source(), |_, _| {})).unwrap();
                assert_eq!((session.info().backend, session.info().adapter.as_deref()), ("cpu", None));
            }
        }
    }
}

#[test]
fn every_wrong_kernel_is_found() {
    let Some(options) = gpu() else { return };
    assert_eq!(load(Some(&options)).unwrap().info().backend, "webgpu", "none is wrong");
    for kernel in ["embed", "qkv", "attention", "attention_out", "gate_up", "down", "head", "sample_chunks", "sample"] {
        let wrong = GpuOptions { sabotage: Some(kernel.into()), ..options.clone() };
        let error = load(Some(&wrong)).err().unwrap_or_else(|| panic!("a wrong {kernel} was trusted"));
        assert_eq!(error.code(), ErrorCode::GpuUntrusted, "{kernel}: {error}");
    }
}

#[test]
fn answers_survive_the_loss_of_the_device() {
    let Some(options) = gpu() else { return };
    let tokens = 40;
    let mut cpu = load(None).unwrap();
    cpu.start(&request(tokens)).unwrap();
    let (expected, _) = finish(&mut cpu, None);
    let soak = std::env::var_os("KINGLET_SOAK").is_some();
    let mut random = SplitMix64(3);
    for _ in 0..if soak { 100 } else { 6 } {
        let lose = (random.next_u64() % tokens as u64) as usize;
        let mut session = load(Some(&options)).unwrap();
        session.start(&request(tokens)).unwrap();
        let (text, ids) = finish(&mut session, Some(lose));
        assert_eq!(ids.len(), tokens);
        assert_eq!(text, expected, "lost after {lose} tokens");
        // The next request has a session as good as new.
        session.start(&request(tokens)).unwrap();
        assert_eq!(finish(&mut session, None).0, expected);
    }
}

#[test]
fn a_small_binding_limit_splits_what_is_larger() {
    let Some(options) = gpu() else { return };
    let mut whole = load(Some(&options)).unwrap();
    whole.start(&request(20)).unwrap();
    let expected = finish(&mut whole, None);
    let small = GpuOptions { binding_limit: Some(256 << 10), ..options };
    let mut split = load(Some(&small)).unwrap();
    split.start(&request(20)).unwrap();
    assert!(split.stats().dispatches_per_token > whole.stats().dispatches_per_token, "the embedding is in parts");
    assert_eq!(finish(&mut split, None), expected);
    let error = load(Some(&GpuOptions { binding_limit: Some(1 << 10), ..small })).err().unwrap();
    assert!(matches!(error.code(), ErrorCode::OutOfMemory | ErrorCode::NoWebgpu), "{error}");
}
