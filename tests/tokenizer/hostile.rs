//! Vocabularies that do not fit: each has its own error.

use kinglet::formats::{Metadata, StringArray, Value};
use kinglet::text::{Special, Tokenizer};
use kinglet::{Error, ErrorCode};

fn strings(of: &[&str]) -> Value {
    let mut array = StringArray::default();
    of.iter().for_each(|s| array.push(s.as_bytes()));
    Value::Strings(array)
}

fn metadata(entries: &[(&str, Value)]) -> Metadata {
    Metadata::new(entries.iter().map(|(k, v)| (format!("tokenizer.ggml.{k}"), v.clone())).collect())
}

/// A byte-level vocabulary that works, with some entries replaced or, by an empty array of booleans, left out.
fn bpe(changes: &[(&str, Value)]) -> Result<Tokenizer, Error> {
    with(
        &[
            ("model", Value::String("gpt2".into())),
            ("pre", Value::String("gpt-2".into())),
            ("tokens", strings(&["a", "b", "Ġ", "ab", "Ġab", "<|end|>"])),
            ("token_type", Value::Ints(vec![1, 1, 1, 1, 1, 3])),
            ("merges", strings(&["a b", "Ġ ab"])),
            ("eos_token_id", Value::Int(5)),
        ],
        changes,
    )
}

fn spm(changes: &[(&str, Value)]) -> Result<Tokenizer, Error> {
    with(
        &[
            ("model", Value::String("llama".into())),
            ("tokens", strings(&["<unk>", "<s>", "<0x41>", "▁", "a", "▁a"])),
            ("token_type", Value::Ints(vec![2, 3, 6, 1, 1, 1])),
            ("scores", Value::Floats(vec![0.0, 0.0, 0.0, -2.0, -3.0, -1.0])),
            ("unknown_token_id", Value::Int(0)),
        ],
        changes,
    )
}

fn with(entries: &[(&str, Value)], changes: &[(&str, Value)]) -> Result<Tokenizer, Error> {
    let mut all: Vec<_> = entries.iter().filter(|(k, _)| !changes.iter().any(|(c, _)| c == k)).cloned().collect();
    all.extend(changes.iter().filter(|(_, v)| *v != LEFT_OUT).cloned());
    Tokenizer::from_gguf(&mut metadata(&all))
}

const LEFT_OUT: Value = Value::Bools(Vec::new());

#[track_caller]
fn fails(result: Result<Tokenizer, Error>, with: &str) {
    let error = result.err().expect("an error");
    assert!(error.to_string().contains(with), "{error}");
    assert_eq!(error.code(), ErrorCode::BadTokenizer, "{error}");
}

#[test]
fn the_samples_work() {
    let tokenizer = bpe(&[]).unwrap();
    assert_eq!(tokenizer.encode("ab ab<|end|>x", Special::Parse), [3, 4, 5]);
    assert_eq!(tokenizer.end_ids(), [5]);
    let tokenizer = spm(&[]).unwrap();
    assert_eq!(tokenizer.encode("aAé", Special::Parse), [5, 2, 0]);
}

#[test]
fn gguf() {
    let text = |s: &str| Value::String(s.into());
    fails(bpe(&[("model", LEFT_OUT)]), "tokenizer.ggml.model is missing");
    fails(bpe(&[("model", text("t5"))]), "\"t5\" is not supported");
    fails(bpe(&[("pre", text("klingon"))]), "\"klingon\" is not supported");
    fails(bpe(&[("tokens", LEFT_OUT)]), "tokenizer.ggml.tokens is missing");
    fails(bpe(&[("tokens", Value::Ints(vec![1]))]), "not an array of strings");
    fails(bpe(&[("tokens", strings(&[])), ("token_type", LEFT_OUT)]), "is empty");
    fails(bpe(&[("merges", LEFT_OUT)]), "tokenizer.ggml.merges is missing");
    fails(bpe(&[("merges", strings(&["a x"]))]), "is not made of tokens");
    fails(bpe(&[("merges", strings(&["ab"]))]), "is not made of tokens");
    fails(bpe(&[("merges", strings(&["b a"]))]), "is not made of tokens");
    fails(bpe(&[("token_type", Value::Ints(vec![1]))]), "has 1 entries for 6 tokens");
    fails(bpe(&[("token_type", Value::Ints(vec![1, 1, 1, 1, 1, 9]))]), "has the type 9");
    fails(bpe(&[("token_type", text("x"))]), "not an array of integers");
    fails(
        bpe(&[
            ("tokens", strings(&["a", "b", "Ġ", "ab", "Ġab", "b"])),
            ("token_type", LEFT_OUT),
            ("eos_token_id", LEFT_OUT),
        ]),
        "\"b\" is there twice",
    );
    fails(bpe(&[("eos_token_id", Value::Int(6))]), "eos_token_id is 6, but there are 6 tokens");
    fails(spm(&[("scores", LEFT_OUT)]), "tokenizer.ggml.scores is missing");
    fails(spm(&[("scores", Value::Floats(vec![1.0]))]), "has 1 entries for 6 tokens");
    fails(spm(&[("tokens", strings(&["<unk>", "<s>", "oops", "▁", "a", "▁a"]))]), "is a byte token");
    assert_eq!(bpe(&[("model", Value::Int(1))]).err().unwrap().code(), ErrorCode::CorruptFile);
}

