//! Golden logits and texts, and how close a backend comes to them.
#![allow(dead_code)]

use kinglet::backend::{Backend, DecoderSpec, HeadRows};
use kinglet::formats::{Checkpoint, Format};
use kinglet::generate::GenerateOptions;
use kinglet::model::{arch, decoder, weights};
use kinglet::session::{LoadOptions, Request, Session, Step};
use kinglet::source::FileSource;
use pollster::block_on;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

pub const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/golden");

/// A model of `make_models.py`, whose golden logits are [`goldens`]'.
#[derive(Deserialize)]
pub struct Golden {
    pub family: String,
    pub architecture: String,
    /// Of its matrices.
    pub formats: Vec<String>,
    pub prompts: Vec<Vec<u32>>,
    pub dtype: String,
    pub conversation: Option<Conversation>,
}

/// A greedy answer, each token from a fresh prompt.
#[derive(Deserialize)]
pub struct Conversation {
    pub prompt: Vec<u32>,
    pub answer: Vec<u32>,
    /// `[answer, vocabulary]`
    #[serde(skip)]
    pub logits: Vec<f32>,
}

/// The models and their golden logits, `[positions, vocabulary]` of each prompt.
pub fn goldens() -> Vec<(String, Golden, Vec<Vec<f32>>)> {
    let index = std::fs::read(format!("{GOLDEN}/index.json")).unwrap();
    let index: BTreeMap<String, Golden> = serde_json::from_slice(&index).unwrap();
    let with_logits = |(name, mut golden): (String, Golden)| {
        let logits = read_logits(&name, &mut golden);
        (name, golden, logits)
    };
    index.into_iter().map(with_logits).collect()
}

/// A file of logits.
pub fn floats(path: impl AsRef<Path>, dtype: &str) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    let format = if dtype == "f16" { Format::F16 } else { Format::F32 };
    let mut all = vec![0.0; bytes.len() / format.block_bytes()];
    format.dequantize(&bytes, &mut all);
    all
}

fn read_logits(name: &str, golden: &mut Golden) -> Vec<Vec<f32>> {
    let all = floats(format!("{GOLDEN}/{name}.logits"), &golden.dtype);
    let answer = golden.conversation.as_ref().map_or(0, |conversation| conversation.answer.len());
    let positions = golden.prompts.iter().map(Vec::len).sum::<usize>() + answer;
    assert!(all.len().is_multiple_of(positions), "{name}.logits does not belong to index.json");
    let vocab = all.len() / positions;
    let mut rest = &all[..];
    let take = |prompt: &Vec<u32>| rest.split_off(..prompt.len() * vocab).unwrap().to_vec();
    let prompts = golden.prompts.iter().map(take).collect();
    if let Some(conversation) = &mut golden.conversation {
        conversation.logits = rest.to_vec();
    }
    prompts
}

pub fn load<B: Backend>(path: impl AsRef<Path>, new: impl FnOnce(DecoderSpec) -> B) -> B {
    let mut shards = [FileSource::open(path).unwrap()];
    let checkpoint = block_on(Checkpoint::open(&mut shards)).unwrap();
    let blueprint = arch::describe(&checkpoint).unwrap();
    let mut backend = new(blueprint.spec.clone());
    block_on(weights::stream(&mut shards, &checkpoint, &blueprint, &mut backend, |_, _| {})).unwrap();
    backend
}

/// Of every position, the tokens fed in batches of at most `chunk`.
pub fn run<B: Backend>(backend: &mut B, tokens: &[u32], chunk: usize) -> Vec<f32> {
    let mut all = Vec::new();
    backend.expect_positions(tokens.len()).unwrap();
    for (i, batch) in tokens.chunks(chunk.min(backend.max_batch())).enumerate() {
        decoder::forward(backend, batch, i * chunk.min(backend.max_batch()), HeadRows::All).unwrap();
        all.extend_from_slice(block_on(backend.logits()).unwrap());
    }
    all
}

fn norm(x: impl Iterator<Item = f32>) -> f64 {
    x.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt()
}

/// log(softmax), in double precision.
fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f32::MIN, f32::max);
    let log_sum = logits.iter().map(|x| f64::from(x - max).exp()).sum::<f64>().ln();
    logits.iter().map(|x| f64::from(x - max) - log_sum).collect()
}

fn kl(golden: &[f32], ours: &[f32]) -> f64 {
    let pairs = log_softmax(golden).into_iter().zip(log_softmax(ours));
    pairs.map(|(p, q)| p.exp() * (p - q)).sum()
}

