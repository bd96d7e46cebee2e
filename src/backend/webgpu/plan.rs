//! The recorded plan: every dispatch of one token, made once and replayed. Only the attention's grid follows the position.

use super::Buffers;
use super::device::Gpu;
use super::kv_cache::{KvCache, head_room};
use super::pipelines::{Dispatch, Pipelines};
use super::tune::{Shape, choose};
use super::weights::{GpuWeights, Group};
use super::wgsl::Permutation;
use crate::Result;
use crate::backend::DecoderSpec;
use crate::backend::spec::{Activation, LayerKind, RopePairs};
use crate::formats::Format;

/// The most parts that attention over a context is split into, and the positions that a part has at least.
pub const MAX_SPLITS: usize = 16;
pub const SPLIT: usize = 128;

/// Threads of kernels that multiply no matrix.
const WORKGROUP: usize = 128;

const ALIASES: [&str; 3] = ["q", "k", "v"];

pub struct LayerPlan {
    pub qkv: Dispatch,
    pub attention: Dispatch,
    pub attention_out: Dispatch,
    pub gate_up: Dispatch,
    pub down: Dispatch,
}

/// One token.
pub struct Plan {
    pub embed: Vec<Dispatch>,
    pub layers: Vec<LayerPlan>,
    pub head: Vec<Dispatch>,
}

/// What one needs to make dispatches.
pub struct Planner<'a> {
    pub gpu: &'a Gpu,
    pub pipelines: &'a mut Pipelines,
    pub spec: &'a DecoderSpec,
    pub weights: &'a GpuWeights,
    pub buffers: &'a Buffers,
    pub cache: &'a KvCache,
}

/// Parts of the attention over `positions`; the shaders make the same sum (`shared/state.wgsl`).
pub fn split_count(positions: usize) -> usize {
    positions.div_ceil(SPLIT).min(MAX_SPLITS)
}

