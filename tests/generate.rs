//! Sampling against plain sorting, and sessions against themselves: chunks, reuse, abort and stop strings change nothing
//! but what they should.

#[path = "common/reference.rs"]
mod reference;

use kinglet::backend::Backend;
use kinglet::backend::cpu::CpuBackend;
use kinglet::generate::answer_signals::{SIGNAL_NAMES, Signal};
use kinglet::generate::sampler::{Sampler, SplitMix64};
use kinglet::generate::signals::summarize;
use kinglet::generate::{AnswerSignals, FinishReason, GenerateOptions, SignalSum, Signals};
use kinglet::session::{LoadOptions, Request, Session, Stats, Step};
use kinglet::source::FileSource;
use kinglet::{Error, ErrorCode};
use pollster::block_on;
use proptest::prelude::*;
use reference::Reference;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/golden/f32.gguf");
const QUANTIZED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/golden/q5_0.gguf");
const EOS: u32 = 2;
const VOCAB: u32 = 320;

fn load_on<B: Backend>(path: &str, new: impl FnOnce(kinglet::backend::DecoderSpec) -> B) -> Session<B> {
    let mut shards = [FileSource::open(path).unwrap()];
    block_on(Session::load_on(async |spec, _| Ok(new(spec)), &mut shards, LoadOptions::default(), |_, _| {})).unwrap()
}

fn cpu(path: &str) -> Session<CpuBackend> {
    load_on(path, CpuBackend::new)
}

fn greedy(max_tokens: usize) -> GenerateOptions {
    GenerateOptions { temperature: 0.0, max_tokens: Some(max_tokens), ignore_eos: true, ..Default::default() }
}

#[derive(Debug)]
struct Outcome {
    ids: Vec<u32>,
    /// Of each token and of the end.
    pieces: Vec<String>,
    signals: Vec<Signals>,
    reason: FinishReason,
    stop: Option<String>,
    stats: Stats,
}

impl Outcome {
    fn text(&self) -> String {
        self.pieces.concat()
    }

    fn assert_same(&self, other: &Outcome) {
        assert_eq!(self.ids, other.ids);
        assert_eq!(self.text(), other.text());
        for (a, b) in self.signals.iter().zip(&other.signals) {
            assert!((a.logprob - b.logprob).abs() < 1e-3 && (a.entropy - b.entropy).abs() < 1e-3, "{a:?} {b:?}");
        }
    }
}

fn finish<B: Backend>(session: &mut Session<B>) -> Outcome {
    let (mut ids, mut pieces, mut signals) = (vec![], vec![], vec![]);
    loop {
        match block_on(session.step()).unwrap() {
            Step::Prefill { .. } => assert!(ids.is_empty()),
            Step::Token { id, text, signals: of_token, .. } => {
                ids.push(id);
                pieces.push(text);
                signals.push(of_token);
            }
            Step::Done { text, reason, stop, stats, .. } => {
                pieces.push(text);
                return Outcome { ids, pieces, signals, reason, stop, stats };
            }
        }
    }
}

fn run<B: Backend>(session: &mut Session<B>, prompt: &[u32], options: &GenerateOptions) -> Outcome {
    session.start_tokens(prompt.to_vec(), options, false).unwrap();
    finish(session)
}

fn random_tokens(n: usize, seed: u64) -> Vec<u32> {
    let mut random = SplitMix64(seed);
    (0..n).map(|_| (random.next_u64() % u64::from(VOCAB)) as u32).collect()
}

fn noise(n: usize, scale: f64, seed: u64) -> Vec<f32> {
    let mut random = SplitMix64(seed);
    (0..n).map(|_| (scale * (random.unit() + random.unit() + random.unit() - 1.5)) as f32).collect()
}

// The sampler.

