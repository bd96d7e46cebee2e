//! Spec + weights + the forward pass.

pub mod arch;
pub mod decoder;
pub mod weights;
