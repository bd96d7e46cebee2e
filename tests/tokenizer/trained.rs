//! Vocabularies trained for the test (`fixtures/make_vocabularies.py`): Gemma's kind and Llama 3's.

use super::common::{Random, as_gguf, gemma, gemma_metadata, pieces, trained};
use kinglet::formats::{Metadata, Value};
use kinglet::text::{Special, Tokenizer};
use serde_json::json;
use std::collections::HashMap;

fn fnv1a(ids: &[u32]) -> u32 {
    let bytes = ids.iter().flat_map(|id| id.to_le_bytes());
    bytes.fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// sentencepiece's ids of the same texts, as hashes. What users write holds no control token there, as in `Plain`.
#[test]
fn gemma_is_sentencepiece() {
    let tokenizer = gemma();
    let names: Vec<&str> = pieces().gemma.iter().map(String::as_str).collect();
    let mut random = Random(0x5EED);
    let mut texts = 0;
    for expected in std::fs::read_to_string(trained("gemma.ids")).unwrap().lines() {
        let text = random.text(&names);
        let ids = tokenizer.encode(&text, Special::Plain);
        assert_eq!(format!("{:08x}", fnv1a(&ids)), expected, "text {texts}: {text:?}: {ids:?}");
        assert_eq!(tokenizer.decode(&ids, false), text.replace('▁', " "));
        texts += 1;
    }
    assert_eq!(texts, 3000);
}

/// The same vocabulary as a `tokenizer.json`, as transformers converts Gemma's: every way to make a token is a merge.
#[test]
fn gemma_json() {
    let file = gemma_metadata();
    let Some(Value::Ints(types)) = file.get("tokenizer.ggml.token_type") else { panic!("no types") };
    let Some(Value::Floats(scores)) = file.get("tokenizer.ggml.scores") else { panic!("no scores") };
    let tokens = file.strings("tokenizer.ggml.tokens").unwrap().unwrap().iter();
    let tokens: Vec<String> =
        tokens.map(|token| String::from_utf8(token.to_vec()).unwrap().replace(' ', "▁")).collect();
    let ids: HashMap<&str, usize> = tokens.iter().enumerate().map(|(id, token)| (token.as_str(), id)).collect();
    let mut merges = Vec::new();
    for (id, token) in tokens.iter().enumerate() {
        let is_run = types[id] == 4 && token.starts_with('▁');
        for (at, _) in token.char_indices().skip(1).filter(|_| types[id] == 1 || is_run) {
            let (left, right) = token.split_at(at);
            if let (Some(left), Some(right)) = (ids.get(left), ids.get(right)) {
                // Runs before all else, as Gemma has them; then by score.
                merges.push((!is_run, -scores[id], *left, *right));
            }
        }
    }
    merges.sort_by(|a, b| a.partial_cmp(b).unwrap());
    let merges: Vec<_> = merges.iter().map(|&(.., left, right)| [&tokens[left], &tokens[right]]).collect();
    let added = (0..tokens.len()).filter(|&id| matches!(types[id], 2..=4)).map(|id| {
        json!({ "id": id, "content": tokens[id], "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": types[id] != 4 })
    });
    let replace = |from: &str, to: &str| json!({ "type": "Replace", "pattern": { "String": from }, "content": to });
    let json = json!({
        "version": "1.0",
        "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": replace(" ", "▁"),
        "pre_tokenizer": { "type": "Split", "pattern": { "String": " " }, "behavior": "MergedWithPrevious", "invert": false },
        "decoder": { "type": "Sequence", "decoders": [replace("▁", " "), { "type": "ByteFallback" }, { "type": "Fuse" }] },
        "model": { "type": "BPE", "vocab": ids, "merges": merges, "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true },
    });
    let json = json.to_string();
    let theirs = tokenizers::Tokenizer::from_bytes(&json).unwrap();
    let ours = Tokenizer::from_tokenizer_json(json.as_bytes()).unwrap();
    let names: Vec<&str> = pieces().gemma.iter().map(String::as_str).collect();
    let mut random = Random(0x5EED);
    for n in 0..3000 {
        // Next to a space, `▁` itself is a token apart there, and a space like any other here and in sentencepiece.
        let text = random.text(&names).replace('▁', " ");
        let ids = ours.encode(&text, Special::Parse);
        assert_eq!(ids, theirs.encode_fast(text.as_str(), false).unwrap().get_ids(), "text {n}: {text:?}");
        assert_eq!(ours.decode(&ids, true), text);
    }
}

/// Runs of space and tags are one token each, control tokens are found where they may be.
#[test]
fn gemma_tokens() {
    let tokenizer = gemma();
    let id = |token: &str| tokenizer.id(token).unwrap();
    let ids = tokenizer.encode("<table>\n\n\t\t    <end_of_turn>", Special::Parse);
    assert_eq!(ids, [id("<table>"), id("\n\n"), id("\t\t"), id("    "), id("<end_of_turn>")]);
    assert!(!tokenizer.encode("<end_of_turn>", Special::Plain).contains(&id("<end_of_turn>")));
    assert_eq!(tokenizer.decode(&tokenizer.encode("  a", Special::Plain), false), "  a");
    // Of a longer run the longest token first.
    assert_eq!(tokenizer.encode(&"\n".repeat(8), Special::Plain), [id("\n\n\n\n\n\n"), id("\n\n")]);
    assert!(tokenizer.add_bos());
    assert_eq!(tokenizer.end_ids(), [id("<eos>"), id("<end_of_turn>")]);
}

/// Llama 3's pattern, words that only `ignore_merges` finds, and BOS without the file saying so.
#[test]
fn llama3() {
    let json = std::fs::read(trained("llama3.json")).unwrap();
    let theirs = tokenizers::Tokenizer::from_bytes(&json).unwrap();
    let of_json = Tokenizer::from_tokenizer_json(&json).unwrap();
    super::oracle::agree("llama3.json", &of_json, &theirs, 3000);

    let entries = as_gguf(&json, "llama-bpe", of_json.vocab_size());
    let mut entries = [entries, vec![("tokenizer.ggml.bos_token_id".into(), Value::Int(2005))]].concat();
    let of_gguf = Tokenizer::from_gguf(&mut Metadata::new(entries.clone())).unwrap();
    super::oracle::agree("llama3 as GGUF", &of_gguf, &theirs, 3000);
    for tokenizer in [&of_json, &of_gguf] {
        assert!(tokenizer.add_bos());
        let names = ["<|end_of_text|>", "<|eot_id|>", "<|eom_id|>"];
        assert_eq!(tokenizer.end_ids(), names.map(|name| tokenizer.id(name).unwrap()));
        let whole = tokenizer.id(" ThisIsCamel").unwrap();
        assert_eq!(tokenizer.encode(" ThisIsCamel", Special::Plain), [whole]);
    }
    // The same pattern under another name, without the two defaults.
    entries[1].1 = Value::String("dbrx".into());
    let dbrx = Tokenizer::from_gguf(&mut Metadata::new(entries)).unwrap();
    assert!(!dbrx.add_bos() && dbrx.encode(" ThisIsCamel", Special::Plain).len() > 1);
}
