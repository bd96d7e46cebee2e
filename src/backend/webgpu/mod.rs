//! The GPU backend: wgpu natively and the browser's WebGPU, with the kernels of `shaders/`.
//!
//! Weights, scratch, cache and bind groups are made once; a token is a plan that is replayed (`plan`). `device` is the GPU
//! and how it fails, `wgsl` links kernels, `pipelines` compiles them, `tune` chooses variants, `weights` repacks tensors.

mod autotune;
mod buffers;
pub mod device;
mod estimate;
mod kv_cache;
mod lora;
mod pace;
mod pipelines;
mod plan;
mod prefill;
#[cfg(not(target_arch = "wasm32"))]
pub mod profile;
mod sample;
mod selftest;
mod tune;
mod weights;
pub mod wgsl;

use super::lora::{Active, LowRank};
use super::spec::Rope;
use super::{Backend, DecoderSpec, HeadRows, Memory, RopeFactors, Sampled, Sampling, Slot, TensorShape};
use crate::formats::Format;
use crate::{Error, Result};
use buffers::Buffers;
pub use device::{Counts, Gpu, GpuOptions};
pub use estimate::{Room, estimate};
use kv_cache::KvCache;
use lora::Adapters;
use pace::Pace;
use pipelines::{Dispatch, Pipelines};
pub use plan::supported;
use plan::{LayerPlan, Plan, Planner, split_count};
use prefill::{AllRows, Batched, LayerBatch};
use sample::Sampler;
pub use selftest::SelfTest;
pub use tune::Tuning;
use weights::{BLOCK, GpuWeights};

pub struct WebGpuBackend {
    spec: DecoderSpec,
    gpu: Gpu,
    pipelines: Pipelines,
    /// There after `prepare`.
    model: Option<Model>,
    adapters: Adapters,
    /// Until `finish`.
    self_test: Option<SelfTest>,
    /// Those of the turns on the device.
    rope_factors: RopeFactors,
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
    /// Of batches of several tokens.
    batch: Vec<LayerBatch>,
    /// Once it was asked for.
    all_rows: Option<AllRows>,
    pace: Pace,
    /// None: the host samples.
    sampler: Option<Sampler>,
}

#[derive(Clone, Copy, Default)]
struct Batch {
    start: usize,
    tokens: usize,
    head_rows: usize,
    /// The layer whose last product is yet to be normed and added to the stream: the next kernel does it.
    pending: Option<(usize, Half)>,
}