#[test]
fn odd_but_usable() {
    // Bytes that are not UTF-8, empty tokens, scores that are no numbers, no token types.
    let mut array = StringArray::default();
    [&b"\xff\xfe"[..], b"", b"a", b"", b"<s>\xff", b"aa"].iter().for_each(|s| array.push(s));
    let tokenizer = spm(&[
        ("tokens", Value::Strings(array)),
        ("token_type", Value::Ints(vec![1, 3, 1, 1, 3, 1])),
        ("scores", Value::Floats(vec![f32::NAN; 6])),
        ("unknown_token_id", Value::Int(u32::MAX as i64)),
    ])
    .unwrap();
    assert_eq!(tokenizer.encode("aaa<s>", Special::Parse), [5, 2]);
    assert_eq!(tokenizer.decode(&[0, 2, 99, u32::MAX], true), "\u{fffd}\u{fffd}a");
    let tokenizer = bpe(&[("token_type", LEFT_OUT)]).unwrap();
    assert!(tokenizer.is_special(5));
}

/// `Plain` cannot be led to a control token by merging: as in a vocabulary that has all the steps to one.
#[test]
fn merges_stop_before_control_tokens() {
    let tokens = strings(&["<unk>", "<s>", "<", "s", ">", "<s"]);
    let types = Value::Ints(vec![2, 3, 1, 1, 1, 1]);
    let tokenizer =
        spm(&[("tokens", tokens), ("token_type", types), ("add_space_prefix", Value::Bool(false))]).unwrap();
    assert_eq!(tokenizer.encode("<s>", Special::Plain), [5, 4]);
    assert_eq!(tokenizer.encode("<s>", Special::Parse), [1]);
    let tokens = strings(&["<", "s", ">", "<s", "<s>", "x"]);
    let merges = strings(&["< s", "<s >"]);
    let types = Value::Ints(vec![1, 1, 1, 1, 3, 1]);
    let tokenizer =
        bpe(&[("tokens", tokens), ("token_type", types), ("merges", merges), ("eos_token_id", Value::Int(4))]).unwrap();
    assert!(!tokenizer.encode("<s>", Special::Plain).contains(&4));
}

#[test]
fn json() {
    use serde_json::json;
    let file = || {
        json!({
            "added_tokens": [{ "id": 3, "content": "<|end|>", "special": true }],
            "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false },
            "model": { "type": "BPE", "vocab": { "a": 0, "b": 1, "ab": 2 }, "merges": ["a b"] },
        })
    };
    let parse = |file: serde_json::Value| Tokenizer::from_tokenizer_json(file.to_string().as_bytes());
    let changed = |path: &str, value| {
        let mut file = file();
        match path.rsplit_once('/') {
            Some((parent, key)) => file.pointer_mut(parent).unwrap()[key] = value,
            None => unreachable!(),
        }
        parse(file)
    };
    assert_eq!(parse(file()).unwrap().encode("aab<|end|>", Special::Parse), [0, 2, 3]);
    assert_eq!(parse(file()).unwrap().end_ids(), [3]);
    fails(Tokenizer::from_tokenizer_json(b"{"), "tokenizer.json: EOF");
    fails(Tokenizer::from_tokenizer_json(b"[]"), "tokenizer.json");
    fails(changed("/model", json!({ "type": "Unigram", "vocab": [["a", 0.0]] })), "\"Unigram\" is not supported");
    fails(changed("/model/vocab", json!({})), "is not made of tokens");
    fails(changed("/model/merges", json!(["a c"])), "is not made of tokens");
    fails(changed("/model/merges", json!(["ab"])), "a merge as");
    fails(changed("/model/merges", json!([["a", "b", "c"]])), "a merge as");
    fails(changed("/model/vocab", json!({ "a": 0, "b": 0, "ab": 2 })), "id 0 is there twice");
    fails(changed("/model/vocab", json!({ "a": 0, "b": 4_000_000_000u32, "ab": 2 })), "far beyond the others");
    fails(changed("/added_tokens", json!([{ "id": 1, "content": "<x>" }])), "id 1 is there twice");
    fails(changed("/normalizer", json!({ "type": "Lowercase" })), "Lowercase");
    fails(changed("/pre_tokenizer", json!({ "type": "Split", "pattern": { "Regex": "[a-z]+" } })), "[a-z]+");
    fails(changed("/pre_tokenizer", json!({ "type": "Whitespace" })), "Whitespace");
    fails(changed("/pre_tokenizer", json!(null)), "pre-tokenizer");
    fails(changed("/model/end_of_word_suffix", json!("</w>")), "</w>");
}

