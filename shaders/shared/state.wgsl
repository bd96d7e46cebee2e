// Where the run stands. The host writes it at the start of a batch, the sampler after each token.
struct State {
    // Of the batch's first token.
    position: u32,
    // Tokens in the batch.
    tokens: u32,
    // The row of the batch whose logits the head makes.
    last_row: u32,
    // Tokens sampled in this run.
    step: u32,
}
#ifdef STATE_ADVANCES
@group(0) @binding(0) var<storage, read_write> state: State;
#else
@group(0) @binding(0) var<uniform> state: State;
#endif

// Attention over a long context is split, so that it fills the GPU: the host makes the same sum for the grid.
fn split_count(positions: u32) -> u32 {
    return min(MAX_SPLITS, (positions + SPLIT - 1u) / SPLIT);
}
