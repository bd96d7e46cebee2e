//! Logits against Hugging Face transformers on small seeded models (`fixtures/make_models.py`), and stories260K's own text.

#[path = "common/golden.rs"]
mod golden;
#[path = "common/reference.rs"]
mod reference;

use golden::*;
use kinglet::backend::cpu::CpuBackend;
use kinglet::backend::spec::{Activation, LayerKind, RopePairs, RopeScaling};
use kinglet::backend::{Backend, DecoderSpec};
use kinglet::generate::GenerateOptions;
use kinglet::session::{LoadOptions, Request, Session, Step};
use kinglet::source::FileSource;
use kinglet::text::Message;
use pollster::block_on;
use reference::Reference;
use serde::Deserialize;

#[test]
fn reference_agrees_with_transformers() {
    // No rounding but float32's: half floats in the fixtures are the coarsest part.
    let tight = |golden: &Golden| if golden.dtype == "f32" { 1e-5 } else { 5e-4 };
    check(|spec| Reference::new(spec, 64), tight, usize::MAX);
}

#[test]
fn cpu_agrees_with_transformers() {
    assert_eq!(check(CpuBackend::new, tolerance, usize::MAX), all_cells());
}

/// That the golden logits would tell if a switch of the spec were forgotten or a number in it wrong.
#[test]
fn golden_logits_notice_every_switch() {
    type Change = fn(&mut DecoderSpec);
    let changes: &[(&str, &str, Change)] = &[
        ("f32", "norm_eps", |spec| spec.norm_eps = 1e-2),
        ("f32", "rope pairs", |spec| spec.rope.pairs = RopePairs::Halves),
        ("bf16", "linear scaling", |spec| spec.rope.scaling = RopeScaling::None),
        ("f16", "Llama 3's factors", |spec| spec.rope.scaling = RopeScaling::None),
        ("qwen2_f32", "rope base", |spec| spec.rope.base = 1e4),
        ("qwen2_f32", "rope pairs", |spec| spec.rope.pairs = RopePairs::Neighbours),
        ("qwen3_f32", "QK norms", |spec| spec.qk_norm = false),
        ("phi_f32", "long factors", |spec| spec.rope.scaling = factors(None, 1.0, spec)),
        ("phi_f32", "where long factors begin", |spec| spec.rope.scaling = factors(Some(23), 1.0, spec)),
        ("phi_f32", "attention factor", |spec| spec.rope.scaling = factors(spec.original_context(), 0.9, spec)),
        ("phi_window", "window", |spec| spec.sliding_window = None),
        ("phi_window", "end of the window", |spec| spec.sliding_window = Some(13)),
        ("gemma3_f32", "window", |spec| spec.sliding_window = None),
        ("gemma3_f32", "end of the window", |spec| spec.sliding_window = Some(11)),
        ("gemma3_f32", "local base", |spec| spec.local_rope = None),
        ("gemma3_f32", "global layer", |spec| spec.layer_kinds[5] = LayerKind::Local),
        ("gemma3_f32", "embedding scale", |spec| spec.embedding_scale = 1.0),
        ("gemma3_f32", "GELU", |spec| spec.activation = Activation::Silu),
        ("gemma3_f32", "post-norms", |spec| spec.post_norms = false),
        ("gemma3_halves", "global scaling", |spec| spec.rope.scaling = RopeScaling::None),
        ("gemma3_halves", "local scaling", |spec| spec.local_rope.as_mut().unwrap().scaling = RopeScaling::Linear(8.0)),
        ("gemma3_halves", "local base", |spec| spec.local_rope.as_mut().unwrap().base = 1e4),
        ("gemma3_27b", "attention scale", |spec| spec.attention_scale = 0.25),
        ("smollm3_f32", "layer without RoPE", |spec| spec.layer_kinds[3] = LayerKind::Global),
    ];
    for (name, switch, change) in changes {
        let changed = |mut spec: DecoderSpec| {
            change(&mut spec);
            Reference::new(spec, 64)
        };
        let mut backend = load(format!("{GOLDEN}/{name}.gguf"), changed);
        let (_, golden, expected) = goldens().into_iter().find(|(known, ..)| known == name).unwrap();
        let vocab = backend.spec().vocab;
        let errors = golden.prompts.iter().zip(&expected).map(|(prompt, expected)| {
            compare(expected, &run(&mut backend, prompt, usize::MAX), vocab, 1.0).relative_l2
        });
        let worst = errors.fold(0.0, f64::max);
        println!("{name} with another {switch}: {worst:.1e}");
        assert!(worst > 5.0 * tolerance(&golden), "{name} does not notice another {switch}: {worst:e}");
    }
}

/// `scaled`: times the attention factor of the file.
fn factors(original_context: Option<usize>, scaled: f32, spec: &DecoderSpec) -> RopeScaling {
    let RopeScaling::Factors { attention_factor, .. } = spec.rope.scaling else { panic!("{:?}", spec.rope) };
    RopeScaling::Factors { original_context, attention_factor: attention_factor * scaled }
}