impl Planner<'_> {
    pub fn plan(&mut self) -> Result<Plan> {
        let embed = self.embed();
        let layers = (0..self.spec.layers).map(|layer| self.layer(layer)).collect();
        Ok(Plan { embed, layers, head: self.head() })
    }

    /// Numbers that every kernel knows.
    pub fn base(&self, kernel: &'static str) -> Permutation {
        let spec = self.spec;
        Permutation::new(kernel)
            .number("MAX_SPLITS", MAX_SPLITS)
            .number("SPLIT", SPLIT)
            .number("HEADS", spec.heads)
            .number("KV_HEADS", spec.kv_heads)
            .number("GROUP", spec.heads / spec.kv_heads)
            .number("HEAD_DIM", spec.head_dim)
            .number("HEAD_ROOM", head_room(spec))
            .float("NORM_EPS", spec.norm_eps)
    }

    /// The variant for a group of matrices, and the permutation so far.
    fn matvec(&self, kernel: &'static str, group: &Group, least_rows: usize) -> (Shape, Permutation) {
        let formats: Vec<Format> = group.segments.iter().map(|segment| segment.format).collect();
        let arithmetic = self.gpu.options.arithmetic.as_deref();
        let shape = choose(&self.gpu.capabilities, arithmetic, &formats, group.rows(), group.blocks, least_rows);
        (shape, shape.bake(group.bake(self.base(kernel), &ALIASES)))
    }

    fn embed(&mut self) -> Vec<Dispatch> {
        let (gpu, buffers) = (self.gpu, self.buffers);
        let parts = &self.weights.embedding;
        parts
            .iter()
            .map(|part| {
                let permutation = part
                    .bake(self.base("embed"), &ALIASES)
                    .number("WG", 64)
                    .number("PART_FIRST", part.part_first)
                    .float("EMBEDDING_SCALE", self.spec.embedding_scale);
                let bound = [&buffers.state, &part.buffer, &part.buffer, &buffers.tokens, &buffers.residual];
                self.pipelines.get(gpu, permutation).bind(gpu, &bound, [part.blocks.div_ceil(64) as u32, 1, 1])
            })
            .collect()
    }

    fn layer(&mut self, layer: usize) -> LayerPlan {
        let (gpu, buffers, weights) = (self.gpu, self.buffers, self.weights);
        let (groups, offsets) = (&weights.layers[layer], weights.vector_offsets);

        let qkv = &groups.qkv;
        let (shape, mut permutation) = self.matvec("qkv", qkv, 1);
        permutation = permutation
            .number("NORM", offsets.attention_norm)
            .number("QKV_BIAS", offsets.qkv_bias)
            .flag_if(self.spec.qkv_bias, "BIAS")
            .flag_if(qkv.segments.len() > 1, "SEGMENT2")
            .flag_if(qkv.segments.len() > 2, "SEGMENT3");
        let mut workgroups = 0;
        for (segment, alias) in qkv.segments.iter().zip(ALIASES) {
            let of_segment = segment.rows.div_ceil(shape.rows_per_workgroup());
            permutation = permutation.number(format!("{alias}_GROUPS"), of_segment);
            workgroups += of_segment;
        }
        let bound = [&buffers.state, &qkv.buffer, &qkv.buffer, &buffers.residual, &groups.vectors, &buffers.qkv];
        let qkv = self.pipelines.get(gpu, permutation).bind(gpu, &bound, [workgroups as u32, 1, 1]);

        let attention = self.attention(layer);

        let out = &groups.attention_out;
        let (shape, permutation) = self.matvec("attention_out", out, 1);
        let bound = [&buffers.state, &out.buffer, &out.buffer, &buffers.partials, &buffers.residual];
        let attention_out = self.pipelines.get(gpu, permutation).bind(gpu, &bound, grid(out, shape));

        let gate_up = &groups.gate_up;
        let (shape, permutation) = self.matvec("gate_up", gate_up, 2);
        let permutation =
            permutation.number("NORM", offsets.ffn_norm).flag_if(self.spec.activation == Activation::Gelu, "GELU");
        let bound =
            [&buffers.state, &gate_up.buffer, &gate_up.buffer, &buffers.residual, &groups.vectors, &buffers.gated];
        let gate_up = self.pipelines.get(gpu, permutation).bind(gpu, &bound, grid(gate_up, shape));

        let down = &groups.down;
        let (shape, permutation) = self.matvec("down", down, 1);
        let bound = [&buffers.state, &down.buffer, &down.buffer, &buffers.gated, &buffers.residual];
        let down = self.pipelines.get(gpu, permutation).bind(gpu, &bound, grid(down, shape));
        LayerPlan { qkv, attention, attention_out, gate_up, down }
    }

    /// Of its own, because it is made anew when the cache grows.
    pub fn attention(&mut self, layer: usize) -> Dispatch {
        let (gpu, buffers, spec) = (self.gpu, self.buffers, self.spec);
        let permutation = self.rope(self.base("attention"), layer).number("WG", WORKGROUP);
        let kernel = self.pipelines.get(gpu, permutation);
        let (keys, values) = (&self.cache.keys[layer], &self.cache.values[layer]);
        let vectors = &self.weights.layers[layer].vectors;
        let bound =
            [&buffers.state, &buffers.qkv, vectors, buffers.turns(spec, layer), keys, values, &buffers.partials];
        kernel.bind(gpu, &bound, [spec.kv_heads as u32, 1, 1])
    }

    /// What attention kernels know of heads and positions.
    pub fn rope(&self, permutation: Permutation, layer: usize) -> Permutation {
        let spec = self.spec;
        let kind = spec.layer_kinds[layer];
        let local = kind == LayerKind::Local;
        let rope = spec.local_rope.as_ref().filter(|_| local).unwrap_or(&spec.rope);
        let window = spec.sliding_window.filter(|_| local);
        let offsets = self.weights.vector_offsets;
        permutation
            .number("ROPE_DIM", rope.dim)
            .number("QUERY_NORM", offsets.query_norm)
            .number("KEY_NORM", offsets.key_norm)
            .number("WINDOW", window.unwrap_or(0))
            .float("ATTENTION_SCALE", spec.attention_scale)
            .flag_if(window.is_some(), "WINDOW_SIZE")
            .flag_if(kind != LayerKind::NoRope, "ROPE")
            .flag_if(rope.pairs == RopePairs::Halves, "ROPE_HALVES")
            .flag_if(spec.qk_norm, "QK_NORM")
    }

    fn head(&mut self) -> Vec<Dispatch> {
        let (gpu, buffers, weights) = (self.gpu, self.buffers, self.weights);
        weights
            .head_groups()
            .iter()
            .map(|part| {
                let (shape, permutation) = self.matvec("head", part, 1);
                let permutation = permutation.number("NORM", 0).number("PART_FIRST", part.part_first);
                let bound = [
                    &buffers.state,
                    &part.buffer,
                    &part.buffer,
                    &buffers.residual,
                    &weights.output_norm,
                    &buffers.logits,
                ];
                self.pipelines.get(gpu, permutation).bind(gpu, &bound, grid(part, shape))
            })
            .collect()
    }
}

fn grid(group: &Group, shape: Shape) -> [u32; 3] {
    [group.rows().div_ceil(shape.rows_per_workgroup()) as u32, 1, 1]
}