/// Of a layer.
#[derive(Clone, Copy)]
enum Half {
    Attention,
    FeedForward,
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
            adapters: Adapters::default(),
            rope_factors: RopeFactors::Short,
            recording: Vec::new(),
            batch: Batch::default(),
            host_logits: Vec::new(),
        })
    }

    /// For tests: every kernel that was asked for so far.
    pub fn permutations(&self) -> impl Iterator<Item = &wgsl::Permutation> {
        self.pipelines.permutations()
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
        if model.cache.grow(gpu, spec, positions)? {
            self.remake_turns()?;
        }
        Ok(())
    }

    /// For the cache as it is now, and the factors that count.
    fn remake_turns(&mut self) -> Result<()> {
        let (gpu, spec) = (&self.gpu, &self.spec);
        let model = self.model.as_mut().ok_or_else(not_loaded)?;
        model.make_turns(gpu, spec, self.rope_factors)?;
        model.rebind(gpu, spec, &mut self.pipelines, &self.adapters);
        Ok(())
    }

    /// The recorded dispatches of a layer's step, by the plan that suits the batch.
    fn record_layer(
        &mut self,
        layer: usize,
        one: impl FnOnce(&LayerPlan) -> &[Dispatch],
        several: impl FnOnce(&LayerBatch) -> &[Batched],
    ) -> Result<()> {
        let tokens = self.batch.tokens;
        if tokens == 1 {
            return self.record(|plan| one(&plan.layers[layer]));
        }
        let model = self.model.as_ref().ok_or_else(not_loaded)?;
        self.recording.extend(several(&model.batch[layer]).iter().map(|batched| batched.of(tokens)));
        Ok(())
    }

    /// The logits of every position of the batch, a slice of them at a time.
    async fn all_logits(&mut self) -> Result<()> {
        let (gpu, spec, Batch { start, tokens, .. }) = (&self.gpu, &self.spec, self.batch);
        let Model { weights, buffers, cache, all_rows, .. } = self.model.as_mut().ok_or_else(not_loaded)?;
        let (pipelines, adapters) = (&mut self.pipelines, &self.adapters);
        let mut planner = Planner { gpu, pipelines, spec, weights, buffers, cache, adapters };
        let all_rows = match all_rows {
            Some(made) => made,
            none => none.insert(planner.all_rows()?),
        };
        self.host_logits.clear();
        for first in (0..tokens).step_by(all_rows.slice) {
            let rows = all_rows.slice.min(tokens - first);
            buffers.write_state(gpu, start, tokens, first);
            gpu.submit(|pass| all_rows.dispatches.iter().for_each(|batched| batched.of(rows).encode(pass)));
            let bytes = gpu.read_buffer(&all_rows.logits, 0, 4 * (rows * spec.vocab) as u64).await?;
            self.host_logits.extend(bytes.chunks_exact(4).map(float));
        }
        buffers.write_state(gpu, start, tokens, tokens - 1);
        Ok(())
    }

    fn planner(&mut self) -> Result<Planner<'_>> {
        let Model { weights, buffers, cache, .. } = self.model.as_ref().ok_or_else(not_loaded)?;
        let (gpu, pipelines, spec, adapters) = (&self.gpu, &mut self.pipelines, &self.spec, &self.adapters);
        Ok(Planner { gpu, pipelines, spec, weights, buffers, cache, adapters })
    }

    /// The first layer of each mix of formats.
    fn distinct_layers(&self) -> Result<Vec<usize>> {
        let layers = &self.model()?.weights.layers;
        let formats = |layer: usize| layers[layer].formats();
        Ok((0..layers.len()).filter(|&layer| (0..layer).all(|other| formats(other) != formats(layer))).collect())
    }

    /// For tests of the steady state.
    pub fn counts(&self) -> Counts {
        self.gpu.counts()
    }

    /// What the device's variants were measured to be, for [`GpuOptions::tuning`] of a later load.
    pub fn tuning(&self) -> &Tuning {
        &self.gpu.tuning
    }

    fn remake_plans(&mut self) -> Result<()> {
        let mut planner = self.planner()?;
        let (plan, batch) = (planner.plan()?, planner.batch());
        let model = self.model_mut()?;
        (model.plan, model.batch) = (plan, batch);
        Ok(())
    }

    fn record(&mut self, dispatches: impl FnOnce(&Plan) -> &[Dispatch]) -> Result<()> {
        let model = self.model.as_ref().ok_or_else(not_loaded)?;
        self.recording.extend_from_slice(dispatches(&model.plan));
        Ok(())
    }

    /// Submits what was recorded.
    fn flush(&mut self) {
        let recording = std::mem::take(&mut self.recording);
        let (gpu, tokens) = (&self.gpu, self.batch.tokens);
        let submit = |part: &[Dispatch]| gpu.submit(|pass| part.iter().for_each(|dispatch| dispatch.encode(pass)));
        match &mut self.model {
            Some(model) if tokens > 1 && !recording.is_empty() => {
                let submissions = model.pace.submissions(tokens, self.spec.layers);
                let parts = recording.chunks(recording.len().div_ceil(submissions)).map(submit);
                if let Some(index) = parts.reduce(|_, last| last) {
                    model.pace.submitted(gpu, tokens, index);
                }
            }
            _ => drop(submit(&recording)),
        }
    }

    /// The batch's residual stream after the steps so far, `[tokens, hidden]`.
    pub async fn residual(&mut self) -> Result<Vec<f32>> {
        self.flush();
        let stream = self.settled_stream()?;
        let (hidden, padded) = (self.spec.hidden, self.spec.hidden.next_multiple_of(BLOCK));
        let bytes = (4 * self.batch.tokens * padded) as u64;
        let read = self.gpu.read_buffer(&stream, 0, bytes).await?;
        let floats: Vec<f32> = read.chunks_exact(4).map(float).collect();
        Ok(floats.chunks_exact(padded).flat_map(|row| &row[..hidden]).copied().collect())
    }

    /// Where the stream is, after what is pending was added to it; the kernel that would have done so then adds nothing.
    fn settled_stream(&mut self) -> Result<wgpu::Buffer> {
        let pending = self.batch.pending.take().filter(|_| self.batch.tokens == 1);
        let buffers = &self.model()?.buffers;
        let (Some((layer, half)), Some(post)) = (pending, &buffers.post_norm) else {
            return Ok(buffers.residual.clone());
        };
        let stream = if matches!(half, Half::Attention) { post.stream.clone() } else { buffers.residual.clone() };
        let mut planner = self.planner()?;
        let weights = planner.weights;
        let norm = match half {
            Half::Attention => (&weights.layers[layer].vectors, weights.vector_offsets.post_attention_norm),
            Half::FeedForward => weights.after_ffn(layer),
        };
        if let Some(post_norm) = planner.post_norm(&stream, norm) {
            self.gpu.submit(|pass| post_norm.of(1).encode(pass));
        }
        Ok(stream)
    }

    fn write_state(&self, position: usize, tokens: usize, last_row: usize) -> Result<()> {
        self.model()?.buffers.write_state(&self.gpu, position, tokens, last_row);
        Ok(())
    }
}

