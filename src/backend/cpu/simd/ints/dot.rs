//! The ways to multiply codes with activations.

use crate::backend::cpu::panel::Input;
use crate::num::v128::*;

/// How codes and activations are multiplied. All ways give the same integers.
pub trait Dot {
    const INPUT: Input;
    /// Multiplications that a quad of columns takes; each reads four bytes of activations.
    const STEPS: usize;
    /// Whole signed bytes are stored as what they are and 2^BYTE_SHIFT, or (0) as they are.
    const BYTE_SHIFT: u32 = 0;

    /// Four rows' quads, as bytes below 128, for each of the STEPS; `even`: a mask of even bytes.
    #[inline(always)]
    fn weights(bytes: v128, _even: v128) -> [v128; 2] {
        [bytes, bytes]
    }
    fn step(acc: v128, w: v128, x: v128) -> v128;
    /// Where the accumulators start: the splatted `minus_sum` of the panel times the zero point, which is in each i16.
    #[inline(always)]
    fn start(minus_sum: v128, zero: v128) -> v128 {
        i32x4_dot_i16x8(minus_sum, zero)
    }
    /// One i32 per row.
    #[inline(always)]
    fn sum(acc: v128) -> v128 {
        acc
    }
}

/// Relaxed dot product into pairs of i16. A block's sums fit: 16 columns of a lane, times 127, times at most 16 of a
/// code less its zero point (8 columns times 32 for Q6_K) stay within 32512; in between the lanes may wrap.
pub struct Narrow;
impl Dot for Narrow {
    const INPUT: Input = Input::I8;
    const STEPS: usize = 1;
    #[inline(always)]
    fn step(acc: v128, w: v128, x: v128) -> v128 {
        i16x8_add(acc, i16x8_dot_i8x16_i7x16(x, w))
    }
    #[inline(always)]
    fn start(minus_sum: v128, zero: v128) -> v128 {
        i16x8_mul(minus_sum, zero)
    }
    #[inline(always)]
    fn sum(acc: v128) -> v128 {
        i32x4_extadd_pairwise_i16x8(acc)
    }
}

/// Relaxed dot product into i32, where it is one instruction, whose second operand is unsigned or SIGNED.
pub struct Wide<const SIGNED: bool>;
impl<const SIGNED: bool> Dot for Wide<SIGNED> {
    const INPUT: Input = Input::I8;
    const STEPS: usize = 1;
    const BYTE_SHIFT: u32 = if SIGNED { 0 } else { 7 };
    #[inline(always)]
    fn step(acc: v128, w: v128, x: v128) -> v128 {
        i32x4_dot_i8x16_add::<SIGNED>(x, w, acc)
    }
}

/// Dot product of i16 pairs, columns (0, 2) and then (1, 3) of a quad, into i32: for engines without relaxed SIMD and, where
/// that is not [`Wide`], for signed bytes.
pub struct Pairs;
impl Dot for Pairs {
    const INPUT: Input = Input::I16;
    const STEPS: usize = 2;
    #[inline(always)]
    fn weights(bytes: v128, even: v128) -> [v128; 2] {
        [v128_and(bytes, even), u16x8_shr(bytes, 8)]
    }
    #[inline(always)]
    fn step(acc: v128, w: v128, x: v128) -> v128 {
        i32x4_add(acc, i32x4_dot_i16x8(w, x))
    }
}
