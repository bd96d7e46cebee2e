//! Text to ids: byte-level BPE and SentencePiece, from GGUF metadata (`vocab.rs`) or a `tokenizer.json`.
//!
//! A text goes through four steps: added tokens are cut out (`added.rs`), what lies between is normalized, split into
//! words (`split.rs`), and each word's symbols are merged (`bpe.rs`).

use super::added::Added;
use super::bpe::{Merger, Merges, NONE};
use super::detokenizer::Detokenizer;
use super::split::Split;
use super::tokens::{Index, Kind, Tokens};
use super::{nfc, tokenizer_json, vocab};
use crate::Result;
use crate::formats::Metadata;
use std::borrow::Cow;

pub struct Tokenizer {
    /// SentencePiece's `▁` is stored as the space it stands for, byte tokens as their byte, byte-level tokens as bytes.
    pub(super) tokens: Tokens,
    /// Tokens that text merges to.
    pub(super) plain: Index,
    pub(super) added: Added,
    pub(super) merges: Merges,
    pub(super) split: Split,
    pub(super) symbols: Symbols,
    pub(super) prefix: Prefix,
    /// `▁` in the text is a space from the beginning on: runs of spaces are added tokens (Gemma).
    pub(super) spaces_first: bool,
    /// Text is brought to Unicode's composed form first.
    pub(super) nfc: bool,
    /// A word that is a token is taken as such, whatever the merges say.
    pub(super) whole_words: bool,
    /// The id of each byte, [`NONE`] where it has no token.
    pub(super) byte_ids: Box<[u32; 256]>,
    pub(super) unknown: Option<u32>,
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) add_bos: bool,
    pub(super) end_ids: Vec<u32>,
    /// Prefix, suffix and middle of [`Tokenizer::fill_in_middle`].
    pub(super) fill: Option<[u32; 3]>,
}

/// What merging starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Symbols {
    /// Byte-level BPE.
    Bytes,
    /// SentencePiece; characters that are no token become their bytes' tokens.
    Chars,
}

/// SentencePiece's space before the first word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prefix {
    Never,
    /// At the start and after every added token.
    Always,
    /// The same, unless a space is there.
    IfMissing,
    /// At the start of the text only, unless a space is there.
    FirstIfMissing,
}

/// How text that looks like a special token is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// `<|im_end|>` in the text is the control token: templates, the command line.
    Parse,
    /// It is plain text: what users write.
    Plain,
}

impl Tokenizer {
    /// Takes the vocabulary's arrays out of `metadata` rather than copying them.
    pub fn from_gguf(metadata: &mut Metadata) -> Result<Tokenizer> {
        vocab::from_gguf(metadata)
    }

    pub fn from_tokenizer_json(json: &[u8]) -> Result<Tokenizer> {
        tokenizer_json::parse(json)
    }

    /// Neither BOS nor EOS is added.
    pub fn encode(&self, text: &str, special: Special) -> Vec<u32> {
        let text = if self.spaces_first { &text.replace('▁', " ") } else { text };
        match special {
            Special::Parse => self.encode_where(text, |_, _| true),
            // User-defined tokens are text that merely is never split; control tokens steer the model.
            Special::Plain => self.encode_where(text, |kind, _| kind == Kind::UserDefined),
        }
    }

    /// As [`Special::Parse`], but no control token spans one of `seams` (ascending byte positions).
    pub(super) fn encode_seamed(&self, text: &str, seams: &[usize]) -> Vec<u32> {
        if self.spaces_first && text.contains('▁') {
            let moved = |&seam: &usize| seam - text[..seam].matches('▁').count() * ('▁'.len_utf8() - 1);
            let seams: Vec<usize> = seams.iter().map(moved).collect();
            return self.encode_seamed(&text.replace('▁', " "), &seams);
        }
        self.encode_where(text, |kind, place| {
            let next = seams.partition_point(|&seam| seam <= place.start);
            kind == Kind::UserDefined || seams.get(next).is_none_or(|&seam| seam >= place.end)
        })
    }

    /// Where a control token's text begins in `text`, or may begin at its end.
    pub(super) fn control_starts(&self, text: &str) -> Vec<usize> {
        self.added.control_starts(&self.tokens, text)
    }

