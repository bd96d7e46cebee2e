//! Embeddings of a batch's tokens into the residual stream.

use super::{CpuBackend, MAX_BATCH, loaded, math};
use crate::backend::check_batch;
use crate::{Error, Result};

impl CpuBackend {
    pub(super) fn embed_step(&mut self, tokens: &[u32], start: usize) -> Result<()> {
        check_batch(&self.spec, tokens, start, self.cache.len, MAX_BATCH)?;
        if !self.cache.holds(start) {
            let message = format!("what position {start} sees is not cached any more: begin the sequence anew");
            return Err(Error::BadRequest(message));
        }
        let end = start + tokens.len();
        let embedding = &loaded(&self.weights)?.embedding;
        self.cache.extend(start, end)?;
        self.rope.prepare(start, tokens.len());
        self.batch.tokens = tokens.len();
        self.batch.start = start;
        for (&token, row) in tokens.iter().zip(self.batch.residual.chunks_exact_mut(self.spec.hidden)) {
            embedding.row(token as usize, row);
            if self.spec.embedding_scale != 1.0 {
                math::scale(row, self.spec.embedding_scale);
            }
        }
        Ok(())
    }
}
