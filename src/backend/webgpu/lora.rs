//! Adapters on the GPU. Two more dispatches a step and adapter make A x (`lora_down`) and add B times it (`lora_up`) to what
//! the product wrote; only gate and up, which meet in an activation, are told beforehand. Without active adapters a plan is
//! what it was.

use std::collections::HashMap;

use super::device::Gpu;
use super::group::{Group, padded};
use super::pipelines::Dispatch;
use super::plan::Planner;
use crate::backend::lora::{Active, LowRank};
use crate::backend::{DecoderSpec, LayerSlot};
use crate::num::half::f32_to_f16;
use crate::{Error, Result};

/// Ranks are padded to whole quads of B's words.
const RANKS: usize = 8;
/// Rows of A that a workgroup makes.
const DOWN_ROWS: usize = 4;
const WORKGROUP: usize = 64;

/// The steps that multiply, whose matrices share their inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    Qkv,
    AttentionOut,
    GateUp,
    Down,
}

impl Step {
    fn of(slot: LayerSlot) -> Step {
        match slot {
            LayerSlot::Query | LayerSlot::Key | LayerSlot::Value => Step::Qkv,
            LayerSlot::Gate | LayerSlot::Up => Step::GateUp,
            LayerSlot::Down => Step::Down,
            _ => Step::AttentionOut,
        }
    }

    /// Its matrices, and their rows.
    fn slots(self, spec: &DecoderSpec) -> Vec<(LayerSlot, usize)> {
        use LayerSlot::*;
        let (queries, keys) = (spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim);
        match self {
            Step::Qkv => vec![(Query, queries), (Key, keys), (Value, keys)],
            Step::AttentionOut => vec![(AttentionOutput, spec.hidden)],
            Step::GateUp => vec![(Gate, spec.ffn), (Up, spec.ffn)],
            Step::Down => vec![(Down, spec.hidden)],
        }
    }
}

/// What an adapter has for the matrices of one step, one below the other; zeros for those that it leaves alone.
struct Factors {
    /// Of each matrix, padded.
    rank: usize,
    /// Halves, `[slot][rank]` rows of whole blocks.
    a: wgpu::Buffer,
    /// Halves, `[rows of all matrices][rank]`, the scale of the file in them.
    b: wgpu::Buffer,
}

struct Adapter {
    factors: HashMap<(usize, Step), Factors>,
    /// How much of it a request wants.
    scale: wgpu::Buffer,
}

/// What the two dispatches and gate_up hand to each other.
struct Scratch {
    /// `[token][slot][rank]`
    low: wgpu::Buffer,
    /// `[token][ffn]` of halves (gate, up).
    deltas: wgpu::Buffer,
}

#[derive(Default)]
pub struct Adapters {
    loaded: HashMap<u32, Adapter>,
    active: Vec<u32>,
    scratch: Option<Scratch>,
}

impl Adapters {
    pub fn load(&mut self, gpu: &Gpu, spec: &DecoderSpec, id: u32, pairs: &[LowRank]) -> Result<()> {
        let mut steps: HashMap<(usize, Step), Vec<&LowRank>> = HashMap::new();
        for pair in pairs {
            steps.entry((pair.layer, Step::of(pair.slot))).or_default().push(pair);
        }
        let factors = steps
            .into_iter()
            .map(|((layer, step), pairs)| Ok(((layer, step), Factors::new(gpu, &step.slots(spec), &pairs)?)))
            .collect::<Result<_>>()?;
        let scale = gpu.buffer_for("adapter scale", 16, wgpu::BufferUsages::UNIFORM)?;
        self.loaded.insert(id, Adapter { factors, scale });
        gpu.check()
    }

    pub fn unload(&mut self, id: u32) {
        self.loaded.remove(&id);
    }

