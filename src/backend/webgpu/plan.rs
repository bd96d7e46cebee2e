//! The recorded plan: every dispatch of one token, made once and replayed. Only the attention's grid follows the position.

use super::buffers::Buffers;
use super::device::Gpu;
use super::group::Group;
use super::kv_cache::{KvCache, head_room};
use super::lora::{Adapters, Step};
use super::pipelines::{Dispatch, Pipelines};
use super::tune::{Shape, choose};
use super::weights::GpuWeights;
use super::wgsl::Permutation;
use crate::backend::DecoderSpec;
use crate::backend::spec::{Activation, LayerKind, RopePairs};
use crate::{Error, Result};

/// The most parts that attention over a context is split into, and the positions that a part has at least.
pub const MAX_SPLITS: usize = 16;
pub const SPLIT: usize = 128;

/// Threads of a token's attention, and how many of them share the softmax of four queries.
const ATTENTION_WORKGROUP: usize = 256;
const ATTENTION_LANES: usize = 32;

const ALIASES: [&str; 3] = ["q", "k", "v"];

/// Lists of one, but for what adapters add.
pub struct LayerPlan {
    pub qkv: Vec<Dispatch>,
    pub attention: Dispatch,
    pub attention_out: Vec<Dispatch>,
    pub gate_up: Vec<Dispatch>,
    pub down: Vec<Dispatch>,
}

impl LayerPlan {
    /// All in order, with the grid of each, for a token at `position`.
    pub fn at(&self, position: usize) -> impl Iterator<Item = (&Dispatch, [u32; 3])> {
        fn planned(dispatch: &Dispatch) -> (&Dispatch, [u32; 3]) {
            (dispatch, dispatch.grid)
        }
        let [heads, _, _] = self.attention.grid;
        let attention = (&self.attention, [heads, split_count(position + 1) as u32, 1]);
        let rest = [&self.attention_out, &self.gate_up, &self.down].into_iter().flatten();
        self.qkv.iter().map(planned).chain([attention]).chain(rest.map(planned))
    }
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
    pub adapters: &'a Adapters,
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

    /// The variant of a product: what was measured, or else what is likely.
    pub fn shape(&self, product: Product) -> Shape {
        let (gpu, capabilities) = (self.gpu, &self.gpu.capabilities);
        let (group, least) = (product.group(self.weights), product.least_rows(self.weights));
        let measured = gpu.tuning.get(capabilities, product.kernel(), group, least);
        measured.unwrap_or_else(|| choose(capabilities, gpu.options.arithmetic.as_deref(), group, least))
    }

    /// A matrix times the one token's vector.
    pub fn product(&mut self, product: Product, shape: Shape) -> Dispatch {
        let (gpu, buffers, weights, spec) = (self.gpu, self.buffers, self.weights, self.spec);
        let offsets = weights.vector_offsets;
        let group = product.group(weights);
        let mut permutation = shape.bake(group.bake(self.base(product.kernel()), &ALIASES));
        let mut workgroups = 0;
        for (segment, alias) in group.segments.iter().zip(ALIASES) {
            let of_segment = segment.rows.div_ceil(shape.rows_per_workgroup());
            permutation = permutation.number(format!("{alias}_GROUPS"), of_segment);
            // Gate and up of two types are multiplied by the same threads.
            workgroups = if matches!(product, Product::GateUp(_)) { of_segment } else { workgroups + of_segment };
        }
        let permutation = permutation
            .flag_if(group.segments.len() > 1, "SEGMENT2")
            .flag_if(group.segments.len() > 2, "SEGMENT3")
            .flag_if(spec.post_norms, "POST_NORM");
        let (residual, post_norm) = (&buffers.residual, buffers.post_norm.as_ref());
        let added = post_norm.map_or(residual, |post| &post.added);
        // Between the halves of a layer the stream is elsewhere, so that no kernel reads what it writes.
        let stream = post_norm.map_or(residual, |post| &post.stream);
        // `kept`: where the stream goes with what was pending.
        let (permutation, input, output, kept): (_, &[&wgpu::Buffer], _, _) = match product {
            Product::Qkv(layer) => {
                let permutation = permutation
                    .number("NORM", offsets.attention_norm)
                    .number("QKV_BIAS", offsets.qkv_bias)
                    .number("ADDED_NORM", offsets.post_ffn_norm)
                    .flag_if(spec.qkv_bias, "BIAS");
                (permutation, &[residual, &weights.layers[layer].vectors], &buffers.qkv, Some(stream))
            }
            Product::AttentionOut(_) => (permutation.flag("MERGED"), &[&buffers.partials], added, None),
            Product::GateUp(layer) => {
                let gelu = spec.activation == Activation::Gelu;
                let permutation = permutation
                    .number("NORM", offsets.ffn_norm)
                    .number("ADDED_NORM", offsets.post_attention_norm)
                    .flag_if(gelu, "GELU");
                (permutation, &[stream, &weights.layers[layer].vectors], &buffers.gated, Some(residual))
            }
            Product::Down(_) => (permutation, &[&buffers.gated], added, None),
            Product::Head(_) => {
                let permutation = permutation
                    .number("NORM", 0)
                    .number("ADDED_NORM", weights.after_ffn(spec.layers - 1).1)
                    .number("PART_FIRST", group.part_first);
                (permutation, &[residual, &weights.output_norm], &buffers.logits, None)
            }
        };
        let mut bound = vec![&buffers.state, &group.buffer, &group.buffer];
        bound.extend_from_slice(input);
        bound.push(output);
        // Kernels that read the stream.
        let pending = post_norm.filter(|_| kept.is_some() || matches!(product, Product::Head(_)));
        let kept = kept.filter(|_| pending.is_some());
        bound.extend(pending.map(|post| &post.added).into_iter().chain(kept));
        let mut permutation = permutation.flag_if(kept.is_some(), "KEEPS");
        if let Product::GateUp(layer) = product
            && let Some(deltas) = self.adapters.deltas(layer)
        {
            permutation = permutation.flag("LORA");
            bound.push(deltas);
        }
        self.pipelines.get(gpu, permutation).bind(gpu, &bound, [workgroups as u32, 1, 1])
    }

