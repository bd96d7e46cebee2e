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

/// xorshift64*: the same texts on every run.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n as u64) as usize
    }

    pub fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    /// A text of up to 40 pieces that tokenizers have trouble with, around `names`.
    pub fn text(&mut self, names: &[&str]) -> String {
        const WORDS: [&str; 48] = [
            "the",
            "Hello",
            "HELLO",
            "iPhone",
            "ThisIsCamel",
            "don't",
            "DON'T",
            "I'll",
            "we'Ve",
            "it'\u{17f}",
            "'s",
            "''re",
            "naïve",
            "Straße",
            "e\u{301}",
            "\u{301}",
            "a\u{308}\u{323}",
            "\u{1100}\u{1161}\u{11a8}",
            "한국어",
            "日本語",
            "ひらがな",
            "Привет",
            "ПРИВЕТ",
            "שָׁלוֹם",
            "مرحبا",
            "हिन्दी",
            "ไทย",
            "ǅ",
            "ʰ",
            "ª",
            "ﬁ",
            "Å",
            "\u{958}",
            "\u{2f800}",
            "𝒳",
            "😀",
            "👨\u{200d}👩\u{200d}👧",
            "🇩🇪",
            "½",
            "Ⅷ",
            "٣٤٥",
            "²",
            "12345",
            "007",
            "3.14",
            "_x_",
            "▁",
            "<0x41>",
        ];
        const BLANKS: [&str; 14] = [
            " ", " ", " ", "  ", "   ", "\n", "\r\n", "\n\n", "\t", " \n ", "\u{a0}", "\u{3000}", "\u{85}", "\u{2028}",
        ];
        const SIGNS: [&str; 20] = [
            ".", "!!!", "...", "-", "/", "//", "#", "$", "+=", "<|", "|>", "<", ">", "(", "\"", "'", "`", "\u{0}",
            "\u{7f}", "\u{feff}",
        ];
        let mut text = String::new();
        for _ in 0..self.below(40) {
            match self.below(16) {
                0..=5 => text.push_str(self.pick(&WORDS)),
                6..=9 => text.push_str(self.pick(&BLANKS)),
                10 | 11 => text.push_str(self.pick(&SIGNS)),
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
