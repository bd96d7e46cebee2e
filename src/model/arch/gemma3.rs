//! Gemma 3, text only: five local layers to a global one, QK norms, four norms a layer, GeGLU.
//!
//! Files hold the norms' weights with the one already added, which Gemma adds to them.

use super::{Keys, unsupported, usual};
use crate::Result;
use crate::backend::DecoderSpec;
use crate::backend::spec::{Activation, LayerKind, Rope, RopePairs, RopeScaling};
use crate::formats::Checkpoint;

/// Every sixth layer is global, unless the file says otherwise.
const PERIOD: usize = 6;

/// Base of the local layers, which most files do not state.
const LOCAL_BASE: f32 = 10_000.0;

pub fn describe(keys: &Keys, checkpoint: &Checkpoint) -> Result<DecoderSpec> {
    let usual = usual(keys, checkpoint, RopePairs::Halves)?;
    if keys.f32("final_logit_softcapping")?.is_some_and(|cap| cap > 0.0) {
        return Err(unsupported(format!("{} with softcapped logits", keys.architecture)));
    }
    let (hidden, heads) = (usual.hidden as f32, usual.heads as f32);
    let rope = Rope { base: keys.f32("rope.freq_base")?.unwrap_or(1e6), ..usual.rope };
    let local_base = keys.f32("rope.freq_base_swa")?.unwrap_or(LOCAL_BASE);
    // Models without local layers (Rnj-1) state no window.
    let sliding_window = keys.usize("attention.sliding_window")?.filter(|&window| window > 0);
    let period = keys.usize("attention.sliding_window_pattern")?.filter(|&period| period > 0).unwrap_or(PERIOD);
    let global = |layer: usize| sliding_window.is_none() || (layer + 1).is_multiple_of(period);
    let kind = |layer| if global(layer) { LayerKind::Global } else { LayerKind::Local };
    Ok(DecoderSpec {
        local_rope: Some(Rope { base: local_base, scaling: RopeScaling::None, ..rope.clone() }),
        rope,
        sliding_window,
        layer_kinds: (0..usual.layer_kinds.len()).map(kind).collect(),
        activation: Activation::Gelu,
        embedding_scale: hidden.sqrt(),
        // The 27B alone scales by hidden / heads; the file does not say so.
        attention_scale: if usual.layers == 62 { (hidden / heads).sqrt().recip() } else { usual.attention_scale },
        qk_norm: true,
        post_norms: true,
        ..usual
    })
}
