//! Vocabularies trained for the test (`fixtures/make_vocabularies.py`): Gemma's kind and Llama 3's.

use super::common::{Random, as_gguf, gemma, pieces, trained};
use kinglet::formats::Metadata;
use kinglet::text::{Special, Tokenizer};

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
    let mut entries =
        [entries, vec![("tokenizer.ggml.bos_token_id".into(), kinglet::formats::Value::Int(2005))]].concat();
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
    entries[1].1 = kinglet::formats::Value::String("dbrx".into());
    let dbrx = Tokenizer::from_gguf(&mut Metadata::new(entries)).unwrap();
    assert!(!dbrx.add_bos() && dbrx.encode(" ThisIsCamel", Special::Plain).len() > 1);
}
