//! Phi-3, Phi-3.5, Phi-4 and Phi-4-mini: fused matrices, partial RoPE, longrope, in some a sliding window.

use super::{Keys, usual};
use crate::Result;
use crate::backend::DecoderSpec;
use crate::backend::spec::{LayerKind, RopePairs};
use crate::formats::Checkpoint;

pub fn describe(keys: &Keys, checkpoint: &Checkpoint) -> Result<DecoderSpec> {
    let mut spec = usual(keys, checkpoint, RopePairs::Halves)?;
    // Converters write 0 for none, and Phi-4-mini's is as long as its context and longer.
    spec.sliding_window =
        keys.usize("attention.sliding_window")?.filter(|window| (1..spec.context_length).contains(window));
    if spec.sliding_window.is_some() {
        spec.layer_kinds.fill(LayerKind::Local);
    }
    Ok(spec)
}
