//! The GPU backend: wgpu natively and the browser's WebGPU, with the kernels of `shaders/`.
//!
//! Weights, scratch, cache and bind groups are made once; a token is a plan that is replayed (`plan`). `device` is the GPU
//! and how it fails, `wgsl` links kernels, `pipelines` compiles them, `tune` chooses variants, `weights` repacks tensors.

mod autotune;
mod buffers;
pub mod device;
mod estimate;
mod group;
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
mod steps;
mod tune;
mod weights;
pub mod wgsl;

use super::cpu::math::rms_norm_in_place;
use super::spec::Rope;
use super::{DecoderSpec, RopeFactors};
use crate::{Error, Result};
use buffers::Buffers;
pub use device::{Counts, Gpu, GpuOptions};
pub use estimate::{Room, estimate};
use group::padded;
use kv_cache::KvCache;
use lora::Adapters;
use pace::Pace;
use pipelines::{Dispatch, Pipelines};
pub use plan::supported;
use plan::{LayerPlan, Plan, Planner};
use prefill::{AllRows, Batched, LayerBatch};
use sample::Sampler;
pub use selftest::SelfTest;
pub use tune::Tuning;
use weights::GpuWeights;

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

    /// Of all positions of a batch (a single token's last norm is fused into the head), after the final norm.
    async fn hidden_states(&self) -> Result<Vec<f32>> {
        let Model { weights, buffers, .. } = self.model.as_ref().ok_or_else(not_loaded)?;
        let (hidden, width, tokens) = (self.spec.hidden, padded(self.spec.hidden), self.batch.tokens);
        let floats = |bytes: Vec<u8>| bytes.chunks_exact(4).map(float).collect::<Vec<f32>>();
        let norm = floats(self.gpu.read_buffer(&weights.output_norm, 0, 4 * hidden as u64).await?);
        let rows = floats(self.gpu.read_buffer(&buffers.residual, 0, 4 * (tokens * width) as u64).await?);
        let mut states = Vec::with_capacity(tokens * hidden);
        for row in rows.chunks_exact(width) {
            let at = states.len();
            states.extend_from_slice(&row[..hidden]);
            rms_norm_in_place(&mut states[at..], &norm, self.spec.norm_eps);
        }
        Ok(states)
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
        let (hidden, padded) = (self.spec.hidden, padded(self.spec.hidden));
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
