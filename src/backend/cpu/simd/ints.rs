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

use std::hint::black_box;
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
    /// Multiplications that a quad of columns takes; each reads four bytes of activations.
    const STEPS: usize;

    /// Four rows' quads, as bytes below 128, for each of the STEPS.
    fn weights(bytes: v128) -> [v128; 2];
    fn step(acc: v128, w: v128, x: v128) -> v128;
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
    const STEPS: usize = 1;
    #[inline(always)]
    fn weights(bytes: v128) -> [v128; 2] {
        [bytes, bytes]
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

/// Dot product of i16 pairs, columns (0, 2) and then (1, 3) of a quad, into i32: for engines without relaxed SIMD and for
/// signed bytes.
pub struct Pairs;
impl Dot for Pairs {
    const INPUT: Input = Input::I16;
    const STEPS: usize = 2;
    #[inline(always)]
    fn weights(bytes: v128) -> [v128; 2] {
        [v128_and(bytes, u16x8_splat(0xff)), u16x8_shr(bytes, 8)]
    }
    #[inline(always)]
    fn step(acc: v128, w: v128, x: v128) -> v128 {
        i32x4_add(acc, i32x4_dot_i16x8(w, x))
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

    /// The weights of quad Q: for each step rows 0-3 and 4-7; `p` at the low codes.
    #[inline(always)]
    unsafe fn quad<const Q: usize>(p: *const u8) -> [[v128; 2]; 2] {
        unsafe {
            if Self::SIGNED {
                let w = |i: usize| i16x8_load_extend_i8x8(p.add(32 * Q + 8 * i));
                return [[w(0), w(2)], [w(1), w(3)]];
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
            let [low, high] = [D::weights(w[0]), D::weights(w[1])];
            [[low[0], high[0]], [low[1], high[1]]]
        }
    }

    /// Minima of rows 0-3 and 4-7, as they are added to the products; of halves without their 2^112.
    #[inline(always)]
    unsafe fn minima(p: *const u8, head: [v128; 2], min_head: [v128; 2]) -> [v128; 2] {
        unsafe {
            let mins = Self::scales(p.add(Self::SCALE_BYTES / 2), min_head, false);
            // The codes count from the zero point; what that stands for goes into the minimum.
            let scales = if F::ZERO_SHIFT > 0 { Self::scales(p, head, false) } else { [f32x4_splat(0.0); 2] };
            let zero = f32x4_splat((1 << F::ZERO_SHIFT) as f32);
            std::array::from_fn(|h| {
                if Self::HALVES {
                    f32x4_madd(scales[h], zero, mins[h])
                } else {
                    f32x4_sub(f32x4_mul(scales[h], zero), mins[h])
                }
            })
        }
    }

    #[inline(always)]
    unsafe fn heads(w: &mut *const u8) -> [[v128; 2]; 2] {
        unsafe {
            let mut heads = [[f32x4_splat(0.0); 2]; 2];
            if Self::HEAD_BYTES > 0 {
                heads[0] = [v128_load(*w), v128_load(w.add(16))];
                if Self::HAS_MIN {
                    heads[1] = [v128_load(w.add(32)), v128_load(w.add(48))];
                }
                *w = w.add(Self::HEAD_BYTES);
            }
            heads
        }
    }

    #[inline(always)]
    unsafe fn step<const Q: usize>(acc: &mut [v128; 2], w: *const u8, x: *const u8) {
        unsafe {
            let w = Self::quad::<Q>(w);
            for s in 0..D::STEPS {
                let x = v128_load32_splat(x.add((Q * D::STEPS + s) * 4));
                acc[0] = D::step(acc[0], w[s][0], x);
                acc[1] = D::step(acc[1], w[s][1], x);
            }
        }
    }

    #[inline(always)]
    unsafe fn expand_quad<const Q: usize>(w: *const u8, out: *mut u8) {
        unsafe {
            let w = Self::quad::<Q>(w);
            for s in 0..D::STEPS {
                let out = out.add((Q * D::STEPS + s) * 32);
                v128_store(out, w[s][0]);
                v128_store(out.add(16), w[s][1]);
            }
        }
    }

    #[inline(always)]
    unsafe fn start(minus_sum: *const u32) -> v128 {
        unsafe {
            if F::ZERO_SHIFT == 0 {
                i32x4_splat(0)
            } else {
                D::start(v128_load32_splat(minus_sum.cast()), F::ZERO_SHIFT)
            }
        }
    }

    /// Scales, sums and starts of a panel's group as this format reads them.
    #[inline(always)]
    fn panel(x: Group) -> (*const f32, *const f32, *const u32) {
        let (scale, sum) = if Self::HALVES { (x.half_scale, x.half_scaled_sum) } else { (x.scale, x.scaled_sum) };
        (scale, sum, if Self::PARTS == 2 { x.minus_sum16 } else { x.minus_sum32 })
    }

    const EXPANDED_SCALES: usize = 32 * Self::PARTS;
    const EXPANDED_MINIMA: usize = if Self::HAS_MIN { 32 } else { 0 };
    const EXPANDED_BLOCK: usize = Self::EXPANDED_SCALES + Self::EXPANDED_MINIMA + 256 * D::STEPS;
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
    unsafe fn one_token(group: *const u8, x: Group, cols: usize) -> [v128; 2] {
        unsafe {
            let mut total = [f32x4_splat(0.0); 2];
            let (mut w, mut data) = (group, x.data);
            let (mut scale, mut sum, mut minus_sum) = Self::panel(x);
            for _ in 0..cols / (32 * Self::SUBS) {
                let [head, min_head] = Self::heads(&mut w);
                for _ in 0..Self::SUBS {
                    let codes = w.add(Self::SCALE_BYTES);
                    if Self::HAS_MIN {
                        let minima = Self::minima(w, head, min_head);
                        let sum = v128_load32_splat(sum.cast());
                        for h in 0..2 {
                            total[h] = f32x4_madd(minima[h], sum, total[h]);
                        }
                    }
                    let x = v128_load32_splat(scale.cast());
                    let mut finish = |acc: [v128; 2], part: usize| {
                        let s = Self::scales(w.add(8 * part), head, Self::PARTS == 2);
                        for h in 0..2 {
                            let dot = f32x4_convert_i32x4(D::sum(acc[h]));
                            total[h] = f32x4_madd(dot, f32x4_mul(s[h], x), total[h]);
                        }
                    };
                    let mut acc = [Self::start(minus_sum); 2];
                    Self::step::<0>(&mut acc, codes, data);
                    Self::step::<1>(&mut acc, codes, data);
                    Self::step::<2>(&mut acc, codes, data);
                    Self::step::<3>(&mut acc, codes, data);
                    if Self::PARTS == 2 {
                        finish(acc, 0);
                        acc = [Self::start(minus_sum.add(1)); 2];
                    }
                    Self::step::<4>(&mut acc, codes, data);
                    Self::step::<5>(&mut acc, codes, data);
                    Self::step::<6>(&mut acc, codes, data);
                    Self::step::<7>(&mut acc, codes, data);
                    finish(acc, Self::PARTS - 1);
                    w = w.add(Self::BLOCK_BYTES);
                    data = data.add(32 * D::STEPS);
                    scale = scale.add(1);
                    sum = sum.add(1);
                    minus_sum = minus_sum.add(Self::PARTS);
                }
            }
            total
        }
    }

    fn expanded_bytes(cols: usize) -> usize {
        cols / 32 * Self::EXPANDED_BLOCK
    }

    #[inline(always)]
    unsafe fn expand(group: *const u8, cols: usize, out: *mut u8) {
        unsafe {
            let (mut w, mut out) = (group, out);
            for _ in 0..cols / (32 * Self::SUBS) {
                let [head, min_head] = Self::heads(&mut w);
                for _ in 0..Self::SUBS {
                    for part in 0..Self::PARTS {
                        let s = Self::scales(w.add(8 * part), head, Self::PARTS == 2);
                        v128_store(out.add(32 * part), s[0]);
                        v128_store(out.add(32 * part + 16), s[1]);
                    }
                    out = out.add(Self::EXPANDED_SCALES);
                    if Self::HAS_MIN {
                        let minima = Self::minima(w, head, min_head);
                        v128_store(out, minima[0]);
                        v128_store(out.add(16), minima[1]);
                        out = out.add(Self::EXPANDED_MINIMA);
                    }
                    let codes = w.add(Self::SCALE_BYTES);
                    Self::expand_quad::<0>(codes, out);
                    Self::expand_quad::<1>(codes, out);
                    Self::expand_quad::<2>(codes, out);
                    Self::expand_quad::<3>(codes, out);
                    Self::expand_quad::<4>(codes, out);
                    Self::expand_quad::<5>(codes, out);
                    Self::expand_quad::<6>(codes, out);
                    Self::expand_quad::<7>(codes, out);
                    out = out.add(256 * D::STEPS);
                    w = w.add(Self::BLOCK_BYTES);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<const T: usize>(expanded: *const u8, x: Group, cols: usize, total: *mut u8) {
        unsafe {
            let (mut w, mut data) = (expanded, x.data);
            let (mut scale, mut sum, mut minus_sum) = Self::panel(x);
            // An opaque count keeps the steps a loop. Unrolled, they become one block, which LLVM orders accumulator by
            // accumulator, so that all weights and activations are spilled in between.
            let steps = black_box(8 * D::STEPS / Self::PARTS);
            for t in 0..2 * T {
                v128_store(total.add(16 * t), f32x4_splat(0.0));
            }
            for _ in 0..cols / 32 {
                let scales = w;
                w = w.add(Self::EXPANDED_SCALES);
                if Self::HAS_MIN {
                    let minima = [v128_load(w), v128_load(w.add(16))];
                    for t in 0..T {
                        let sum = v128_load32_splat(sum.add(t).cast());
                        for h in 0..2 {
                            let total = total.add(32 * t + 16 * h);
                            v128_store(total, f32x4_madd(minima[h], sum, v128_load(total)));
                        }
                    }
                    w = w.add(Self::EXPANDED_MINIMA);
                }
                for part in 0..Self::PARTS {
                    let mut acc: [[v128; 2]; T] = std::array::from_fn(|t| [Self::start(minus_sum.add(t)); 2]);
                    for _ in 0..steps {
                        let weights = [v128_load(w), v128_load(w.add(16))];
                        for (t, acc) in acc.iter_mut().enumerate() {
                            let x = v128_load32_splat(data.add(4 * t));
                            acc[0] = D::step(acc[0], weights[0], x);
                            acc[1] = D::step(acc[1], weights[1], x);
                        }
                        w = w.add(32);
                        data = data.add(4 * T);
                    }
                    let s = [v128_load(scales.add(32 * part)), v128_load(scales.add(32 * part + 16))];
                    for t in 0..T {
                        let x = v128_load32_splat(scale.add(t).cast());
                        for h in 0..2 {
                            let total = total.add(32 * t + 16 * h);
                            let dot = f32x4_convert_i32x4(D::sum(acc[t][h]));
                            v128_store(total, f32x4_madd(dot, f32x4_mul(s[h], x), v128_load(total)));
                        }
                    }
                    minus_sum = minus_sum.add(T);
                }
                scale = scale.add(T);
                sum = sum.add(T);
            }
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