/// Closer than the oracle allows, so that no mistake hides behind that rounding.
#[test]
fn cpu_rounds_activations_and_the_cache_and_nothing_else() {
    for (name, golden, _) in goldens() {
        let path = format!("{GOLDEN}/{name}.gguf");
        let mut rounding = load(&path, |spec| Reference::new(spec, 64).rounding());
        let mut cpu = load(&path, CpuBackend::new);
        let vocab = cpu.spec().vocab;
        // Of first positions, which see themselves only, and of those where attention rounds queries and weights too.
        let (mut first, mut later) = (Vec::new(), Vec::new());
        for prompt in &golden.prompts {
            let expected = run(&mut rounding, prompt, usize::MAX);
            let ours = run(&mut cpu, prompt, usize::MAX);
            for (i, (expected, ours)) in expected.chunks(vocab).zip(ours.chunks(vocab)).enumerate() {
                let errors = if i == 0 { &mut first } else { &mut later };
                errors.push(compare(expected, ours, vocab, 1.0).relative_l2);
            }
        }
        // What is near the middle between two steps falls to one side or the other with the order of sums, and then much
        // behind it does. Where nothing is near, all agrees.
        for (errors, float, quantized) in [(&mut first, 1e-5, 2e-6), (&mut later, 1e-4, 4e-2)] {
            errors.sort_by(f64::total_cmp);
            let (quarter, worst) = (errors[errors.len() / 4], *errors.last().unwrap());
            println!("{name}: a quarter of the positions within {quarter:.1e}, all within {worst:.1e}");
            let limits = if golden.dtype == "f32" { (float, 5e-4) } else { (quantized, 4e-2) };
            assert!(quarter <= limits.0 && worst <= limits.1, "{name}");
        }
    }
}

/// Another set of kernels: matrix times vector.
#[test]
fn cpu_agrees_with_transformers_token_by_token() {
    check(CpuBackend::new, tolerance, 1);
}

#[test]
fn prefill_in_chunks_then_token_by_token_equals_one_pass() {
    for (name, golden, _) in goldens() {
        let mut backend = load(format!("{GOLDEN}/{name}.gguf"), CpuBackend::new);
        let vocab = backend.spec().vocab;
        let tokens = golden.prompts.concat();
        let whole = run(&mut backend, &tokens, usize::MAX);
        for chunk in (1..=9).chain([16, 31, 32, 40]) {
            let chunked = run(&mut backend, &tokens, chunk);
            let Agreement { relative_l2, .. } = compare(&whole, &chunked, vocab, 1.0);
            // The order of sums differs, and with it what quantized activations are rounded to.
            let limit = if golden.dtype == "f32" { 1e-4 } else { 5e-3 };

            assert!(relative_l2 <= limit, "{name} by {chunk}: {relative_l2:e}");
        }
    }
}

#[test]
fn answers_beyond_the_original_context_are_those_of_fresh_prompts() {
    check_conversations(async |spec, _| Ok(Reference::new(spec, 64)));
    check_conversations(async |spec, _| Ok(CpuBackend::new(spec)));
}

#[test]
fn stories260k_tells_its_story() {
    check_story(async |spec, _| Ok(CpuBackend::new(spec)), 5e-5);
}

#[derive(Deserialize)]
struct Embedded {
    prompts: Vec<EmbeddedPrompt>,
}

#[derive(Deserialize)]
struct EmbeddedPrompt {
    kind: String,
    text: String,
    rendered: String,
    prompt_ids: Vec<u32>,
    greedy_ids: Vec<u32>,
    logit_gaps: Vec<f32>,
    ended: bool,
}

/// The embedded model, its tokenizer and its chat template, against `models/train.py --golden`.
#[test]
fn the_embedded_model_agrees_with_its_training() {
    let models = concat!(env!("CARGO_MANIFEST_DIR"), "/models");
    let golden: Embedded = serde_json::from_slice(&std::fs::read(format!("{models}/golden.json")).unwrap()).unwrap();
    let mut shards = [FileSource::open(format!("{models}/kinglet-tiny.gguf")).unwrap()];
    let mut session = block_on(Session::load(&mut shards, LoadOptions::default(), |_, _| {})).unwrap();
    let vocab = session.info().vocabulary;
    let mut clear = 0;
    for prompt in golden.prompts {
        assert_eq!(session.tokenize(&prompt.rendered), prompt.prompt_ids);
        let options = GenerateOptions { temperature: 0.0, max_tokens: Some(4), ..GenerateOptions::default() };
        let chat = prompt.kind == "chat";
        let message = Message { role: "user".into(), content: prompt.text.clone().into(), rest: Default::default() };
        let request = Request {
            messages: chat.then(|| vec![message]),
            prompt: (!chat).then_some(prompt.text),
            options,
            ..Request::default()
        };
        session.start(&request).unwrap();
        while !matches!(block_on(session.step()).unwrap(), Step::Done { .. }) {}
        assert_eq!(session.stats().prompt_tokens, prompt.prompt_ids.len(), "the template of the file");

        // The golden answer is fed, so that one near tie does not decide over all that follows.
        let tokens = [&prompt.prompt_ids[..], &prompt.greedy_ids].concat();
        let mut logits = Vec::new();
        block_on(session.logits(&tokens, |rows| {
            logits.extend_from_slice(rows);
            Ok(())
        }))
        .unwrap();
        let answers = logits.chunks(vocab).skip(prompt.prompt_ids.len() - 1);
        for ((logits, &id), gap) in answers.zip(&prompt.greedy_ids).zip(prompt.logit_gaps) {
            if gap > 0.3 {
                clear += 1;
                assert_eq!(best(logits), id as usize, "{}", prompt.rendered);
            }
        }
        let last = *prompt.greedy_ids.last().unwrap();
        assert_eq!(session.tokenizer().end_ids().contains(&last), prompt.ended);
    }
    assert!(clear >= 40, "enough positions to judge by");
}
