//! Llama 1-3, SmolLM2, Mistral and the many others that took their form.

use super::{Keys, usual};
use crate::Result;
use crate::backend::DecoderSpec;
use crate::backend::spec::RopePairs;
use crate::formats::Checkpoint;

pub fn describe(keys: &Keys, checkpoint: &Checkpoint) -> Result<DecoderSpec> {
    usual(keys, checkpoint, RopePairs::Neighbours)
}