/// What llama.cpp's chain leaves, by sorting everything: (id, probability).
fn allowed(logits: &[f32], options: &GenerateOptions) -> Vec<(u32, f64)> {
    let mut all: Vec<(u32, f64)> = (0..).zip(logits.iter().map(|&x| f64::from(x))).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    let softmax = |all: &[(u32, f64)], temperature: f64| -> Vec<f64> {
        let weights: Vec<f64> = all.iter().map(|(_, x)| ((x - all[0].1) / temperature).exp()).collect();
        let sum: f64 = weights.iter().sum();
        weights.iter().map(|w| w / sum).collect()
    };
    if options.top_k > 0 {
        all.truncate(options.top_k);
    }
    if options.top_p < 1.0 {
        let mut reached = 0.0;
        let before = softmax(&all, 1.0).into_iter().map(|p| {
            reached += p;
            reached - p
        });
        let kept = before.take_while(|before| *before < f64::from(options.top_p)).count().max(1);
        all.truncate(kept);
    }
    if options.min_p > 0.0 {
        let p = softmax(&all, 1.0);
        let kept = p.iter().take_while(|&p| *p >= f64::from(options.min_p) * p_max(&all)).count().max(1);
        all.truncate(kept);
    }
    let p = softmax(&all, f64::from(options.temperature));
    all.iter().map(|(id, _)| *id).zip(p).collect()
}

fn p_max(all: &[(u32, f64)]) -> f64 {
    1.0 / all.iter().map(|(_, x)| (x - all[0].1).exp()).sum::<f64>()
}

#[test]
fn samples_follow_the_distribution_that_the_masks_leave() {
    const DRAWS: usize = 20_000;
    let base = GenerateOptions { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, ..Default::default() };
    let cases = [
        (50, 3.0, base.clone()),
        (50, 3.0, GenerateOptions { temperature: 0.5, ..base.clone() }),
        (50, 3.0, GenerateOptions { temperature: 2.0, ..base.clone() }),
        (400, 6.0, GenerateOptions { top_k: 10, ..base.clone() }),
        (400, 6.0, GenerateOptions { top_k: 200, temperature: 0.8, ..base.clone() }),
        (400, 6.0, GenerateOptions { top_p: 0.6, ..base.clone() }),
        (1500, 4.0, GenerateOptions { top_p: 0.5, temperature: 0.7, ..base.clone() }),
        (400, 6.0, GenerateOptions { min_p: 0.2, ..base.clone() }),
        (400, 6.0, GenerateOptions { top_k: 40, top_p: 0.9, min_p: 0.05, temperature: 1.3, ..base.clone() }),
        (400, 6.0, GenerateOptions { top_p: 0.0, ..base.clone() }),
    ];
    for (i, (vocab, scale, options)) in cases.iter().enumerate() {
        let logits = noise(*vocab, *scale, i as u64);
        let expected = allowed(&logits, options);
        let summary = summarize(&logits, 2);
        let mut sampler = Sampler::new(7);
        let mut counts = vec![0usize; *vocab];
        for _ in 0..DRAWS {
            counts[sampler.choose(&logits, &summary, &[], options, None) as usize] += 1;
        }
        let inside: usize = expected.iter().map(|(id, _)| counts[*id as usize]).sum();
        assert_eq!(inside, DRAWS, "case {i}: a masked token was drawn");
        // Pearson's statistic over what is expected at least five times; its mean is the number of cells, its variance twice that.
        let cells: Vec<f64> = (expected.iter())
            .filter(|(_, p)| p * DRAWS as f64 >= 5.0)
            .map(|(id, p)| (counts[*id as usize] as f64 - p * DRAWS as f64).powi(2) / (p * DRAWS as f64))
            .collect();
        let n = cells.len() as f64;
        let statistic: f64 = cells.iter().sum();
        assert!(statistic <= n + 5.0 * (2.0 * n).sqrt(), "case {i}: chi-square {statistic} over {n} cells");
    }
}

