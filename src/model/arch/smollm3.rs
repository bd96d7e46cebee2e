//! SmolLM3: Llama, but for every fourth layer, which does not turn.

use super::{Keys, usual};
use crate::Result;
use crate::backend::DecoderSpec;
use crate::backend::spec::{LayerKind, RopePairs};
use crate::formats::Checkpoint;

const PERIOD: usize = 4;

pub fn describe(keys: &Keys, checkpoint: &Checkpoint) -> Result<DecoderSpec> {
    let mut spec = usual(keys, checkpoint, RopePairs::Neighbours)?;
    spec.layer_kinds.iter_mut().skip(PERIOD - 1).step_by(PERIOD).for_each(|kind| *kind = LayerKind::NoRope);
    Ok(spec)
}
