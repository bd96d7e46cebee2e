//! The sampler on the device against its twin on the host, and answers whose tokens it chooses.

#[path = "common/gpu.rs"]
mod gpu;

use gpu::gpu;
use kinglet::backend::sampling::{PENALTY_WINDOW, Sampled, Sampling};
use kinglet::backend::spec::*;
use kinglet::backend::webgpu::{Counts, GpuOptions, WebGpuBackend};
use kinglet::backend::{Backend, LayerSlot, Slot, TensorShape};
use kinglet::formats::Format;
use kinglet::generate::AnswerSignals;
use kinglet::generate::GenerateOptions;
use kinglet::generate::answer_signals::SIGNAL_NAMES;
use kinglet::generate::sampler::{Sampler, SplitMix64};
use kinglet::generate::signals::summarize;
use kinglet::session::{LoadOptions, Session, Step};
use kinglet::source::FileSource;
use pollster::block_on;

/// A model that has no weights yet: the logits come from the test.
fn backend(options: &GpuOptions, vocab: usize) -> WebGpuBackend {
    let spec = DecoderSpec {
        architecture: "test".into(),
        layers: 1,
        hidden: 4,
        ffn: 4,
        heads: 1,
        kv_heads: 1,
        head_dim: 4,
        vocab,
        context_length: 64,
        norm_eps: 0.0,
        rope: Rope { base: 1e4, dim: 4, pairs: RopePairs::Halves, scaling: RopeScaling::None },
        local_rope: None,
        sliding_window: None,
        layer_kinds: vec![LayerKind::Global],
        activation: Activation::Silu,
        embedding_scale: 1.0,
        attention_scale: 0.5,
        kv_int8: false,
        tied_head: true,
        qkv_bias: false,
        qk_norm: false,
        post_norms: false,
    };
    use LayerSlot::*;
    let matrix = |slot, rows| TensorShape { slot, format: Format::F32, rows, cols: 4 };
    let of_layer = [(AttentionNorm, 1), (FfnNorm, 1), (Query, 4), (Key, 4), (Value, 4), (AttentionOutput, 4)];
    let mut tensors = vec![matrix(Slot::TokenEmbedding, vocab), matrix(Slot::OutputNorm, 1)];
    tensors.extend(of_layer.map(|(slot, rows)| matrix(Slot::Layer(0, slot), rows)));
    tensors.extend([Gate, Up, Down].map(|slot| matrix(Slot::Layer(0, slot), 4)));
    let mut backend = block_on(WebGpuBackend::new(spec, options)).unwrap();
    backend.prepare(&tensors).unwrap();
    backend
}