/// Every family's ends, found by name where the header does not say, and where the file has them as text by mistake.
#[test]
fn ends() {
    let names = ["a", "b", "Ġ", "ab", "Ġab", "<|im_end|>", "<|end|>", "<end_of_turn>", "</s>", "<|fim_pad|>", "<EOT>"];
    let ends = |types: &[i64], more: &[(&str, Value)]| {
        let entries = [("tokens", strings(&names)), ("token_type", Value::Ints(types.to_vec()))];
        bpe(&[&entries, more].concat()).unwrap()
    };
    let control = ends(&[1, 1, 1, 1, 1, 3, 3, 3, 3, 3, 3], &[]);
    assert_eq!(control.end_ids(), [5, 6, 7, 8, 9, 10]);
    // User-defined: </s> is HTML then. Normal: only what cannot be prose.
    let user_defined = ends(&[1, 1, 1, 1, 1, 4, 4, 4, 4, 4, 4], &[("eos_token_id", LEFT_OUT)]);
    assert_eq!(user_defined.end_ids(), [5, 6, 7, 9, 10]);
    assert!(user_defined.is_special(7) && !user_defined.is_special(8));
    assert!(!user_defined.encode("<end_of_turn>", Special::Plain).contains(&7));
    let normal = ends(&[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 3], &[("eos_token_id", LEFT_OUT)]);
    assert_eq!(normal.end_ids(), [5, 6, 9, 10]);
    // By the header's ids, whatever the names.
    let keys = [
        ("eos_token_id", 0),
        ("eot_token_id", 1),
        ("eom_token_id", 2),
        ("fim_rep_token_id", 3),
        ("fim_sep_token_id", 4),
    ];
    let ids = keys.map(|(key, id)| (key, Value::Int(id)));
    assert_eq!(ends(&[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1], &ids).end_ids()[..5], [0, 1, 2, 3, 4]);
}

#[test]
fn fill_in_the_middle() {
    let with = |changes: &[(&str, Value)]| {
        let names = strings(&["a", "b", "Ġ", "ab", "Ġab", "<P>", "<S>", "<M>", "<s>"]);
        let types = Value::Ints(vec![1, 1, 1, 1, 1, 3, 3, 3, 3]);
        bpe(&[&[("tokens", names), ("token_type", types)], changes].concat()).unwrap()
    };
    let ids = |keys: [&'static str; 3]| [(keys[0], Value::Int(5)), (keys[1], Value::Int(6)), (keys[2], Value::Int(7))];
    let today = ids(["fim_pre_token_id", "fim_suf_token_id", "fim_mid_token_id"]);
    let before = ids(["prefix_token_id", "suffix_token_id", "middle_token_id"]);
    for keys in [&today, &before] {
        assert_eq!(with(keys).fill_in_middle("ab<M>", " ab").unwrap(), [5, 3, 6, 4, 7]);
    }
    let bos = [&today[..], &[("bos_token_id", Value::Int(8)), ("add_bos_token", Value::Bool(true))]].concat();
    assert_eq!(with(&bos).fill_in_middle("", "b").unwrap(), [8, 5, 6, 1, 7]);
    assert_eq!(with(&today[..2]).fill_in_middle("a", "b"), None);
}