    fn encode_where(&self, text: &str, allowed: impl Fn(Kind, std::ops::Range<usize>) -> bool) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 4);
        let mut merger = Merger::new(&self.tokens, &self.plain, &self.merges);
        let allowed = |id, place| self.tokens.kind(id).is_some_and(|kind| allowed(kind, place));
        let mut from = 0;
        while let Some((id, place)) = self.added.next(&self.tokens, text, from, allowed) {
            self.encode_part(&text[from..place.start], from == 0, &mut merger, &mut ids);
            ids.push(id);
            from = place.end;
        }
        self.encode_part(&text[from..], from == 0, &mut merger, &mut ids);
        ids
    }

    /// A part of the text without added tokens.
    fn encode_part(&self, text: &str, first: bool, merger: &mut Merger, ids: &mut Vec<u32>) {
        if text.is_empty() {
            return;
        }
        let mut text = Cow::Borrowed(text);
        if self.nfc {
            text = nfc::compose(text);
        }
        if self.symbols == Symbols::Chars {
            if text.contains('▁') {
                text = Cow::Owned(text.replace('▁', " "));
            }
            let missing = !text.starts_with(' ');
            let wanted = match self.prefix {
                Prefix::Never => false,
                Prefix::Always => true,
                Prefix::IfMissing => missing,
                Prefix::FirstIfMissing => first && missing,
            };
            if wanted {
                text.to_mut().insert(0, ' ');
            }
        }
        self.split.words(&text, |word| self.encode_word(word, merger, ids));
    }

    fn encode_word(&self, word: &str, merger: &mut Merger, ids: &mut Vec<u32>) {
        if self.whole_words
            && let Some(id) = self.plain.find(&self.tokens, word.as_bytes())
        {
            return ids.push(id);
        }
        match self.symbols {
            Symbols::Bytes => word.bytes().for_each(|b| merger.push(1, self.byte_ids[b as usize])),
            Symbols::Chars => {
                let mut utf8 = [0; 4];
                for c in word.chars() {
                    let bytes = c.encode_utf8(&mut utf8).as_bytes();
                    merger.push(bytes.len(), self.plain.find(&self.tokens, bytes).unwrap_or(NONE));
                }
            }
        }
        let mut was_unknown = false;
        merger.finish(word.as_bytes(), |bytes, id| {
            if id != NONE {
                was_unknown = false;
                return ids.push(id);
            }
            let bytes = bytes.iter().map(|&b| self.byte_ids[b as usize]);
            if bytes.clone().all(|id| id != NONE) {
                was_unknown = false;
                ids.extend(bytes);
            } else if !was_unknown {
                was_unknown = true;
                ids.extend(self.unknown);
            }
        });
    }

    /// All of `ids` at once, invalid UTF-8 replaced. Special tokens are left out unless `special`.
    pub fn decode(&self, ids: &[u32], special: bool) -> String {
        let mut out = String::with_capacity(ids.len() * 5);
        let mut detokenizer = Detokenizer::new(true);
        for &id in ids {
            if special || !self.is_special(id) {
                detokenizer.push_bytes(self, id, &mut out);
            }
        }
        detokenizer.finish(&mut out);
        out
    }

    /// The bytes one id stands for in the middle of a text (special tokens: their name). Empty for an id out of range.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.tokens.get(id)
    }

    /// Control tokens are not shown in answers.
    pub fn is_special(&self, id: u32) -> bool {
        matches!(self.tokens.kind(id), Some(Kind::Control | Kind::Unknown))
    }

    /// The id of a token by its exact text.
    pub fn id(&self, token: &str) -> Option<u32> {
        let find = |index: &Index| index.find(&self.tokens, token.as_bytes());
        find(&self.added.index).or_else(|| find(&self.plain))
    }

    /// Ids are smaller than this; some may have no token.
    pub fn vocab_size(&self) -> usize {
        self.tokens.len()
    }

    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// Whether raw prompts start with BOS: the file's key, else yes for SentencePiece, Llama 3 and Mistral's tekken.
    pub fn add_bos(&self) -> bool {
        self.add_bos && self.bos.is_some()
    }

    /// Every id that ends an answer: eos, eot, and names such as `<|im_end|>`, `<|eot_id|>`, `<|end|>`, `<end_of_turn>`;
    /// those of the next file in a repository too (`<|file_sep|>`).
    pub fn end_ids(&self) -> &[u32] {
        &self.end_ids
    }

    /// SentencePiece writes the first word with a space that is not the text's own.
    pub(super) fn drops_first_space(&self) -> bool {
        self.prefix != Prefix::Never
    }
}
