//! What the kernels hand to each other.

use super::device::Gpu;
use super::kv_cache::head_room;
use super::plan::MAX_SPLITS;
use super::prefill::batch_room;
use super::weights::BLOCK;
use crate::Result;
use crate::backend::DecoderSpec;
use crate::backend::spec::LayerKind;

/// Scratch; rows are padded to whole blocks, and the padding stays zero.
pub struct Buffers {
    /// See `shared/state.wgsl`.
    pub state: wgpu::Buffer,
    /// Of the batch.
    pub tokens: wgpu::Buffer,
    pub residual: wgpu::Buffer,
    pub post_norm: Option<PostNorm>,
    pub qkv: wgpu::Buffer,
    pub partials: wgpu::Buffer,
    pub gated: wgpu::Buffer,
    /// Tokens that a batch may have.
    pub room: usize,
    /// Of a batch: what its attention found, and the inputs of the next product (`panel.wgsl`).
    pub attended: wgpu::Buffer,
    pub panel: wgpu::Buffer,
    pub panel_scales: wgpu::Buffer,
    pub logits: wgpu::Buffer,
    /// `[position][ROPE_DIM / 2]` of (cos, sin), as many positions as the cache has room for.
    pub global_turns: wgpu::Buffer,
    pub local_turns: Option<wgpu::Buffer>,
}

/// Where products are normed before they are added to the stream.
pub struct PostNorm {
    /// The last product of a step.
    pub added: wgpu::Buffer,
    /// The residual stream between the halves of a layer of one token; `residual` is it between layers.
    pub stream: wgpu::Buffer,
}

impl Buffers {
    pub fn new(gpu: &Gpu, spec: &DecoderSpec) -> Result<Buffers> {
        let padded = |width: usize| width.next_multiple_of(BLOCK);
        let room = |label: &str, floats: usize| gpu.buffer(label, 4 * floats as u64);
        let batch = batch_room(gpu.capabilities.binding_limit, spec);
        let queries = padded(spec.heads * spec.head_dim);
        let widest = padded(spec.hidden).max(queries).max(padded(spec.ffn));
        Ok(Buffers {
            // The sampler writes it, all others take it as a uniform: a kernel has eight storage buffers at most.
            state: gpu.buffer_for("state", 16, wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::UNIFORM)?,
            tokens: room("tokens", batch)?,
            residual: room("residual", batch * padded(spec.hidden))?,
            post_norm: if spec.post_norms {
                let added = room("added", batch * padded(spec.hidden))?;
                Some(PostNorm { added, stream: room("stream", padded(spec.hidden))? })
            } else {
                None
            },
            qkv: room("qkv", batch * padded((spec.heads + 2 * spec.kv_heads) * spec.head_dim))?,
            partials: room("partials", MAX_SPLITS * spec.heads * (head_room(spec) + 2))?,
            gated: room("gated", batch * padded(spec.ffn))?,
            room: batch,
            attended: room("attended", batch * queries)?,
            // Normed floats, or bytes of any input.
            panel: room("panel", batch * padded(spec.hidden).max(widest / 4))?,
            panel_scales: room("panel scales", batch * 2 * widest / BLOCK)?,
            logits: room("logits", spec.vocab)?,
            global_turns: room("turns", 0)?,
            local_turns: None,
        })
    }

    pub fn write_state(&self, gpu: &Gpu, position: usize, tokens: usize, last_row: usize) {
        let state = [position, tokens, last_row, 0];
        let bytes: Vec<u8> = state.iter().flat_map(|&n| (n as u32).to_le_bytes()).collect();
        gpu.write(&self.state, 0, &bytes);
    }

    pub fn turns(&self, spec: &DecoderSpec, layer: usize) -> &wgpu::Buffer {
        let local = spec.layer_kinds[layer] == LayerKind::Local;
        self.local_turns.as_ref().filter(|_| local).unwrap_or(&self.global_turns)
    }

    pub fn bytes(&self) -> u64 {
        let all = [&self.residual, &self.qkv, &self.partials, &self.gated, &self.logits, &self.global_turns];
        let all = all.into_iter().chain([&self.attended, &self.panel, &self.panel_scales]);
        let all = all.chain(self.post_norm.iter().flat_map(|post| [&post.added, &post.stream]));
        all.chain(&self.local_turns).map(wgpu::Buffer::size).sum()
    }
}
