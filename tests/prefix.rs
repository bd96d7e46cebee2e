//! A beginning that is read once: what is saved of it, and what becomes of bytes that are not what was saved.

use kinglet::backend::cpu::CpuBackend;
use kinglet::generate::GenerateOptions;
use kinglet::generate::sampler::SplitMix64;
use kinglet::session::{LoadOptions, Request, Session, Step};
use kinglet::source::FileSource;
use kinglet::{ErrorCode, Result};
use pollster::block_on;
use serde_json::json;

const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/kinglet-tiny.gguf");
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/golden");

fn load(path: &str, context: usize) -> Session {
    let options = LoadOptions { context_length: Some(context), ..LoadOptions::default() };
    block_on(Session::load(&mut [FileSource::open(path).unwrap()], options, |_, _| {})).unwrap()
}

fn read(session: &mut Session, tokens: &[u32]) {
    while !block_on(session.read_prefix(tokens)).unwrap() {}
}

fn saved(session: &mut Session, tokens: &[u32]) -> Vec<u8> {
    read(session, tokens);
    session.save_prefix("m", tokens).unwrap().expect("the CPU keeps them")
}

/// All that is told, as text, and how much of the prompt was there.
fn answer(session: &mut Session, prompt: &[u32]) -> (String, usize) {
    let options = GenerateOptions { max_tokens: Some(24), top_logprobs: 3, seed: Some(1), ..Default::default() };
    session.start_tokens(prompt.to_vec(), &options, false).unwrap();
    let mut told = String::new();
    loop {
        match block_on(session.step()).unwrap() {
            Step::Prefill { .. } => {}
            Step::Token { id, signals, top_logprobs, .. } => told += &format!("{id} {signals:?} {top_logprobs:?}\n"),
            Step::Done { stats, .. } => return (told, stats.cached_tokens),
        }
    }
}

fn tokens(n: usize, vocab: usize) -> Vec<u32> {
    let mut random = SplitMix64(5);
    (0..n).map(|_| random.below(vocab) as u32).collect()
}

#[test]
fn a_saved_prefix_is_the_prefix() {
    // A multiple of the cache's blocks, one beside it, more than a batch, one that has a window.
    for (name, n) in [("q4_0", 64), ("q8_0", 37), ("f32", 150), ("gemma3_k", 140), ("phi_window", 70), ("qwen3_k", 1)] {
        let mut first = load(&format!("{GOLDEN}/{name}.gguf"), 256);
        let prefix = tokens(n, first.info().vocabulary);
        let bytes = saved(&mut first, &prefix);
        let prompt = [&prefix[..], &[3, 4, 5, 6, 7]].concat();
        let (expected, cached) = answer(&mut first, &prompt);
        assert_eq!(cached, n, "{name}");

        let mut second = load(&format!("{GOLDEN}/{name}.gguf"), 256);
        let before = tokens(200, second.info().vocabulary);
        answer(&mut second, &before[100..]);
        second.load_prefix("m", &prefix, &bytes).unwrap();
        assert_eq!(answer(&mut second, &prompt), (expected, n), "{name}");
        // The prefix is still there, behind an answer or not.
        read(&mut second, &prefix);
        assert_eq!(second.save_prefix("m", &prefix).unwrap().unwrap().len(), bytes.len());
    }
}

/// Layers that see a window keep the last positions only.
#[test]
fn a_window_that_has_moved_on() {
    for name in ["gemma3_k", "phi_window"] {
        let path = format!("{GOLDEN}/{name}.gguf");
        let mut first = load(&path, 1024);
        let prefix = tokens(700, first.info().vocabulary);
        let bytes = saved(&mut first, &prefix);
        let prompt = [&prefix[..], &[3, 4, 5]].concat();
        let (expected, cached) = answer(&mut first, &prompt);
        assert_eq!(cached, 700);
        // A little behind it changes nothing, much does.
        assert!(first.save_prefix("m", &prefix).unwrap().is_some());
        let mut second = load(&path, 1024);
        second.load_prefix("m", &prefix, &bytes).unwrap();
        assert_eq!(answer(&mut second, &prompt), (expected, 700), "{name}");
        read(&mut second, &[&prefix[..], &tokens(300, 200)].concat());
        refused(second.save_prefix("m", &prefix[..100]).map(|_| ()));
    }
}

