//! The integer kernel, one for all quantized formats: codes times int8 activations, summed in integers over each block
//! of 32 (or 16) columns, then scaled into f32.
//!
//! A packed group is a run of blocks of 32 columns; K-formats put their floats before every eight of these:
//!
//! ```text
//! head    SuperMin: 8 x f32 scale, 8 x f32 minimum; Super16: 8 x f32
//! block   scales    Half: 8 x f16; HalfMin: 8 x f16, 8 x f16; SuperMin: 8 x u8, 8 x u8; Super16: 2 x 8 x i8
//!         low       8 vectors, one per quad q: byte 4r + i has the low four bits of column 4q + i, of row r in its low
//!                   and of row r + 4 in its high nibble
//!         high      per half h of the rows HIGH vectors: byte 4r + i has at bits HIGH * (q % (8 / HIGH)) the high bits
//!                   of column 4q + i of row 4h + r, vector q / (8 / HIGH)
//! ```
//!
//! Q8_0 has in place of low and high, for each quad and half of the rows, 4 rows of columns (0, 2), then of (1, 3).

use std::marker::PhantomData;

use super::formats::{Quantized, Scales};
use super::{Kernel, ROWS};
use crate::backend::cpu::panel::{Group, HALF_BIAS, Input};
use crate::formats::Format;
use crate::num::half::f16_to_f32;
use crate::num::v128::*;

/// How codes and activations are multiplied. Both ways give the same integers.
pub trait Dot {
    const INPUT: Input;
    /// Bytes of a quad of activations.
    const QUAD: usize;
    type Weights: Copy;
    type Activations: Copy;

    /// Four rows' quads, as bytes below 128.
    fn weights(bytes: v128) -> Self::Weights;
    /// # Safety
    /// 16 readable bytes: four rows of columns (0, 2), then of (1, 3), signed.
    unsafe fn signed_weights(p: *const u8) -> Self::Weights;
    /// # Safety
    /// QUAD readable bytes.
    unsafe fn activations(p: *const u8) -> Self::Activations;
    fn step(acc: v128, w: Self::Weights, x: Self::Activations) -> v128;
    /// Where the accumulators start: the splatted `minus_sum` of the panel times the zero point.
    fn start(minus_sum: v128, zero_shift: u32) -> v128;
    /// One i32 per row.
    fn sum(acc: v128) -> v128;
}

/// Relaxed dot product into pairs of i16. A block's sums fit: 16 columns of a lane, times 127, times at most 16 of a
/// code less its zero point (8 columns times 32 for Q6_K) stay within 32512; in between the lanes may wrap.
pub struct Bytes;
impl Dot for Bytes {
    const INPUT: Input = Input::I8;
    const QUAD: usize = 4;
    type Weights = v128;
    type Activations = v128;
    #[inline(always)]
    fn weights(bytes: v128) -> v128 {
        bytes
    }
    unsafe fn signed_weights(_: *const u8) -> v128 {
        unreachable!("signed bytes are no 7-bit operand")
    }
    #[inline(always)]
    unsafe fn activations(p: *const u8) -> v128 {
        unsafe { v128_load32_splat(p) }
    }
    #[inline(always)]
    fn step(acc: v128, w: v128, x: v128) -> v128 {
        i16x8_add(acc, i16x8_dot_i8x16_i7x16(x, w))
    }
    #[inline(always)]
    fn start(minus_sum: v128, zero_shift: u32) -> v128 {
        i16x8_shl(minus_sum, zero_shift)
    }
    #[inline(always)]
    fn sum(acc: v128) -> v128 {
        i32x4_extadd_pairwise_i16x8(acc)
    }
}

/// Dot product of i16 pairs into i32, for engines without relaxed SIMD and for signed bytes.
pub struct Pairs;
impl Dot for Pairs {
    const INPUT: Input = Input::I16;
    const QUAD: usize = 8;
    type Weights = [v128; 2];
    type Activations = [v128; 2];
    #[inline(always)]
    fn weights(bytes: v128) -> [v128; 2] {
        [v128_and(bytes, u16x8_splat(0xff)), u16x8_shr(bytes, 8)]
    }
    #[inline(always)]
    unsafe fn signed_weights(p: *const u8) -> [v128; 2] {
        unsafe { [i16x8_load_extend_i8x8(p), i16x8_load_extend_i8x8(p.add(8))] }
    }
    #[inline(always)]
    unsafe fn activations(p: *const u8) -> [v128; 2] {
        unsafe { [v128_load32_splat(p), v128_load32_splat(p.add(4))] }
    }
    #[inline(always)]
    fn step(acc: v128, w: [v128; 2], x: [v128; 2]) -> v128 {
        let acc = i32x4_add(acc, i32x4_dot_i16x8(w[0], x[0]));
        i32x4_add(acc, i32x4_dot_i16x8(w[1], x[1]))
    }
    #[inline(always)]
    fn start(minus_sum: v128, zero_shift: u32) -> v128 {
        i32x4_shl(minus_sum, zero_shift)
    }
    #[inline(always)]
    fn sum(acc: v128) -> v128 {
        acc
    }
}

