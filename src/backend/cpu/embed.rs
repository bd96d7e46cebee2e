//! Embeddings of a batch's tokens into the residual stream.

use super::{CpuBackend, MAX_BATCH, math};
use crate::{Error, Result};

impl CpuBackend {
    pub(super) fn embed_step(&mut self, tokens: &[u32], start: usize) -> Result<()> {
        let spec = &self.spec;
        let end = start + tokens.len();
        if tokens.is_empty() || tokens.len() > MAX_BATCH || start > self.cache.len {
            return Err(Error::BadRequest(format!(
                "a batch has 1 to {MAX_BATCH} tokens and starts at most at {}, not {} at {start}",
                self.cache.len,
                tokens.len()
            )));
        }
        if end > spec.context_length {
            return Err(Error::ContextExceeded { prompt: end, context: spec.context_length });
        }
        if let Some(token) = tokens.iter().find(|&&t| t as usize >= spec.vocab) {
            return Err(Error::BadRequest(format!("token {token} is outside the vocabulary of {}", spec.vocab)));
        }
        self.weights()?;
        self.cache.grow(end)?;
        self.cache.len = end;
        self.rope.prepare(start, tokens.len());
        self.batch.tokens = tokens.len();
        self.batch.start = start;
        let embedding = &self.weights.as_ref().expect("looked at above").embedding;
        for (&token, row) in tokens.iter().zip(self.batch.residual.chunks_exact_mut(self.spec.hidden)) {
            embedding.row(token as usize, row);
            if self.spec.embedding_scale != 1.0 {
                math::scale(row, self.spec.embedding_scale);
            }
        }
        Ok(())
    }
}
