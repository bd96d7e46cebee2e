//! A model's tensors on the GPU: which buffer each goes to, and the repacking of the raw rows there.

use std::collections::HashMap;
use std::rc::Rc;

use super::device::{Gpu, buffer_bytes};
use super::group::{BLOCK, Group, planes};
use super::pipelines::{Kernel, Pipelines};
use super::wgsl::Permutation;
use crate::backend::{DecoderSpec, LayerSlot, RopeFactors, Slot, TensorShape};
use crate::formats::Format;
use crate::{Error, Result};

/// So much is repacked at a time, unless a single row is larger.
const RAW_BYTES: u64 = 2 << 20;

/// So much is uploaded before the device is waited for: what a browser queues takes memory of its own.
const SETTLE_BYTES: usize = 64 << 20;

pub struct LayerGroups {
    pub qkv: Group,
    pub attention_out: Group,
    pub gate_up: Group,
    pub down: Group,
    pub vectors: wgpu::Buffer,
}

impl LayerGroups {
    pub fn formats(&self) -> Vec<Format> {
        let groups = [&self.qkv, &self.attention_out, &self.gate_up, &self.down];
        groups.into_iter().flat_map(|group| &group.segments).map(|segment| segment.format).collect()
    }
}

/// Offsets within a layer's vectors, in quads.
#[derive(Clone, Copy, Debug, Default)]
pub struct VectorOffsets {
    pub attention_norm: usize,
    pub ffn_norm: usize,
    pub qkv_bias: usize,
    pub query_norm: usize,
    pub key_norm: usize,
    pub post_attention_norm: usize,
    /// Of the layer before: this one's first kernel norms what that one made.
    pub post_ffn_norm: usize,
    pub quads: usize,
}

/// Where the rows of one tensor go.
#[derive(Clone, Copy)]
struct Target {
    place: Place,
    format: Format,
    /// Row 0 of the tensor is this row of the segment, and so far apart are they.
    first_row: usize,
    row_stride: usize,
    segment: usize,
}

#[derive(Clone, Copy)]
enum Place {
    Layer(usize, LayerSlot),
    Embedding,
    Head,
}

pub struct GpuWeights {
    pub layers: Vec<LayerGroups>,
    pub vector_offsets: VectorOffsets,
    /// In row order; one group where the tensor fits into a binding.
    pub embedding: Vec<Group>,
    /// Empty: tied to the embedding.
    pub head: Vec<Group>,
    /// And after it, where there are such, the last layer's norm after its feed-forward.
    pub output_norm: wgpu::Buffer,
    hidden_quads: usize,
    pub rope_factors: HashMap<RopeFactors, Vec<f32>>,
    pub bytes: u64,
    targets: HashMap<Slot, Target>,
    shapes: HashMap<Slot, TensorShape>,
    widths: Widths,
    raw: wgpu::Buffer,
    chunk: wgpu::Buffer,
    unsettled: usize,
}

