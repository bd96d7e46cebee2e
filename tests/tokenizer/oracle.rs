//! Random texts of all kinds: the same ids and the same text back as from Hugging Face's `tokenizers`.

use super::common::{Random, from_gguf, from_json, oracle};
use kinglet::text::{Special, Tokenizer};
use serde_json::{Value, json};

const TEXTS: usize = 3000;

fn agree(name: &str, ours: &Tokenizer, theirs: &tokenizers::Tokenizer, texts: usize) {
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

#[test]
fn smollm2() {
    check("smollm2");
}

#[test]
fn qwen2() {
    check("qwen2.5");
}

#[test]
fn phi4_mini() {
    check("phi-4-mini");
}

#[test]
fn phi3_mini() {
    check("phi-3-mini");
}

/// The regular expressions that `split.rs` writes by hand, over a vocabulary whose tokens are single bytes but for
/// the merges that show where words end.
#[test]
fn splits() {
    let Some(path) = super::common::data("tokenizers/smollm2/tokenizer.json") else { return };
    let base: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let llama3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let byte_level =
        |regex| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": regex });
    let split = |regex: &str| json!({ "type": "Split", "pattern": { "Regex": regex }, "behavior": "Isolated", "invert": false });
    let metaspace =
        |scheme, split| json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split });
    let steps = [
        byte_level(true),
        json!({ "type": "Sequence", "pretokenizers": [split(llama3), byte_level(false)] }),
        metaspace("always", true),
        metaspace("first", false),
        metaspace("never", true),
    ];
    for step in steps {
        let mut file = base.clone();
        if step["type"] == "Metaspace" {
            let phi3 = super::common::data("tokenizers/phi-3-mini/tokenizer.json").unwrap();
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
