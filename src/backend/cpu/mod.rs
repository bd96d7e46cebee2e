//! The CPU backend: wasm SIMD128 and, natively, the same kernels over portable vectors.
//!
//! One file per step; `matrix` packs and multiplies weights with the block kernels of `simd`, `panel` prepares what they
//! multiply with.

mod attention;
mod attention_out;
mod down;
mod embed;
mod estimate;
mod gate_up;
mod head;
pub mod kv_cache;
mod lora;
pub mod math;
pub mod matrix;
mod memory;
pub mod panel;
pub mod pool;
mod qkv;
mod rope;
pub mod simd;
mod weights;

use std::collections::HashMap;

use super::lora::{Active, LowRank};
use super::{Backend, DecoderSpec, HeadRows, Memory, RopeFactors, Slot};
use crate::formats::Format;
use crate::{Error, Result};
use attention::Scratch;
use kv_cache::KvCache;
use lora::Adapters;
use memory::zeros;
use panel::{Input, Panel};
use pool::{Parts, Pool};
use rope::RopeTables;
use weights::{Loading, Weights};

/// Enough tokens to amortise the unpacking of weights, few enough for their activations to stay in the second-level
/// cache and for an abort to be noticed soon.
pub const MAX_BATCH: usize = 128;

pub use estimate::estimate;
pub use memory::reserve;

pub struct CpuBackend {
    spec: DecoderSpec,
    loading: HashMap<Slot, Loading>,
    /// There after `finish`.
    weights: Option<Weights>,
    cache: KvCache,
    rope: RopeTables,
    /// Those of `rope`.
    rope_factors: RopeFactors,
    batch: Batch,
    adapters: Adapters,
    pool: Pool,
}

/// The activations of one batch; all `[tokens, ...]`, rows contiguous.
#[derive(Default)]
struct Batch {
    tokens: usize,
    /// Position of the first token.
    start: usize,
    /// `[tokens, hidden]`
    residual: Vec<f32>,
    /// Norm or product before it is added: `[tokens, hidden]`.
    hidden: Vec<f32>,
    panel: Panel,
    /// Of `gate`, which the down product reads.
    down_panel: Panel,
    /// `[tokens, heads * head_dim]`
    query: Vec<f32>,
    /// `[tokens, kv_heads * head_dim]`
    key: Vec<f32>,
    value: Vec<f32>,
    attended: Vec<f32>,
    /// Of each thread.
    attention: Vec<Scratch>,
    /// See `attention`.
    partials: Vec<f32>,
    /// `[tokens, ffn]`
    gate: Vec<f32>,
    up: Vec<f32>,
    /// `[rows of the last head, vocab]`
    logits: Vec<f32>,
}

impl CpuBackend {
    /// On the caller's thread alone.
    pub fn new(spec: DecoderSpec) -> CpuBackend {
        Self::with_pool(spec, Pool::single())
    }

    /// The results are the same bits, whatever the pool.
    pub fn with_pool(spec: DecoderSpec, pool: Pool) -> CpuBackend {
        CpuBackend {
            pool,
            cache: KvCache::new(&spec),
            rope: RopeTables::default(),
            rope_factors: RopeFactors::Short,
            spec,
            loading: HashMap::new(),
            weights: None,
            batch: Batch::default(),
            adapters: Adapters::default(),
        }
    }

    /// What the batch's heads took of the values in the last layer that attended, `[tokens, heads * head_dim]`.
    pub fn attended(&self) -> &[f32] {
        &self.batch.attended[..self.batch.tokens * self.spec.heads * self.spec.head_dim]
    }

    /// The batch's residual stream, `[tokens, hidden]`.
    pub fn residual(&self) -> &[f32] {
        &self.batch.residual[..self.batch.tokens * self.spec.hidden]
    }
}

/// Of a backend whose other fields may be lent at the same time. Errors before `finish`.
fn loaded(weights: &Option<Weights>) -> Result<&Weights> {
    weights.as_ref().ok_or_else(|| Error::BadRequest("the model is not loaded yet".to_string()))
}

impl Batch {
    /// Floats that each token has in the buffers that `new` makes.
    fn widths(spec: &DecoderSpec) -> usize {
        2 * spec.hidden + (2 * spec.heads + 2 * spec.kv_heads) * spec.head_dim + 2 * spec.ffn
    }

    fn new(spec: &DecoderSpec) -> Result<Batch> {
        let room = |width: usize| zeros(MAX_BATCH * width, "a batch's activations");
        Ok(Batch {
            residual: room(spec.hidden)?,
            hidden: room(spec.hidden)?,
            query: room(spec.heads * spec.head_dim)?,
            key: room(spec.kv_heads * spec.head_dim)?,
            value: room(spec.kv_heads * spec.head_dim)?,
            attended: room(spec.heads * spec.head_dim)?,
            gate: room(spec.ffn)?,
            up: room(spec.ffn)?,
            ..Batch::default()
        })
    }

    /// The panel of the normed residual stream, from token `first` on; the norms stay in `hidden`.
    fn normed_panel(&mut self, pool: &mut Pool, first: usize, norm: &[f32], eps: f32, inputs: &[Input]) -> Result<()> {
        let (tokens, width) = (self.tokens - first, norm.len());
        let (residual, hidden) = (&self.residual[first * width..], Parts::of(&mut self.hidden));
        self.panel.fill(pool, tokens, width, inputs, |t| {
            // SAFETY: each token is asked for once.
            let out = unsafe { hidden.part(t * width..(t + 1) * width) };
            math::rms_norm(&residual[t * width..][..width], norm, eps, out);
            out
        })
    }