pub fn best(logits: &[f32]) -> usize {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap()
}

fn second_gap(logits: &[f32]) -> f32 {
    let mut sorted = logits.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    sorted[0] - sorted[1]
}

pub struct Agreement {
    pub relative_l2: f64,
    pub worst_kl: f64,
    pub same_best: usize,
    /// Positions whose best token is no near tie.
    pub clear: usize,
}

pub fn compare(golden: &[f32], ours: &[f32], vocab: usize, tolerance: f64) -> Agreement {
    assert_eq!(golden.len(), ours.len());
    let difference = norm(golden.iter().zip(ours).map(|(g, o)| g - o));
    let mut agreement =
        Agreement { relative_l2: difference / norm(golden.iter().copied()), worst_kl: 0.0, same_best: 0, clear: 0 };
    for (golden, ours) in golden.chunks(vocab).zip(ours.chunks(vocab)) {
        agreement.worst_kl = agreement.worst_kl.max(kl(golden, ours));
        let rms = norm(golden.iter().copied()) / (vocab as f64).sqrt();
        if f64::from(second_gap(golden)) > 3.0 * tolerance * rms {
            agreement.clear += 1;
            agreement.same_best += usize::from(best(golden) == best(ours));
        }
    }
    agreement
}

/// Architectures and the formats of their matrices.
pub type Cells = BTreeSet<(String, String)>;

impl Golden {
    fn cells(&self) -> impl Iterator<Item = (String, String)> {
        self.formats.iter().map(|format| (self.architecture.clone(), format.clone()))
    }
}

/// What the golden models cover; the table in README.md lists it, and each backend's test proves all of it.
pub fn all_cells() -> Cells {
    goldens().iter().flat_map(|(_, golden, _)| golden.cells()).collect()
}

/// `tolerance(format)` of the relative L2 error; `chunk` tokens at a time. Returns what agreed.
pub fn check<B: Backend>(new: impl Fn(DecoderSpec) -> B, tolerance: impl Fn(&Golden) -> f64, chunk: usize) -> Cells {
    check_some(|_| true, new, tolerance, chunk)
}

/// Those models that are picked.
pub fn check_some<B: Backend>(
    pick: impl Fn(&Golden) -> bool,
    new: impl Fn(DecoderSpec) -> B,
    tolerance: impl Fn(&Golden) -> f64,
    chunk: usize,
) -> Cells {
    let (mut failures, mut agreed) = (Vec::new(), Cells::new());
    for (name, golden, expected) in goldens().into_iter().filter(|(_, golden, _)| pick(golden)) {
        let mut backend = load(format!("{GOLDEN}/{name}.gguf"), &new);
        let vocab = backend.spec().vocab;
        let tolerance = tolerance(&golden);
        let (mut same_best, mut clear) = (0, 0);
        for (prompt, expected) in golden.prompts.iter().zip(&expected) {
            let ours = run(&mut backend, prompt, chunk);
            let agreement = compare(expected, &ours, vocab, tolerance);
            let Agreement { relative_l2, worst_kl, .. } = agreement;
            println!("{name}, {} tokens: relative L2 {relative_l2:.1e}, KL {worst_kl:.1e}", prompt.len());
            if !(relative_l2 <= tolerance && worst_kl < 1e-2) {
                failures.push(format!("{name}, {} tokens: L2 {relative_l2:.2e}, KL {worst_kl:.2e}", prompt.len()));
            }
            same_best += agreement.same_best;
            clear += agreement.clear;
        }
        assert!(clear >= 20, "{name}: enough positions to judge by");
        if (same_best as f64) < 0.95 * clear as f64 {
            failures.push(format!("{name}: the best token agrees in {same_best} of {clear} positions"));
        }
        agreed.extend(golden.cells());
    }
    assert!(failures.is_empty(), "{failures:#?}");
    agreed
}

/// 2e-3 for floats, 2e-2 where activations are quantized too.
pub fn tolerance(golden: &Golden) -> f64 {
    tolerance_of(&golden.dtype)
}

pub fn tolerance_of(dtype: &str) -> f64 {
    if dtype == "f32" { 2e-3 } else { 2e-2 }
}