pub struct Ints<F, D>(PhantomData<(F, D)>);

impl<F: Quantized, D: Dot> Ints<F, D> {
    const SIGNED: bool = F::HIGH == 4;
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
    const LOW_BYTES: usize = if Self::SIGNED { 256 } else { 128 };
    const HIGH_BYTES: usize = if Self::SIGNED { 0 } else { 32 * F::HIGH };
    const BLOCK_BYTES: usize = Self::SCALE_BYTES + Self::LOW_BYTES + Self::HIGH_BYTES;

    /// Scales of rows 0-3 and 4-7; halves without their 2^112.
    #[inline(always)]
    unsafe fn scales(p: *const u8, head: [v128; 2], signed: bool) -> [v128; 2] {
        unsafe {
            if Self::HALVES {
                let half = |p| v128_and(i32x4_shl(i32x4_load_extend_i16x4(p), 13), i32x4_splat(0x8fff_e000_u32 as i32));
                [half(p), half(p.add(8))]
            } else {
                let [low, high] = if signed {
                    let s = i16x8_load_extend_i8x8(p);
                    [i32x4_extend_low_i16x8(s), i32x4_extend_high_i16x8(s)]
                } else {
                    let s = u16x8_load_extend_u8x8(p);
                    [u32x4_extend_low_u16x8(s), u32x4_extend_high_u16x8(s)]
                };
                [f32x4_mul(f32x4_convert_i32x4(low), head[0]), f32x4_mul(f32x4_convert_i32x4(high), head[1])]
            }
        }
    }

    /// The weights of quad Q of rows 0-3 and 4-7; `p` at the low codes.
    #[inline(always)]
    unsafe fn quad<const Q: usize>(p: *const u8) -> [D::Weights; 2] {
        unsafe {
            if Self::SIGNED {
                return [D::signed_weights(p.add(32 * Q)), D::signed_weights(p.add(32 * Q + 16))];
            }
            let v = v128_load(p.add(16 * Q));
            let mask = u8x16_splat(15);
            let mut w = [v128_and(v, mask), v128_and(u16x8_shr(v, 4), mask)];
            if F::HIGH > 0 {
                let (per, bits) = (8 / F::HIGH, (1 << F::HIGH) - 1);
                let shift = F::HIGH * (Q % per);
                for (h, w) in w.iter_mut().enumerate() {
                    let high = v128_load(p.add(128 + 16 * (F::HIGH * h + Q / per)));
                    let high = match shift {
                        0..4 => i16x8_shl(high, 4 - shift as u32),
                        4 => high,
                        _ => u16x8_shr(high, shift as u32 - 4),
                    };
                    *w = v128_or(*w, v128_and(high, u8x16_splat(bits << 4)));
                }
            }
            [D::weights(w[0]), D::weights(w[1])]
        }
    }

    #[inline(always)]
    unsafe fn step<const T: usize, const Q: usize>(acc: &mut [[v128; 2]; T], w: *const u8, x: *const u8) {
        unsafe {
            let [low, high] = Self::quad::<Q>(w);
            for (t, acc) in acc.iter_mut().enumerate() {
                let x = D::activations(x.add((Q * T + t) * D::QUAD));
                acc[0] = D::step(acc[0], low, x);
                acc[1] = D::step(acc[1], high, x);
            }
        }
    }
}

impl<F: Quantized, D: Dot> Kernel for Ints<F, D> {
    const FORMAT: Format = F::FORMAT;
    const INPUT: Input = D::INPUT;

    fn group_bytes(cols: usize) -> usize {
        let blocks = cols / 32;
        blocks * Self::BLOCK_BYTES + blocks / Self::SUBS * Self::HEAD_BYTES
    }

    fn pack(rows: &[&[u8]; ROWS], out: &mut [u8]) {
        let raw_bytes = F::FORMAT.block_bytes();
        let whole = Self::HEAD_BYTES + Self::SUBS * Self::BLOCK_BYTES;
        for (i, out) in out.chunks_exact_mut(whole).enumerate() {
            let raw: [&[u8]; ROWS] = rows.map(|row| &row[i * raw_bytes..][..raw_bytes]);
            let (head, blocks) = out.split_at_mut(Self::HEAD_BYTES);
            for (r, raw) in raw.iter().enumerate() {
                let (scale, min) = F::head(raw);
                for (half, place) in [scale, min].into_iter().zip(head.chunks_exact_mut(32)) {
                    place[4 * r..][..4].copy_from_slice(&f16_to_f32(half).to_le_bytes());
                }
            }
            for (sub, block) in blocks.chunks_exact_mut(Self::BLOCK_BYTES).enumerate() {
                Self::pack_block(&raw, sub, block);
            }
        }
    }

