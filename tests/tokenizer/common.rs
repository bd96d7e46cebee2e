//! What the tests share: the vocabularies at hand.

use kinglet::formats::{Checkpoint, Metadata};
use kinglet::source::FileSource;
use kinglet::text::Tokenizer;
use std::path::PathBuf;

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
    let source = FileSource::open(data(path)?).unwrap();
    Some(pollster::block_on(Checkpoint::open(&mut [source])).unwrap().metadata)
}

pub fn from_gguf(path: &str) -> Option<Tokenizer> {
    Some(Tokenizer::from_gguf(&mut metadata(path)?).unwrap())
}

pub fn from_json(name: &str) -> Option<Tokenizer> {
    let json = std::fs::read(data(&format!("tokenizers/{name}/tokenizer.json"))?).unwrap();
    Some(Tokenizer::from_tokenizer_json(&json).unwrap())
}
