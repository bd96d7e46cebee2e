//! Bytes to tensors: GGUF headers and the table of quantized formats.

pub mod gguf;
mod header;
pub mod metadata;
pub mod quant;
mod reader;
mod sniff;

pub use gguf::{Checkpoint, TensorInfo};
pub use metadata::{Metadata, StringArray, Value};
pub use quant::Format;
