//! Keys and values of every layer, `[position][kv_head]` of rows: halves, or signed bytes and their scale
//! (`shaders/shared/kv_read.wgsl`). Grown by doubling without losing content.

use super::device::Gpu;
use crate::Result;
use crate::backend::DecoderSpec;

/// Positions at the start.
const FIRST_CAPACITY: usize = 256;

pub struct KvCache {
    /// Of each layer.
    pub keys: Vec<wgpu::Buffer>,
    pub values: Vec<wgpu::Buffer>,
    /// Positions that there is room for.
    pub capacity: usize,
    /// Positions in use.
    pub len: usize,
    position_bytes: u64,
}

/// A head's elements in the cache: whole quads, even of bytes.
pub fn head_room(spec: &DecoderSpec) -> usize {
    spec.head_dim.next_multiple_of(16)
}

/// Keys, or values, of one position of a layer.
fn position_bytes(spec: &DecoderSpec) -> u64 {
    let room = head_room(spec);
    // Behind the bytes a quad, whose first word is their scale.
    let row_bytes = if spec.kv_int8 { room + 16 } else { 2 * room };
    (spec.kv_heads * row_bytes) as u64
}

/// Of a cache with room for `positions`.
pub fn bytes_of(spec: &DecoderSpec, positions: usize) -> u64 {
    (2 * spec.layers as u64 * positions as u64).saturating_mul(position_bytes(spec))
}

impl KvCache {
    pub fn new(gpu: &Gpu, spec: &DecoderSpec) -> Result<KvCache> {
        let position_bytes = position_bytes(spec);
        let mut cache = KvCache { keys: Vec::new(), values: Vec::new(), capacity: 0, len: 0, position_bytes };
        cache.resize(gpu, spec, FIRST_CAPACITY.min(spec.context_length))?;
        Ok(cache)
    }

    /// Makes room for `positions`; true where the buffers are new. Errors: [`crate::Error::OutOfMemory`].
    pub fn grow(&mut self, gpu: &Gpu, spec: &DecoderSpec, positions: usize) -> Result<bool> {
        if positions <= self.capacity {
            return Ok(false);
        }
        self.resize(gpu, spec, positions.max(2 * self.capacity).min(spec.context_length.max(positions)))?;
        Ok(true)
    }

    fn resize(&mut self, gpu: &Gpu, spec: &DecoderSpec, capacity: usize) -> Result<()> {
        let used = self.len as u64 * self.position_bytes;
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        let mut copy = |label: &str, old: &[wgpu::Buffer]| {
            (0..spec.layers)
                .map(|layer| {
                    let new = gpu.buffer(label, capacity as u64 * self.position_bytes)?;
                    if let (Some(old), 1..) = (old.get(layer), used) {
                        encoder.copy_buffer_to_buffer(old, 0, &new, 0, used);
                    }
                    Ok(new)
                })
                .collect::<Result<Vec<_>>>()
        };
        let (keys, values) = (copy("keys", &self.keys)?, copy("values", &self.values)?);
        gpu.queue.submit([encoder.finish()]);
        (self.keys, self.values, self.capacity) = (keys, values, capacity);
        Ok(())
    }

    pub fn bytes(&self) -> u64 {
        2 * self.keys.len() as u64 * self.capacity as u64 * self.position_bytes
    }
}
