//! The integer kernel, one for all quantized formats: codes times int8 activations, summed in integers over each block
//! of 32 (or 16) columns, then scaled into f32.
//!
//! A packed group is a run of blocks of 32 columns; K-formats put their floats before every eight of these:
//!
//! ```text
//! head    SuperMin: 8 x f32 scale, 8 x f32 minimum; Super16: 8 x f32
//! block   scales    Half: 8 x f16; HalfMin: 8 x f16, 8 x f16; SuperMin: 8 x u8, 8 x u8; Super16: 2 x 8 x i8
//!         codes     8 vectors, one per quad q: byte 4r + i has column 4q + i, of row r the whole code (4 + HIGH bits),
//!                   above it of row r + 4 the low bits that fit in (4 - HIGH)
//!         rest      2 HIGH vectors: byte 4r + i has the rest of that code (2 HIGH bits) at bits 2 HIGH * (q % REST_QUADS),
//!                   vector q / REST_QUADS
//! ```
//!
//! Q8_0 has in place of both, for each quad and half of the rows, its 16 bytes: byte 4r + i as above where bytes are multiplied
//! as they are; for pairs 4 rows of columns (0, 2), then of (1, 3).
//!
//! `pack` writes that, `reference` reads it one number at a time, and the kernels here read it in vectors.

mod dot;
mod few;
mod one;
mod pack;
mod reference;
mod tile;
mod weights;

pub use dot::{Dot, Narrow, Pairs, Wide};

use std::marker::PhantomData;

use super::formats::{Quantized, Scales};
use super::{Kernel, ROWS, Streams};
use crate::backend::cpu::panel::{Group, HALF_BIAS, Input};
use crate::num::v128::*;

pub struct Ints<F, D>(PhantomData<(F, D)>);

impl<F: Quantized, D: Dot> Ints<F, D> {
    /// Whole bytes, as pairs of 16 bits or as they are.
    const PAIRED: bool = F::HIGH == 4 && D::STEPS == 2;
    const WHOLE: bool = F::HIGH == 4 && D::STEPS == 1;
    /// As the format's, of codes as they are stored.
    const ZERO_SHIFT: u32 = if F::HIGH == 4 { D::BYTE_SHIFT } else { F::ZERO_SHIFT };
    const BYTE_ZERO: u8 = if D::BYTE_SHIFT == 0 { 0 } else { 1 << D::BYTE_SHIFT };
    const HAS_MIN: bool = matches!(F::SCALES, Scales::HalfMin | Scales::SuperMin);
    const HALVES: bool = matches!(F::SCALES, Scales::Half | Scales::HalfMin);
    /// Blocks of 32 columns in a raw block.
    const SUBS: usize = if Self::HALVES { 1 } else { 8 };
    /// Runs of columns with one scale in a block of 32.
    const PARTS: usize = if matches!(F::SCALES, Scales::Super16) { 2 } else { 1 };
    const HEAD_BYTES: usize = match F::SCALES {
        Scales::Half | Scales::HalfMin => 0,
        Scales::SuperMin => 64,
        Scales::Super16 => 32,
    };
    const SCALE_BYTES: usize = if matches!(F::SCALES, Scales::HalfMin) { 32 } else { 16 };
    const CODE_BYTES: usize = if F::HIGH == 4 { 256 } else { 128 };
    const REST_BYTES: usize = if F::HIGH == 4 { 0 } else { 32 * F::HIGH };
    const BLOCK_BYTES: usize = Self::SCALE_BYTES + Self::CODE_BYTES + Self::REST_BYTES;
    /// Bits of a code of rows 4-7 that stand with one of rows 0-3, and those that do not.
    const TOP: usize = 4 - F::HIGH;
    const REST: usize = 2 * F::HIGH;
    /// One token's products are a loop over pairs of quads. Else they are a straight line, with no counter and fewer pointers, but more
    /// addresses: V8 extends no bytes, and splats no four, at an offset.
    const LOOP: bool = Self::PAIRED || (D::STEPS == 2 && F::HIGH == 0 && Self::HALVES);
    /// Quads whose rests share a vector.
    const REST_QUADS: usize = if F::HIGH == 0 || F::HIGH == 4 { 1 } else { 8 / Self::REST };

