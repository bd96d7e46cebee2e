//! The GPU backend: wgpu natively and the browser's WebGPU, with the kernels of `shaders/`.
//!
//! Weights, scratch, cache and bind groups are made once; a token is a plan that is replayed (`plan`). `device` is the GPU
//! and how it fails, `wgsl` links kernels, `pipelines` compiles them, `tune` chooses variants, `weights` repacks tensors.

mod autotune;
pub mod device;
mod kv_cache;
mod pipelines;
mod plan;
#[cfg(not(target_arch = "wasm32"))]
pub mod profile;
mod selftest;
mod tune;
mod weights;
pub mod wgsl;

use super::spec::{LayerKind, Rope};
use super::{Backend, DecoderSpec, HeadRows, Memory, Slot, TensorShape};
use crate::formats::Format;
use crate::{Error, Result};
pub use device::{Gpu, GpuOptions};
use kv_cache::{KvCache, head_room};
use pipelines::{Dispatch, Pipelines};
use plan::{MAX_SPLITS, Plan, Planner, split_count};
use selftest::SelfTest;
pub use tune::Tuning;
use weights::{BLOCK, GpuWeights};

const MAX_BATCH: usize = 1;

pub struct WebGpuBackend {
    spec: DecoderSpec,
    gpu: Gpu,
    pipelines: Pipelines,
    /// There after `prepare`.
    model: Option<Model>,
    /// Until `finish`.
    self_test: Option<SelfTest>,
    /// The batch under way.
    recording: Vec<Dispatch>,
    batch: Batch,
    /// `[rows of the last head, vocab]`
    host_logits: Vec<f32>,
}

/// All that is on the device.
struct Model {
    weights: GpuWeights,
    buffers: Buffers,
    cache: KvCache,
    plan: Plan,
}

#[derive(Clone, Copy, Default)]
struct Batch {
    start: usize,
    tokens: usize,
    head_rows: usize,
}

/// Scratch; rows are padded to whole blocks, and the padding stays zero.
pub struct Buffers {
    /// See `shared/state.wgsl`.
    pub state: wgpu::Buffer,
    /// Of the batch.
    pub tokens: wgpu::Buffer,
    pub residual: wgpu::Buffer,
    pub qkv: wgpu::Buffer,
    pub partials: wgpu::Buffer,
    pub gated: wgpu::Buffer,
    pub logits: wgpu::Buffer,
    /// `[position][ROPE_DIM / 2]` of (cos, sin), as many positions as the cache has room for.
    pub global_turns: wgpu::Buffer,
    pub local_turns: Option<wgpu::Buffer>,
}

impl Buffers {
    fn new(gpu: &Gpu, spec: &DecoderSpec) -> Result<Buffers> {
        let padded = |width: usize| width.next_multiple_of(BLOCK);
        let room = |label: &str, floats: usize| gpu.buffer(label, 4 * floats as u64);
        Ok(Buffers {
            state: room("state", 4)?,
            tokens: room("tokens", MAX_BATCH)?,
            residual: room("residual", MAX_BATCH * padded(spec.hidden))?,
            qkv: room("qkv", MAX_BATCH * padded((spec.heads + 2 * spec.kv_heads) * spec.head_dim))?,
            partials: room("partials", MAX_SPLITS * spec.heads * (head_room(spec) + 2))?,
            gated: room("gated", MAX_BATCH * padded(spec.ffn))?,
            logits: room("logits", spec.vocab)?,
            global_turns: room("turns", 0)?,
            local_turns: None,
        })
    }

    fn turns(&self, spec: &DecoderSpec, layer: usize) -> &wgpu::Buffer {
        let local = spec.layer_kinds[layer] == LayerKind::Local;
        self.local_turns.as_ref().filter(|_| local).unwrap_or(&self.global_turns)
    }