#[test]
fn what_every_conversation_begins_with() {
    let mut session = load(TINY, 512);
    let messages = json!([{ "role": "system", "content": "You are a bird. Say little." }]);
    let request = |messages: serde_json::Value| -> Request {
        serde_json::from_value(json!({ "messages": messages, "max_tokens": 4, "temperature": 0 })).unwrap()
    };
    let prefix = session.prefix_of(&request(messages.clone())).unwrap();
    let text = session.detokenize(&prefix).unwrap();
    assert!(text.contains("Say little."), "{text}");
    read(&mut session, &prefix);
    for question in ["Hello", "1 2 3", "What is this?"] {
        let mut messages = messages.clone();
        messages.as_array_mut().unwrap().push(json!({ "role": "user", "content": question }));
        session.start(&request(messages)).unwrap();
        let stats = session.stats().clone();
        assert!(stats.cached_tokens >= prefix.len() && stats.prompt_tokens > prefix.len(), "{question}: {stats:?}");
        while !matches!(block_on(session.step()).unwrap(), Step::Done { .. }) {}
    }
    let long = json!([{ "role": "system", "content": "word ".repeat(600) }]);
    assert_eq!(session.prefix_of(&request(long)).unwrap_err().code(), ErrorCode::ContextExceeded);
    let odd = json!([{ "role": "system", "content": 5 }]);
    assert_eq!(session.prefix_of(&request(odd)).unwrap_err().code(), ErrorCode::BadRequest);
}

fn refused(result: Result<()>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.code(), ErrorCode::BadRequest, "{error}");
    error.to_string()
}

#[test]
fn other_bytes_are_refused_and_nothing_is_lost() {
    let path = format!("{GOLDEN}/q4_0.gguf");
    let mut session = load(&path, 256);
    let prefix = tokens(20, session.info().vocabulary);
    let bytes = saved(&mut session, &prefix);
    let prompt = [&prefix[..], &[9, 8]].concat();
    let (expected, _) = answer(&mut load(&path, 256), &prompt);
    let (from_prefix, _) = answer(&mut session, &prompt);

    for cut in 0..bytes.len() {
        refused(session.load_prefix("m", &prefix, &bytes[..cut]));
    }
    let mut random = SplitMix64(2);
    let places: Vec<usize> = (0..800).map(|_| random.below(bytes.len())).collect();
    for at in (0..200).chain(places).chain(bytes.len() - 20..bytes.len()) {
        let mut broken = bytes.clone();
        broken[at] ^= 1 << random.below(8);
        refused(session.load_prefix("m", &prefix, &broken));
    }
    // Lengths that somebody made up, with a check that is right.
    for at in [8, 8 + 4 + u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize] {
        for length in [0, 1, u32::MAX, u32::MAX / 4, bytes.len() as u32] {
            let mut broken = bytes[..bytes.len() - 8].to_vec();
            broken[at..at + 4].copy_from_slice(&length.to_le_bytes());
            let broken = with_check(&broken);
            refused(session.load_prefix("m", &prefix, &broken));
        }
    }
    let rest = &bytes[..bytes.len() - 8];
    assert_eq!(with_check(rest), bytes);
    for rest in [&rest[..rest.len() - 4], &[rest, &[0; 64]].concat()] {
        assert!(refused(session.load_prefix("m", &prefix, &with_check(rest))).contains("bytes"));
    }
    assert!(refused(session.load_prefix("n", &prefix, &bytes)).contains("another model"));
    let mut other = prefix.clone();
    other[3] ^= 1;
    assert!(refused(session.load_prefix("m", &other, &bytes)).contains("begins otherwise"));
    assert!(refused(session.load_prefix("m", &prefix[..19], &bytes)).contains("begins otherwise"));
    for other in ["q8_0", "gemma3_k", "qwen2_k"] {
        let mut other = load(&format!("{GOLDEN}/{other}.gguf"), 256);
        let told = other.load_prefix("m", &prefix, &bytes);
        // The shape is the same, and what the caller calls it.
        assert!(told.is_ok() == (other.backend_spec() == session.backend_spec()));
    }
    let all_unknown = vec![u32::MAX; 3];
    refused(session.load_prefix("m", &all_unknown, &bytes));

    // It is read anew, or taken in after all.
    let (told, cached) = answer(&mut session, &prompt);
    assert!(told == expected || (cached > 0 && told == from_prefix));
    session.load_prefix("m", &prefix, &bytes).unwrap();
    assert_eq!(answer(&mut session, &prompt), (from_prefix, 20));
    refused(session.save_prefix("m", &tokens(30, 200)).map(|_| ()));
}

trait Spec {
    fn backend_spec(&self) -> &kinglet::backend::DecoderSpec;
}

impl Spec for Session<CpuBackend> {
    fn backend_spec(&self) -> &kinglet::backend::DecoderSpec {
        kinglet::backend::Backend::spec(self.backend())
    }
}

/// As the format has it, written once more.
fn with_check(bytes: &[u8]) -> Vec<u8> {
    let add = |sum: u64, word: u64| (sum ^ word).wrapping_mul(0x100_0000_01b3);
    let words = bytes.chunks_exact(8);
    let tail = words.remainder().iter().fold(bytes.len() as u64, |sum, &byte| add(sum, byte.into()));
    let sum = words
        .fold(add(0xcbf2_9ce4_8422_2325, tail), |sum, word| add(sum, u64::from_le_bytes(word.try_into().unwrap())));
    [bytes, &sum.to_le_bytes()].concat()
}