struct Random(SplitMix64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        (self.0.next_u64() % n as u64) as usize
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Many near 0, few near ±scale.
    fn logit(&mut self, scale: f32) -> f32 {
        let sum: f64 = (0..4).map(|_| self.0.unit() - 0.5).sum();
        scale * sum as f32
    }

    fn logits(&mut self, vocab: usize) -> Vec<f32> {
        let scale = self.of(&[0.0, 0.1, 3.0, 12.0, 12.0, 200.0]);
        let mut logits: Vec<f32> = (0..vocab).map(|_| self.logit(scale)).collect();
        match self.below(6) {
            // Ties.
            0 => logits.iter_mut().for_each(|x| *x = x.round()),
            1 => {
                let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 0.0, 1e3, -1e3, 1e-40];
                for _ in 0..=self.below(vocab) / 2 {
                    let at = self.below(vocab);
                    logits[at] = self.of(&odd);
                }
            }
            2 if self.below(3) == 0 => {
                let all = self.of(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
                logits.fill(all);
            }
            _ => {}
        }
        logits
    }

    fn options(&mut self, vocab: usize) -> GenerateOptions {
        let penalized = self.below(2) == 0;
        let mut options = GenerateOptions {
            temperature: self.of(&[0.0, 0.0, 0.01, 0.7, 1.0, 1.7, 100.0]),
            top_k: self.of(&[1, 2, 7, 40, 40, 64, 128]),
            top_p: self.of(&[1.0, 1.0, 0.95, 0.9, 0.5, 0.01, 0.0]),
            min_p: self.of(&[0.0, 0.0, 0.05, 0.3, 1.0]),
            top_logprobs: self.of(&[0, 0, 1, 5, 20]),
            ..GenerateOptions::default()
        };
        if penalized {
            options.repeat_penalty = self.of(&[1.0, 1.1, 1.5, 0.8]);
            options.presence_penalty = self.of(&[0.0, 0.6, -0.3]);
            options.frequency_penalty = self.of(&[0.0, 0.2, -1.0]);
        }
        for _ in 0..self.of(&[0, 0, 0, 1, 5, 300]) {
            let bias = self.of(&[-1000.0, 1000.0, 2.5, -0.7]);
            options.logit_bias.insert(self.below(vocab) as u32, bias);
        }
        options
    }

    /// Few different ones: some are repeated.
    fn tokens(&mut self, vocab: usize) -> Vec<u32> {
        let n = self.of(&[1, 3, 63, 64, 65, 200]);
        let range = self.of(&[1, 4, 40, vocab]).min(vocab);
        (0..n).map(|_| self.below(range) as u32).collect()
    }
}

fn sampling(options: &GenerateOptions, tokens: &[u32], draws: Vec<f32>, limit: usize) -> Sampling {
    Sampling {
        temperature: options.temperature,
        top_k: options.top_k,
        top_p: options.top_p,
        min_p: options.min_p,
        repeat_penalty: options.repeat_penalty,
        presence_penalty: options.presence_penalty,
        frequency_penalty: options.frequency_penalty,
        logit_bias: options.logit_bias.iter().map(|(&id, &bias)| (id, bias)).collect(),
        recent: tokens[tokens.len().saturating_sub(PENALTY_WINDOW)..].to_vec(),
        draws,
        limit,
        top_logprobs: options.top_logprobs,
        first_top_logprobs: 0,
    }
}

/// What the host's sampler makes of them.
fn on_host(logits: &[f32], options: &GenerateOptions, tokens: &[u32], seed: u64) -> Sampled {
    let summary = summarize(logits, options.top_logprobs.max(2));
    let id = Sampler::new(seed).choose(logits, &summary, tokens, options, None);
    let signals = summary.signals(logits, id);
    let top = summary.top.iter().take(options.top_logprobs);
    Sampled {
        id,
        logprob: signals.logprob,
        entropy: signals.entropy,
        margin: signals.margin,
        top: top.map(|&(id, logit)| (id, summary.logprob(logit))).collect(),
    }
}

/// Whether the draw, or the end of top-p, falls within a millionth of a border between two candidates: then sums of
/// floats and of doubles may differ. Written from the definitions.
fn is_on_a_border(logits: &[f32], options: &GenerateOptions, tokens: &[u32], draw: f32) -> bool {
    let mut adjusted: Vec<(f32, usize)> = logits.iter().copied().zip(0..).collect();
    options.logit_bias.iter().for_each(|(&id, &bias)| adjusted[id as usize].0 += bias);
    let recent = &tokens[tokens.len().saturating_sub(PENALTY_WINDOW)..];
    for (logit, id) in &mut adjusted {
        let count = recent.iter().filter(|&&token| token as usize == *id).count();
        if count > 0 {
            *logit = if *logit > 0.0 { *logit / options.repeat_penalty } else { *logit * options.repeat_penalty };
            *logit -= count as f32 * options.frequency_penalty + options.presence_penalty;
        }
        *logit = if logit.is_nan() { f32::NEG_INFINITY } else { *logit };
    }
    adjusted.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    adjusted.truncate(options.top_k);
    let best = adjusted[0].0.clamp(f32::MIN, f32::MAX);
    let borders = |temperature: f32, adjusted: &[(f32, usize)]| -> Vec<f64> {
        let weight = |x: f32| f64::from((x - best) / temperature).max(-87.0).exp();
        let total: f64 = adjusted.iter().map(|&(x, _)| weight(x)).sum();
        let mut sum = 0.0;
        adjusted.iter().map(|&(x, _)| (sum + weight(x), sum += weight(x)).0 / total).collect()
    };
    let near = |borders: &[f64], x: f32| borders.iter().any(|border| (border - f64::from(x)).abs() < 1e-6);
    let reached = borders(1.0, &adjusted);
    if options.top_p < 1.0 && near(&reached, options.top_p) {
        return true;
    }
    if options.top_p < 1.0 {
        let kept = reached.iter().position(|&sum| sum >= f64::from(options.top_p)).map_or(adjusted.len(), |i| i + 1);
        adjusted.truncate(kept);
    }
    if options.min_p > 0.0 {
        let least = best + options.min_p.ln();
        adjusted.retain(|&(x, _)| x >= least);
    }
    near(&borders(options.temperature.max(1e-9), &adjusted), draw)
}

