//! Embeddings.

use super::{Session, forward};
use crate::Result;
use crate::backend::{Backend, HeadRows};

impl<B: Backend> Session<B> {
    /// The embedding of a text, `[hidden]`: the mean of the hidden states after the final norm over all positions, scaled to length
    /// one. Ends a running request. Also the number of tokens, BOS included where the file wants one.
    ///
    /// Errors: [`Error::ContextExceeded`].
    pub async fn embed(&mut self, text: &str) -> Result<(Vec<f32>, usize)> {
        let tokens = self.raw_prompt(text)?;
        Ok((self.embed_tokens(&tokens).await?, tokens.len()))
    }

    /// As [`Session::embed`], of these tokens as they are.
    pub async fn embed_tokens(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        self.abort();
        self.check_tokens(tokens)?;
        self.use_adapters(&[])?;
        self.cached.clear();
        self.backend.expect_positions(tokens.len())?;
        let hidden = self.backend.spec().hidden;
        let mut mean = vec![0f64; hidden];
        let mut rest = tokens;
        while !rest.is_empty() {
            // A batch has two tokens or more: none is left alone at the end, and a single one is said twice, the second unheard.
            let batches = rest.len().div_ceil(self.backend.max_batch());
            let (batch, later) = rest.split_at(rest.len().div_ceil(batches));
            let batch = if batch.len() == 1 { &[batch[0], batch[0]] } else { batch };
            forward(&mut self.backend, &mut self.cached, batch, HeadRows::None)?;
            let states = self.backend.hidden().await?;
            for state in states.chunks_exact(hidden).take(rest.len()) {
                mean.iter_mut().zip(state).for_each(|(sum, &x)| *sum += f64::from(x));
            }
            rest = later;
        }
        self.cached.clear();
        let norm = mean.iter().map(|x| x * x).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
        Ok(mean.iter().map(|x| (x / norm) as f32).collect())
    }
}
