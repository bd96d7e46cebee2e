//! Numbers below everything else: half floats, 128-bit vectors, the exponential.

pub mod exp;
pub mod half;
pub mod v128;
