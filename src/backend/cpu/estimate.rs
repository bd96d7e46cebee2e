//! What a model will take of memory, before any of it is there.

use super::attention::scratch_of;
use super::kv_cache::KvCache;
use super::matrix::Matrix;
use super::panel::Panel;
use super::{Batch, MAX_BATCH};
use crate::backend::{DecoderSpec, LayerSlot, Memory, Slot, TensorShape};

/// What [`crate::backend::Backend::memory`] says of a loaded model once its context was full.
pub fn estimate(spec: &DecoderSpec, tensors: &[TensorShape], threads: usize) -> Memory {
    let mut weights = 0;
    // Of the panel of the down products and of the others'.
    let (mut inputs, mut unpacked) = ([Vec::new(), Vec::new()], [0; 2]);
    for tensor in tensors {
        if !tensor.slot.is_matrix() {
            weights += 4 * tensor.cols as u64;
            continue;
        }
        let (bytes, input, strip) = Matrix::needs(tensor.format, tensor.rows, tensor.cols);
        weights += bytes;
        let panel = usize::from(matches!(tensor.slot, Slot::Layer(_, LayerSlot::Down)));
        // The panel is a batch's, but for the head's, which is the last token's.
        if !matches!(tensor.slot, Slot::TokenEmbedding | Slot::Head) {
            inputs[panel].push((input, tensor.cols));
        }
        unpacked[panel] = unpacked[panel].max(strip);
    }
    let batch = MAX_BATCH.min(spec.context_length);
    let floats = (MAX_BATCH * Batch::widths(spec) + spec.vocab) as u64;
    Memory {
        weights,
        kv_cache: KvCache::bytes_of(spec, spec.context_length),
        scratch: 4 * floats
            + scratch_of(spec, spec.context_length, threads)
            + inputs.iter().map(|inputs| Panel::bytes_of(batch, inputs)).sum::<u64>()
            + (threads * unpacked.iter().sum::<usize>()) as u64,
    }
}
