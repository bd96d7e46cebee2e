//! Qwen3: a norm on each head of Q and K.

use super::{Keys, usual};
use crate::Result;
use crate::backend::DecoderSpec;
use crate::backend::spec::RopePairs;
use crate::formats::Checkpoint;

pub fn describe(keys: &Keys, checkpoint: &Checkpoint) -> Result<DecoderSpec> {
    Ok(DecoderSpec { qk_norm: true, ..usual(keys, checkpoint, RopePairs::Halves)? })
}