    /// The floats before eight blocks: of scales and of minima.
    #[inline(always)]
    unsafe fn heads(head: *const u8) -> [[v128; 2]; 2] {
        unsafe {
            let mut heads = [[f32x4_splat(0.0); 2]; 2];
            if Self::HEAD_BYTES > 0 {
                heads[0] = [v128_load(head), v128_load(head.add(16))];
                if Self::HAS_MIN {
                    heads[1] = [v128_load(head.add(32)), v128_load(head.add(48))];
                }
            }
            heads
        }
    }

    #[inline(always)]
    unsafe fn start(minus_sum: *const u32, zero: v128) -> v128 {
        unsafe { start::<D>(minus_sum, Self::ZERO_SHIFT, zero) }
    }

    /// Scales, sums and starts of a panel's group as this format reads them.
    #[inline(always)]
    fn panel(x: Group) -> (*const f32, *const f32, *const u32) {
        let (scale, sum) = if Self::HALVES { (x.half_scale, x.half_scaled_sum) } else { (x.scale, x.scaled_sum) };
        (scale, sum, if Self::PARTS == 2 { x.minus_sum16 } else { x.minus_sum32 })
    }
}

impl<F: Quantized, D: Dot> Kernel for Ints<F, D> {
    const INPUT: Input = D::INPUT;

    fn group_bytes(cols: usize) -> usize {
        let blocks = cols / 32;
        blocks * Self::BLOCK_BYTES + blocks / Self::SUBS * Self::HEAD_BYTES
    }

    fn pack(rows: &[&[u8]; ROWS], out: &mut [u8]) {
        Self::pack_group(rows, out);
    }

    fn unpack(group: &[u8], row: usize, out: &mut [f32]) {
        Self::unpack_row(group, row, out);
    }

    unsafe fn one_token(groups: Streams, x: Group, cols: usize, totals: *mut u8) {
        unsafe { Self::multiply_one(groups, x, cols, totals) }
    }

    unsafe fn few_tokens<const T: usize>(groups: Streams, x: Group, cols: usize, totals: *mut u8) {
        unsafe { Self::multiply_few::<T>(groups, x, cols, totals) }
    }

    fn expanded_bytes(cols: usize) -> usize {
        cols / 32 * Self::EXPANDED_BLOCK
    }

    unsafe fn expand(group: *const u8, cols: usize, out: *mut u8) {
        unsafe { Self::expand_group(group, cols, out) }
    }

    unsafe fn tiles<const T: usize>(expanded: *const u8, count: usize, x: Group, cols: usize, totals: *mut u8) {
        unsafe { Self::multiply_expanded::<T>(expanded, count, x, cols, totals) }
    }
}

/// 2^shift in each i16.
#[inline(always)]
fn kept_zero(shift: u32) -> v128 {
    if shift == 0 { i32x4_splat(0) } else { kept(u16x8_splat(1 << shift)) }
}

/// `zero`: as `kept_zero` makes it.
#[inline(always)]
unsafe fn start<D: Dot>(minus_sum: *const u32, shift: u32, zero: v128) -> v128 {
    match shift {
        0 => i32x4_splat(0),
        // SAFETY: the caller's.
        _ => D::start(unsafe { v128_load32_splat(minus_sum.cast()) }, zero),
    }
}

#[inline(always)]
unsafe fn put(total: *mut u8, sums: [v128; 2]) {
    unsafe { (0..2).for_each(|h| v128_store(total.add(16 * h), sums[h])) }
}

/// The sums that stand at `total`, and `a` times `b`.
#[inline(always)]
unsafe fn add(total: *mut u8, a: [v128; 2], b: [v128; 2]) {
    unsafe { put(total, [0, 1].map(|h| f32x4_madd(a[h], b[h], v128_load(total.add(16 * h))))) }
}

// The panel multiplies the activations' scales by it; the kernel's shifted halves rely on that.
const _: () = assert!(HALF_BIAS == 5.192_296_8e33);