    fn bytes(&self) -> u64 {
        let all = [&self.residual, &self.qkv, &self.partials, &self.gated, &self.logits, &self.global_turns];
        all.into_iter().chain(&self.local_turns).map(wgpu::Buffer::size).sum()
    }
}

impl WebGpuBackend {
    /// Errors: [`Error::NoWebGpu`], [`Error::UnsupportedOnGpu`].
    pub async fn new(spec: DecoderSpec, options: &GpuOptions) -> Result<WebGpuBackend> {
        supported(&spec)?;
        let gpu = Gpu::request(options).await?;
        Ok(WebGpuBackend {
            self_test: Some(SelfTest::new(&spec)),
            spec,
            gpu,
            pipelines: Pipelines::default(),
            model: None,
            recording: Vec::new(),
            batch: Batch::default(),
            host_logits: Vec::new(),
        })
    }

    /// For tests of what follows.
    pub fn lose_device(&self) {
        self.gpu.device.destroy();
    }

    fn model(&self) -> Result<&Model> {
        self.model.as_ref().ok_or_else(not_loaded)
    }

    fn model_mut(&mut self) -> Result<&mut Model> {
        self.model.as_mut().ok_or_else(not_loaded)
    }

    /// Room for `positions`; the attention's bind groups follow the cache's buffers.
    fn grow(&mut self, positions: usize) -> Result<()> {
        let (gpu, spec) = (&self.gpu, &self.spec);
        let model = self.model.as_mut().ok_or_else(not_loaded)?;
        if !model.cache.grow(gpu, spec, positions)? {
            return Ok(());
        }
        model.make_turns(gpu, spec)?;
        let Model { weights, buffers, cache, plan } = model;
        let mut planner = Planner { gpu, pipelines: &mut self.pipelines, spec, weights, buffers, cache };
        for (layer, of_layer) in plan.layers.iter_mut().enumerate() {
            of_layer.attention = planner.attention(layer);
        }
        Ok(())
    }

    fn planner(&mut self) -> Result<Planner<'_>> {
        let Model { weights, buffers, cache, .. } = self.model.as_ref().ok_or_else(not_loaded)?;
        Ok(Planner { gpu: &self.gpu, pipelines: &mut self.pipelines, spec: &self.spec, weights, buffers, cache })
    }

    /// The first layer of each mix of formats.
    fn distinct_layers(&self) -> Result<Vec<usize>> {
        let layers = &self.model()?.weights.layers;
        let formats = |layer: usize| layers[layer].formats();
        Ok((0..layers.len()).filter(|&layer| (0..layer).all(|other| formats(other) != formats(layer))).collect())
    }

    /// What the device's variants were measured to be, for [`GpuOptions::tuning`] of a later load.
    pub fn tuning(&self) -> &Tuning {
        &self.gpu.tuning
    }

    fn record(&mut self, dispatches: impl FnOnce(&Plan) -> &[Dispatch]) -> Result<()> {
        let model = self.model.as_ref().ok_or_else(not_loaded)?;
        self.recording.extend_from_slice(dispatches(&model.plan));
        Ok(())
    }

    fn record_one(&mut self, dispatch: impl FnOnce(&Plan) -> &Dispatch) -> Result<()> {
        self.record(|plan| std::slice::from_ref(dispatch(plan)))
    }

    /// Submits what was recorded.
    fn flush(&mut self) {
        let recording = std::mem::take(&mut self.recording);
        self.gpu.submit(|pass| recording.iter().for_each(|dispatch| dispatch.encode(pass)));
    }

    /// The batch's residual stream after the steps so far, `[tokens, hidden]`.
    pub async fn residual(&mut self) -> Result<Vec<f32>> {
        self.flush();
        let (hidden, padded) = (self.spec.hidden, self.spec.hidden.next_multiple_of(BLOCK));
        let bytes = (4 * self.batch.tokens * padded) as u64;
        let read = self.gpu.read_buffer(&self.model()?.buffers.residual, 0, bytes).await?;
        let floats: Vec<f32> = read.chunks_exact(4).map(float).collect();
        Ok(floats.chunks_exact(padded).flat_map(|row| &row[..hidden]).copied().collect())
    }

    fn write_state(&self, position: usize, tokens: usize, last_row: usize) -> Result<()> {
        let state = [position, tokens, last_row, 0];
        let bytes: Vec<u8> = state.iter().flat_map(|&n| (n as u32).to_le_bytes()).collect();
        self.gpu.queue.write_buffer(&self.model()?.buffers.state, 0, &bytes);
        Ok(())
    }
}

