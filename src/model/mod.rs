//! Spec + weights + the forward pass.

pub mod adapter;
pub mod arch;
pub mod catalog;
pub mod decoder;
pub mod inspect;
pub mod memory;
pub mod weights;

pub use arch::Blueprint;