#[test]
fn temperature_zero_and_the_penalties_are_exact() {
    let logits = [1.0, 4.0, 3.5, -2.0];
    let summary = summarize(&logits, 2);
    let choose = |options: &GenerateOptions, tokens: &[u32]| {
        Sampler::new(0).choose(
            &logits,
            &summary,
            tokens,
            &GenerateOptions { temperature: 0.0, ..options.clone() },
            None,
        )
    };
    let base = GenerateOptions::default();
    assert_eq!(choose(&base, &[1, 1]), 1, "no penalty, no change");
    assert_eq!(choose(&GenerateOptions { repeat_penalty: 1.2, ..base.clone() }, &[1]), 2, "4 / 1.2 < 3.5");
    assert_eq!(choose(&GenerateOptions { repeat_penalty: 1.1, ..base.clone() }, &[1]), 1, "4 / 1.1 > 3.5");
    assert_eq!(choose(&GenerateOptions { presence_penalty: 0.6, ..base.clone() }, &[1, 1]), 2);
    assert_eq!(choose(&GenerateOptions { presence_penalty: 0.4, ..base.clone() }, &[1, 1]), 1);
    assert_eq!(choose(&GenerateOptions { frequency_penalty: 0.3, ..base.clone() }, &[1, 1]), 2, "twice 0.3");
    assert_eq!(choose(&GenerateOptions { frequency_penalty: 0.3, ..base.clone() }, &[1]), 1);
    let mut long_ago = vec![1];
    long_ago.extend([0; 64]);
    assert_eq!(choose(&GenerateOptions { presence_penalty: 2.0, ..base.clone() }, &long_ago), 1, "beyond the window");
    let biased = GenerateOptions { logit_bias: [(3, 7.0), (1, -0.1)].into(), ..base };
    assert_eq!(choose(&biased, &[]), 3);
}

#[test]
fn logits_that_are_not_finite_choose_a_token() {
    let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.0, f32::MAX, f32::MIN];
    for n in 0..odd.len().pow(3) {
        let logits = [odd[n % 6], odd[n / 6 % 6], odd[n / 36], 0.0];
        for (temperature, top_k, top_p, min_p) in
            [(0.0, 0, 1.0, 0.0), (1.0, 0, 0.9, 0.1), (1.0, 2, 1.0, 0.0), (1e-6, 0, 1.0, 1.0)]
        {
            let options =
                GenerateOptions { temperature, top_k, top_p, min_p, repeat_penalty: 1.5, ..Default::default() };
            let id = Sampler::new(n as u64).choose(&logits, &summarize(&logits, 2), &[0, 1, 2], &options, None);
            assert!((id as usize) < logits.len());
        }
    }
}

// Sessions.

