//! A `tokenizer.json` of Hugging Face's `tokenizers` to a [`Tokenizer`].

use super::Tokenizer;
use crate::{Error, Result};

pub(super) fn parse(_json: &[u8]) -> Result<Tokenizer> {
    Err(Error::Tokenizer("tokenizer.json: not yet".into()))
}
