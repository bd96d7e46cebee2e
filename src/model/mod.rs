//! Spec + weights + the forward pass.

pub mod arch;
pub mod decoder;
pub mod memory;
pub mod weights;

pub use arch::Blueprint;