impl Model {
    /// Makes anew what holds the cache's buffers.
    fn rebind(&mut self, gpu: &Gpu, spec: &DecoderSpec, pipelines: &mut Pipelines, adapters: &Adapters) {
        let Model { weights, buffers, cache, plan, batch, .. } = self;
        let mut planner = Planner { gpu, pipelines, spec, weights, buffers, cache, adapters };
        for (layer, (one, several)) in plan.layers.iter_mut().zip(batch).enumerate() {
            one.attention = planner.attention(layer);
            planner.rebind_batch(layer, several);
        }
    }

    /// Rotary turns of every position that the cache has room for: f32 sines of the GPU are not exact enough.
    fn make_turns(&mut self, gpu: &Gpu, spec: &DecoderSpec, factors: RopeFactors) -> Result<()> {
        let factors = self.weights.rope_factors.get(&factors);
        let table = |rope: &Rope| {
            let frequencies = super::rope::Frequencies::new(rope, spec, factors)?;
            let mut bytes = Vec::with_capacity(self.cache.capacity * rope.dim * 4);
            for position in 0..self.cache.capacity {
                for (cos, sin) in frequencies.turns(position) {
                    bytes.extend_from_slice(&cos.to_le_bytes());
                    bytes.extend_from_slice(&sin.to_le_bytes());
                }
            }
            let buffer = gpu.buffer("turns", bytes.len() as u64)?;
            gpu.write(&buffer, 0, &bytes);
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

impl Backend for WebGpuBackend {
    fn name(&self) -> &'static str {
        "webgpu"
    }

    fn adapter(&self) -> Option<String> {
        Some(self.gpu.adapter.clone())
    }

    fn max_batch(&self) -> usize {
        self.model.as_ref().map_or(1, |model| model.pace.tokens())
    }

    fn prepare(&mut self, tensors: &[TensorShape]) -> Result<()> {
        let (gpu, spec) = (&self.gpu, &self.spec);
        let weights = GpuWeights::new(gpu, spec, tensors)?;
        let buffers = Buffers::new(gpu, spec)?;
        let cache = KvCache::new(gpu, spec)?;
        let (pipelines, adapters) = (&mut self.pipelines, &self.adapters);
        let mut planner =
            Planner { gpu, pipelines, spec, weights: &weights, buffers: &buffers, cache: &cache, adapters };
        let (plan, batch) = (planner.plan()?, planner.batch());
        let pace = Pace::new(buffers.room);
        let sampler = Sampler::new(&mut planner)?;
        self.model = Some(Model { weights, buffers, cache, plan, batch, all_rows: None, pace, sampler });
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
        self.model.as_mut().ok_or_else(not_loaded)?.make_turns(gpu, spec, self.rope_factors)?;
        if self.gpu.options.tune {
            let layers = self.distinct_layers()?;
            let mut planner = self.planner()?;
            let tuning = autotune::tune(&mut planner, &layers).await?;
            self.gpu.tuning = tuning;
        }
        // The turns are new, and the variants may be.
        self.remake_plans()?;
        self.gpu.settle().await?;
        if let Some(test) = self.self_test.take() {
            test.run(self).await?;
            let model = self.model_mut()?;
            model.cache.len = 0;
            model.pace = Pace::new(model.buffers.room);
        }
        Ok(())
    }

    fn expect_positions(&mut self, positions: usize) -> Result<bool> {
        let factors = self.spec.rope_factors(positions);
        if std::mem::replace(&mut self.rope_factors, factors) == factors {
            return Ok(false);
        }
        self.remake_turns()?;
        self.model_mut()?.cache.len = 0;
        Ok(true)
    }

    fn embed(&mut self, tokens: &[u32], start: usize) -> Result<()> {
        self.gpu.check()?;
        let (cached, room) = (self.model()?.cache.len, self.model()?.buffers.room);
        super::check_batch(&self.spec, tokens, start, cached, room)?;
        let end = start + tokens.len();
        self.grow(end)?;
        self.model_mut()?.cache.len = end;
        self.batch = Batch { start, tokens: tokens.len(), ..Batch::default() };
        self.recording.clear();
        self.write_state(start, tokens.len(), tokens.len() - 1)?;
        let bytes: Vec<u8> = tokens.iter().flat_map(|t| t.to_le_bytes()).collect();
        self.gpu.write(&self.model()?.buffers.tokens, 0, &bytes);
        self.record(|plan| &plan.embed)?;
        self.recording.iter_mut().for_each(|dispatch| dispatch.grid[1] = tokens.len() as u32);
        Ok(())
    }

    fn qkv(&mut self, layer: usize) -> Result<()> {
        self.record_layer(layer, |one| &one.qkv, |several| &several.qkv)
    }

    fn attention(&mut self, layer: usize) -> Result<()> {
        let splits = split_count(self.batch.start + 1) as u32;
        self.record_layer(layer, |one| std::slice::from_ref(&one.attention), |several| &several.attention)?;
        if self.batch.tokens == 1 {
            self.recording.last_mut().expect("recorded above").grid[1] = splits;
        }
        Ok(())
    }

    fn attention_out(&mut self, layer: usize) -> Result<()> {
        self.batch.pending = Some((layer, Half::Attention));
        self.record_layer(layer, |one| &one.attention_out, |several| &several.attention_out)
    }

    fn gate_up(&mut self, layer: usize) -> Result<()> {
        self.record_layer(layer, |one| &one.gate_up, |several| &several.gate_up)
    }

    fn down(&mut self, layer: usize) -> Result<()> {
        self.batch.pending = Some((layer, Half::FeedForward));
        self.record_layer(layer, |one| &one.down, |several| &several.down)
    }

    fn head(&mut self, rows: HeadRows) -> Result<()> {
        if rows == HeadRows::All && self.batch.tokens > 1 {
            // Made when they are read.
            self.batch.head_rows = self.batch.tokens;
        } else if rows != HeadRows::None {
            self.batch.head_rows = 1;
            self.record(|plan| &plan.head)?;
        }
        self.flush();
        self.gpu.check()
    }

    async fn catch_up(&mut self) -> Result<()> {
        let gpu = &self.gpu;
        self.model.as_mut().ok_or_else(not_loaded)?.pace.catch_up(gpu).await
    }

    async fn logits(&mut self) -> Result<&[f32]> {
        if self.batch.head_rows > 1 {
            self.all_logits().await?;
            return Ok(&self.host_logits);
        }
        let floats = self.batch.head_rows * self.spec.vocab;
        let bytes = self.gpu.read_buffer(&self.model()?.buffers.logits, 0, 4 * floats as u64).await?;
        self.host_logits = bytes.chunks_exact(4).map(float).collect();
        Ok(&self.host_logits)
    }

    fn start_sampling(&mut self, sampling: &Sampling) -> Result<bool> {
        self.start_on_device(sampling)
    }

    async fn next_sampled(&mut self) -> Result<Sampled> {
        self.next_on_device().await
    }

    fn stop_sampling(&mut self) {
        self.stop_on_device();
    }

    fn load_adapter(&mut self, id: u32, pairs: &[LowRank]) -> Result<()> {
        self.adapters.load(&self.gpu, &self.spec, id, pairs)
    }

    fn unload_adapter(&mut self, id: u32) {
        self.adapters.unload(id);
    }

    fn use_adapters(&mut self, active: &[Active]) -> Result<()> {
        let room = self.model()?.buffers.room;
        if self.adapters.activate(&self.gpu, &self.spec, room, active)? {
            self.remake_plans()?;
        }
        self.gpu.check()
    }

    fn dispatches_per_token(&self) -> usize {
        self.model.as_ref().map_or(0, |model| {
            let sampler = model.sampler.as_ref().map_or(0, |sampler| sampler.dispatches.len());
            let layers = model.plan.layers.iter().map(|layer| layer.at(0).count()).sum::<usize>();
            model.plan.embed.len() + layers + model.plan.head.len() + sampler
        })
    }

    fn memory(&self) -> Memory {
        self.model.as_ref().map_or(Memory::default(), |model| Memory {
            weights: model.weights.bytes + self.adapters.bytes(),
            kv_cache: model.cache.bytes(),
            scratch: model.buffers.bytes()
                + model.weights.staging_bytes()
                + self.adapters.scratch_bytes()
                + model.sampler.as_ref().map_or(0, Sampler::bytes),
        })
    }

    fn spec(&self) -> &DecoderSpec {
        &self.spec
    }
}
