//! Streams a checkpoint's tensors, in file order, into a backend.

use super::arch::{Blueprint, TensorPlan};
use crate::Result;
use crate::backend::{Backend, TensorShape};
use crate::formats::Checkpoint;
use crate::source::ByteSource;
use std::collections::HashMap;

/// What is read at once: large enough for a disk or a network, small beside the model.
const CHUNK_BYTES: usize = 1 << 20;

/// Chunks begin at multiples of this many rows, so that a backend can interleave rows without waiting for the next one.
pub const ROW_GROUP: usize = 16;

/// The tensors that a backend will hold, in file order, fused ones in their parts.
pub fn shapes(checkpoint: &Checkpoint, blueprint: &Blueprint) -> Result<Vec<TensorShape>> {
    let plans: HashMap<&str, &TensorPlan> = blueprint.tensors.iter().map(|plan| (plan.name.as_str(), plan)).collect();
    let mut shapes = Vec::new();
    for tensor in &checkpoint.tensors {
        let Some(plan) = plans.get(tensor.name.as_str()) else { continue };
        let format = tensor.format()?;
        shapes.extend(plan.parts.iter().map(|&(slot, rows)| TensorShape { slot, format, rows, cols: plan.cols }));
    }
    Ok(shapes)
}

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
    backend.prepare(&shapes(checkpoint, blueprint)?)?;
    let mut done = 0;
    let mut chunk = Vec::new();
    progress(done, total);
    for (tensor, plan) in used() {
        let format = tensor.format()?;
        let row_bytes = format.row_bytes(plan.cols);
        let mut start = 0;
        let chunk_rows = (CHUNK_BYTES / row_bytes).next_multiple_of(ROW_GROUP).max(ROW_GROUP);
        for &(slot, rows) in &plan.parts {
            backend.allocate(slot, format, rows, plan.cols)?;
            for first_row in (0..rows).step_by(chunk_rows) {
                chunk.resize(chunk_rows.min(rows - first_row) * row_bytes, 0);
                checkpoint.read(shards, tensor, start, &mut chunk).await?;
                backend.upload(slot, first_row, &chunk).await?;
                start += chunk.len() as u64;
                done += chunk.len() as u64;
                progress(done, total);
            }
        }
    }
    drop(chunk);
    backend.finish().await
}
