//! The batch plan: every dispatch of a prompt's batch, made once. Only the grids follow the number of tokens.

use super::buffers::Buffers;
use super::group::{BLOCK, Group, Segment, bake_segment, padded};
use super::lora::Step;
use super::pipelines::Dispatch;
use super::plan::Planner;
use super::tune::{Arithmetic, Tile, choose_tile};
use super::wgsl::Permutation;
use crate::Result;
use crate::backend::DecoderSpec;
use crate::backend::spec::Activation;

/// Enough tokens for weights to be read and unpacked rarely, and for the small matrices to fill a large GPU.
pub const MAX_BATCH: usize = 512;

/// Threads of kernels that go over one token, or one of its heads.
const WORKGROUP: usize = 64;
/// Positions whose logits are made and read back at a time.
const SLICE: usize = 64;

/// A dispatch whose grid follows the batch.
pub struct Batched {
    dispatch: Dispatch,
    /// Tokens that one workgroup serves.
    tokens: usize,
}

impl Batched {
    pub fn of(&self, tokens: usize) -> Dispatch {
        let mut dispatch = self.dispatch.clone();
        dispatch.grid[1] = tokens.div_ceil(self.tokens) as u32;
        dispatch
    }
}

/// One entry for each step of the trait.
pub struct LayerBatch {
    pub qkv: Vec<Batched>,
    pub attention: Vec<Batched>,
    pub attention_out: Vec<Batched>,
    pub gate_up: Vec<Batched>,
    pub down: Vec<Batched>,
}

/// The logits of many positions, [`AllRows::slice`] at a time.
pub struct AllRows {
    pub logits: wgpu::Buffer,
    pub slice: usize,
    pub dispatches: Vec<Batched>,
}

/// What becomes of a product.
#[derive(Clone, Copy)]
enum Outcome<'a> {
    Stored,
    /// Added to what is there.
    Added,
    /// Gate and up meet in the activation, with what adapters add to them.
    Gated(Option<&'a wgpu::Buffer>),
}

