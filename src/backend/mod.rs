//! The fused steps of a decoder, on the CPU and on the GPU. A backend owns the weights in its own layout, the
//! activations and the KV cache; the decoder (`model/decoder.rs`) only says which step comes next.

pub mod any;
// Kernels say remainders and guards in the arithmetic's own words, and index several arrays in step.
#[allow(
    clippy::manual_is_multiple_of,
    clippy::manual_checked_ops,
    clippy::excessive_precision,
    clippy::needless_range_loop
)]
pub mod cpu;
pub mod lora;
pub mod rope;
pub mod sampling;
pub mod spec;
#[cfg(feature = "webgpu")]
pub mod webgpu;

use crate::formats::Format;
use crate::{Error, Result};
use lora::{Active, LowRank};
pub use sampling::{Sampled, Sampling};
pub use spec::DecoderSpec;

/// Where a tensor goes. Fused tensors of a file (Phi's `attn_qkv`) are cut into these by `model/weights.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    /// `[vocab, hidden]`; also the head where the two are tied.
    TokenEmbedding,
    OutputNorm,
    /// `[vocab, hidden]`, untied heads only.
    Head,
    /// `[rotary_dim / 2]`: divisors of the rotary frequencies.
    RopeFactors(RopeFactors),
    Layer(usize, LayerSlot),
}

impl Slot {
    /// Norms, biases and factors are vectors, of one row.
    pub fn is_matrix(self) -> bool {
        use LayerSlot::*;
        matches!(
            self,
            Slot::TokenEmbedding
                | Slot::Head
                | Slot::Layer(_, Query | Key | Value | AttentionOutput | Gate | Up | Down)
        )
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RopeFactors {
    /// Llama 3's single tensor, and Phi's for short contexts.
    Short,
    Long,
}

/// Matrices are `[rows = outputs, columns = inputs]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LayerSlot {
    AttentionNorm,
    Query,
    Key,
    Value,
    QueryBias,
    KeyBias,
    ValueBias,
    QueryNorm,
    KeyNorm,
    AttentionOutput,
    PostAttentionNorm,
    FfnNorm,
    Gate,
    Up,
    Down,
    PostFfnNorm,
}

/// A tensor to come: matrices are `[rows, cols]`, vectors have one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorShape {
    pub slot: Slot,
    pub format: Format,
    pub rows: usize,
    pub cols: usize,
}

/// Which positions of a batch the head is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadRows {
    /// The logits of no position: all chunks of a prompt but the last.
    None,
    Last,
    All,
}

/// What every backend asks of a batch: 1 to `most` known tokens that begin within what is cached, and end within the
/// context.
fn check_batch(spec: &DecoderSpec, tokens: &[u32], start: usize, cached: usize, most: usize) -> Result<()> {
    let end = start + tokens.len();
    if tokens.is_empty() || tokens.len() > most || start > cached {
        return Err(Error::BadRequest(format!(
            "a batch has 1 to {most} tokens and starts at most at {cached}, not {} at {start}",
            tokens.len()
        )));
    }
    if end > spec.context_length {
        return Err(Error::ContextExceeded { prompt: end, context: spec.context_length });
    }
    match tokens.iter().find(|&&token| token as usize >= spec.vocab) {
        Some(token) => Err(Error::BadRequest(format!("token {token} is outside the vocabulary of {}", spec.vocab))),
        None => Ok(()),
    }
}

/// Weights first (`prepare`, `allocate`, `upload` ..., `finish`), then batches: `embed`, the five steps of each layer, `head`, `logits`.
#[allow(async_fn_in_trait)]
pub trait Backend {
    fn name(&self) -> &'static str;

    /// The most tokens the next batch should have.
    fn max_batch(&self) -> usize;

    /// All tensors that will come: a backend that fuses matrices, or compiles kernels while they arrive, wants to know.
    fn prepare(&mut self, tensors: &[TensorShape]) -> Result<()> {
        let _ = tensors;
        Ok(())
    }

    /// Makes room for a tensor of `[rows, cols]` (vectors: one row). Errors: [`crate::Error::OutOfMemory`].
    fn allocate(&mut self, slot: Slot, format: Format, rows: usize, cols: usize) -> Result<()>;

    /// Whole rows from `first_row` on, raw as in the file; packed here. Rows come in order.
    async fn upload(&mut self, slot: Slot, first_row: usize, bytes: &[u8]) -> Result<()>;

    /// All tensors are there: scratch buffers and tables are made; a GPU is tested. Errors: [`crate::Error::GpuUntrusted`].
    async fn finish(&mut self) -> Result<()>;

    /// The sequence to come has so many positions: longrope turns a long one by other factors from its beginning on, as
    /// `transformers` does for a fresh prompt. Said before its first batch, and whenever it has grown. `true`: what the cache
    /// held is void.
    fn expect_positions(&mut self, positions: usize) -> Result<bool>;

    /// How many of the first `positions`, all cached, a sequence can keep that goes on behind them: all, or none where what they
    /// see has been overwritten since.
    fn reusable(&self, positions: usize) -> usize {
        positions
    }

    /// Gathers the embeddings of `tokens` into the residual stream; they stand at positions `start..start + tokens.len()`.
    /// The KV cache must hold `0..start` and grows as needed.
    fn embed(&mut self, tokens: &[u32], start: usize) -> Result<()>;

    /// Norm, Q K V products, biases, QK norms, RoPE, K and V into the cache.
    fn qkv(&mut self, layer: usize) -> Result<()>;