impl GpuWeights {
    /// Makes room for all tensors. Errors: [`Error::OutOfMemory`], [`Error::MissingTensor`], [`Error::UnsupportedOnGpu`].
    pub fn new(gpu: &Gpu, spec: &DecoderSpec, tensors: &[TensorShape]) -> Result<GpuWeights> {
        let shapes: HashMap<Slot, TensorShape> = tensors.iter().map(|tensor| (tensor.slot, *tensor)).collect();
        let shape = |slot: Slot| {
            shapes.get(&slot).copied().ok_or_else(|| Error::MissingTensor {
                name: format!("{slot:?}"),
                architecture: spec.architecture.clone(),
            })
        };
        let mut targets = HashMap::new();
        let offsets = vector_offsets(spec);
        let mut layers = Vec::with_capacity(spec.layers);
        for layer in 0..spec.layers {
            use LayerSlot::*;
            let mut group = |name: &str, slots: &[LayerSlot]| {
                let tensors: Vec<TensorShape> =
                    slots.iter().map(|&slot| shape(Slot::Layer(layer, slot))).collect::<Result<_>>()?;
                let formats: Vec<(Format, usize)> = tensors.iter().map(|t| (t.format, t.rows)).collect();
                let group = Group::new(gpu, &format!("{name} {layer}"), &formats, tensors[0].cols, 0)?;
                let mut first = 0;
                for (tensor, &slot) in tensors.iter().zip(slots) {
                    let segment = group.segments.iter().rposition(|s| s.first <= first).expect("the first begins at 0");
                    let first_row = first - group.segments[segment].first;
                    let place = Place::Layer(layer, slot);
                    let target = Target { place, format: tensor.format, first_row, row_stride: 1, segment };
                    targets.insert(tensor.slot, target);
                    first += tensor.rows;
                }
                Ok::<_, Error>(group)
            };
            let qkv = group("qkv", &[Query, Key, Value])?;
            let attention_out = group("attention_out", &[AttentionOutput])?;
            let gate_up = group("gate_up", &[Gate, Up])?;
            let down = group("down", &[Down])?;
            if gate_up.segments.len() == 1 {
                for (slot, first_row) in [(Gate, 0), (Up, 1)] {
                    let target = targets.get_mut(&Slot::Layer(layer, slot)).expect("inserted above");
                    (target.first_row, target.row_stride) = (first_row, 2);
                }
            }
            let vectors = gpu.buffer(&format!("vectors {layer}"), 16 * offsets.quads as u64)?;
            layers.push(LayerGroups { qkv, attention_out, gate_up, down, vectors });
        }

        let mut whole = |slot: Slot, place, label: &str| {
            let tensor = shape(slot)?;
            targets.insert(slot, Target { place, format: tensor.format, first_row: 0, row_stride: 1, segment: 0 });
            let part_rows = Group::part_rows(tensor.format, tensor.cols, gpu.capabilities.binding_limit);
            if part_rows == 0 {
                return Err(Error::UnsupportedOnGpu(format!("16 rows of {label} exceed a binding")));
            }
            (0..tensor.rows)
                .step_by(part_rows)
                .map(|first| {
                    let rows = part_rows.min(tensor.rows - first);
                    Group::new(gpu, label, &[(tensor.format, rows)], tensor.cols, first)
                })
                .collect::<Result<Vec<Group>>>()
        };
        let embedding = whole(Slot::TokenEmbedding, Place::Embedding, "the embedding")?;
        let head = if spec.tied_head { Vec::new() } else { whole(Slot::Head, Place::Head, "the head")? };
        let groups = layers.iter().flat_map(|l| [&l.qkv, &l.attention_out, &l.gate_up, &l.down]);
        let matrices: u64 = groups.chain(&embedding).chain(&head).map(|group| group.buffer.size()).sum();
        let vectors: u64 = layers.iter().map(|layer| layer.vectors.size()).sum();
        let hidden_quads = spec.hidden.div_ceil(BLOCK) * 8;
        Ok(GpuWeights {
            layers,
            vector_offsets: offsets,
            embedding,
            head,
            bytes: matrices + vectors + buffer_bytes(output_norm_bytes(spec)),
            output_norm: gpu.buffer("output norm", output_norm_bytes(spec))?,
            hidden_quads,
            rope_factors: HashMap::new(),
            targets,
            shapes,
            widths: Widths { query: spec.heads * spec.head_dim, key: spec.kv_heads * spec.head_dim },
            raw: gpu.buffer("raw", RAW_BYTES.min(gpu.capabilities.binding_limit))?,
            chunk: gpu.buffer_for("chunk", 32, wgpu::BufferUsages::UNIFORM)?,
            unsettled: 0,
        })
    }

    /// The norm after a layer's feed-forward stands where it is wanted: with the next layer's, or the head's. In quads.
    pub fn after_ffn(&self, layer: usize) -> (&wgpu::Buffer, usize) {
        match self.layers.get(layer + 1) {
            Some(next) => (&next.vectors, self.vector_offsets.post_ffn_norm),
            None => (&self.output_norm, self.hidden_quads),
        }
    }

    /// Of the staging that loading leaves behind.
    pub fn staging_bytes(&self) -> u64 {
        self.raw.size()
    }

