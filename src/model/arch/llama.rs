//! Llama 1-3, SmolLM2 and the many others that took their form.

use super::{Keys, unsupported};
use crate::backend::DecoderSpec;
use crate::backend::spec::{Activation, LayerKind, Rope, RopePairs, RopeScaling};
use crate::formats::Checkpoint;
use crate::{Error, Result};

pub fn describe(keys: &Keys, checkpoint: &Checkpoint) -> Result<DecoderSpec> {
    if let experts @ 1.. = keys.usize("expert_count")?.unwrap_or(0) {
        return Err(unsupported(format!("{} with {experts} experts", keys.architecture)));
    }
    let layers = keys.required_usize("block_count")?;
    let hidden = keys.required_usize("embedding_length")?;
    let heads = keys.required_usize("attention.head_count")?;
    let context_length = keys.required_usize("context_length")?;
    let head_dim = keys.usize("attention.key_length")?.unwrap_or(hidden / heads.max(1));
    if let Some(value_length) = keys.usize("attention.value_length")?
        && value_length != head_dim
    {
        return Err(keys.error("attention.value_length", format!("is {value_length}, while keys have {head_dim}")));
    }
    let vocab = match checkpoint.tensor("token_embd.weight").map(|tensor| tensor.shape.as_slice()) {
        Some(&[rows, _]) => rows,
        _ => {
            let architecture = keys.architecture.into();
            return Err(Error::MissingTensor { name: "token_embd.weight".into(), architecture });
        }
    };
    Ok(DecoderSpec {
        architecture: keys.architecture.into(),
        layers,
        hidden,
        ffn: keys.required_usize("feed_forward_length")?,
        heads,
        kv_heads: keys.usize("attention.head_count_kv")?.unwrap_or(heads),
        head_dim,
        vocab,
        context_length,
        norm_eps: keys.required("attention.layer_norm_rms_epsilon", keys.f32("attention.layer_norm_rms_epsilon")?)?,
        rope: Rope {
            base: keys.f32("rope.freq_base")?.unwrap_or(10_000.0),
            dim: keys.usize("rope.dimension_count")?.unwrap_or(head_dim),
            pairs: RopePairs::Neighbours,
            scaling: rope_scaling(keys, checkpoint, context_length)?,
        },
        local_rope: None,
        sliding_window: None,
        // `check` bounds the number of layers before anything of that length is used.
        layer_kinds: vec![LayerKind::Global; layers.min(checkpoint.tensors.len())],
        activation: Activation::Silu,
        embedding_scale: 1.0,
        attention_scale: 1.0 / (head_dim as f32).sqrt(),
        tied_head: checkpoint.tensor("output.weight").is_none(),
        qkv_bias: checkpoint.tensor("blk.0.attn_q.bias").is_some(),
        qk_norm: false,
        post_norms: false,
    })
}

/// Llama 3.1 and later carry their frequency divisors as a tensor; older long-context files divide the positions.
fn rope_scaling(keys: &Keys, checkpoint: &Checkpoint, context_length: usize) -> Result<RopeScaling> {
    if checkpoint.tensor("rope_freqs.weight").is_some() {
        let original_context = keys.usize("rope.scaling.original_context_length")?.unwrap_or(context_length);
        return Ok(RopeScaling::Factors { original_context, attention_factor: 1.0 });
    }
    let factor = keys.f32("rope.scaling.factor")?.or(keys.f32("rope.scale_linear")?).unwrap_or(1.0);
    match keys.string("rope.scaling.type")? {
        None | Some("linear") if factor.is_finite() && factor > 0.0 => {
            Ok(if factor == 1.0 { RopeScaling::None } else { RopeScaling::Linear(factor) })
        }
        Some("none") => Ok(RopeScaling::None),
        None | Some("linear") => Err(keys.error("rope.scaling.factor", format!("is {factor}"))),
        Some(kind) => Err(unsupported(format!("{} with {kind} RoPE scaling", keys.architecture))),
    }
}