    /// Whether the plans have to be made anew. `tokens`: of the largest batch.
    pub fn activate(&mut self, gpu: &Gpu, spec: &DecoderSpec, tokens: usize, active: &[Active]) -> Result<bool> {
        let mut widest = 0;
        for (id, scale) in active {
            let adapter = self.loaded.get(id).ok_or_else(|| Error::Adapter(format!("{id} is not loaded")))?;
            let bytes: Vec<u8> = [*scale, 0.0, 0.0, 0.0].iter().flat_map(|x| x.to_le_bytes()).collect();
            gpu.write(&adapter.scale, 0, &bytes);
            let rows = adapter.factors.iter().map(|((_, step), factors)| step.slots(spec).len() * factors.rank);
            widest = rows.fold(widest, usize::max);
        }
        let ids: Vec<u32> = active.iter().map(|active| active.0).collect();
        if ids == self.active {
            return Ok(false);
        }
        self.scratch = if ids.is_empty() {
            None
        } else {
            let low = gpu.buffer("adapters' inner products", 4 * (tokens * widest) as u64)?;
            Some(Scratch { low, deltas: gpu.buffer("adapters' gate and up", 4 * (tokens * padded(spec.ffn)) as u64)? })
        };
        self.active = ids;
        Ok(true)
    }

    pub fn bytes(&self) -> u64 {
        let all = self.loaded.values().flat_map(|adapter| adapter.factors.values());
        all.map(|factors| factors.a.size() + factors.b.size()).sum()
    }

    pub fn scratch_bytes(&self) -> u64 {
        self.scratch.as_ref().map_or(0, |scratch| scratch.low.size() + scratch.deltas.size())
    }

    fn at(&self, layer: usize, step: Step) -> impl Iterator<Item = (&Factors, &wgpu::Buffer)> {
        let active = self.active.iter().map(|id| &self.loaded[id]);
        active.filter_map(move |adapter| Some((adapter.factors.get(&(layer, step))?, &adapter.scale)))
    }

    /// What `gate_up` of a layer has to add, if anything.
    pub fn deltas(&self, layer: usize) -> Option<&wgpu::Buffer> {
        self.at(layer, Step::GateUp).next().and(self.scratch.as_ref()).map(|scratch| &scratch.deltas)
    }
}

impl Factors {
    fn new(gpu: &Gpu, slots: &[(LayerSlot, usize)], pairs: &[&LowRank]) -> Result<Factors> {
        let rank = pairs.iter().map(|pair| pair.a.rows).max().unwrap_or(0).next_multiple_of(RANKS);
        let width = padded(pairs[0].a.cols);
        let rows: usize = slots.iter().map(|(_, rows)| rows).sum();
        let (mut a, mut b) = (vec![0; 2 * slots.len() * rank * width], vec![0; 2 * rows * rank]);
        let mut first = 0;
        for (i, &(slot, rows)) in slots.iter().enumerate() {
            if let Some(pair) = pairs.iter().find(|pair| pair.slot == slot) {
                place(&pair.a.values(), pair.a.cols, 1.0, &mut a[2 * i * rank * width..], width);
                place(&pair.b.values(), pair.b.cols, pair.scale, &mut b[2 * first * rank..], rank);
            }
            first += rows;
        }
        let upload = |label, bytes: &[u8]| {
            let buffer = gpu.buffer(label, bytes.len() as u64)?;
            gpu.write(&buffer, 0, bytes);
            Ok::<_, Error>(buffer)
        };
        Ok(Factors { rank, a: upload("adapter A", &a)?, b: upload("adapter B", &b)? })
    }
}

/// Rows of `cols` values as halves, into rows of `stride`.
fn place(values: &[f32], cols: usize, scale: f32, out: &mut [u8], stride: usize) {
    for (row, out) in values.chunks_exact(cols).zip(out.chunks_mut(2 * stride)) {
        for (x, out) in row.iter().zip(out.chunks_exact_mut(2)) {
            out.copy_from_slice(&f32_to_f16(scale * x).to_le_bytes());
        }
    }
}