/// Answers that grow beyond the context whose RoPE factors their prompt turned by: each token is the one of a fresh prompt.
/// Twice in one session, because the second begins with what the first left in the cache.
pub fn check_conversations<B: Backend>(new: impl AsyncFn(DecoderSpec, usize) -> kinglet::Result<B>) {
    let mut crossed = 0;
    for (name, golden, _) in goldens() {
        let Some(Conversation { prompt, answer, logits }) = &golden.conversation else { continue };
        let mut shards = [FileSource::open(format!("{GOLDEN}/{name}.gguf")).unwrap()];
        let mut session = block_on(Session::load_on(&new, &mut shards, LoadOptions::default(), |_, _| {})).unwrap();
        let original = session.backend().spec().original_context().unwrap();
        crossed += usize::from(prompt.len() < original && prompt.len() + answer.len() > original + 1);
        for round in 0..2 {
            let greedy = GenerateOptions {
                temperature: 0.0,
                max_tokens: Some(answer.len()),
                ignore_eos: true,
                top_logprobs: 5,
                ..GenerateOptions::default()
            };
            session.start_tokens(prompt.clone(), &greedy, false).unwrap();
            let mut given = Vec::new();
            loop {
                match block_on(session.step()).unwrap() {
                    Step::Prefill { .. } => {}
                    Step::Token { id, top_logprobs, .. } => {
                        let golden_row =
                            &logits[given.len() * logits.len() / answer.len()..][..logits.len() / answer.len()];
                        let expected = log_softmax(golden_row);
                        let spread = norm(golden_row.iter().copied()) / (golden_row.len() as f64).sqrt();
                        for top in top_logprobs {
                            let off = (f64::from(top.logprob) - expected[top.id as usize]).abs();
                            // The largest of a few errors of the size that the tolerance allows.
                            let limit = 4.0 * tolerance(&golden) * spread;
                            assert!(off <= limit, "{name}, token {} of round {round}: off by {off:e}", given.len());
                        }
                        given.push(id);
                    }
                    Step::Done { .. } => break,
                }
            }
            assert_eq!(&given, answer, "{name}, round {round}");
        }
    }
    assert!(crossed >= 2, "conversations that cross the original context");
}

#[derive(Deserialize)]
#[allow(non_snake_case)]
struct Story {
    greedy_ids_from_BOS: Vec<u32>,
    text: String,
    logits_pos0: Vec<f32>,
}

/// The shared test data, where it is; without it CI fails and others are told.
fn shared_data(path: &str) -> Option<std::path::PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(path);
    if !path.exists() {
        assert!(std::env::var_os("CI").is_none(), "{} is missing", path.display());
        eprintln!("SKIPPED: {} is missing", path.display());
        return None;
    }
    Some(path)
}

/// stories260K's 200 greedy tokens, and the logits behind the first to within `tolerance`.
pub fn check_story<B: Backend>(new: impl AsyncFnOnce(DecoderSpec, usize) -> kinglet::Result<B>, tolerance: f64) {
    let Some(model) = shared_data("stories260K/stories260K.gguf") else { return };
    let golden = std::fs::read(model.with_file_name("golden_greedy.json")).unwrap();
    let golden: Story = serde_json::from_slice(&golden).unwrap();
    let mut shards = [FileSource::open(model).unwrap()];
    let options = LoadOptions { context_length: Some(256), ..LoadOptions::default() };
    let mut session = block_on(Session::load_on(new, &mut shards, options, |_, _| {})).unwrap();

    let mut logits = Vec::new();
    let bos = &golden.greedy_ids_from_BOS[..1];
    block_on(session.logits(bos, |rows| {
        logits.extend_from_slice(rows);
        Ok(())
    }))
    .unwrap();
    let Agreement { relative_l2, .. } = compare(&golden.logits_pos0, &logits, logits.len(), 1.0);
    assert!(relative_l2 < tolerance, "{relative_l2:e}");

    let greedy = GenerateOptions { temperature: 0.0, max_tokens: Some(200), ..GenerateOptions::default() };
    session.start(&Request { prompt: Some(String::new()), options: greedy, ..Request::default() }).unwrap();
    let (mut ids, mut text) = (bos.to_vec(), String::new());
    loop {
        match block_on(session.step()).unwrap() {
            Step::Prefill { .. } => {}
            Step::Token { id, text: piece, .. } => {
                ids.push(id);
                text += &piece;
            }
            Step::Done { text: rest, .. } => {
                text += &rest;
                break;
            }
        }
    }
    assert_eq!(ids, golden.greedy_ids_from_BOS);
    assert_eq!(text, golden.text);
}
