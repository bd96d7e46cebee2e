//! What the tests share: the vocabularies at hand.

use kinglet::formats::{Checkpoint, Metadata, StringArray, Value as Entry};
use kinglet::source::FileSource;
use kinglet::text::Tokenizer;
use std::path::PathBuf;
use std::sync::LazyLock;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data");

/// A file of the shared data; `None`, loudly, in a clone that has none.
pub fn data(path: &str) -> Option<PathBuf> {
    let path = PathBuf::from(DATA).join(path);
    if !path.exists() {
        assert!(std::env::var_os("CI").is_none(), "{} is missing", path.display());
        eprintln!("SKIPPED: {} is missing", path.display());
        return None;
    }
    Some(path)
}

pub fn metadata(path: &str) -> Option<Metadata> {
    Some(open(data(path)?))
}

fn open(path: PathBuf) -> Metadata {
    let source = FileSource::open(path).unwrap();
    pollster::block_on(Checkpoint::open(&mut [source])).unwrap().metadata
}

pub fn from_gguf(path: &str) -> Option<Tokenizer> {
    Some(Tokenizer::from_gguf(&mut metadata(path)?).unwrap())
}

/// Of the vocabularies that `fixtures/make_vocabularies.py` trained.
pub fn trained(file: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/fixtures/vocab", file].iter().collect()
}

pub fn gemma_metadata() -> Metadata {
    open(trained("gemma.gguf"))
}

pub fn gemma() -> Tokenizer {
    Tokenizer::from_gguf(&mut gemma_metadata()).unwrap()
}

/// A `tokenizer.json` of byte-level BPE as llama.cpp's converter writes it into a GGUF file, with `pre` and up to
/// `rows` tokens, the last of which are padding.
pub fn as_gguf(json: &[u8], pre: &str, rows: usize) -> Vec<(String, Entry)> {
    let file: serde_json::Value = serde_json::from_slice(json).unwrap();
    let mut tokens: Vec<(String, i64)> = (0..rows).map(|id| (format!("[PAD{id}]"), 5)).collect();
    let id = |v: &serde_json::Value| v.as_u64().unwrap() as usize;
    for (token, at) in file["model"]["vocab"].as_object().unwrap() {
        tokens[id(at)] = (token.clone(), 1);
    }
    for token in file["added_tokens"].as_array().unwrap() {
        let text = token["content"].as_str().unwrap();
        let looks_special = text.starts_with("<|") && text.ends_with("|>");
        tokens[id(&token["id"])] = (text.to_string(), if token["special"] == true || looks_special { 3 } else { 4 });
    }
    let mut merges = StringArray::default();
    for merge in file["model"]["merges"].as_array().unwrap() {
        match merge.as_array() {
            Some(pair) => {
                merges.push(pair.iter().map(|s| s.as_str().unwrap()).collect::<Vec<_>>().join(" ").as_bytes())
            }
            None => merges.push(merge.as_str().unwrap().as_bytes()),
        }
    }
    let mut strings = StringArray::default();
    tokens.iter().for_each(|(token, _)| strings.push(token.as_bytes()));
    let entries = [
        ("model", Entry::String("gpt2".into())),
        ("pre", Entry::String(pre.into())),
        ("tokens", Entry::Strings(strings)),
        ("token_type", Entry::Ints(tokens.iter().map(|&(_, kind)| kind).collect())),
        ("merges", Entry::Strings(merges)),
    ];
    entries.into_iter().map(|(key, value)| (format!("tokenizer.ggml.{key}"), value)).collect()
}

pub fn from_json(name: &str) -> Option<Tokenizer> {
    let json = std::fs::read(data(&format!("tokenizers/{name}/tokenizer.json"))?).unwrap();
    Some(Tokenizer::from_tokenizer_json(&json).unwrap())
}

/// Hugging Face's own reading of the same file.
pub fn oracle(name: &str) -> Option<tokenizers::Tokenizer> {
    let json = std::fs::read(data(&format!("tokenizers/{name}/tokenizer.json"))?).unwrap();
    let mut file: serde_json::Value = serde_json::from_slice(&json).unwrap();
    // `tokenizers` numbers added tokens anew where the ids have holes; as part of the vocabulary they keep theirs.
    for token in file["added_tokens"].as_array().unwrap().clone() {
        file["model"]["vocab"][token["content"].as_str().unwrap()] = token["id"].clone();
    }
    Some(tokenizers::Tokenizer::from_bytes(serde_json::to_vec(&file).unwrap()).unwrap())
}

/// What texts are made of; `fixtures/make_vocabularies.py` makes the same ones.
#[derive(serde::Deserialize)]
pub struct Pieces {
    words: Vec<String>,
    blanks: Vec<String>,
    signs: Vec<String>,
    /// Names to use with Gemma's vocabulary.
    pub gemma: Vec<String>,
}

pub fn pieces() -> &'static Pieces {
    static PIECES: LazyLock<Pieces> =
        LazyLock::new(|| serde_json::from_str(include_str!("../fixtures/vocab/pieces.json")).unwrap());
    &PIECES
}

/// xorshift64*: the same texts on every run.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n as u64) as usize
    }

    fn pick<'a>(&mut self, of: &'a [impl AsRef<str>]) -> &'a str {
        of[self.below(of.len())].as_ref()
    }

    /// A text of up to 40 pieces that tokenizers have trouble with, around `names`.
    pub fn text(&mut self, names: &[&str]) -> String {
        let Pieces { words, blanks, signs, .. } = pieces();
        let mut text = String::new();
        for _ in 0..self.below(40) {
            match self.below(16) {
                0..=5 => text.push_str(self.pick(words)),
                6..=9 => text.push_str(self.pick(blanks)),
                10 | 11 => text.push_str(self.pick(signs)),
                12 => text.push_str(self.pick(names)),
                13 => {
                    let c = b'A' + self.below(58) as u8;
                    (0..self.below(20)).for_each(|_| text.push(c as char));
                }
                14 => text.extend(char::from_u32(self.below(0x3000) as u32)),
                _ => text.extend(char::from_u32(self.below(0x110000) as u32)),
            }
        }
        text
    }
}
