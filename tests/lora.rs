//! LoRA adapters, on both backends: the logits of base and adapters equal those of the model that PEFT merged
//! (`fixtures/make_lora.py`), and requests switch between adapters without loading anything again.

#[path = "common/definitions.rs"]
mod definitions;
#[path = "common/golden.rs"]
mod golden;
#[path = "common/gpu.rs"]
mod gpu;
#[path = "common/lora.rs"]
mod lora;
#[path = "common/random_model.rs"]
mod random_model;

use golden::{Agreement, best, compare};
use kinglet::backend::any::AnyBackend;
use kinglet::backend::cpu::pool::Pool;
use kinglet::backend::webgpu::WebGpuBackend;
use kinglet::backend::{Backend, DecoderSpec, HeadRows};
use kinglet::formats::Format;
use kinglet::generate::{AdapterUse, GenerateOptions};
use kinglet::model::decoder::forward;
use kinglet::session::{Session, Stats, Step};
use kinglet::source::FileSource;
use lora::*;
use pollster::block_on;
use random_model::*;

const ALL: u32 = 7;
const SOME: u32 = 3;

struct Device {
    name: String,
    gpu: Option<kinglet::backend::webgpu::GpuOptions>,
}

impl Device {
    fn backend(&self, spec: DecoderSpec) -> AnyBackend {
        match &self.gpu {
            None => AnyBackend::cpu(spec, Pool::single()),
            Some(options) => AnyBackend::WebGpu(Box::new(block_on(WebGpuBackend::new(spec, options)).unwrap())),
        }
    }

    fn session(&self, golden: &str) -> Session<AnyBackend> {
        golden_session(golden, |spec| self.backend(spec))
    }

    /// Floats all the way, but for the GPU's cache.
    fn exact(&self) -> bool {
        self.gpu.as_ref().is_some_and(|gpu| gpu.arithmetic.as_deref() == Some("f32"))
    }
}

/// The CPU, and the GPU in every variant of its kernels.
fn devices() -> Vec<Device> {
    let gpus = gpu::variants().into_iter().map(|(name, options)| Device { name, gpu: Some(options) });
    std::iter::once(Device { name: "cpu".into(), gpu: None }).chain(gpus).collect()
}

/// The CPU, and the GPU's likeliest and plainest variants.
fn few() -> Vec<Device> {
    let mut all = devices();
    let plainest = all.pop();
    all.truncate(2);
    all.extend(plainest);
    all
}

fn uses(case: &[(String, f32)]) -> Vec<AdapterUse> {
    case.iter().map(|(kind, scale)| AdapterUse { id: if kind == "all" { ALL } else { SOME }, scale: *scale }).collect()
}

