//! How much memory a model will need, known from its header: a refusal before the download is kinder than a crash after it.

use super::arch::Blueprint;
use crate::backend::{DecoderSpec, Memory};
use crate::formats::Checkpoint;
use crate::{Error, Result};

/// Bytes of one element of the KV cache: float32 on the CPU.
const KV_ELEMENT_BYTES: u64 = 4;

/// A wasm32 instance addresses 4 GiB; the rest of the engine and the allocator's gaps need some of it.
const WASM_LIMIT: u64 = 7 << 29;

/// What memory holds by default: known in wasm32 only.
pub fn default_limit() -> Option<u64> {
    cfg!(target_arch = "wasm32").then_some(WASM_LIMIT)
}

/// Weights as in the file, the KV cache for all of `context_length`, activations of a batch of `max_batch` tokens.
pub fn estimate(blueprint: &Blueprint, checkpoint: &Checkpoint, context_length: usize, max_batch: usize) -> Memory {
    let spec = &blueprint.spec;
    let weights =
        blueprint.tensors.iter().filter_map(|plan| checkpoint.tensor(&plan.name)).map(|tensor| tensor.bytes).sum();
    let activations = 4 * spec.hidden + 3 * spec.ffn + (2 * spec.heads + 2 * spec.kv_heads) * spec.head_dim;
    Memory {
        weights,
        kv_cache: kv_bytes_per_position(spec) * context_length as u64,
        scratch: 4 * (activations as u64 * max_batch as u64 + spec.vocab as u64),
    }
}

/// Keys and values of all layers.
pub fn kv_bytes_per_position(spec: &DecoderSpec) -> u64 {
    2 * KV_ELEMENT_BYTES * (spec.layers as u64) * (spec.kv_heads as u64) * (spec.head_dim as u64)
}

/// Errors: [`Error::OutOfMemory`], saying which of context and model to make smaller.
pub fn check(spec: &DecoderSpec, needed: Memory, context_length: usize, limit: u64) -> Result<()> {
    let fixed = needed.weights.saturating_add(needed.scratch);
    let need_bytes = fixed.saturating_add(needed.kv_cache);
    if need_bytes <= limit {
        return Ok(());
    }
    let fitting = limit.saturating_sub(fixed) / kv_bytes_per_position(spec).max(1);
    let advice = if fitting >= 256 {
        format!("load it with a contextLength of at most {fitting}")
    } else {
        "choose a smaller model or a smaller quantization of it (Q4_0 or Q4_K_M)".into()
    };
    let what = format!("the model with a context of {context_length} tokens");
    Err(Error::OutOfMemory { what, need_bytes, available_bytes: limit, advice })
}
