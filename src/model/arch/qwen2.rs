//! Qwen2, Qwen2.5 and Qwen2.5-Coder: biases on Q, K and V.

use super::{Keys, usual};
use crate::Result;
use crate::backend::DecoderSpec;
use crate::backend::spec::RopePairs;
use crate::formats::Checkpoint;

pub fn describe(keys: &Keys, checkpoint: &Checkpoint) -> Result<DecoderSpec> {
    Ok(DecoderSpec { qkv_bias: true, ..usual(keys, checkpoint, RopePairs::Halves)? })
}
