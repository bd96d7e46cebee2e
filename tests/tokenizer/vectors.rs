//! llama.cpp's vectors: 47 texts and their ids for each vocabulary.

use super::common::{data, from_gguf, from_json};
use kinglet::text::{Special, Tokenizer};

fn check(vectors: &str, tokenizer: Option<Tokenizer>) {
    let Some(tokenizer) = tokenizer else { return };
    let read = |ext| std::fs::read_to_string(data(&format!("vocab/ggml-vocab-{vectors}.gguf.{ext}")).unwrap()).unwrap();
    let (texts, ids) = (read("inp"), read("out"));
    let texts: Vec<&str> = texts.split("\n__ggml_vocab_test__\n").collect();
    let ids: Vec<&str> = ids.split('\n').collect();
    assert_eq!((texts.len(), ids.len()), (47, 47));
    for (text, ids) in texts.into_iter().zip(ids) {
        let ids: Vec<u32> = ids.split_whitespace().map(|id| id.parse().unwrap()).collect();
        assert_eq!(tokenizer.encode(text, Special::Plain), ids, "{text:?}");
        assert_eq!(tokenizer.decode(&ids, false), text);
    }
}

#[test]
fn gpt2() {
    check("gpt-2", from_gguf("vocab/ggml-vocab-gpt-2.gguf"));
}

#[test]
fn starcoder() {
    check("starcoder", from_gguf("vocab/ggml-vocab-starcoder.gguf"));
}

#[test]
fn llama_spm() {
    check("llama-spm", from_gguf("vocab/ggml-vocab-llama-spm.gguf"));
}

#[test]
fn phi3() {
    check("phi-3", from_gguf("vocab/ggml-vocab-phi-3.gguf"));
}

#[test]
fn smollm2() {
    check("smollm", from_json("smollm2"));
}

#[test]
fn qwen2() {
    check("qwen2", from_json("qwen2.5"));
}

#[test]
fn gpt4o() {
    check("gpt-4o", from_json("phi-4-mini"));
}

#[test]
fn phi3_json() {
    check("phi-3", from_json("phi-3-mini"));
}

/// Ids that others published for SmolLM2 and its kin.
#[test]
fn smollm2_golden() {
    let Some(path) = data("tokenizers/smollm2/golden-token-ids.json") else { return };
    let golden: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let tokenizer = from_json("smollm2").unwrap();
    let mut checked = 0;
    for (_, texts) in golden.as_object().unwrap().iter().filter(|(name, _)| name.starts_with("SmolLM2")) {
        for pair in texts.as_array().unwrap() {
            let (text, ids): (String, Vec<u32>) = serde_json::from_value(pair.clone()).unwrap();
            assert_eq!(tokenizer.encode(&text, Special::Parse), ids, "{text:?}");
            checked += 1;
        }
    }
    assert!(checked >= 5, "{checked}");
}

/// The ids that stories260K's own tokenizer gave llama2.c.
#[test]
fn stories260k() {
    let Some(path) = data("stories260K/golden_greedy.json") else { return };
    let tokenizer = from_gguf("stories260K/stories260K.gguf").unwrap();
    let golden: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let ids: Vec<u32> = serde_json::from_value(golden["greedy_ids_from_BOS"].clone()).unwrap();
    let text = golden["text"].as_str().unwrap();
    assert_eq!(tokenizer.decode(&ids, false), text);
    assert!(tokenizer.add_bos());
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.end_ids()), (Some(1), Some(2), &[2][..]));
}