/// Where a product's inputs come from.
enum Inputs<'a> {
    /// The residual stream, normed by the weights at this quad of a buffer.
    Normed(&'a wgpu::Buffer, usize),
    Plain(&'a wgpu::Buffer),
}

/// Tokens that there is room for in every buffer.
pub fn batch_room(binding_limit: u64, spec: &DecoderSpec) -> usize {
    let qkv = (spec.heads + 2 * spec.kv_heads) * spec.head_dim;
    let widest = padded(spec.hidden.max(spec.ffn).max(qkv));
    let fits = usize::try_from(binding_limit / (4 * widest) as u64).unwrap_or(usize::MAX);
    MAX_BATCH.min(spec.context_length).min(fits).max(1)
}

impl Planner<'_> {
    pub fn batch(&mut self) -> Vec<LayerBatch> {
        (0..self.spec.layers).map(|layer| self.layer_batch(layer)).collect()
    }

    fn layer_batch(&mut self, layer: usize) -> LayerBatch {
        let (buffers, weights) = (self.buffers, self.weights);
        let (groups, offsets) = (&weights.layers[layer], weights.vector_offsets);
        let Buffers { residual, attended, gated, qkv, .. } = buffers;

        let inputs = Inputs::Normed(&groups.vectors, offsets.attention_norm);
        let mut of_qkv = self.multiply(&groups.qkv, &inputs, qkv, self.qkv_stride(), Outcome::Stored);
        of_qkv.extend(self.adapted_batch(layer, Step::Qkv));
        of_qkv.push(self.rope_kv(layer));
        let attention = vec![self.attention_batch(layer)];
        let hidden = padded(self.spec.hidden);
        let (sum, outcome) = match &buffers.post_norm {
            Some(post) => (&post.added, Outcome::Stored),
            None => (residual, Outcome::Added),
        };
        let mut attention_out = self.multiply(&groups.attention_out, &Inputs::Plain(attended), sum, hidden, outcome);
        attention_out.extend(self.adapted_batch(layer, Step::AttentionOut));
        attention_out.extend(self.post_norm(residual, (&groups.vectors, offsets.post_attention_norm)));
        let inputs = Inputs::Normed(&groups.vectors, offsets.ffn_norm);
        let mut gate_up = self.adapted_batch(layer, Step::GateUp);
        let meeting = Outcome::Gated(self.adapters.deltas(layer));
        gate_up.extend(self.multiply(&groups.gate_up, &inputs, gated, padded(self.spec.ffn), meeting));
        let mut down = self.multiply(&groups.down, &Inputs::Plain(gated), sum, hidden, outcome);
        down.extend(self.adapted_batch(layer, Step::Down));
        down.extend(self.post_norm(residual, weights.after_ffn(layer)));
        LayerBatch { qkv: of_qkv, attention, attention_out, gate_up, down }
    }

    fn adapted_batch(&mut self, layer: usize, step: Step) -> Vec<Batched> {
        self.adapted(layer, step, true).into_iter().map(|dispatch| Batched { dispatch, tokens: 1 }).collect()
    }

    /// Norms the last product by the weights at this quad of a buffer, and adds it to `stream`.
    pub fn post_norm(&mut self, stream: &wgpu::Buffer, norm: (&wgpu::Buffer, usize)) -> Option<Batched> {
        let added = &self.buffers.post_norm.as_ref()?.added;
        let (vectors, at) = norm;
        let permutation = self
            .base("post_norm")
            .number("BLOCKS", self.spec.hidden.div_ceil(BLOCK))
            .number("COLS", self.spec.hidden)
            .number("NORM", at)
            .number("WG", WORKGROUP);
        let dispatch = self.pipelines.get(self.gpu, permutation).bind(self.gpu, &[stream, vectors, added], [1, 1, 1]);
        Some(Batched { dispatch, tokens: 1 })
    }

    /// The bind groups that hold the cache, made anew when it grows.
    pub fn rebind_batch(&mut self, layer: usize, batch: &mut LayerBatch) {
        *batch.qkv.last_mut().expect("rope_kv is the last") = self.rope_kv(layer);
        batch.attention = vec![self.attention_batch(layer)];
    }

    /// Prepares inputs and multiplies every matrix of a group by them; `stride` elements are a row of `outputs`.
    fn multiply(
        &mut self,
        group: &Group,
        inputs: &Inputs,
        outputs: &wgpu::Buffer,
        stride: usize,
        outcome: Outcome,
    ) -> Vec<Batched> {
        let mut all: Vec<Batched> = self.panel(group, inputs, false).into_iter().collect();
        let variant = self.base("matmul").number("STRIDE", stride);
        all.extend(self.matmuls(group, inputs, outputs, &variant, outcome));
        all
    }

    /// `None`: the product takes its inputs as they are.
    fn panel(&mut self, group: &Group, inputs: &Inputs, head: bool) -> Option<Batched> {
        // The same for all matrices of a group.
        let dot = self.tile(group, &group.segments[0]).arithmetic == Arithmetic::Dot;
        let buffers = self.buffers;
        let mut bound = vec![&buffers.state];
        let mut permutation = self
            .base("panel")
            .number("BLOCKS", group.blocks)
            .number("COLS", group.cols)
            .number("WG", WORKGROUP)
            .flag_if(dot, "DOT")
            .flag_if(head, "HEAD");
        match *inputs {
            Inputs::Normed(vectors, at) => {
                permutation = permutation.flag("NORMED").number("NORM", at);
                bound.extend([&buffers.residual, vectors, &buffers.panel]);
            }
            Inputs::Plain(_) if !dot => return None,
            Inputs::Plain(buffer) => bound.extend([buffer, &buffers.panel]),
        }
        if dot {
            bound.push(&buffers.panel_scales);
        }
        let dispatch = self.pipelines.get(self.gpu, permutation).bind(self.gpu, &bound, [1, 1, 1]);
        Some(Batched { dispatch, tokens: 1 })
    }

    fn tile(&self, group: &Group, segment: &Segment) -> Tile {
        choose_tile(&self.gpu.capabilities, self.gpu.options.arithmetic.as_deref(), group, segment)
    }

    /// `variant`: the permutation but for the matrix.
    fn matmuls(
        &mut self,
        group: &Group,
        inputs: &Inputs,
        outputs: &wgpu::Buffer,
        variant: &Permutation,
        outcome: Outcome,
    ) -> Vec<Batched> {
        let (gpu, buffers) = (self.gpu, self.buffers);
        let mut all = Vec::new();
        for (i, segment) in group.segments.iter().enumerate() {
            let tile = self.tile(group, segment);
            let mut permutation = bake_segment(variant.clone(), segment, "q").number("BLOCKS", group.blocks);
            let (mut first, mut deltas) = (group.part_first + segment.first, None);
            match outcome {
                Outcome::Stored => {}
                Outcome::Added => permutation = permutation.flag("ADDED"),
                Outcome::Gated(of_adapters) => {
                    first = 0;
                    // Rows of the two alternate in one matrix; of two types, the gate's product waits for the other.
                    let flag = if group.segments.len() == 1 { "GATED" } else { "GATING" };
                    if i + 1 == group.segments.len() {
                        deltas = of_adapters;
                        permutation = permutation
                            .flag(flag)
                            .flag_if(self.spec.activation == Activation::Gelu, "GELU")
                            .flag_if(deltas.is_some(), "LORA");
                    }
                }
            }
            permutation = permutation.number("OUT_FIRST", first);
            let mut bound = vec![&buffers.state, &group.buffer, &group.buffer];
            match *inputs {
                Inputs::Plain(buffer) if tile.arithmetic != Arithmetic::Dot => bound.push(buffer),
                _ => bound.push(&buffers.panel),
            }
            if tile.arithmetic == Arithmetic::Dot {
                bound.push(&buffers.panel_scales);
            }
            bound.push(outputs);
            bound.extend(deltas);
            let grid = [segment.rows.div_ceil(Tile::ROWS) as u32, 1, 1];
            let dispatch = self.pipelines.get(gpu, tile.bake(permutation)).bind(gpu, &bound, grid);
            all.push(Batched { dispatch, tokens: tile.tokens });
        }
        all
    }

    pub fn qkv_stride(&self) -> usize {
        padded((self.spec.heads + 2 * self.spec.kv_heads) * self.spec.head_dim)
    }

    fn rope_kv(&mut self, layer: usize) -> Batched {
        let (gpu, buffers, spec) = (self.gpu, self.buffers, self.spec);
        let heads = spec.heads + 2 * spec.kv_heads;
        let permutation = self
            .rope(self.base("rope_kv"), layer)
            .number("WG", WORKGROUP)
            .number("STRIDE", self.qkv_stride())
            .number("QKV_BIAS", self.weights.vector_offsets.qkv_bias)
            .flag_if(spec.qkv_bias, "BIAS");
        let (keys, values) = (&self.cache.keys[layer], &self.cache.values[layer]);
        let vectors = &self.weights.layers[layer].vectors;
        let bound = [&buffers.state, &buffers.qkv, vectors, buffers.turns(spec, layer), keys, values];
        let dispatch = self.pipelines.get(gpu, permutation).bind(gpu, &bound, [heads as u32, 1, 1]);
        Batched { dispatch, tokens: 1 }
    }

    fn attention_batch(&mut self, layer: usize) -> Batched {
        let (gpu, buffers, spec) = (self.gpu, self.buffers, self.spec);
        let room = super::kv_cache::head_room(spec);
        // Queries as floats take 8 KiB of workgroup memory, and a thread has sixteen elements of their outputs.
        let queries = (2048 / room / 4 * 4).clamp(4, 32);
        let permutation = self
            .rope(self.base("attention_batch"), layer)
            .number("QUERIES", queries)
            .number("WG", queries * room / 16)
            .number("QKV_STRIDE", self.qkv_stride())
            .number("STRIDE", padded(spec.heads * spec.head_dim));
        let (keys, values) = (&self.cache.keys[layer], &self.cache.values[layer]);
        let bound = [&buffers.state, &buffers.qkv, keys, values, &buffers.attended];
        let dispatch = self.pipelines.get(gpu, permutation).bind(gpu, &bound, [spec.heads as u32, 1, 1]);
        Batched { dispatch, tokens: queries }
    }

    /// The head for every position of a batch, from `state.last_row` on. Made when it is first asked for.
    pub fn all_rows(&mut self) -> Result<AllRows> {
        let (gpu, vocab) = (self.gpu, self.spec.vocab);
        let fits = gpu.capabilities.binding_limit / (4 * vocab) as u64;
        let slice = SLICE.min(fits as usize).max(1);
        let logits = gpu.buffer("all logits", 4 * (slice * vocab) as u64)?;
        let inputs = Inputs::Normed(&self.weights.output_norm, 0);
        let groups = self.weights.head_groups();
        let variant = self.base("matmul").flag("HEAD").number("SLICE", slice).number("STRIDE", vocab);
        let mut dispatches: Vec<Batched> = self.panel(&groups[0], &inputs, true).into_iter().collect();
        for part in groups {
            dispatches.extend(self.matmuls(part, &inputs, &logits, &variant, Outcome::Stored));
        }
        Ok(AllRows { logits, slice, dispatches })
    }
}