    fn chosen(&mut self, product: Product) -> Dispatch {
        let shape = self.shape(product);
        self.product(product, shape)
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
                    .float("EMBEDDING_SCALE", self.spec.embedding_scale)
                    .flag_if(self.spec.post_norms, "POST_NORM");
                let mut bound = vec![&buffers.state, &part.buffer, &part.buffer, &buffers.tokens, &buffers.residual];
                bound.extend(buffers.post_norm.as_ref().map(|post| &post.added));
                self.pipelines.get(gpu, permutation).bind(gpu, &bound, [part.blocks.div_ceil(64) as u32, 1, 1])
            })
            .collect()
    }

    fn layer(&mut self, layer: usize) -> LayerPlan {
        let mut step = |product, step| {
            let mut dispatches = self.adapted(layer, step, false);
            // Behind the product; but gate_up is told beforehand.
            let at = if step == Step::GateUp { dispatches.len() } else { 0 };
            dispatches.insert(at, self.chosen(product));
            dispatches
        };
        LayerPlan {
            qkv: step(Product::Qkv(layer), Step::Qkv),
            attention_out: step(Product::AttentionOut(layer), Step::AttentionOut),
            gate_up: step(Product::GateUp(layer), Step::GateUp),
            down: step(Product::Down(layer), Step::Down),
            attention: self.attention(layer),
        }
    }

    /// Of its own, because it is made anew when the cache grows.
    pub fn attention(&mut self, layer: usize) -> Dispatch {
        let (gpu, buffers, spec) = (self.gpu, self.buffers, self.spec);
        let tile = attention_tile(spec).expect("`supported` asked");
        let permutation = self.rope(self.base("attention"), layer);
        let permutation =
            permutation.number("WG", ATTENTION_WORKGROUP).number("LANES", ATTENTION_LANES).number("TILE_KEYS", tile);
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
            .flag_if(spec.kv_int8, "KV_INT8")
    }

    fn head(&mut self) -> Vec<Dispatch> {
        (0..self.weights.head_groups().len()).map(|part| self.chosen(Product::Head(part))).collect()
    }
}

/// The matrix-vector products of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    Qkv(usize),
    AttentionOut(usize),
    GateUp(usize),
    Down(usize),
    /// A part of it.
    Head(usize),
}

impl Product {
    pub fn kernel(self) -> &'static str {
        match self {
            Product::Qkv(_) => "qkv",
            Product::AttentionOut(_) => "attention_out",
            Product::GateUp(_) => "gate_up",
            Product::Down(_) => "down",
            Product::Head(_) => "head",
        }
    }

    pub fn group(self, weights: &GpuWeights) -> &Group {
        match self {
            Product::Qkv(layer) => &weights.layers[layer].qkv,
            Product::AttentionOut(layer) => &weights.layers[layer].attention_out,
            Product::GateUp(layer) => &weights.layers[layer].gate_up,
            Product::Down(layer) => &weights.layers[layer].down,
            Product::Head(part) => &weights.head_groups()[part],
        }
    }

    /// Rows that one thread needs together: gate and up, where they alternate.
    pub fn least_rows(self, weights: &GpuWeights) -> usize {
        if matches!(self, Product::GateUp(_)) && self.group(weights).segments.len() == 1 { 2 } else { 1 }
    }
}

/// Errors: [`Error::UnsupportedOnGpu`]: what no kernel does yet.
pub fn supported(spec: &DecoderSpec) -> Result<()> {
    let group = spec.heads / spec.kv_heads;
    let refuse = |why: String| Err(Error::UnsupportedOnGpu(why));
    if !spec.head_dim.is_multiple_of(4) {
        return refuse(format!("heads of {} elements", spec.head_dim));
    }
    if attention_tile(spec).is_none() {
        return refuse(format!("{group} query heads of {} elements to one key", spec.head_dim));
    }
    Ok(())
}

/// Positions that a token's attention has in hand: as many as there is room for in WebGPU's 16 KiB of workgroup memory
/// (`shaders/attention.wgsl`). None: each thread would have to sum up more than two elements of a value for four queries, or
/// there is no room at all.
fn attention_tile(spec: &DecoderSpec) -> Option<usize> {
    let (group, room) = (spec.heads / spec.kv_heads, head_room(spec));
    let fours = group.div_ceil(4);
    if fours * (room / 2).max(ATTENTION_LANES) > ATTENTION_WORKGROUP {
        return None;
    }
    let heads = (4 * fours + 2) * room / 4;
    let bytes = |tile| 16 * (heads + fours * (tile + 1) + ATTENTION_WORKGROUP) + 4 * (group + 1).next_multiple_of(4);
    [128, 64, 32].into_iter().find(|&tile| bytes(tile) <= 16 << 10)
}
