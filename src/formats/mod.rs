//! Bytes to tensors: GGUF headers, LoRA adapters and the table of quantized formats.

pub mod gguf;
mod header;
pub mod lora;
pub mod metadata;
pub mod quant;
mod reader;
mod safetensors;
mod sniff;

pub use gguf::{Checkpoint, TensorInfo};
pub use metadata::{Metadata, StringArray, Value};
pub use quant::Format;
