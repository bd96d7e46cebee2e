//! THE forward pass. Read this first.

use crate::Result;
use crate::backend::{Backend, HeadRows};

/// Runs `tokens` at positions `start..`; the KV cache holds what came before. Logits of `rows` are ready afterwards.
pub fn forward<B: Backend>(backend: &mut B, tokens: &[u32], start: usize, rows: HeadRows) -> Result<()> {
    backend.embed(tokens, start)?;
    for layer in 0..backend.spec().layers {
        backend.qkv(layer)?;
        backend.attention(layer)?;
        backend.attention_out(layer)?;
        backend.gate_up(layer)?;
        backend.down(layer)?;
    }
    backend.head(rows)
}