impl Model {
    /// Rotary turns of every position that the cache has room for: f32 sines of the GPU are not exact enough.
    fn make_turns(&mut self, gpu: &Gpu, spec: &DecoderSpec) -> Result<()> {
        let table = |rope: &Rope| {
            let frequencies = super::rope::Frequencies::new(rope, spec, |which| self.weights.rope_factors.get(&which))?;
            let mut bytes = Vec::with_capacity(self.cache.capacity * rope.dim * 4);
            for position in 0..self.cache.capacity {
                for (cos, sin) in frequencies.turns(position) {
                    bytes.extend_from_slice(&cos.to_le_bytes());
                    bytes.extend_from_slice(&sin.to_le_bytes());
                }
            }
            let buffer = gpu.buffer("turns", bytes.len() as u64)?;
            gpu.queue.write_buffer(&buffer, 0, &bytes);
            Ok::<_, Error>(buffer)
        };
        let (global, local) = (table(&spec.rope)?, spec.local_rope.as_ref().map(table).transpose()?);
        (self.buffers.global_turns, self.buffers.local_turns) = (global, local);
        Ok(())
    }
}

/// Of its four bytes.
fn float(bytes: &[u8]) -> f32 {
    f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn not_loaded() -> Error {
    Error::BadRequest("the model is not loaded yet".into())
}

/// What no kernel does yet.
fn supported(spec: &DecoderSpec) -> Result<()> {
    let group = spec.heads / spec.kv_heads;
    let refuse = |why: String| Err(Error::UnsupportedOnGpu(why));
    if spec.post_norms {
        return refuse("norms after attention".into());
    }
    if spec.head_dim % 4 != 0 {
        return refuse(format!("heads of {} elements", spec.head_dim));
    }
    // Queries and sums of a group of heads stay in 16 KiB of workgroup memory.
    if (2 * group + 1) * head_room(spec) > 3584 {
        return refuse(format!("{group} query heads of {} elements to one key", spec.head_dim));
    }
    Ok(())
}

impl Backend for WebGpuBackend {
    fn name(&self) -> &'static str {
        "webgpu"
    }

    fn adapter(&self) -> Option<String> {
        Some(self.gpu.adapter.clone())
    }

    fn max_batch(&self) -> usize {
        MAX_BATCH
    }

    fn prepare(&mut self, tensors: &[TensorShape]) -> Result<()> {
        let (gpu, spec) = (&self.gpu, &self.spec);
        let weights = GpuWeights::new(gpu, spec, tensors)?;
        let buffers = Buffers::new(gpu, spec)?;
        let cache = KvCache::new(gpu, spec)?;
        let mut planner =
            Planner { gpu, pipelines: &mut self.pipelines, spec, weights: &weights, buffers: &buffers, cache: &cache };
        let plan = planner.plan()?;
        self.model = Some(Model { weights, buffers, cache, plan });
        self.gpu.check()
    }

    fn allocate(&mut self, slot: Slot, format: Format, rows: usize, cols: usize) -> Result<()> {
        if self.model.is_none() {
            return Err(Error::BadRequest(format!("{slot:?} comes before prepare")));
        }
        self.self_test.as_mut().map_or(Ok(()), |test| test.allocate(slot, format, rows, cols))
    }

    async fn upload(&mut self, slot: Slot, first_row: usize, bytes: &[u8]) -> Result<()> {
        if let Some(test) = &mut self.self_test {
            test.upload(slot, first_row, bytes).await?;
        }
        let model = self.model.as_mut().ok_or_else(not_loaded)?;
        model.weights.upload(&self.gpu, &mut self.pipelines, slot, first_row, bytes).await
    }

    async fn finish(&mut self) -> Result<()> {
        let (gpu, spec) = (&self.gpu, &self.spec);
        self.model.as_mut().ok_or_else(not_loaded)?.make_turns(gpu, spec)?;
        if let (Some(clock), None) = (self.gpu.options.tune, &self.gpu.options.tuning) {
            let layers = self.distinct_layers()?;
            let mut planner = self.planner()?;
            let tuning = autotune::tune(&mut planner, &layers, clock).await?;
            self.gpu.tuning = tuning;
        }
        // The turns are new, and the variants may be.
        let plan = self.planner()?.plan()?;
        self.model_mut()?.plan = plan;
        self.gpu.settle().await?;
        if let Some(test) = self.self_test.take() {
            test.run(self).await?;
            self.model_mut()?.cache.len = 0;
        }
        Ok(())
    }

    fn embed(&mut self, tokens: &[u32], start: usize) -> Result<()> {
        self.gpu.check()?;
        let cached = self.model()?.cache.len;
        super::check_batch(&self.spec, tokens, start, cached, MAX_BATCH)?;
        let end = start + tokens.len();
        self.grow(end)?;
        self.model_mut()?.cache.len = end;
        self.batch = Batch { start, tokens: tokens.len(), head_rows: 0 };
        self.recording.clear();
        self.write_state(start, tokens.len(), tokens.len() - 1)?;
        let bytes: Vec<u8> = tokens.iter().flat_map(|t| t.to_le_bytes()).collect();
        self.gpu.queue.write_buffer(&self.model()?.buffers.tokens, 0, &bytes);
        self.record(|plan| &plan.embed)
    }

    fn qkv(&mut self, layer: usize) -> Result<()> {
        self.record_one(|plan| &plan.layers[layer].qkv)
    }

    fn attention(&mut self, layer: usize) -> Result<()> {
        let splits = split_count(self.batch.start + 1) as u32;
        self.record_one(|plan| &plan.layers[layer].attention)?;
        self.recording.last_mut().expect("recorded above").grid[1] = splits;
        Ok(())
    }

    fn attention_out(&mut self, layer: usize) -> Result<()> {
        self.record_one(|plan| &plan.layers[layer].attention_out)
    }

    fn gate_up(&mut self, layer: usize) -> Result<()> {
        self.record_one(|plan| &plan.layers[layer].gate_up)
    }

    fn down(&mut self, layer: usize) -> Result<()> {
        self.record_one(|plan| &plan.layers[layer].down)
    }

    fn head(&mut self, rows: HeadRows) -> Result<()> {
        if rows != HeadRows::None {
            self.batch.head_rows = 1;
            self.record(|plan| &plan.head)?;
        }
        self.flush();
        self.gpu.check()
    }

    async fn logits(&mut self) -> Result<&[f32]> {
        let floats = self.batch.head_rows * self.spec.vocab;
        let bytes = self.gpu.read_buffer(&self.model()?.buffers.logits, 0, 4 * floats as u64).await?;
        self.host_logits = bytes.chunks_exact(4).map(float).collect();
        Ok(&self.host_logits)
    }

    fn dispatches_per_token(&self) -> usize {
        self.model
            .as_ref()
            .map_or(0, |model| model.plan.embed.len() + 5 * model.plan.layers.len() + model.plan.head.len())
    }

    fn memory(&self) -> Memory {
        self.model.as_ref().map_or(Memory::default(), |model| Memory {
            weights: model.weights.bytes,
            kv_cache: model.cache.bytes(),
            scratch: model.buffers.bytes(),
        })
    }

    fn spec(&self) -> &DecoderSpec {
        &self.spec
    }
}
