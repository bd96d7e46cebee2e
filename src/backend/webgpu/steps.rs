//! The steps of [`Backend`], recorded dispatch by dispatch and submitted by the head.

use super::buffers::Buffers;
use super::kv_cache::KvCache;
use super::pace::Pace;
use super::plan::{Planner, split_count};
use super::sample::Sampler;
use super::weights::GpuWeights;
use super::{Batch, Half, Model, WebGpuBackend, autotune, float, not_loaded};
use crate::backend::lora::{Active, LowRank};
use crate::backend::{Backend, DecoderSpec, HeadRows, Memory, Sampled, Sampling, Slot, TensorShape, check_batch};
use crate::formats::Format;
use crate::{Error, Result};

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
        check_batch(&self.spec, tokens, start, cached, room)?;
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

    async fn hidden(&mut self) -> Result<Vec<f32>> {
        self.hidden_states().await
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