    /// What [`GpuWeights::staging_bytes`] will be.
    pub fn staging_of(tensors: &[TensorShape], binding_limit: u64) -> u64 {
        let row = |tensor: &TensorShape| tensor.format.row_bytes(tensor.cols) as u64;
        let widest = tensors.iter().filter(|tensor| tensor.slot.is_matrix()).map(row).max().unwrap_or(0);
        buffer_bytes(RAW_BYTES.min(binding_limit).max(widest))
    }

    /// The matrices of the head, in row order.
    pub fn head_groups(&self) -> &[Group] {
        if self.head.is_empty() { &self.embedding } else { &self.head }
    }

    /// Whole rows, raw as in the file. Errors: whatever failed on the device.
    pub async fn upload(
        &mut self,
        gpu: &Gpu,
        pipelines: &mut Pipelines,
        slot: Slot,
        first_row: usize,
        bytes: &[u8],
    ) -> Result<()> {
        let Some(&target) = self.targets.get(&slot) else {
            return self.upload_vector(gpu, slot, bytes);
        };
        let row_bytes = target.format.row_bytes(self.shapes[&slot].cols);
        let repack = Permutation::new("repack").flag("REPACK").module("q", planes(target.format).module);
        let kernel = pipelines.get(gpu, repack);
        if self.raw.size() < row_bytes as u64 {
            self.raw = gpu.buffer("raw", row_bytes as u64)?;
        }
        let most_rows = self.raw.size() as usize / row_bytes;
        self.unsettled += bytes.len();
        let mut first_row = first_row;
        let mut bytes = bytes;
        while !bytes.is_empty() {
            let (group, within) = self.place(target.place, first_row);
            let rows = (bytes.len() / row_bytes).min(group.rows() - within).min(most_rows);
            let (now, later) = bytes.split_at(rows * row_bytes);
            self.repack(gpu, &kernel, target, group, within, now);
            first_row += rows;
            bytes = later;
        }
        if self.unsettled >= SETTLE_BYTES {
            self.unsettled = 0;
            gpu.settle().await?;
        }
        gpu.check()
    }

    /// The group that row `row` of a tensor is in, and which row of it.
    fn place(&self, place: Place, row: usize) -> (&Group, usize) {
        let parts = match place {
            Place::Embedding => &self.embedding,
            Place::Head => &self.head,
            Place::Layer(layer, slot) => {
                let groups = &self.layers[layer];
                let group = match slot {
                    LayerSlot::Query | LayerSlot::Key | LayerSlot::Value => &groups.qkv,
                    LayerSlot::AttentionOutput => &groups.attention_out,
                    LayerSlot::Gate | LayerSlot::Up => &groups.gate_up,
                    _ => &groups.down,
                };
                return (group, row);
            }
        };
        let part = parts.iter().rposition(|part| part.part_first <= row).expect("the first begins at 0");
        (&parts[part], row - parts[part].part_first)
    }

    fn repack(&self, gpu: &Gpu, kernel: &Rc<Kernel>, target: Target, group: &Group, first_row: usize, bytes: &[u8]) {
        let segment = &group.segments[target.segment];
        let rows = bytes.len() / target.format.row_bytes(group.cols);
        let first_row = target.first_row + first_row * target.row_stride;
        let numbers = [
            rows,
            group.cols,
            group.blocks,
            first_row,
            target.row_stride,
            4 * segment.quads,
            segment.high,
            segment.scales,
        ];
        let chunk: Vec<u8> = numbers.iter().flat_map(|&n| (n as u32).to_le_bytes()).collect();
        gpu.queue.write_buffer(&self.chunk, 0, &chunk);
        write_padded(gpu, &self.raw, bytes);
        let groups = (rows * group.blocks).div_ceil(64) as u32;
        let limit = gpu.capabilities.workgroups;
        let grid = [groups.min(limit), groups.div_ceil(limit), 1];
        let dispatch = kernel.bind(gpu, &[&self.raw, &group.buffer, &self.chunk], grid);
        gpu.submit(|pass| dispatch.encode(pass));
    }

