//! What a model will take of the GPU's memory, before there is a device.

use super::buffers::Buffers;
use super::device::buffer_bytes;
use super::group::Group;
use super::weights::{GpuWeights, output_norm_bytes, vector_offsets};
use super::{kv_cache, sample};
use crate::backend::{DecoderSpec, LayerSlot, Memory, Slot, TensorShape};
use crate::formats::Format;
use crate::{Error, Result};

/// What matters of a device and of what is asked of it.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Bytes of one storage binding.
    pub binding_limit: u64,
}

impl Default for Room {
    /// What WebGPU promises of any adapter.
    fn default() -> Room {
        Room { binding_limit: 128 << 20 }
    }
}

/// What [`crate::backend::Backend::memory`] says of a loaded model once its context was full. (While the cache grows, the
/// old one stands beside the new one.) Errors: [`Error::OutOfMemory`] where a buffer exceeds a binding.
pub fn estimate(spec: &DecoderSpec, tensors: &[TensorShape], room: Room) -> Result<Memory> {
    let mut weights = buffer_bytes(output_norm_bytes(spec));
    weights += (spec.layers * 16 * vector_offsets(spec).quads) as u64;
    let of = |slot: Slot| tensors.iter().filter(move |tensor| tensor.slot == slot);
    for layer in 0..spec.layers {
        use LayerSlot::*;
        for slots in [&[Query, Key, Value][..], &[AttentionOutput], &[Gate, Up], &[Down]] {
            let group: Vec<&TensorShape> = slots.iter().flat_map(|&slot| of(Slot::Layer(layer, slot))).collect();
            let formats: Vec<(Format, usize)> = group.iter().map(|tensor| (tensor.format, tensor.rows)).collect();
            let bytes = Group::bytes_of(&formats, group.first().map_or(0, |tensor| tensor.cols));
            fits(bytes, room, &format!("{slots:?} of layer {layer}"))?;
            weights += bytes;
        }
    }
    for tensor in of(Slot::TokenEmbedding).chain(of(Slot::Head)) {
        let part = Group::part_rows(tensor.format, tensor.cols, room.binding_limit).max(1);
        let parts = (0..tensor.rows).step_by(part).map(|first| part.min(tensor.rows - first));
        weights += parts.map(|rows| Group::bytes_of(&[(tensor.format, rows)], tensor.cols)).sum::<u64>();
    }
    let kv_cache = kv_cache::bytes_of(spec, spec.context_length);
    fits(kv_cache / (2 * spec.layers as u64), room, "the KV cache of a layer")?;
    let scratch = Buffers::bytes_of(spec, room.binding_limit)
        + sample::bytes_of(spec)
        + GpuWeights::staging_of(tensors, room.binding_limit);
    Ok(Memory { weights, kv_cache, scratch })
}

fn fits(bytes: u64, room: Room, what: &str) -> Result<()> {
    if bytes <= room.binding_limit {
        return Ok(());
    }
    Err(Error::OutOfMemory {
        what: format!("on the GPU, {what}"),
        need_bytes: bytes,
        available_bytes: room.binding_limit,
        advice: "use a smaller contextLength, or the CPU".into(),
    })
}
