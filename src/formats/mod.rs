//! Bytes to tensors: GGUF headers and the table of quantized formats.

pub mod gguf;
pub mod quant;

pub use gguf::{Checkpoint, Metadata, TensorInfo};
pub use quant::Format;