    /// Norms, biases and factors, as floats.
    fn upload_vector(&mut self, gpu: &Gpu, slot: Slot, bytes: &[u8]) -> Result<()> {
        let shape = self.shapes[&slot];
        let mut values = vec![0.0; shape.cols];
        if bytes.len() != shape.format.row_bytes(shape.cols) {
            return Err(Error::BadRequest(format!("{slot:?} is uploaded whole")));
        }
        shape.format.dequantize(bytes, &mut values);
        let floats: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let (offsets, spec) = (self.vector_offsets, &self.widths);
        let (buffer, floats_at) = match slot {
            Slot::RopeFactors(which) => {
                self.rope_factors.insert(which, values);
                return Ok(());
            }
            Slot::OutputNorm => (&self.output_norm, 0),
            Slot::Layer(layer, slot) => {
                let at = match slot {
                    LayerSlot::AttentionNorm => 4 * offsets.attention_norm,
                    LayerSlot::FfnNorm => 4 * offsets.ffn_norm,
                    LayerSlot::QueryBias => 4 * offsets.qkv_bias,
                    LayerSlot::KeyBias => 4 * offsets.qkv_bias + spec.query,
                    LayerSlot::ValueBias => 4 * offsets.qkv_bias + spec.query + spec.key,
                    LayerSlot::QueryNorm => 4 * offsets.query_norm,
                    LayerSlot::KeyNorm => 4 * offsets.key_norm,
                    LayerSlot::PostAttentionNorm => 4 * offsets.post_attention_norm,
                    LayerSlot::PostFfnNorm => 4 * self.after_ffn(layer).1,
                    other => return Err(Error::UnsupportedOnGpu(format!("the tensor {other:?}"))),
                };
                let last = slot == LayerSlot::PostFfnNorm;
                (if last { self.after_ffn(layer).0 } else { &self.layers[layer].vectors }, at)
            }
            other => return Err(Error::BadRequest(format!("{other:?} is no vector"))),
        };
        gpu.queue.write_buffer(buffer, 4 * floats_at as u64, &floats);
        Ok(())
    }
}

/// Elements of all query heads, and of all key heads.
struct Widths {
    query: usize,
    key: usize,
}

/// Writes whole words; a tensor's last row may end within one.
fn write_padded(gpu: &Gpu, buffer: &wgpu::Buffer, bytes: &[u8]) {
    let whole = bytes.len() / 4 * 4;
    gpu.queue.write_buffer(buffer, 0, &bytes[..whole]);
    if whole < bytes.len() {
        let mut last = [0; 4];
        last[..bytes.len() - whole].copy_from_slice(&bytes[whole..]);
        gpu.queue.write_buffer(buffer, whole as u64, &last);
    }
}

/// The last norm, and behind it the last layer's norm after its feed-forward block.
pub fn output_norm_bytes(spec: &DecoderSpec) -> u64 {
    let norms = if spec.post_norms { 2 } else { 1 };
    4 * norms * spec.hidden.next_multiple_of(BLOCK) as u64
}

pub fn vector_offsets(spec: &DecoderSpec) -> VectorOffsets {
    let mut quads = 0;
    let mut take = |len: usize| {
        let at = quads;
        quads += len.div_ceil(BLOCK) * (BLOCK / 4);
        at
    };
    let hidden = spec.hidden;
    let (attention_norm, ffn_norm) = (take(hidden), take(hidden));
    let qkv_bias = if spec.qkv_bias { take((spec.heads + 2 * spec.kv_heads) * spec.head_dim) } else { 0 };
    let (query_norm, key_norm) = if spec.qk_norm { (take(spec.head_dim), take(spec.head_dim)) } else { (0, 0) };
    let (post_attention_norm, post_ffn_norm) = if spec.post_norms { (take(hidden), take(hidden)) } else { (0, 0) };
    VectorOffsets {
        post_attention_norm,
        post_ffn_norm,
        attention_norm,
        ffn_norm,
        qkv_bias,
        query_norm,
        key_norm,
        quads,
    }
}