fn close(a: f32, b: f32) -> bool {
    a == b || (a - b).abs() <= 1e-4 + 1e-6 * b.abs()
}

fn soak() -> bool {
    std::env::var_os("KINGLET_SOAK").is_some()
}

#[test]
fn device_and_host_choose_the_same_token() {
    let Some(gpu) = gpu() else { return };
    let mut borders = 0;
    let mut cases = 0;
    for (vocab, count) in [(1, 20), (2, 60), (100, 150), (511, 150), (512, 150), (513, 150), (5000, 150), (49_152, 40)]
    {
        let mut backend = backend(&gpu, vocab);
        let mut random = Random(SplitMix64(vocab as u64));
        for case in 0..if soak() { 20 * count } else { count } {
            let (logits, options, tokens) = (random.logits(vocab), random.options(vocab), random.tokens(vocab));
            let seed = random.0.next_u64();
            let draws = Sampler::new(seed).draws(1);
            backend.set_logits(&logits).unwrap();
            assert!(backend.start_sampling(&sampling(&options, &tokens, draws.clone(), 1)).unwrap());
            let found = block_on(backend.next_sampled()).unwrap();
            let expected = on_host(&logits, &options, &tokens, seed);
            let what = || format!("vocabulary {vocab}, case {case}: {found:?}, not {expected:?}; {options:?}");
            // The host gives an infinite logit the probability 1, even where there are several.
            let same_logprob = |id: u32, f: f32, e: f32| close(f, e) || logits[id as usize] == f32::INFINITY;
            cases += 1;
            if found.id != expected.id {
                assert!(!options.is_greedy() && is_on_a_border(&logits, &options, &tokens, draws[0]), "{}", what());
                borders += 1;
            } else {
                assert!(same_logprob(found.id, found.logprob, expected.logprob), "{}", what());
            }
            // Of nothing but -inf and NaN it has no meaning.
            let nothing = logits.iter().all(|&x| x.is_nan() || x == f32::NEG_INFINITY);
            assert!(nothing || close(found.entropy, expected.entropy), "{}", what());
            assert!(close(found.margin, expected.margin), "{}", what());
            assert_eq!(found.top.len(), expected.top.len(), "{}", what());
            for (f, e) in found.top.iter().zip(&expected.top) {
                assert!(f.0 == e.0 && same_logprob(f.0, f.1, e.1), "{}", what());
            }
        }
    }
    println!("{borders} of {cases} draws fell on a border");
    assert!(20 * borders <= cases, "{borders} of {cases}");
}

