//! Streamed ids to text: emits only whole UTF-8 characters, keeps the rest for later.

use super::Tokenizer;

#[derive(Clone, Debug, Default)]
pub struct Detokenizer {
    /// The beginning of a character, at most three bytes.
    pending: Vec<u8>,
    /// Nothing has been read yet and the text begins here.
    at_start: bool,
}

impl Detokenizer {
    /// `at_start`: the first token begins the text (SentencePiece drops its leading space).
    pub fn new(at_start: bool) -> Self {
        Self { pending: Vec::new(), at_start }
    }

    /// Appends to `out` what `id` completes. Special tokens give nothing.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32, out: &mut String) {
        if !tokenizer.is_special(id) {
            self.push_bytes(tokenizer, id, out);
        }
    }

    /// The same with special tokens shown by their names.
    pub(super) fn push_bytes(&mut self, tokenizer: &Tokenizer, id: u32, out: &mut String) {
        let mut bytes = tokenizer.token_bytes(id);
        if bytes.is_empty() {
            return;
        }
        if std::mem::take(&mut self.at_start) && tokenizer.drops_first_space() {
            bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
        }
        if !self.pending.is_empty() {
            self.pending.extend_from_slice(bytes);
            let joined = std::mem::take(&mut self.pending);
            self.pending = whole_chars(&joined, out).to_vec();
        } else {
            self.pending.extend_from_slice(whole_chars(bytes, out));
        }
    }

    /// What is left, invalid bytes replaced.
    pub fn finish(&mut self, out: &mut String) {
        if !std::mem::take(&mut self.pending).is_empty() {
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

/// Appends the whole characters of `bytes` as `String::from_utf8_lossy` does and returns what may still become one.
fn whole_chars<'a>(bytes: &'a [u8], out: &mut String) -> &'a [u8] {
    let mut chunks = bytes.utf8_chunks().peekable();
    while let Some(chunk) = chunks.next() {
        out.push_str(chunk.valid());
        let invalid = chunk.invalid();
        let unfinished =
            chunks.peek().is_none() && std::str::from_utf8(invalid).is_err_and(|e| e.error_len().is_none());
        if unfinished {
            return invalid;
        }
        if !invalid.is_empty() {
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }
    &[]
}
