//! Random texts of all kinds: the same ids and the same text back as from Hugging Face's `tokenizers`.

use super::common::{Random, as_gguf, data, from_gguf, from_json, metadata, oracle};
use kinglet::formats::{Metadata, Value as Entry};
use kinglet::text::{Special, Tokenizer};
use serde_json::{Value, json};

const TEXTS: usize = 3000;
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

pub fn agree(name: &str, ours: &Tokenizer, theirs: &tokenizers::Tokenizer, texts: usize) {
    let added = theirs.get_added_tokens_decoder();
    let names: Vec<&str> =
        added.values().map(|token| token.content.as_str()).chain(["<|im_end", "<s", "[INST]"]).collect();
    let mut random = Random(0x5EED);
    for n in 0..texts {
        let text = random.text(&names);
        let expected = theirs.encode_fast(text.as_str(), false).unwrap();
        let ids = ours.encode(&text, Special::Parse);
        assert_eq!(ids, expected.get_ids(), "{name}, text {n}: {text:?}");
        for special in [false, true] {
            assert_eq!(
                ours.decode(&ids, special),
                theirs.decode(&ids, !special).unwrap(),
                "{name}, text {n}: {text:?}"
            );
        }
    }
    assert_eq!(ours.vocab_size(), 1 + theirs.get_vocab(true).into_values().max().unwrap() as usize);
}

fn check(name: &str) {
    let Some(theirs) = oracle(name) else { return };
    agree(name, &from_json(name).unwrap(), &theirs, TEXTS);
}

/// The `tokenizer.json` itself, and the same ids from it as the Hub's GGUF files have it, padded to the embedding's `rows`.
fn check_both(name: &str, architecture: &str, pre: &str, rows: usize, ends: &[&str]) {
    check(name);
    let Some(path) = data(&format!("tokenizers/{name}/tokenizer.json")) else { return };
    let mut entries = as_gguf(&std::fs::read(path).unwrap(), pre, rows);
    entries.push(("general.architecture".into(), Entry::String(architecture.into())));
    let ours = Tokenizer::from_gguf(&mut Metadata::new(entries)).unwrap();
    assert_eq!(ours.vocab_size(), rows);
    assert_eq!(ours.end_ids(), ends.iter().map(|end| ours.id(end).unwrap()).collect::<Vec<_>>(), "{name}");
    let (of_json, mut random) = (from_json(name).unwrap(), Random(0x6006));
    for _ in 0..TEXTS {
        let text = random.text(&[ends, &["<|im_end", "<tool_call>", "[PAD151900]"]].concat());
        let ids = ours.encode(&text, Special::Parse);
        assert_eq!(ids, of_json.encode(&text, Special::Parse), "{name}: {text:?}");
        assert_eq!(ours.decode(&ids, true), of_json.decode(&ids, true), "{name}: {text:?}");
    }
}

#[test]
fn smollm2() {
    check_both("smollm2", "llama", "smollm", 49152, &["<|endoftext|>", "<|im_end|>", "<reponame>"]);
}

#[test]
fn qwen2() {
    check_both(
        "qwen2.5",
        "qwen2",
        "qwen2",
        151_936,
        &["<|endoftext|>", "<|im_end|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"],
    );
}

#[test]
fn phi4_mini() {
    check_both("phi-4-mini", "phi3", "gpt-4o", 200_064, &["<|endoftext|>", "<|end|>"]);
}

#[test]
fn phi3_mini() {
    check("phi-3-mini");
}