#[test]
fn draws_come_as_often_as_they_should() {
    let Some(gpu) = gpu() else { return };
    let mut backend = backend(&gpu, 600);
    let logits: Vec<f32> =
        (0..600).map(|i| if i % 200 == 7 { 5.0 + (i as f32 / 200.0).floor() } else { -50.0 }).collect();
    let options = GenerateOptions { temperature: 1.0, top_p: 1.0, ..GenerateOptions::default() };
    let mut counts = [0; 3];
    let n = 400;
    for i in 0..n {
        backend.set_logits(&logits).unwrap();
        let draw = (i as f32 + 0.5) / n as f32;
        assert!(backend.start_sampling(&sampling(&options, &[1], vec![draw], 1)).unwrap());
        counts[block_on(backend.next_sampled()).unwrap().id as usize / 200] += 1;
    }
    let expected = [0.0900, 0.2447, 0.6652].map(|p| p * n as f64);
    assert!(counts.iter().zip(expected).all(|(&c, e)| (f64::from(c) - e).abs() <= 1.0), "{counts:?}, not {expected:?}");
}

#[test]
fn what_the_device_cannot_do_is_left_to_the_host() {
    let Some(gpu) = gpu() else { return };
    let mut backend = backend(&gpu, 2000);
    backend.set_logits(&vec![0.0; 2000]).unwrap();
    let mut possible = |options: GenerateOptions| {
        let possible = backend.start_sampling(&sampling(&options, &[1], vec![0.5], 1)).unwrap();
        backend.stop_sampling();
        possible
    };
    let default = GenerateOptions::default;
    assert!(!possible(GenerateOptions { top_k: 0, ..default() }));
    assert!(!possible(GenerateOptions { top_k: 129, ..default() }));
    assert!(possible(GenerateOptions { top_k: 0, temperature: 0.0, ..default() }));
    assert!(possible(GenerateOptions { top_k: 128, ..default() }));
    let biases = |n: u32| (0..n).map(|id| (id, 1.0)).collect();
    assert!(possible(GenerateOptions { logit_bias: biases(1024), ..default() }));
    assert!(!possible(GenerateOptions { logit_bias: biases(1025), ..default() }));
}

const STORIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/stories260K/stories260K.gguf");
const EMBEDDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/kinglet-tiny.gguf");

fn load(path: &str, gpu: &GpuOptions) -> Session<WebGpuBackend> {
    let options = LoadOptions { context_length: Some(512), ..LoadOptions::default() };
    let backend = async |spec, _| WebGpuBackend::new(spec, gpu).await;
    block_on(Session::load_on(backend, &mut [FileSource::open(path).unwrap()], options, |_, _| {})).unwrap()
}

fn load_on_cpu(path: &str) -> Session {
    let options = LoadOptions { context_length: Some(512), ..LoadOptions::default() };
    block_on(Session::load(&mut [FileSource::open(path).unwrap()], options, |_, _| {})).unwrap()
}

/// At most `most` tokens of the running request, and the gap of each position's two best.
fn tokens<B: Backend>(session: &mut Session<B>, most: usize) -> Vec<(u32, f32)> {
    let mut found = Vec::new();
    while found.len() < most {
        match block_on(session.step()).unwrap() {
            Step::Prefill { .. } => {}
            Step::Token { id, signals, .. } => found.push((id, signals.margin)),
            Step::Done { .. } => break,
        }
    }
    found
}

fn greedy(max_tokens: usize) -> GenerateOptions {
    GenerateOptions { temperature: 0.0, max_tokens: Some(max_tokens), ignore_eos: true, ..GenerateOptions::default() }
}

fn ids<B: Backend>(session: &mut Session<B>, prompt: &[u32], options: &GenerateOptions) -> Vec<u32> {
    session.start_tokens(prompt.to_vec(), options, true).unwrap();
    tokens(session, usize::MAX).into_iter().map(|(id, _)| id).collect()
}

