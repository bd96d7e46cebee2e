//! What tests of chat templates begin with.

use kinglet::formats::{Metadata, StringArray, Value as Entry};
use kinglet::text::{Message, Tokenizer};
use serde_json::{Value, json};

pub fn messages(of: Value) -> Vec<Message> {
    serde_json::from_value(of).unwrap()
}

pub fn user(text: &str) -> Vec<Message> {
    messages(json!([{ "role": "user", "content": text }]))
}

/// A vocabulary of single bytes and the given control tokens; the first two are BOS and EOS.
pub fn small(control: &[&str]) -> Tokenizer {
    let mut tokens = StringArray::default();
    let mut types = Vec::new();
    let printable = |b: u32| matches!(b, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut odd = 0x100..;
    for b in 0..256 {
        let c = if printable(b) { b } else { odd.next().unwrap() };
        tokens.push(char::from_u32(c).unwrap().to_string().as_bytes());
        types.push(1);
    }
    for name in control {
        tokens.push(name.as_bytes());
        types.push(3);
    }
    let entries = vec![
        ("model", Entry::String("gpt2".into())),
        ("pre", Entry::String("smollm".into())),
        ("tokens", Entry::Strings(tokens)),
        ("token_type", Entry::Ints(types)),
        ("merges", Entry::Strings(StringArray::default())),
        ("bos_token_id", Entry::Int(256)),
        ("eos_token_id", Entry::Int(255 + control.len().min(2) as i64)),
    ];
    let entries = entries.into_iter().map(|(k, v)| (format!("tokenizer.ggml.{k}"), v)).collect();
    Tokenizer::from_gguf(&mut Metadata::new(entries)).unwrap()
}