    /// residual += (post-norm of) hidden
    fn add_to_residual(&mut self, pool: &mut Pool, post_norm: Option<&[f32]>, spec: &DecoderSpec) {
        let width = spec.hidden;
        let (residual, hidden) = (Parts::of(&mut self.residual), Parts::of(&mut self.hidden));
        pool.divide(self.tokens, width, |tokens, _| {
            for t in tokens {
                // SAFETY: each token is given out once.
                let [residual, hidden] = [residual, hidden].map(|all| unsafe { all.part(t * width..(t + 1) * width) });
                if let Some(norm) = post_norm {
                    math::rms_norm_in_place(hidden, norm, spec.norm_eps);
                }
                math::add(residual, hidden);
            }
        });
    }

    fn bytes(&self) -> u64 {
        let floats = [
            &self.residual,
            &self.hidden,
            &self.query,
            &self.key,
            &self.value,
            &self.attended,
            &self.partials,
            &self.gate,
            &self.up,
            &self.logits,
        ];
        self.panel.bytes()
            + self.down_panel.bytes()
            + self.attention.iter().map(Scratch::bytes).sum::<u64>()
            + floats.iter().map(|v| 4 * v.capacity() as u64).sum::<u64>()
    }
}

impl Backend for CpuBackend {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn max_batch(&self) -> usize {
        MAX_BATCH
    }

    fn checkable_batch(&self) -> usize {
        matrix::FEW
    }

    fn beside(&self, spec: DecoderSpec) -> Result<CpuBackend> {
        Ok(CpuBackend::with_pool(spec, self.pool.share()))
    }

    fn threads(&self) -> usize {
        self.pool.threads()
    }

    fn allocate(&mut self, slot: Slot, format: Format, rows: usize, cols: usize) -> Result<()> {
        let loading = Loading::new(slot, format, rows, cols)?;
        self.loading.insert(slot, loading);
        Ok(())
    }

    async fn upload(&mut self, slot: Slot, first_row: usize, bytes: &[u8]) -> Result<()> {
        match self.loading.get_mut(&slot) {
            Some(loading) => loading.upload(first_row, bytes),
            None => Err(Error::BadRequest(format!("{slot:?} was not allocated"))),
        }
    }

    async fn finish(&mut self) -> Result<()> {
        let weights = Weights::new(&self.spec, std::mem::take(&mut self.loading))?;
        self.rope = RopeTables::new(&self.spec, &weights, self.rope_factors)?;
        self.batch = Batch::new(&self.spec)?;
        self.weights = Some(weights);
        Ok(())
    }

    fn expect_positions(&mut self, positions: usize) -> Result<bool> {
        let factors = self.spec.rope_factors(positions);
        if factors == self.rope_factors {
            return Ok(false);
        }
        self.rope = RopeTables::new(&self.spec, loaded(&self.weights)?, factors)?;
        self.rope_factors = factors;
        self.cache.clear();
        Ok(true)
    }

    fn reusable(&self, positions: usize) -> usize {
        if self.cache.holds(positions) { positions } else { 0 }
    }

    fn embed(&mut self, tokens: &[u32], start: usize) -> Result<()> {
        self.embed_step(tokens, start)
    }

    fn qkv(&mut self, layer: usize) -> Result<()> {
        self.qkv_step(layer)
    }

    fn attention(&mut self, layer: usize) -> Result<()> {
        self.attention_step(layer)
    }

    fn attention_out(&mut self, layer: usize) -> Result<()> {
        self.attention_out_step(layer)
    }

    fn gate_up(&mut self, layer: usize) -> Result<()> {
        self.gate_up_step(layer)
    }

    fn down(&mut self, layer: usize) -> Result<()> {
        self.down_step(layer)
    }

    fn head(&mut self, rows: HeadRows) -> Result<()> {
        self.head_step(rows)
    }

    async fn logits(&mut self) -> Result<&[f32]> {
        Ok(&self.batch.logits)
    }

    async fn hidden(&mut self) -> Result<Vec<f32>> {
        self.hidden_states()
    }

    fn cache_layout(&self) -> Option<&'static str> {
        Some(self.cache.layout())
    }

    fn save_cache(&self, positions: usize, into: &mut Vec<u8>) -> Result<()> {
        self.cache.save(positions, into)
    }

    fn load_cache(&mut self, positions: usize, bytes: &[u8]) -> Result<()> {
        self.cache.load(positions, bytes)
    }

    fn load_adapter(&mut self, id: u32, pairs: &[LowRank]) -> Result<()> {
        self.adapters.load(id, pairs)
    }

    fn unload_adapter(&mut self, id: u32) {
        self.adapters.unload(id);
    }

    fn use_adapters(&mut self, active: &[Active]) -> Result<()> {
        self.adapters.activate(active)
    }

    fn memory(&self) -> Memory {
        Memory {
            weights: self.weights.as_ref().map_or(0, Weights::bytes)
                + self.loading.values().map(Loading::bytes).sum::<u64>()
                + self.adapters.bytes(),
            kv_cache: self.cache.bytes(),
            scratch: self.batch.bytes(),
        }
    }

    fn spec(&self) -> &DecoderSpec {
        &self.spec
    }
}
