//! Streams a checkpoint's tensors, in file order, into a backend.

use super::arch::{Blueprint, TensorPlan};
use crate::backend::Backend;
use crate::formats::{Checkpoint, TensorInfo};
use crate::source::ByteSource;
use crate::{Error, Result};
use std::collections::HashMap;

/// What is read at once: large enough for a disk or a network, small beside the model.
const CHUNK_BYTES: usize = 1 << 20;

/// Chunks begin at multiples of this many rows, so that a backend can interleave rows without waiting for the next one.
pub const ROW_GROUP: usize = 16;

/// Reads every tensor of the blueprint once, forwards only, and hands it to `backend` in chunks of rows. Tensors that the
/// blueprint does not name are skipped. `progress(bytes done, bytes in all)`.
pub async fn stream<S: ByteSource, B: Backend>(
    shards: &mut [S],
    checkpoint: &Checkpoint,
    blueprint: &Blueprint,
    backend: &mut B,
    mut progress: impl FnMut(u64, u64),
) -> Result<()> {
    let plans: HashMap<&str, &TensorPlan> = blueprint.tensors.iter().map(|plan| (plan.name.as_str(), plan)).collect();
    let used = || checkpoint.tensors.iter().filter_map(|tensor| Some((tensor, *plans.get(tensor.name.as_str())?)));
    let total = used().map(|(tensor, _)| tensor.bytes).sum();
    let mut done = 0;
    let mut chunk = Vec::new();
    progress(done, total);
    for (tensor, plan) in used() {
        let mut offset = tensor.offset;
        let row_bytes = row_bytes(tensor, plan)?;
        let chunk_rows = (CHUNK_BYTES / row_bytes).next_multiple_of(ROW_GROUP).max(ROW_GROUP);
        for &(slot, rows) in &plan.parts {
            backend.allocate(slot, tensor.format, rows, plan.cols)?;
            for first_row in (0..rows).step_by(chunk_rows) {
                chunk.resize(chunk_rows.min(rows - first_row) * row_bytes, 0);
                let read = shards[tensor.shard].read_at(offset, &mut chunk).await;
                read.map_err(|error| named(error, &tensor.name))?;
                backend.upload(slot, first_row, &chunk)?;
                offset += chunk.len() as u64;
                done += chunk.len() as u64;
                progress(done, total);
            }
        }
    }
    drop(chunk);
    backend.finish()
}

fn row_bytes(tensor: &TensorInfo, plan: &TensorPlan) -> Result<usize> {
    let block = tensor.format.block_len();
    if !plan.cols.is_multiple_of(block) {
        let problem = format!("has rows of {} elements, no multiple of {}'s {block}", plan.cols, tensor.format.name());
        return Err(Error::Metadata { key: tensor.name.clone(), problem });
    }
    Ok(tensor.format.row_bytes(plan.cols))
}

/// A file that ends early is better explained by the tensor's name than by "a read".
fn named(error: Error, tensor: &str) -> Error {
    match error {
        Error::Truncated { need, have, .. } => Error::Truncated { what: format!("tensor {tensor}"), need, have },
        other => other,
    }
}