#[test]
fn the_reference_and_the_cpu_backend_tell_the_same() {
    let prompt = random_tokens(20, 1);
    let expected = run(&mut load_on(MODEL, |spec| Reference::new(spec, 64)), &prompt, &greedy(40));
    run(&mut cpu(MODEL), &prompt, &greedy(40)).assert_same(&expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    #[test]
    fn chunks_of_any_size_make_no_difference(length in 1usize..60, batch in 1usize..24, seed: u64) {
        let prompt = random_tokens(length, seed);
        let expected = run(&mut load_on(MODEL, |spec| Reference::new(spec, 64)), &prompt, &greedy(6));
        run(&mut load_on(MODEL, |spec| Reference::new(spec, batch)), &prompt, &greedy(6)).assert_same(&expected);
    }

    #[test]
    fn a_reused_cache_equals_a_fresh_one(first in 1usize..150, shared in 0usize..150, second in 1usize..60, seed: u64) {
        for path in [MODEL, QUANTIZED] {
            let mut session = cpu(path);
            let before = random_tokens(first, seed);
            run(&mut session, &before, &greedy(5));
            let prompt = [&before[..shared.min(first)], &random_tokens(second, seed ^ 1)].concat();
            let reused = run(&mut session, &prompt, &greedy(8));
            let fresh = run(&mut cpu(path), &prompt, &greedy(8));
            reused.assert_same(&fresh);
            prop_assert!(reused.stats.cached_tokens >= shared.min(first).min(prompt.len() - 1));
            prop_assert!(reused.stats.cached_tokens < prompt.len());
            prop_assert_eq!(fresh.stats.cached_tokens, 0);
            let uncached = run(&mut session, &prompt, &GenerateOptions { cache_prompt: false, ..greedy(8) });
            prop_assert_eq!(uncached.stats.cached_tokens, 0);
            uncached.assert_same(&fresh);
        }
    }

    #[test]
    fn an_abort_anywhere_leaves_the_session_valid(length in 1usize..200, steps in 0usize..12, seed: u64) {
        let mut session = cpu(MODEL);
        let prompt = random_tokens(length, seed);
        session.start_tokens(prompt.clone(), &greedy(20), false).unwrap();
        for _ in 0..steps {
            block_on(session.step()).unwrap();
        }
        let stats = session.abort().unwrap();
        prop_assert_eq!(stats.prompt_tokens, length);
        prop_assert!(session.abort().is_none());
        prop_assert_eq!(block_on(session.step()).unwrap_err().code(), ErrorCode::BadRequest);
        run(&mut session, &prompt, &greedy(20)).assert_same(&run(&mut cpu(MODEL), &prompt, &greedy(20)));
    }
}

#[test]
fn a_second_turn_runs_only_what_is_new() {
    let mut session = cpu(MODEL);
    let prompt = random_tokens(40, 3);
    let first = run(&mut session, &prompt, &greedy(10));
    let next = [&prompt[..], &first.ids, &[5, 6, 7]].concat();
    let second = run(&mut session, &next, &greedy(10));
    // The answer's last token was chosen, but never run.
    assert_eq!(second.stats.cached_tokens, 40 + 9);
    let again = run(&mut session, &next, &greedy(10));
    assert_eq!(again.stats.cached_tokens, next.len() - 1, "the last token is run again for its logits");
    again.assert_same(&second);
}

#[test]
fn stop_strings_end_the_text_wherever_tokens_do() {
    let mut session = cpu(MODEL);
    let prompt = random_tokens(12, 4);
    let whole = run(&mut session, &prompt, &greedy(40));
    let text = whole.text();
    assert!(text.chars().count() > 20, "{text}");
    let borders: Vec<usize> = text.char_indices().map(|(i, _)| i).chain([text.len()]).collect();
    for (i, &from) in borders.iter().enumerate() {
        for &to in borders[i + 1..].iter().take(8) {
            let stop = text[from..to].to_string();
            let options = GenerateOptions { stop: vec!["never to be seen".into(), stop.clone()], ..greedy(40) };
            let stopped = run(&mut session, &prompt, &options);
            assert_eq!(stopped.text(), text[..text.find(&stop).unwrap()], "{stop:?}");
            assert_eq!((stopped.reason, stopped.stop.as_ref()), (FinishReason::Stop, Some(&stop)));
            assert!(whole.ids.starts_with(&stopped.ids));
        }
    }
    let options = GenerateOptions { stop: vec![format!("{text}and more")], ..greedy(40) };
    let held = run(&mut session, &prompt, &options);
    assert_eq!(
        (held.text(), held.reason, held.stop),
        (text, FinishReason::Length, None),
        "held back, shown at the end"
    );
}

#[test]
fn seeds_reproduce() {
    let mut session = cpu(MODEL);
    let prompt = random_tokens(5, 5);
    let with = |seed| GenerateOptions { temperature: 1.0, seed, ..greedy(30) };
    let first = run(&mut session, &prompt, &with(Some(11)));
    run(&mut session, &prompt, &with(Some(11))).assert_same(&first);
    assert_ne!(run(&mut session, &prompt, &with(Some(12))).ids, first.ids);
    let (a, b) = (run(&mut session, &prompt, &with(None)), run(&mut session, &prompt, &with(None)));
    assert_ne!(a.ids, b.ids, "without a seed, answers differ");
}

#[test]
fn end_tokens_end_and_can_be_ignored() {
    let mut session = cpu(MODEL);
    let prompt = random_tokens(5, 6);
    let to_eos = GenerateOptions { logit_bias: [(EOS, 1000.0)].into(), ignore_eos: false, ..greedy(5) };
    let ended = run(&mut session, &prompt, &to_eos);
    assert_eq!((ended.ids.as_slice(), ended.text().as_str(), ended.reason), (&[EOS][..], "", FinishReason::Stop));
    assert_eq!(ended.stats.completion_tokens, 1);
    let ignored = run(&mut session, &prompt, &GenerateOptions { ignore_eos: true, ..to_eos });
    assert_eq!((ignored.ids.as_slice(), ignored.reason), (&[EOS; 5][..], FinishReason::Length));
}

#[test]
fn a_full_context_is_an_outcome_and_a_prompt_too_long_an_error() {
    let mut session = cpu(MODEL);
    let context = session.info().context_length;
    assert_eq!(context, 256);
    let unlimited = GenerateOptions { max_tokens: None, ..greedy(0) };
    let full = run(&mut session, &random_tokens(250, 7), &unlimited);
    assert_eq!((full.ids.len(), full.reason), (6, FinishReason::Length));
    for length in [256, 257, 5000] {
        let error = session.start_tokens(random_tokens(length, 8), &unlimited, false).unwrap_err();
        assert_eq!(error, Error::ContextExceeded { prompt: length, context });
    }
    run(&mut session, &random_tokens(3, 7), &greedy(3)).assert_same(&run(
        &mut cpu(MODEL),
        &random_tokens(3, 7),
        &greedy(3),
    ));
    assert!(run(&mut session, &random_tokens(3, 7), &greedy(0)).ids.is_empty());
}

#[test]
fn signals_are_those_of_the_raw_logits() {
    let mut session = cpu(MODEL);
    let prompt = random_tokens(9, 9);
    let options = GenerateOptions { top_logprobs: 3, logit_bias: [(4, 50.0)].into(), ..greedy(1) };
    session.start_tokens(prompt.clone(), &options, false).unwrap();
    let Step::Token { id, signals, top_logprobs, .. } = block_on(session.step()).unwrap() else { panic!("no token") };
    let mut logits = Vec::new();
    block_on(session.logits(&prompt, |rows| {
        logits = rows[rows.len() - VOCAB as usize..].to_vec();
        Ok(())
    }))
    .unwrap();
    let log_sum = logits.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
    let logprob = |id: u32| f64::from(logits[id as usize]) - log_sum;
    assert_eq!(id, 4, "the bias decides");
    assert!((f64::from(signals.logprob) - logprob(4)).abs() < 1e-4, "and does not show in the signals");
    let entropy: f64 = (0..VOCAB).map(|id| -logprob(id) * logprob(id).exp()).sum();
    assert!((f64::from(signals.entropy) - entropy).abs() < 1e-4);
    let mut order: Vec<u32> = (0..VOCAB).collect();
    order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]));
    assert!((signals.margin - (logits[order[0] as usize] - logits[order[1] as usize])).abs() < 1e-5);
    assert_eq!(top_logprobs.iter().map(|top| top.id).collect::<Vec<_>>(), order[..3]);
    assert!(top_logprobs.iter().all(|top| (f64::from(top.logprob) - logprob(top.id)).abs() < 1e-4));
}

