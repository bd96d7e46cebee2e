//! Streamed ids to text: emits only whole UTF-8 characters, keeps the rest for later.

use super::Tokenizer;

#[derive(Clone, Debug, Default)]
pub struct Detokenizer {}

impl Detokenizer {
    /// `at_start`: the first token begins the text (SentencePiece drops its leading space).
    pub fn new(_at_start: bool) -> Self {
        todo!()
    }

    /// Appends to `out` what `id` completes. Special tokens give nothing.
    pub fn push(&mut self, _tokenizer: &Tokenizer, _id: u32, _out: &mut String) {
        todo!()
    }

    /// What is left, invalid bytes replaced.
    pub fn finish(&mut self, _out: &mut String) {
        todo!()
    }
}
