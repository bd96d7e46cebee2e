//! Numbers below everything else: half floats and 128-bit vectors.

pub mod half;
pub mod v128;
