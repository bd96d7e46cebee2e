//! What an adapter adds to the products of a layer.

use super::LayerSlot;
pub use crate::formats::lora::Factor;

/// W x becomes W x + scale * B (A x), for one matrix; its rows are in the order of the slot's.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    pub layer: usize,
    /// A matrix.
    pub slot: LayerSlot,
    /// `[rank, cols]`
    pub a: Factor,
    /// `[rows, rank]`
    pub b: Factor,
    pub scale: f32,
}

/// An adapter that takes part, and how much of it.
pub type Active = (u32, f32);