#[test]
fn signals_of_an_answer_are_those_of_its_tokens() {
    let mut session = cpu(MODEL);
    let prompt = random_tokens(9, 9);
    session.start_tokens(prompt.clone(), &GenerateOptions { top_logprobs: 1, ..greedy(40) }, false).unwrap();
    let mut sum = SignalSum::default();
    let mut first = None;
    let found = loop {
        match block_on(session.step()).unwrap() {
            Step::Prefill { .. } => {}
            Step::Token { id, signals, top_logprobs, special, .. } => {
                assert_eq!(top_logprobs.len(), 1);
                let bytes = session.tokenizer().token_bytes(id);
                if first.is_none() && !special && !bytes.trim_ascii().is_empty() {
                    first = Some((sum.get(), signals.entropy));
                }
                sum.push(signals);
            }
            Step::Done { signals, .. } => break signals,
        }
    };
    let (before, entropy) = first.expect("some token has text");
    let first_entropy = found.get(Signal::FirstTokenEntropy).unwrap();
    if before == AnswerSignals::NONE {
        let mut logits = Vec::new();
        block_on(session.logits(&prompt, |rows| {
            logits = rows[rows.len() - VOCAB as usize..].to_vec();
            Ok(())
        }))
        .unwrap();
        logits.sort_by(|a, b| b.total_cmp(a));
        let weights: Vec<f64> = logits[..20].iter().map(|&x| f64::from(x).exp()).collect();
        let total: f64 = weights.iter().sum();
        let expected: f64 = weights.iter().map(|w| -(w / total) * (w / total).ln()).sum();
        assert!((first_entropy - expected).abs() < 1e-4, "{first_entropy}, not {expected}");
        assert!(first_entropy < f64::from(entropy) - 1e-3, "the others are left out");
    } else {
        assert_eq!(first_entropy, f64::from(entropy));
    }
    for (at, name) in SIGNAL_NAMES.iter().enumerate() {
        assert!(*name == "firstTokenEntropy" || found.at(at) == sum.get().at(at), "{name}");
    }
}

