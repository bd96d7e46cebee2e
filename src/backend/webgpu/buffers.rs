//! What the kernels hand to each other.

use super::device::{Gpu, buffer_bytes};
use super::group::{BLOCK, padded};
use super::kv_cache::head_room;
use super::plan::MAX_SPLITS;
use super::prefill::batch_room;
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

/// Floats of each, for a batch of `room` tokens.
struct Sizes {
    room: usize,
    residual: usize,
    /// Both only where products are normed before they are added.
    added: usize,
    stream: usize,
    qkv: usize,
    partials: usize,
    gated: usize,
    attended: usize,
    panel: usize,
    panel_scales: usize,
    logits: usize,
}

impl Sizes {
    fn new(spec: &DecoderSpec, binding_limit: u64) -> Sizes {
        let room = batch_room(binding_limit, spec);
        let queries = padded(spec.heads * spec.head_dim);
        let widest = padded(spec.hidden).max(queries).max(padded(spec.ffn));
        Sizes {
            room,
            residual: room * padded(spec.hidden),
            added: if spec.post_norms { room * padded(spec.hidden) } else { 0 },
            stream: if spec.post_norms { padded(spec.hidden) } else { 0 },
            qkv: room * padded((spec.heads + 2 * spec.kv_heads) * spec.head_dim),
            partials: MAX_SPLITS * spec.heads * (head_room(spec) + 2),
            gated: room * padded(spec.ffn),
            attended: room * queries,
            // Normed floats, or bytes of any input.
            panel: room * padded(spec.hidden).max(widest / 4),
            panel_scales: room * 2 * widest / BLOCK,
            logits: spec.vocab,
        }
    }
}

impl Buffers {
    pub fn new(gpu: &Gpu, spec: &DecoderSpec) -> Result<Buffers> {
        let room = |label: &str, floats: usize| gpu.buffer(label, 4 * floats as u64);
        let sizes = Sizes::new(spec, gpu.capabilities.binding_limit);
        Ok(Buffers {
            // The sampler writes it, all others take it as a uniform: a kernel has eight storage buffers at most.
            state: gpu.buffer_for("state", 16, wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::UNIFORM)?,
            tokens: room("tokens", sizes.room)?,
            residual: room("residual", sizes.residual)?,
            post_norm: if spec.post_norms {
                let added = room("added", sizes.added)?;
                Some(PostNorm { added, stream: room("stream", sizes.stream)? })
            } else {
                None
            },
            qkv: room("qkv", sizes.qkv)?,
            partials: room("partials", sizes.partials)?,
            gated: room("gated", sizes.gated)?,
            room: sizes.room,
            attended: room("attended", sizes.attended)?,
            panel: room("panel", sizes.panel)?,
            panel_scales: room("panel scales", sizes.panel_scales)?,
            logits: room("logits", sizes.logits)?,
            global_turns: room("turns", 0)?,
            local_turns: None,
        })
    }

    /// What [`Buffers::bytes`] will be once the cache has room for the whole context.
    pub fn bytes_of(spec: &DecoderSpec, binding_limit: u64) -> u64 {
        let Sizes { room: _, residual, added, stream, qkv, partials, gated, attended, panel, panel_scales, logits } =
            Sizes::new(spec, binding_limit);
        let ropes = [Some(&spec.rope), spec.local_rope.as_ref()].into_iter().flatten();
        let turns = ropes.map(|rope| spec.context_length as u64 * rope.dim as u64);
        let floats = [residual, added, stream, qkv, partials, gated, attended, panel, panel_scales, logits];
        let floats = floats.into_iter().map(|floats| floats as u64).chain(turns);
        floats.filter(|&floats| floats > 0).map(|floats| buffer_bytes(4 * floats)).sum()
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