/// The regular expressions that `split.rs` writes by hand, over a vocabulary whose tokens are single bytes but for
/// the merges that show where words end.
#[test]
fn splits() {
    let Some(path) = data("tokenizers/smollm2/tokenizer.json") else { return };
    let base: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let byte_level =
        |regex| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": regex });
    let split = |regex: &str| json!({ "type": "Split", "pattern": { "Regex": regex }, "behavior": "Isolated", "invert": false });
    let metaspace =
        |scheme, split| json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split });
    let steps = [
        byte_level(true),
        json!({ "type": "Sequence", "pretokenizers": [split(LLAMA3), byte_level(false)] }),
        metaspace("always", true),
        metaspace("first", false),
        metaspace("never", true),
    ];
    for step in steps {
        let mut file = base.clone();
        if step["type"] == "Metaspace" {
            let phi3 = data("tokenizers/phi-3-mini/tokenizer.json").unwrap();
            file = serde_json::from_slice(&std::fs::read(phi3).unwrap()).unwrap();
            file["normalizer"] = Value::Null;
            file["decoder"] = step.clone();
        }
        file["pre_tokenizer"] = step.clone();
        let file = serde_json::to_vec(&file).unwrap();
        let ours = Tokenizer::from_tokenizer_json(&file).unwrap();
        let theirs = tokenizers::Tokenizer::from_bytes(&file).unwrap();
        if step["type"] == "Metaspace" {
            let mut random = Random(0x5EED);
            for _ in 0..500 {
                let text = random.text(&["<s>", "<|end|>"]);
                let expected = theirs.encode_fast(text.as_str(), false).unwrap();
                assert_eq!(ours.encode(&text, Special::Parse), expected.get_ids(), "{step}: {text:?}");
            }
        } else {
            agree(&step.to_string(), &ours, &theirs, 1000);
        }
    }
}

/// A GGUF file's scores and a `tokenizer.json`'s merges give the same ids for the same vocabulary.
#[test]
fn phi3_gguf() {
    let Some(ours) = from_gguf("vocab/ggml-vocab-phi-3.gguf") else { return };
    let theirs = oracle("phi-3-mini").unwrap();
    let mut random = Random(0x5EED);
    for n in 0..1000 {
        let text = random.text(&["<|end|>", "<|user|>", "<s>", "</s>"]);
        let expected = theirs.encode_fast(text.as_str(), false).unwrap();
        assert_eq!(ours.encode(&text, Special::Parse), expected.get_ids(), "text {n}: {text:?}");
    }
}

/// Every named pattern over GPT-2's own vocabulary, `default` included, which no `tokenizer.json` has: llama.cpp cuts
/// with four expressions, each within the pieces of the one before.
#[test]
fn named_patterns() {
    let Some(file) = metadata("vocab/ggml-vocab-gpt-2.gguf") else { return };
    let split = |regex: &str| json!({ "type": "Split", "pattern": { "Regex": regex }, "behavior": "Isolated", "invert": false });
    let byte_level =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false });
    let digits = json!({ "type": "Digits", "individual_digits": true });
    let patterns = [
        (Some("gpt-2"), vec![split(GPT2)]),
        (Some("starcoder"), vec![digits.clone(), split(GPT2)]),
        (Some("smollm"), vec![digits, split(GPT2)]),
        (Some("llama-bpe"), vec![split(LLAMA3)]),
        (Some("dbrx"), vec![split(LLAMA3)]),
        (Some("tekken"), vec![split(TEKKEN)]),
        (None, vec![split(r"[\p{P}\$\+<=>\^\~\|]+"), split(GPT2), split(r"\p{N}+"), split("[0-9][0-9][0-9]")]),
    ];
    for (name, mut steps) in patterns {
        let mut entries: Vec<(String, Entry)> = file.iter().map(|(k, v)| (k.to_string(), v.clone())).collect();
        entries.retain(|(key, _)| key != "tokenizer.ggml.pre");
        entries.extend(name.map(|name| ("tokenizer.ggml.pre".to_string(), Entry::String(name.to_string()))));
        let ours = Tokenizer::from_gguf(&mut Metadata::new(entries)).unwrap();

        let strings = |key| file.strings(key).unwrap().unwrap().iter().map(|s| std::str::from_utf8(s).unwrap());
        let vocabulary: serde_json::Map<_, _> =
            strings("tokenizer.ggml.tokens").enumerate().map(|(id, token)| (token.to_string(), id.into())).collect();
        let merges: Vec<&str> = strings("tokenizer.ggml.merges").collect();
        steps.push(byte_level.clone());
        let json = json!({
            "version": "1.0",
            "added_tokens": [{ "id": 50256, "content": "<|endoftext|>", "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true }],
            "pre_tokenizer": { "type": "Sequence", "pretokenizers": steps },
            "decoder": byte_level,
            "model": { "type": "BPE", "vocab": vocabulary, "merges": merges, "ignore_merges": matches!(name, Some("llama-bpe" | "tekken")) },
        });
        let theirs = tokenizers::Tokenizer::from_bytes(json.to_string()).unwrap();
        agree(name.unwrap_or("default"), &ours, &theirs, 1000);
    }
}