#[test]
fn stories260k_tells_its_story_without_a_round_trip_for_each_token() {
    let Some(gpu) = gpu() else { return };
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/stories260K/golden_greedy.json");
    let Ok(golden) = std::fs::read(golden) else { return eprintln!("SKIPPED: no ../shared/data/stories260K") };
    let golden: serde_json::Value = serde_json::from_slice(&golden).unwrap();
    let golden: Vec<u32> = serde_json::from_value(golden["greedy_ids_from_BOS"].clone()).unwrap();
    let mut session = load(STORIES, &gpu);
    assert_eq!(ids(&mut session, &golden[..1], &greedy(200)), golden[1..201]);
    assert_eq!(session.stats().dispatches_per_token, 5 * 5 + 4);
}

/// The first token's entropy takes its twenty best, which the device reports of no other token.
#[test]
fn the_signals_of_an_answer_are_the_hosts() {
    let Some(gpu) = gpu() else { return };
    fn signals<B: Backend>(session: &mut Session<B>, top_logprobs: usize) -> AnswerSignals {
        let options = GenerateOptions { top_logprobs, ..greedy(40) };
        session.start_tokens(vec![1, 403], &options, false).unwrap();
        loop {
            match block_on(session.step()).unwrap() {
                Step::Prefill { .. } => {}
                Step::Token { top_logprobs: found, .. } => assert_eq!(found.len(), top_logprobs),
                Step::Done { signals, .. } => return *signals,
            }
        }
    }
    let (mut on_gpu, mut on_cpu) = (load(STORIES, &gpu), load_on_cpu(STORIES));
    for top_logprobs in [0, 2] {
        let (found, expected) = (signals(&mut on_gpu, top_logprobs), signals(&mut on_cpu, top_logprobs));
        for (at, name) in SIGNAL_NAMES.iter().enumerate() {
            let (found, expected) = (found.at(at).unwrap(), expected.at(at).unwrap());
            // Activations of 8 bits on the CPU only.
            assert!((found - expected).abs() < 0.05 + 0.05 * expected.abs(), "{name}: {found}, not {expected}");
        }
    }
}

#[test]
fn in_steady_state_nothing_is_made_or_written_and_16_bytes_come_back() {
    let Some(gpu) = gpu() else { return };
    let gpu = GpuOptions { few_in_flight: true, ..gpu };
    let mut session = load(EMBEDDED, &gpu);
    let sampled = GenerateOptions { temperature: 0.8, repeat_penalty: 1.1, ..greedy(120) };
    for options in [greedy(120), sampled] {
        session.start_tokens(vec![1, 2, 3], &options, true).unwrap();
        tokens(&mut session, 10);
        let before = session.backend().counts();
        assert_eq!(tokens(&mut session, 100).len(), 100);
        let expected = Counts { bytes_read: before.bytes_read + 16 * 100, ..before };
        assert_eq!(session.backend().counts(), expected);
    }
}

#[test]
fn the_cache_grows_under_tokens_in_flight() {
    let Some(gpu) = gpu() else { return };
    let (mut on_gpu, mut on_cpu) = (load(EMBEDDED, &gpu), load_on_cpu(EMBEDDED));
    // From 256 positions to the whole context, and to its very end.
    let (found, expected) = (ids(&mut on_gpu, &[1, 2, 3], &greedy(1000)), ids(&mut on_cpu, &[1, 2, 3], &greedy(1000)));
    assert_eq!((found.len(), expected.len()), (509, 509));
    on_cpu.start_tokens(vec![1, 2, 3], &greedy(1000), true).unwrap();
    let margins = tokens(&mut on_cpu, 509);
    let differs = found.iter().zip(&expected).position(|(f, e)| f != e);
    // After a near tie the texts go their own ways.
    assert!(differs.is_none_or(|i| margins[i].1 < 0.1), "at {differs:?}: {:?}", margins[differs.unwrap()]);
    println!("texts differ from {differs:?} on");
}

