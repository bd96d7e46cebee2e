//! How much memory a model will need, known from its header: a refusal before the download is kinder than a crash after it.

use super::arch::Blueprint;
use super::catalog::{self, Choice};
use super::weights::shapes;
use crate::backend::{DecoderSpec, Memory, TensorShape, cpu};
use crate::formats::Checkpoint;
use crate::{Error, Result};

/// A wasm32 instance addresses 4 GiB.
const WASM_LIMIT: u64 = limit_of_heap(4 << 30);
/// For the rest of the engine and the allocator's gaps. Enough for a vocabulary of 262,144 tokens.
const BESIDE: u64 = 160 << 20;

/// Of the wasm heap before there is a model: stack, tables, and what the allocator keeps back.
const HEAP_BASE: u64 = 2 << 20;
/// Bytes of the tokenizer, and of what it is made of, to one of the header (measured: 1.5 to 2).
const HEAP_OF_HEADER: u64 = 2;

/// A longer context is for those who ask for it: its cache is large.
const DEFAULT_CONTEXT: usize = 4096;
/// A context that is not worth having.
const SHORTEST_CONTEXT: usize = 256;
/// More than any memory holds, and few enough to reckon with.
const LONGEST_CONTEXT: usize = 1 << 30;

/// What a session holds unless it is asked for more or less.
pub fn default_context(spec: &DecoderSpec) -> usize {
    spec.context_length.min(DEFAULT_CONTEXT)
}

/// What weights, cache and scratch may take by default: known in wasm32 only.
pub fn default_limit() -> Option<u64> {
    cfg!(target_arch = "wasm32").then_some(WASM_LIMIT)
}

/// What they may take of a heap of so many bytes.
pub const fn limit_of_heap(bytes: u64) -> u64 {
    bytes.saturating_sub(BESIDE)
}

/// What they may take in a page.
pub fn browser_limit() -> u64 {
    WASM_LIMIT
}

/// A model as far as memory is concerned.
pub struct Model<'a> {
    spec: DecoderSpec,
    tensors: Vec<TensorShape>,
    checkpoint: &'a Checkpoint,
}

impl<'a> Model<'a> {
    /// At the context of the blueprint. Errors: [`Error::UnsupportedType`].
    pub fn new(blueprint: &Blueprint, checkpoint: &'a Checkpoint) -> Result<Model<'a>> {
        Ok(Model { spec: blueprint.spec.clone(), tensors: shapes(checkpoint, blueprint)?, checkpoint })
    }

    fn with_context(&self, context_length: usize) -> DecoderSpec {
        DecoderSpec { context_length: context_length.min(LONGEST_CONTEXT), ..self.spec.clone() }
    }

    /// With one thread; each further one has some scratch of its own, less than 0.1 MB.
    pub fn on_cpu(&self, context_length: usize) -> Memory {
        cpu::estimate(&self.with_context(context_length), &self.tensors, 1)
    }

    /// Errors: [`Error::OutOfMemory`] where a buffer exceeds a binding.
    #[cfg(feature = "webgpu")]
    pub fn on_gpu(&self, context_length: usize, room: crate::backend::webgpu::Room) -> Result<Memory> {
        crate::backend::webgpu::estimate(&self.with_context(context_length), &self.tensors, room)
    }

    /// Of the wasm heap, in a page whose GPU holds the model: the first layer stands there too while it is tested.
    #[cfg(feature = "webgpu")]
    pub fn heap_beside_gpu(&self) -> u64 {
        self.heap_beside() + crate::backend::webgpu::SelfTest::estimate(&self.spec, &self.tensors).total()
    }

    /// Of the wasm heap, beside weights, cache and scratch: the tokenizer, and while it is made the header that it is
    /// made of.
    pub fn heap_beside(&self) -> u64 {
        let header = self.checkpoint.tensors.first().map_or(0, |tensor| tensor.offset);
        HEAP_BASE + HEAP_OF_HEADER * header
    }

    /// The longest context, up to a given one, with which the CPU holds it in `limit` bytes.
    fn fitting_context(&self, longest: usize, limit: u64) -> Option<usize> {
        let fits = |context| self.on_cpu(context).total() <= limit;
        let (mut fitting, mut beyond) = (SHORTEST_CONTEXT, longest.max(SHORTEST_CONTEXT).saturating_add(1));
        if !fits(fitting) {
            return None;
        }
        while fitting + 1 < beyond {
            let middle = fitting + (beyond - fitting) / 2;
            if fits(middle) { fitting = middle } else { beyond = middle }
        }
        Some(fitting)
    }

    /// What to take where `limit` bytes do not hold it with this context: a shorter one, or the catalogue's nearest model
    /// that they do hold.
    pub fn nearest(&self, context_length: usize, limit: u64) -> Option<Choice> {
        if let Some(context_length) = self.fitting_context(context_length, limit) {
            return Some(Choice::Context(context_length));
        }
        let parameters = self.checkpoint.tensors.iter().map(|tensor| tensor.elements()).sum();
        let name = self.checkpoint.metadata.string("general.name").ok().flatten().unwrap_or_default();
        catalog::nearest(&self.spec.architecture, name, parameters, context_length, limit)
    }

    /// As a draft model beside a model that needs `others` bytes. Errors: [`Error::OutOfMemory`] where `limit` bytes do not hold
    /// both.
    pub fn check_beside(&self, others: u64, limit: u64) -> Result<()> {
        let need_bytes = self.on_cpu(self.spec.context_length).total();
        let available_bytes = limit.saturating_sub(others);
        if need_bytes <= available_bytes {
            return Ok(());
        }
        let what = "the draft model beside the model".into();
        let advice = "leave it out, or choose smaller ones or a shorter context".into();
        Err(Error::OutOfMemory { what, need_bytes, available_bytes, advice })
    }

    /// Errors: [`Error::OutOfMemory`] where the CPU cannot hold it in `limit` bytes, naming what could be held instead.
    pub fn check(&self, limit: u64) -> Result<()> {
        let context_length = self.spec.context_length;
        let need_bytes = self.on_cpu(context_length).total();
        if need_bytes <= limit {
            return Ok(());
        }
        let advice = match self.nearest(context_length, limit) {
            Some(choice) => choice.to_string(),
            None => "choose a smaller model or a smaller quantization of it (Q4_0 or Q4_K_M)".into(),
        };
        let what = format!("the model with a context of {context_length} tokens");
        Err(Error::OutOfMemory { what, need_bytes, available_bytes: limit, advice })
    }
}
