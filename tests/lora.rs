//! LoRA adapters: the logits of base and adapters equal those of the model that PEFT merged (`fixtures/make_lora.py`), and
//! requests switch between adapters without loading anything again.

#[path = "common/golden.rs"]
mod golden;
#[path = "common/lora.rs"]
mod lora;

use golden::{Agreement, best, compare};
use kinglet::backend::Backend;
use kinglet::backend::cpu::CpuBackend;
use kinglet::generate::{AdapterUse, GenerateOptions};
use kinglet::session::{Session, Stats, Step};
use kinglet::source::FileSource;
use lora::*;
use pollster::block_on;

const ALL: u32 = 7;
const SOME: u32 = 3;

fn uses(case: &[(String, f32)]) -> Vec<AdapterUse> {
    case.iter().map(|(kind, scale)| AdapterUse { id: if kind == "all" { ALL } else { SOME }, scale: *scale }).collect()
}

#[test]
fn equals_the_merged_model() {
    let mut failures = Vec::new();
    for (name, merged) in merged() {
        let expected = merged.logits(&name);
        let mut session = golden_session(&name, CpuBackend::new);
        let (vocab, before) = (session.info().vocabulary, session.memory().weights);
        let untouched = logits(&mut session, &merged.prompts, &[]);
        for form in [Form::Peft, Form::Gguf] {
            load(&mut session, ALL, &name, "all", form).unwrap();
            load(&mut session, SOME, &name, "some", form).unwrap();
            assert!(session.memory().weights > before, "adapters take memory");
            for (case, expected) in merged.cases.iter().zip(&expected) {
                let ours = logits(&mut session, &merged.prompts, &uses(case));
                let Agreement { relative_l2, worst_kl, .. } = compare(expected, &ours, vocab, merged.tolerance());
                println!("{name}, {form:?}, {case:?}: relative L2 {relative_l2:.1e}, KL {worst_kl:.1e}");
                if !(relative_l2 <= merged.tolerance() && worst_kl < 1e-2) {
                    failures.push(format!("{name}, {form:?}, {case:?}: L2 {relative_l2:.2e}, KL {worst_kl:.2e}"));
                }
            }
            for id in [ALL, SOME] {
                session.unload_adapter(id).unwrap();
            }
            assert_eq!(session.memory().weights, before);
            assert_eq!(logits(&mut session, &merged.prompts, &[]), untouched, "{name}: nothing of them is left");
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

fn greedy(adapters: Vec<AdapterUse>) -> GenerateOptions {
    GenerateOptions { temperature: 0.0, max_tokens: Some(6), ignore_eos: true, adapters, ..GenerateOptions::default() }
}

fn answer<B: Backend>(session: &mut Session<B>, prompt: &[u32], adapters: &[AdapterUse]) -> (Vec<u32>, Stats) {
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
fn answer_by_logits<B: Backend>(session: &mut Session<B>, prompt: &[u32], adapters: &[AdapterUse]) -> Vec<u32> {
    let (vocab, mut tokens) = (session.info().vocabulary, prompt.to_vec());
    for _ in 0..6 {
        let all = logits(session, std::slice::from_ref(&tokens), adapters);
        tokens.push(best(&all[all.len() - vocab..]) as u32);
    }
    tokens.split_off(prompt.len())
}

#[test]
fn requests_switch_between_adapters() {
    let mut session = golden_session("f32", CpuBackend::new);
    load(&mut session, ALL, "f32", "all", Form::Peft).unwrap();
    load(&mut session, SOME, "f32", "some", Form::Gguf).unwrap();
    let prompt = [1, 20, 90, 14, 200, 3];
    let one = |id, scale| AdapterUse { id, scale };
    let cases = [
        vec![],
        vec![one(ALL, 1.0)],
        vec![one(ALL, 0.5)],
        vec![one(SOME, 1.0)],
        vec![one(SOME, -0.5), one(ALL, 1.0)],
        vec![one(ALL, 0.0)],
    ];
    let expected: Vec<Vec<u32>> = cases.iter().map(|case| answer_by_logits(&mut session, &prompt, case)).collect();
    assert_eq!(expected[5], expected[0], "a scale of zero is none");
    assert!(expected[1] != expected[0] && expected[3] != expected[0] && expected[3] != expected[1]);
    for (case, expected) in cases.iter().zip(&expected).chain(cases.iter().zip(&expected).rev()) {
        session.use_adapters(&[one(SOME, 0.25)]).unwrap();
        let (ids, stats) = answer(&mut session, &prompt, case);
        assert_eq!(ids, *expected, "{case:?}");
        assert_eq!(stats.cached_tokens, 0, "keys and values were computed with another adapter");
        let (ids, stats) = answer(&mut session, &prompt, case);
        assert_eq!(ids, *expected, "{case:?}, from the cache");
        assert_eq!(stats.cached_tokens, prompt.len() - 1);
    }
}

#[test]
fn adapters_move_along_to_another_backend() {
    let mut session = golden_session("q4_0", CpuBackend::new);
    load(&mut session, ALL, "q4_0", "all", Form::Peft).unwrap();
    let adapters = [AdapterUse { id: ALL, scale: 1.0 }];
    let prompt = [1, 20, 90, 14, 200, 3];
    let (expected, _) = answer(&mut session, &prompt, &adapters);
    session.start_tokens(prompt.to_vec(), &greedy(adapters.to_vec()), false).unwrap();
    let mut ids = Vec::new();
    for step in 0.. {
        match block_on(session.step()).unwrap() {
            Step::Prefill { .. } => {}
            Step::Token { id, .. } => ids.push(id),
            Step::Done { .. } => break,
        }
        if step == 2 {
            let mut shards = [FileSource::open(format!("{}/q4_0.gguf", golden::GOLDEN)).unwrap()];
            block_on(session.reload_on(async |spec| Ok(CpuBackend::new(spec)), &mut shards, |_, _| {})).unwrap();
        }
    }
    assert_eq!(ids, expected);
    // And they are there for other requests.
    assert_eq!(answer(&mut session, &prompt, &adapters).0, expected);
}

#[test]
fn misuse_is_told() {
    let mut session = golden_session("f32", CpuBackend::new);
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