#[test]
fn a_seed_draws_what_it_draws_on_the_cpu() {
    let Some(gpu) = gpu() else { return };
    if !std::path::Path::new(STORIES).exists() {
        return eprintln!("SKIPPED: no ../shared/data/stories260K");
    }
    let (mut on_gpu, mut on_cpu) = (load(STORIES, &gpu), load_on_cpu(STORIES));
    let mut same = 0;
    let runs = 8;
    for seed in 0..runs {
        let options = GenerateOptions {
            temperature: 0.9,
            seed: Some(seed),
            repeat_penalty: if seed % 2 == 0 { 1.0 } else { 1.2 },
            min_p: if seed % 4 < 2 { 0.0 } else { 0.05 },
            ..greedy(100)
        };
        let (found, expected) = (ids(&mut on_gpu, &[1], &options), ids(&mut on_cpu, &[1], &options));
        let differs = found.iter().zip(&expected).position(|(f, e)| f != e);
        println!("seed {seed}: differs from {differs:?} on");
        same += usize::from(differs.is_none_or(|i| i > 30));
    }
    // The CPU's activations are bytes: its logits are other ones, by a hundredth, and a draw near a border falls beyond.
    assert!(same >= runs as usize / 2, "{same} of {runs}");
}

/// What was computed ahead leaves no trace: the cache is as that of a session that was never to go on, and as good as new.
#[test]
fn a_turn_after_one_cut_short_is_that_of_a_fresh_session() {
    let Some(gpu) = gpu() else { return };
    let mut cut_short = load(EMBEDDED, &gpu);
    let prompt = [1, 20, 30, 40, 50];
    for (stop_after, temperature) in [(0, 0.0), (1, 0.0), (2, 0.8), (17, 0.0), (40, 0.8)] {
        let options = GenerateOptions { temperature, seed: Some(5), ..greedy(60) };
        cut_short.start_tokens(prompt.to_vec(), &options, true).unwrap();
        let first: Vec<u32> = tokens(&mut cut_short, stop_after).into_iter().map(|(id, _)| id).collect();
        cut_short.abort();
        let second = [&prompt[..], &first, &[60, 70]].concat();
        let found = ids(&mut cut_short, &second, &options);
        let reused = cut_short.stats().cached_tokens;
        assert!(reused + 1 >= prompt.len() + first.len() || stop_after == 0, "{reused} of {}", second.len());

        let mut ended = load(EMBEDDED, &gpu);
        let limited = GenerateOptions { max_tokens: Some(stop_after), ..options.clone() };
        assert_eq!(ids(&mut ended, &prompt, &limited), first);
        assert_eq!(found, ids(&mut ended, &second, &options), "cut after {stop_after}");

        // A batch's sums are in another order than a token's: a near tie may fall the other way.
        let mut fresh = load(EMBEDDED, &gpu);
        fresh.start_tokens(second, &options, true).unwrap();
        let expected = tokens(&mut fresh, 60);
        let differs = found.iter().zip(&expected).find(|(f, e)| **f != e.0);
        assert!(differs.is_none_or(|(_, (_, margin))| *margin < 0.1 || temperature > 0.0), "{differs:?}");
    }
}

/// The device's sampler and the host's, on the same device's logits.
#[test]
fn both_samplers_tell_the_same_story() {
    let Some(gpu) = gpu() else { return };
    let mut session = load(EMBEDDED, &gpu);
    for seed in 0..4 {
        let device = GenerateOptions {
            temperature: 0.8,
            top_k: 100,
            repeat_penalty: 1.1,
            frequency_penalty: 0.1,
            logit_bias: [(5, -2.0), (40, 1.5)].into(),
            seed: Some(seed),
            ..greedy(150)
        };
        let found = ids(&mut session, &[1, 2, 3], &device);
        // A bias that changes nothing, but is one too many for the device.
        let mut host = device.clone();
        host.logit_bias.extend((100..1200).map(|id| (id, 0.0)));
        let expected = ids(&mut session, &[1, 2, 3], &host);
        assert_eq!(found, expected, "seed {seed}");
    }
}