#[test]
fn equals_the_merged_model() {
    let mut failures = Vec::new();
    for device in few() {
        for (name, merged) in merged() {
            let expected = merged.logits(&name);
            let mut session = device.session(&name);
            let (vocab, before) = (session.info().vocabulary, session.memory());
            let untouched = logits(&mut session, &merged.prompts, &[]);
            for form in [Form::Peft, Form::Gguf] {
                load(&mut session, ALL, &name, "all", form).unwrap();
                load(&mut session, SOME, &name, "some", form).unwrap();
                assert!(session.memory().weights > before.weights, "adapters take memory");
                for (case, expected) in merged.cases.iter().zip(&expected) {
                    let ours = logits(&mut session, &merged.prompts, &uses(case));
                    let Agreement { relative_l2, worst_kl, .. } = compare(expected, &ours, vocab, merged.tolerance());
                    let told = format!("{}, {name}, {form:?}, {case:?}: {relative_l2:.1e}", device.name);
                    println!("{told}");
                    if !(relative_l2 <= merged.tolerance() && worst_kl < 1e-2) {
                        failures.push(told);
                    }
                }
                for id in [ALL, SOME] {
                    session.unload_adapter(id).unwrap();
                }
                assert_eq!(session.memory().weights, before.weights);
                let after = logits(&mut session, &merged.prompts, &[]);
                assert!(after == untouched, "{}, {name}: something of the adapters is left", device.name);
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// Against a decoder in f64 whose weights are merged: gate and up of one type and of two, biases, norms after products, ranks
/// that differ, matrices without an adapter, as batches and token by token.
#[test]
fn equals_the_definitions() {
    let mixed = |up| Formats { up, ..Formats::all(Format::Q8_0) };
    let models = [
        (llama(), Formats::all(Format::F32)),
        (gemma(), Formats::all(Format::F32)),
        (others(), Formats::all(Format::F16)),
        (gemma(), Formats { up: Format::F16, ..Formats::all(Format::F32) }),
        // Whole blocks.
        (DecoderSpec { ffn: 160, heads: 4, head_dim: 16, ..llama() }, mixed(Format::Q8_0)),
        (DecoderSpec { ffn: 160, heads: 4, head_dim: 16, ..llama() }, mixed(Format::Q4_0)),
    ];
    let tokens: Vec<u32> = (0..11).map(|i| (i * 13 + 5) % 75).collect();
    for (i, (spec, formats)) in models.into_iter().enumerate() {
        let mut model = Model::new(spec, formats, i as u64);
        let adapters = [model.adapter(9, 5, 100), model.adapter(3, 3, 200)];
        let every = [1, 4].contains(&i);
        let loaded: Vec<(Device, AnyBackend)> = if every { devices() } else { few() }
            .into_iter()
            .map(|device| {
                let backend = model.load(device.backend(model.spec.clone()));
                (device, backend)
            })
            .collect();
        let float = model.is_float();
        for (pairs, scale) in adapters.iter().zip([1.0, -0.5]) {
            model.merge(pairs, scale);
        }
        let expected = definitions::decode(&model, &tokens).logits;
        for (device, mut backend) in loaded {
            for (pairs, id) in adapters.iter().zip(0..) {
                backend.load_adapter(id, pairs).unwrap();
            }
            backend.use_adapters(&[(0, 1.0), (1, -0.5)]).unwrap();
            let limit = if float || device.exact() { 3e-3 } else { 6e-2 };
            for sizes in [vec![11], vec![6, 1, 1, 3], vec![1; 11]] {
                let mut start = 0;
                for size in sizes {
                    forward(&mut backend, &tokens[start..start + size], start, HeadRows::All).unwrap();
                    let logits = block_on(backend.logits()).unwrap();
                    for (ours, expected) in logits.chunks(75).zip(&expected[start..]) {
                        let off: f64 = ours.iter().zip(expected).map(|(o, e)| (f64::from(*o) - e).powi(2)).sum();
                        let error = (off / expected.iter().map(|e| e * e).sum::<f64>()).sqrt();
                        assert!(error <= limit, "{}, model {i}, {size} tokens from {start}: {error:.1e}", device.name);
                    }
                    start += size;
                }
            }
        }
    }
}

fn greedy(adapters: Vec<AdapterUse>) -> GenerateOptions {
    GenerateOptions { temperature: 0.0, max_tokens: Some(6), ignore_eos: true, adapters, ..GenerateOptions::default() }
}

fn answer(session: &mut Session<AnyBackend>, prompt: &[u32], adapters: &[AdapterUse]) -> (Vec<u32>, Stats) {
    session.start_tokens(prompt.to_vec(), &greedy(adapters.to_vec()), false).unwrap();
    let mut ids = Vec::new();
    loop {
        match block_on(session.step()).unwrap() {
            Step::Prefill { .. } => {}
            Step::Token { id, .. } => ids.push(id),
            Step::Done { stats, .. } => return (ids, stats),
        }
    }
}

/// What greedy decoding says, one whole pass a token.
fn answer_by_logits(session: &mut Session<AnyBackend>, prompt: &[u32], adapters: &[AdapterUse]) -> Vec<u32> {
    let (vocab, mut tokens) = (session.info().vocabulary, prompt.to_vec());
    for _ in 0..6 {
        let all = logits(session, std::slice::from_ref(&tokens), adapters);
        tokens.push(best(&all[all.len() - vocab..]) as u32);
    }
    tokens.split_off(prompt.len())
}

/// One device of each kind: what follows is the same for all variants.
fn kinds() -> impl Iterator<Item = Device> {
    devices().into_iter().take(2)
}

const PROMPT: [u32; 6] = [1, 20, 90, 14, 200, 3];

#[test]
fn requests_switch_between_adapters() {
    for device in kinds() {
        let mut session = device.session("f32");
        let without = session.backend().dispatches_per_token();
        load(&mut session, ALL, "f32", "all", Form::Peft).unwrap();
        load(&mut session, SOME, "f32", "some", Form::Gguf).unwrap();
        let one = |id, scale| AdapterUse { id, scale };
        let cases = [
            vec![],
            vec![one(ALL, 1.0)],
            vec![one(ALL, 0.5)],
            vec![one(SOME, 1.0)],
            vec![one(SOME, -0.5), one(ALL, 1.0)],
            vec![one(ALL, 0.0)],
        ];
        let expected: Vec<Vec<u32>> = cases.iter().map(|case| answer_by_logits(&mut session, &PROMPT, case)).collect();
        assert_eq!(expected[5], expected[0], "a scale of zero is none");
        assert!(expected[1] != expected[0] && expected[3] != expected[0] && expected[3] != expected[1]);
        for (case, expected) in cases.iter().zip(&expected).chain(cases.iter().zip(&expected).rev()) {
            session.use_adapters(&[one(SOME, 0.25)]).unwrap();
            let (ids, stats) = answer(&mut session, &PROMPT, case);
            assert_eq!(ids, *expected, "{}, {case:?}", device.name);
            assert_eq!(stats.cached_tokens, 0, "keys and values were computed with another adapter");
            // Two dispatches a step of the adapter's.
            let adapted = 2
                * (case.iter().filter(|used| used.scale != 0.0))
                    .map(|used| if used.id == ALL { 8 } else { 2 })
                    .sum::<usize>();
            assert_eq!(stats.dispatches_per_token, if without == 0 { 0 } else { without + adapted });
            let (ids, stats) = answer(&mut session, &PROMPT, case);
            assert_eq!(ids, *expected, "{}, {case:?}, from the cache", device.name);
            assert_eq!(stats.cached_tokens, PROMPT.len() - 1);
        }
    }
}

#[test]
fn adapters_move_along_to_another_backend() {
    for device in kinds() {
        let mut session = device.session("f32");
        load(&mut session, ALL, "f32", "all", Form::Peft).unwrap();
        let adapters = [AdapterUse { id: ALL, scale: 1.0 }];
        let (expected, _) = answer(&mut session, &PROMPT, &adapters);
        session.start_tokens(PROMPT.to_vec(), &greedy(adapters.to_vec()), false).unwrap();
        let mut ids = Vec::new();
        loop {
            if ids.len() == 2 && session.info().backend == "webgpu" {
                session.backend().lose_device();
            }
            let moves = match block_on(session.step()) {
                Ok(Step::Prefill { .. }) => false,
                Ok(Step::Token { id, .. }) => {
                    ids.push(id);
                    session.info().backend == "cpu" && device.gpu.is_none() && ids.len() == 2
                }
                Ok(Step::Done { .. }) => break,
                Err(error) => {
                    assert_eq!(error.code(), kinglet::ErrorCode::DeviceLost, "{error}");
                    true
                }
            };
            if moves {
                let mut shards = [FileSource::open(format!("{}/f32.gguf", golden::GOLDEN)).unwrap()];
                block_on(session.reload_on(
                    async |spec| Ok(AnyBackend::cpu(spec, Pool::single())),
                    &mut shards,
                    |_, _| {},
                ))
                .unwrap();
            }
        }
        assert_eq!(session.info().backend, "cpu");
        assert_eq!(ids, expected, "{}", device.name);
        // And they are there for other requests.
        assert_eq!(answer(&mut session, &PROMPT, &adapters).0, expected);
        assert_ne!(answer(&mut session, &PROMPT, &[]).0, expected);
    }
}

#[test]
fn misuse_is_told() {
    for device in kinds() {
        let mut session = device.session("f32");
        load(&mut session, ALL, "f32", "all", Form::Peft).unwrap();
        let refused = |result: kinglet::Result<()>, expected: &str| {
            let error = result.unwrap_err();
            assert_eq!(error.code(), kinglet::ErrorCode::BadAdapter, "{error}");
            assert!(error.to_string().contains(expected), "{error}");
        };
        let one = |id| vec![AdapterUse { id, scale: 1.0 }];
        refused(load(&mut session, ALL, "f32", "some", Form::Peft), "there is an adapter 7 already");
        refused(session.unload_adapter(9), "there is no adapter 9");
        refused(session.start_tokens(vec![1], &greedy(one(9)), false), "there is no adapter 9");
        refused(session.start_tokens(vec![1], &greedy([one(ALL), one(ALL)].concat()), false), "twice");
        session.start_tokens(vec![1, 2], &greedy(one(ALL)), false).unwrap();
        block_on(session.step()).unwrap();
        refused(session.unload_adapter(ALL), "the running request uses adapter 7");
        session.abort();
        session.unload_adapter(ALL).unwrap();
        refused(session.start_tokens(vec![1], &greedy(one(ALL)), false), "there is no adapter 7");
        let huge = GenerateOptions { adapters: vec![AdapterUse { id: ALL, scale: f32::NAN }], ..greedy(vec![]) };
        assert!(session.start_tokens(vec![1], &huge, false).unwrap_err().to_string().contains("scale"));
    }
}