    /// Causal attention of the batch's queries over the cache.
    fn attention(&mut self, layer: usize) -> Result<()>;

    /// Output product (and post-norm), added to the residual stream.
    fn attention_out(&mut self, layer: usize) -> Result<()>;

    /// Norm, gate and up products, activation(gate) * up.
    fn gate_up(&mut self, layer: usize) -> Result<()>;

    /// Down product (and post-norm), added to the residual stream.
    fn down(&mut self, layer: usize) -> Result<()>;

    /// Final norm and head for the rows asked for.
    fn head(&mut self, rows: HeadRows) -> Result<()>;

    /// Waits until few enough batches are under way: without it a long prompt would be queued at once, and nothing would
    /// say how long its batches take ([`Backend::max_batch`] follows that). Errors: whatever failed on the device.
    async fn catch_up(&mut self) -> Result<()> {
        Ok(())
    }

    /// The largest batch whose logits are the same bits, position by position, as those of single tokens, and that costs less
    /// than as many of these: what a draft is checked in. 1: none.
    fn checkable_batch(&self) -> usize {
        1
    }

    /// A backend for a draft model, on the same threads. Errors: [`Error::BadRequest`] where this one checks no drafts.
    fn beside(&self, spec: DecoderSpec) -> Result<Self>
    where
        Self: Sized,
    {
        let _ = spec;
        Err(Error::BadRequest(format!("the backend {} takes no draft model", self.name())))
    }

    /// The last `head`'s logits, `[rows, vocab]`.
    async fn logits(&mut self) -> Result<&[f32]>;

    /// The hidden states of the last batch after the final norm, `[tokens, hidden]`: what embeddings are made of. The batch has two
    /// tokens or more, and its `head` was asked for no row.
    async fn hidden(&mut self) -> Result<Vec<f32>>;

    /// After a `head` of the last position: from now on the backend chooses the tokens, running ahead of whoever takes
    /// them with [`Backend::next_sampled`]. `false`: it cannot do what is asked; take the logits instead.
    fn start_sampling(&mut self, sampling: &Sampling) -> Result<bool> {
        let _ = sampling;
        Ok(false)
    }

    /// The next token. The cache then holds everything before it. At most [`Sampling::limit`] of them.
    async fn next_sampled(&mut self) -> Result<Sampled> {
        Err(crate::Error::BadRequest("this backend does not sample".into()))
    }

    /// No more tokens are wanted; what was computed ahead is forgotten.
    fn stop_sampling(&mut self) {}

    /// How the cache's bytes are laid out, which changes whenever [`Backend::load_cache`] could not read older ones. `None`: they
    /// cannot be had.
    fn cache_layout(&self) -> Option<&'static str> {
        None
    }

    /// Appends keys and values of the first `positions`, which the cache holds.
    ///
    /// Errors: [`Error::OutOfMemory`]; [`Error::BadRequest`] where the cache has none of them any more.
    fn save_cache(&self, positions: usize, into: &mut Vec<u8>) -> Result<()> {
        let _ = (positions, into);
        Err(Error::BadRequest(format!("the backend {} saves no cache", self.name())))
    }

    /// Makes the cache hold what [`Backend::save_cache`] gave for as many positions of a model with the same spec.
    ///
    /// Errors: [`Error::BadRequest`] where the bytes are not as many; [`Error::OutOfMemory`].
    fn load_cache(&mut self, positions: usize, bytes: &[u8]) -> Result<()> {
        let _ = (positions, bytes);
        Err(Error::BadRequest(format!("the backend {} takes no saved cache", self.name())))
    }

    /// Takes an adapter in under a number that is free; its pairs fit the slots (`model/adapter.rs`).
    ///
    /// Errors: [`Error::Adapter`] where the backend has none, [`Error::OutOfMemory`].
    fn load_adapter(&mut self, id: u32, pairs: &[LowRank]) -> Result<()> {
        let _ = (id, pairs);
        Err(Error::Adapter(format!("the backend {} takes none", self.name())))
    }

    /// Of an adapter that takes no part any more.
    fn unload_adapter(&mut self, id: u32) {
        let _ = id;
    }

    /// From the next batch on these adapters, all loaded, and no others add to the products.
    fn use_adapters(&mut self, active: &[Active]) -> Result<()> {
        match active {
            [] => Ok(()),
            [(id, _), ..] => Err(Error::Adapter(format!("{id} is not loaded"))),
        }
    }

    /// Dispatches of one token on a GPU.
    fn dispatches_per_token(&self) -> usize {
        0
    }

    /// What the GPU is called.
    fn adapter(&self) -> Option<String> {
        None
    }

    /// Threads of this machine that compute.
    fn threads(&self) -> usize {
        1
    }

    /// Bytes of weights, cache and scratch held.
    fn memory(&self) -> Memory;

    /// The spec the backend was made for.
    fn spec(&self) -> &DecoderSpec;
}

/// Bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    pub weights: u64,
    pub kv_cache: u64,
    pub scratch: u64,
}

impl Memory {
    /// Of two models.
    pub fn and(self, other: Memory) -> Memory {
        Memory {
            weights: self.weights + other.weights,
            kv_cache: self.kv_cache + other.kv_cache,
            scratch: self.scratch + other.scratch,
        }
    }

    pub fn total(&self) -> u64 {
        self.weights.saturating_add(self.kv_cache).saturating_add(self.scratch)
    }
}
