//! The backend that a session was given, whichever it is.

use super::cpu::CpuBackend;
use super::cpu::pool::Pool;
use super::lora::{Active, LowRank};
#[cfg(feature = "webgpu")]
use super::webgpu::WebGpuBackend;
use super::{Backend, DecoderSpec, HeadRows, Memory, Sampled, Sampling, Slot, TensorShape};
use crate::Result;
use crate::formats::Format;

pub enum AnyBackend {
    Cpu(Box<CpuBackend>),
    #[cfg(feature = "webgpu")]
    WebGpu(Box<WebGpuBackend>),
}

macro_rules! on_either {
    ($any:expr, $backend:ident => $call:expr) => {
        match $any {
            AnyBackend::Cpu($backend) => $call,
            #[cfg(feature = "webgpu")]
            AnyBackend::WebGpu($backend) => $call,
        }
    };
}

impl AnyBackend {
    pub fn cpu(spec: DecoderSpec, pool: Pool) -> AnyBackend {
        AnyBackend::Cpu(Box::new(CpuBackend::with_pool(spec, pool)))
    }

    /// What the GPU was measured to be best at: `GpuOptions::tuning` of the next load.
    #[cfg(feature = "webgpu")]
    pub fn tuning(&self) -> Option<&super::webgpu::Tuning> {
        match self {
            AnyBackend::Cpu(_) => None,
            AnyBackend::WebGpu(backend) => Some(backend.tuning()),
        }
    }

    /// For tests of what follows; nothing on a CPU.
    pub fn lose_device(&self) {
        #[cfg(feature = "webgpu")]
        if let AnyBackend::WebGpu(backend) = self {
            backend.lose_device();
        }
    }
}

impl Backend for AnyBackend {
    fn name(&self) -> &'static str {
        on_either!(self, backend => backend.name())
    }

    fn adapter(&self) -> Option<String> {
        on_either!(self, backend => backend.adapter())
    }

    fn threads(&self) -> usize {
        on_either!(self, backend => backend.threads())
    }

    fn max_batch(&self) -> usize {
        on_either!(self, backend => backend.max_batch())
    }

    fn checkable_batch(&self) -> usize {
        on_either!(self, backend => backend.checkable_batch())
    }

    fn beside(&self, spec: DecoderSpec) -> Result<Self> {
        match self {
            AnyBackend::Cpu(backend) => Ok(AnyBackend::Cpu(Box::new(backend.beside(spec)?))),
            #[cfg(feature = "webgpu")]
            AnyBackend::WebGpu(backend) => Ok(AnyBackend::WebGpu(Box::new(backend.beside(spec)?))),
        }
    }

    fn prepare(&mut self, tensors: &[TensorShape]) -> Result<()> {
        on_either!(self, backend => backend.prepare(tensors))
    }

    fn allocate(&mut self, slot: Slot, format: Format, rows: usize, cols: usize) -> Result<()> {
        on_either!(self, backend => backend.allocate(slot, format, rows, cols))
    }

    async fn upload(&mut self, slot: Slot, first_row: usize, bytes: &[u8]) -> Result<()> {
        on_either!(self, backend => backend.upload(slot, first_row, bytes).await)
    }

    async fn finish(&mut self) -> Result<()> {
        on_either!(self, backend => backend.finish().await)
    }

    fn expect_positions(&mut self, positions: usize) -> Result<bool> {
        on_either!(self, backend => backend.expect_positions(positions))
    }

    fn reusable(&self, positions: usize) -> usize {
        on_either!(self, backend => backend.reusable(positions))
    }

    fn embed(&mut self, tokens: &[u32], start: usize) -> Result<()> {
        on_either!(self, backend => backend.embed(tokens, start))
    }

    fn qkv(&mut self, layer: usize) -> Result<()> {
        on_either!(self, backend => backend.qkv(layer))
    }

    fn attention(&mut self, layer: usize) -> Result<()> {
        on_either!(self, backend => backend.attention(layer))
    }

    fn attention_out(&mut self, layer: usize) -> Result<()> {
        on_either!(self, backend => backend.attention_out(layer))
    }

    fn gate_up(&mut self, layer: usize) -> Result<()> {
        on_either!(self, backend => backend.gate_up(layer))
    }

    fn down(&mut self, layer: usize) -> Result<()> {
        on_either!(self, backend => backend.down(layer))
    }

    fn head(&mut self, rows: HeadRows) -> Result<()> {
        on_either!(self, backend => backend.head(rows))
    }

    async fn catch_up(&mut self) -> Result<()> {
        on_either!(self, backend => backend.catch_up().await)
    }

    async fn hidden(&mut self) -> Result<Vec<f32>> {
        on_either!(self, backend => backend.hidden().await)
    }

    async fn logits(&mut self) -> Result<&[f32]> {
        on_either!(self, backend => backend.logits().await)
    }

    fn start_sampling(&mut self, sampling: &Sampling) -> Result<bool> {
        on_either!(self, backend => backend.start_sampling(sampling))
    }

    async fn next_sampled(&mut self) -> Result<Sampled> {
        on_either!(self, backend => backend.next_sampled().await)
    }

    fn stop_sampling(&mut self) {
        on_either!(self, backend => backend.stop_sampling())
    }

    fn cache_layout(&self) -> Option<&'static str> {
        on_either!(self, backend => backend.cache_layout())
    }

    fn save_cache(&self, positions: usize, into: &mut Vec<u8>) -> Result<()> {
        on_either!(self, backend => backend.save_cache(positions, into))
    }

    fn load_cache(&mut self, positions: usize, bytes: &[u8]) -> Result<()> {
        on_either!(self, backend => backend.load_cache(positions, bytes))
    }

    fn load_adapter(&mut self, id: u32, pairs: &[LowRank]) -> Result<()> {
        on_either!(self, backend => backend.load_adapter(id, pairs))
    }

    fn unload_adapter(&mut self, id: u32) {
        on_either!(self, backend => backend.unload_adapter(id))
    }

    fn use_adapters(&mut self, active: &[Active]) -> Result<()> {
        on_either!(self, backend => backend.use_adapters(active))
    }

    fn dispatches_per_token(&self) -> usize {
        on_either!(self, backend => backend.dispatches_per_token())
    }

    fn memory(&self) -> Memory {
        on_either!(self, backend => backend.memory())
    }

    fn spec(&self) -> &DecoderSpec {
        on_either!(self, backend => backend.spec())
    }
}
