//! Text to ids: byte-level BPE and SentencePiece, from GGUF metadata (`vocab.rs`) or a `tokenizer.json`.

use crate::Result;
use crate::formats::Metadata;

pub struct Tokenizer {}

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
    pub fn from_gguf(_metadata: &mut Metadata) -> Result<Tokenizer> {
        todo!()
    }

    pub fn from_tokenizer_json(_json: &[u8]) -> Result<Tokenizer> {
        todo!()
    }

    /// Neither BOS nor EOS is added.
    pub fn encode(&self, _text: &str, _special: Special) -> Vec<u32> {
        todo!()
    }

    /// All of `ids` at once, invalid UTF-8 replaced. Special tokens are left out unless `special`.
    pub fn decode(&self, _ids: &[u32], _special: bool) -> String {
        todo!()
    }

    /// The bytes one id stands for in the middle of a text (special tokens: their name).
    pub fn token_bytes(&self, _id: u32) -> &[u8] {
        todo!()
    }

    /// Control tokens are not shown in answers.
    pub fn is_special(&self, _id: u32) -> bool {
        todo!()
    }

    /// The id of a token by its exact text.
    pub fn id(&self, _token: &str) -> Option<u32> {
        todo!()
    }

    pub fn vocab_size(&self) -> usize {
        todo!()
    }

    pub fn bos(&self) -> Option<u32> {
        todo!()
    }

    pub fn eos(&self) -> Option<u32> {
        todo!()
    }

    /// Whether raw prompts start with BOS: the file's key, else yes for SentencePiece.
    pub fn add_bos(&self) -> bool {
        todo!()
    }

    /// Every id that ends an answer: eos, eot, and names such as `<|im_end|>`, `<|eot_id|>`, `<|end|>`, `<end_of_turn>`.
    pub fn end_ids(&self) -> &[u32] {
        todo!()
    }
}