impl Planner<'_> {
    /// What the active adapters add to a step, of one token or of a batch: behind the product, but before `gate_up`.
    pub fn adapted(&mut self, layer: usize, step: Step, batch: bool) -> Vec<Dispatch> {
        let adapters = self.adapters;
        let Some(Scratch { low, deltas }) = &adapters.scratch else { return Vec::new() };
        let mut all = Vec::new();
        for (i, (factors, scale)) in adapters.at(layer, step).enumerate() {
            all.push(self.lora_down(layer, step, batch, factors, scale, low));
            all.push(self.lora_up(step, factors, i > 0, low, deltas));
        }
        all
    }

    fn lora_down(
        &mut self,
        layer: usize,
        step: Step,
        batch: bool,
        factors: &Factors,
        scale: &wgpu::Buffer,
        low: &wgpu::Buffer,
    ) -> Dispatch {
        let (gpu, buffers, weights) = (self.gpu, self.buffers, self.weights);
        let (groups, offsets) = (&weights.layers[layer], weights.vector_offsets);
        // A batch settles what is pending itself (`post_norm`).
        let post_norm = buffers.post_norm.as_ref().filter(|_| !batch);
        let normed = |norm, added| Some((norm, added));
        let (group, input, norms): (&Group, &wgpu::Buffer, _) = match step {
            Step::Qkv => (&groups.qkv, &buffers.residual, normed(offsets.attention_norm, offsets.post_ffn_norm)),
            Step::GateUp => {
                let stream = post_norm.map_or(&buffers.residual, |post| &post.stream);
                (&groups.gate_up, stream, normed(offsets.ffn_norm, offsets.post_attention_norm))
            }
            Step::AttentionOut if batch => (&groups.attention_out, &buffers.attended, None),
            Step::AttentionOut => (&groups.attention_out, &buffers.partials, None),
            Step::Down => (&groups.down, &buffers.gated, None),
        };
        let slots = step.slots(self.spec).len();
        let mut permutation = self
            .base("lora_down")
            .number("BLOCKS", group.blocks)
            .number("COLS", group.cols)
            .number("SLOTS", slots)
            .number("RANK", factors.rank)
            .number("WG", WORKGROUP)
            .flag_if(step == Step::AttentionOut && !batch, "MERGED");
        let mut bound = vec![&buffers.state, &factors.a, scale, input];
        if let Some((norm, added)) = norms {
            permutation = permutation.number("NORM", norm).number("ADDED_NORM", added).flag("NORMED");
            permutation = permutation.flag_if(post_norm.is_some(), "POST_NORM");
            bound.push(&groups.vectors);
        }
        bound.push(low);
        bound.extend(post_norm.filter(|_| norms.is_some()).map(|post| &post.added));
        let grid = [(slots * factors.rank / DOWN_ROWS) as u32, 1, 1];
        self.pipelines.get(gpu, permutation).bind(gpu, &bound, grid)
    }

    /// `again`: another adapter has written its deltas.
    fn lora_up(
        &mut self,
        step: Step,
        factors: &Factors,
        again: bool,
        low: &wgpu::Buffer,
        deltas: &wgpu::Buffer,
    ) -> Dispatch {
        let (gpu, buffers, spec) = (self.gpu, self.buffers, self.spec);
        let slots = step.slots(spec);
        let rows: usize = slots.iter().map(|(_, rows)| rows).sum();
        let sum = buffers.post_norm.as_ref().map_or(&buffers.residual, |post| &post.added);
        let (output, rows, stride) = match step {
            Step::Qkv => (&buffers.qkv, rows, self.qkv_stride()),
            Step::GateUp => (deltas, spec.ffn, padded(spec.ffn)),
            Step::AttentionOut | Step::Down => (sum, rows, padded(spec.hidden)),
        };
        let permutation = self
            .base("lora_up")
            .number("RANK", factors.rank)
            .number("SLOTS", slots.len())
            .number("ROWS", rows)
            .number("STRIDE", stride)
            // Where the second and the third matrix begin.
            .number("SECOND", slots[0].1)
            .number("THIRD", slots.iter().take(2).map(|(_, rows)| rows).sum())
            .number("WG", WORKGROUP)
            .flag_if(step == Step::GateUp, "PAIRED")
            .flag_if(step == Step::GateUp && again, "ADDED");
        let grid = [rows.div_ceil(WORKGROUP) as u32, 1, 1];
        self.pipelines.get(gpu, permutation).bind(gpu, &[&factors.b, low, output], grid)
    }
}