#[test]
fn raw_prompts_begin_with_bos() {
    let mut session = cpu(MODEL);
    let mut start = |prompt: &str| {
        let request = Request { prompt: Some(prompt.into()), options: greedy(1), ..Default::default() };
        session.start(&request).unwrap();
        finish(&mut session).stats.prompt_tokens
    };
    assert_eq!(start(""), 1, "an empty prompt is BOS alone");
    assert_eq!(start("<s>"), 1, "not twice");
    let letters = start("a");
    assert!(letters >= 2);
    assert_eq!(start("<s>a"), letters);
}

#[test]
fn options_out_of_range_are_refused() {
    let mut session = cpu(MODEL);
    let bad = [
        r#"{"temperature": -1}"#,
        r#"{"top_p": 1.5}"#,
        r#"{"min_p": -0.1}"#,
        r#"{"repeat_penalty": 0}"#,
        r#"{"presence_penalty": 1e9}"#,
        r#"{"top_logprobs": 21}"#,
        r#"{"logit_bias": {"320": 1}}"#,
        r#"{"messages": []}"#,
    ];
    for json in bad {
        let mut json: serde_json::Value = serde_json::from_str(json).unwrap();
        json["prompt"] = "a".into();
        let request: Request = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(session.start(&request).unwrap_err().code(), ErrorCode::BadRequest, "{json}");
    }
    assert_eq!(session.start(&Request::default()).unwrap_err().code(), ErrorCode::BadRequest);
    for tokens in [vec![], vec![VOCAB]] {
        assert_eq!(session.start_tokens(tokens, &greedy(1), false).unwrap_err().code(), ErrorCode::BadRequest);
    }
    assert!(serde_json::from_str::<Request>(r#"{"prompt": "a", "logit_bias": {"x": 1}}"#).is_err());
    let request: Request =
        serde_json::from_str(r#"{"prompt": "a", "logit_bias": {"7": 1.5}, "max_tokens": 3}"#).unwrap();
    assert_eq!((request.options.logit_bias[&7], request.options.max_tokens), (1.5, Some(3)));
}