    fn unpack(group: &[u8], row: usize, out: &mut [f32]) {
        let whole = Self::HEAD_BYTES + Self::SUBS * Self::BLOCK_BYTES;
        for (packed, out) in group.chunks_exact(whole).zip(out.chunks_exact_mut(32 * Self::SUBS)) {
            let (head, blocks) = packed.split_at(Self::HEAD_BYTES);
            let head: Vec<f32> = head
                .chunks_exact(32)
                .map(|h| f32::from_le_bytes(h[4 * row..][..4].try_into().expect("four bytes")))
                .collect();
            for (block, out) in blocks.chunks_exact(Self::BLOCK_BYTES).zip(out.chunks_exact_mut(32)) {
                for (col, out) in out.iter_mut().enumerate() {
                    let (scale, min) = Self::scale_of(block, &head, row, col / 16);
                    *out = scale * Self::code_of(block, row, col) as f32 - min;
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<const T: usize>(group: *const u8, x: Group, cols: usize) -> [[v128; 2]; T] {
        unsafe {
            let zero = f32x4_splat(0.0);
            let mut total = [[zero; 2]; T];
            let mut w = group;
            let mut data = x.data;
            let (mut scale, mut sum) =
                if Self::HALVES { (x.half_scale, x.half_scaled_sum) } else { (x.scale, x.scaled_sum) };
            let mut minus_sum = if Self::PARTS == 2 { x.minus_sum16 } else { x.minus_sum32 };
            for _ in 0..cols / (32 * Self::SUBS) {
                let (mut head, mut min_head) = ([zero; 2], [zero; 2]);
                if Self::HEAD_BYTES > 0 {
                    head = [v128_load(w), v128_load(w.add(16))];
                    if Self::HAS_MIN {
                        min_head = [v128_load(w.add(32)), v128_load(w.add(48))];
                    }
                    w = w.add(Self::HEAD_BYTES);
                }
                for _ in 0..Self::SUBS {
                    let codes = w.add(Self::SCALE_BYTES);
                    if Self::HAS_MIN {
                        let mut mins = Self::scales(w.add(Self::SCALE_BYTES / 2), min_head, false);
                        if F::ZERO_SHIFT > 0 {
                            // The codes count from the zero point; what it stands for goes into the minimum.
                            let s = Self::scales(w, head, false);
                            let zero = (1 << F::ZERO_SHIFT) as f32;
                            let zero = f32x4_splat(if Self::HALVES { zero } else { -zero });
                            for h in 0..2 {
                                mins[h] = f32x4_madd(s[h], zero, mins[h]);
                            }
                        }
                        for (t, total) in total.iter_mut().enumerate() {
                            let sum = v128_load32_splat(sum.add(t).cast());
                            for (total, min) in total.iter_mut().zip(mins) {
                                *total = if matches!(F::SCALES, Scales::HalfMin) {
                                    f32x4_madd(min, sum, *total)
                                } else {
                                    f32x4_sub(*total, f32x4_mul(min, sum))
                                };
                            }
                        }
                    }
                    let mut acc = [[i32x4_splat(0); 2]; T];
                    let start = |acc: &mut [[v128; 2]; T], at: *const u32| {
                        for (t, acc) in acc.iter_mut().enumerate() {
                            *acc = [if F::ZERO_SHIFT == 0 {
                                i32x4_splat(0)
                            } else {
                                D::start(v128_load32_splat(at.add(t).cast()), F::ZERO_SHIFT)
                            }; 2];
                        }
                    };
                    let mut finish = |acc: &[[v128; 2]; T], part: usize| {
                        let s = Self::scales(w.add(8 * part), head, Self::PARTS == 2);
                        for t in 0..T {
                            let x = v128_load32_splat(scale.add(t).cast());
                            for h in 0..2 {
                                let dot = f32x4_convert_i32x4(D::sum(acc[t][h]));
                                total[t][h] = f32x4_madd(dot, f32x4_mul(s[h], x), total[t][h]);
                            }
                        }
                    };
                    start(&mut acc, minus_sum);
                    Self::step::<T, 0>(&mut acc, codes, data);
                    Self::step::<T, 1>(&mut acc, codes, data);
                    Self::step::<T, 2>(&mut acc, codes, data);
                    Self::step::<T, 3>(&mut acc, codes, data);
                    if Self::PARTS == 2 {
                        finish(&acc, 0);
                        start(&mut acc, minus_sum.add(T));
                    }
                    Self::step::<T, 4>(&mut acc, codes, data);
                    Self::step::<T, 5>(&mut acc, codes, data);
                    Self::step::<T, 6>(&mut acc, codes, data);
                    Self::step::<T, 7>(&mut acc, codes, data);
                    finish(&acc, Self::PARTS - 1);
                    w = w.add(Self::BLOCK_BYTES);
                    data = data.add(8 * T * D::QUAD);
                    scale = scale.add(T);
                    sum = sum.add(T);
                    minus_sum = minus_sum.add(T * Self::PARTS);
                }
            }
            total
        }
    }
}

impl<F: Quantized, D: Dot> Ints<F, D> {
    fn pack_block(raw: &[&[u8]; ROWS], sub: usize, out: &mut [u8]) {
        let (scales, codes) = out.split_at_mut(Self::SCALE_BYTES);
        for (r, raw) in raw.iter().enumerate() {
            for part in 0..Self::PARTS {
                let (scale, min) = F::scales(raw, sub, part);
                if Self::HALVES {
                    scales[2 * r..][..2].copy_from_slice(&scale.to_le_bytes());
                    if Self::HAS_MIN {
                        scales[16 + 2 * r..][..2].copy_from_slice(&min.to_le_bytes());
                    }
                } else {
                    scales[8 * part + r] = scale as u8;
                    if Self::HAS_MIN {
                        scales[8 + r] = min as u8;
                    }
                }
            }
        }
        if Self::SIGNED {
            for q in 0..8 {
                for (r, raw) in raw.iter().enumerate() {
                    let [a, b, c, d] = F::quad(raw, sub, q).to_le_bytes();
                    let at = 32 * q + 16 * (r / 4) + 2 * (r % 4);
                    codes[at..at + 2].copy_from_slice(&[a, c]);
                    codes[at + 8..at + 10].copy_from_slice(&[b, d]);
                }
            }
            return;
        }
        let (low, high) = codes.split_at_mut(128);
        high.fill(0);
        for q in 0..8 {
            for r in 0..4 {
                let quads = [F::quad(raw[r], sub, q), F::quad(raw[r + 4], sub, q)];
                let nibbles = (quads[0] & 0x0f0f_0f0f) | ((quads[1] & 0x0f0f_0f0f) << 4);
                low[16 * q + 4 * r..][..4].copy_from_slice(&nibbles.to_le_bytes());
                if F::HIGH > 0 {
                    let per = 8 / F::HIGH;
                    for (h, quad) in quads.iter().enumerate() {
                        let bits = ((quad >> 4) & 0x0f0f_0f0f) << (F::HIGH * (q % per));
                        let place = &mut high[16 * (F::HIGH * h + q / per) + 4 * r..][..4];
                        for (place, bits) in place.iter_mut().zip(bits.to_le_bytes()) {
                            *place |= bits;
                        }
                    }
                }
            }
        }
    }

    /// The code less its zero point.
    fn code_of(block: &[u8], row: usize, col: usize) -> i32 {
        let codes = &block[Self::SCALE_BYTES..];
        let (q, i, h, r) = (col / 4, col % 4, row / 4, row % 4);
        if Self::SIGNED {
            return (codes[32 * q + 16 * h + 8 * (i % 2) + 2 * r + i / 2] as i8).into();
        }
        let mut code = (codes[16 * q + 4 * r + i] >> (4 * h)) & 15;
        if F::HIGH > 0 {
            let per = 8 / F::HIGH;
            let high = codes[128 + 16 * (F::HIGH * h + q / per) + 4 * r + i] >> (F::HIGH * (q % per));
            code |= (high & ((1 << F::HIGH) - 1)) << 4;
        }
        i32::from(code) - if Self::HAS_MIN { 0 } else { 1 << F::ZERO_SHIFT }
    }

    /// Scale, and what to subtract.
    fn scale_of(block: &[u8], head: &[f32], row: usize, part: usize) -> (f32, f32) {
        let half = |at: usize| f16_to_f32(u16::from_le_bytes([block[at + 2 * row], block[at + 2 * row + 1]]));
        match F::SCALES {
            Scales::Half => (half(0), 0.0),
            Scales::HalfMin => (half(0), -half(16)),
            Scales::SuperMin => (f32::from(block[row]) * head[0], f32::from(block[8 + row]) * head[1]),
            Scales::Super16 => (f32::from(block[8 * part + row] as i8) * head[0], 0.0),
        }
    }
}

// The panel multiplies the activations' scales by it; the kernel's shifted halves rely on that.
const _: () = assert!(HALF_BIAS == 5.192_296_8e33);
