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
//! Q8_0 has in place of both, for each quad and half of the rows, 4 rows of columns (0, 2), then of (1, 3).
//!
//! `pack` writes that, `reference` reads it one number at a time, and the kernels here read it in vectors.

mod dot;
mod pack;
mod reference;
mod weights;

pub use dot::{Bytes, Dot, Pairs};
use weights::Masks;

use std::hint::black_box;
use std::marker::PhantomData;

use super::formats::{Quantized, Scales};
use super::{Kernel, ROWS, Streams};
use crate::backend::cpu::panel::{Group, HALF_BIAS, Input};
use crate::formats::Format;
use crate::num::v128::*;

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
    const CODE_BYTES: usize = if Self::SIGNED { 256 } else { 128 };
    const REST_BYTES: usize = if Self::SIGNED { 0 } else { 32 * F::HIGH };
    const BLOCK_BYTES: usize = Self::SCALE_BYTES + Self::CODE_BYTES + Self::REST_BYTES;
    /// Bits of a code of rows 4-7 that stand with one of rows 0-3, and those that do not.
    const TOP: usize = 4 - F::HIGH;
    const REST: usize = 2 * F::HIGH;
    /// One token's products are a loop over pairs of quads. Else they are a straight line, with no counter and fewer pointers, but more
    /// addresses: V8 extends no bytes, and splats no four, at an offset.
    const LOOP: bool = Self::SIGNED || (D::STEPS == 2 && F::HIGH == 0 && Self::HALVES);
    /// Quads whose rests share a vector.
    const REST_QUADS: usize = if Self::SIGNED || F::HIGH == 0 { 1 } else { 8 / Self::REST };

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
    unsafe fn step<const Q: usize>(acc: &mut [v128; 2], w: *const u8, rest: *const u8, x: *const u8, masks: &Masks) {
        unsafe {
            let w = Self::quad::<Q>(w, rest, masks);
            for s in 0..D::STEPS {
                let x = v128_load32_splat(x.add((Q * D::STEPS + s) * 4));
                acc[0] = D::step(acc[0], w[s][0], x);
                acc[1] = D::step(acc[1], w[s][1], x);
            }
        }
    }

    #[inline(always)]
    unsafe fn expand_quad<const Q: usize>(w: *const u8, out: *mut u8, masks: &Masks) {
        unsafe {
            let w = Self::quad::<Q>(w, w.add(Self::CODE_BYTES), masks);
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

    #[inline(always)]
    unsafe fn put(total: *mut u8, sums: [v128; 2]) {
        unsafe { (0..2).for_each(|h| v128_store(total.add(16 * h), sums[h])) }
    }

    /// The sums that stand at `total`, and `a` times `b`.
    #[inline(always)]
    unsafe fn add(total: *mut u8, a: [v128; 2], b: [v128; 2]) {
        unsafe { Self::put(total, [0, 1].map(|h| f32x4_madd(a[h], b[h], v128_load(total.add(16 * h))))) }
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
        Self::pack_group(rows, out);
    }

    fn unpack(group: &[u8], row: usize, out: &mut [f32]) {
        Self::unpack_row(group, row, out);
    }

    #[inline(always)]
    unsafe fn one_token(groups: Streams, x: Group, cols: usize, totals: *mut u8) {
        unsafe {
            let masks = Self::masks();
            let (mut first, mut data) = (groups.first, x.data);
            let (mut scale, mut sum, mut minus_sum) = Self::panel(x);
            // What LLVM must not know. It sinks what an accumulator is made of to where that is used: of all eight quads, one
            // accumulator after the other, this takes more registers than there are, and how slow the spills are depends
            // on how the engine's stack happens to be aligned. It does not do so across the rounds of a loop, nor where the
            // accumulators might be a result.
            let (runs, never) = (black_box(4), black_box(0_usize));
            for i in 0..groups.count {
                Self::put(totals.add(32 * i), [f32x4_splat(0.0); 2]);
            }
            for _ in 0..cols / (32 * Self::SUBS) {
                let mut from_head = Self::HEAD_BYTES;
                for _ in 0..Self::SUBS {
                    let (mut w, mut total) = (first.add(from_head), totals);
                    for _ in 0..groups.count {
                        let codes = w.add(Self::SCALE_BYTES);
                        let rest = codes.add(Self::CODE_BYTES);
                        let [head, min_head] = Self::heads(w.sub(from_head));
                        if Self::HAS_MIN {
                            let minima = Self::minima(w, head, min_head, &masks);
                            Self::add(total, minima, [v128_load32_splat(sum.cast()); 2]);
                        }
                        let x = v128_load32_splat(scale.cast());
                        let mut data = data;
                        for part in 0..Self::PARTS {
                            let mut acc = [Self::start(minus_sum.add(part)); 2];
                            if Self::LOOP {
                                let mut codes = codes;
                                for _ in 0..runs {
                                    Self::step::<0>(&mut acc, codes, rest, data, &masks);
                                    Self::step::<1>(&mut acc, codes, rest, data, &masks);
                                    codes = codes.add(Self::CODE_BYTES / 4);
                                    data = data.add(8 * D::STEPS);
                                }
                            } else {
                                if part == 0 {
                                    Self::step::<0>(&mut acc, codes, rest, data, &masks);
                                    Self::step::<1>(&mut acc, codes, rest, data, &masks);
                                    if data as usize == never {
                                        return Self::put(total, acc);
                                    }
                                    Self::step::<2>(&mut acc, codes, rest, data, &masks);
                                    Self::step::<3>(&mut acc, codes, rest, data, &masks);
                                }
                                if Self::PARTS == 1 && data as usize == never.wrapping_add(1) {
                                    return Self::put(total, acc);
                                }
                                if part + 1 == Self::PARTS {
                                    Self::step::<4>(&mut acc, codes, rest, data, &masks);
                                    Self::step::<5>(&mut acc, codes, rest, data, &masks);
                                    if data as usize == never.wrapping_add(2) {
                                        return Self::put(total, acc);
                                    }
                                    Self::step::<6>(&mut acc, codes, rest, data, &masks);
                                    Self::step::<7>(&mut acc, codes, rest, data, &masks);
                                }
                            }
                            let s = Self::scales(w.add(8 * part), head, Self::PARTS == 2, &masks);
                            let dot = acc.map(|acc| f32x4_convert_i32x4(D::sum(acc)));
                            Self::add(total, dot, [f32x4_mul(s[0], x), f32x4_mul(s[1], x)]);
                        }
                        w = w.add(groups.apart);
                        total = total.add(32);
                    }
                    from_head += Self::BLOCK_BYTES;
                    data = data.add(32 * D::STEPS);
                    scale = scale.add(1);
                    sum = sum.add(1);
                    minus_sum = minus_sum.add(Self::PARTS);
                }
                first = first.add(from_head);
            }
        }
    }

    #[inline(always)]
    unsafe fn few_tokens<const T: usize>(group: *const u8, x: Group, cols: usize, total: *mut u8) {
        unsafe {
            let masks = Self::masks();
            let (mut w, mut data) = (group, x.data);
            let (mut scale, mut sum, mut minus_sum) = Self::panel(x);
            // As in `tile`.
            let quads = black_box(8 / Self::PARTS);
            for t in 0..2 * T {
                v128_store(total.add(16 * t), f32x4_splat(0.0));
            }
            let add = |t: usize, h: usize, a: v128, b: v128| {
                let total = total.add(32 * t + 16 * h);
                v128_store(total, f32x4_madd(a, b, v128_load(total)));
            };
            for _ in 0..cols / (32 * Self::SUBS) {
                let [head, min_head] = Self::heads(w);
                w = w.add(Self::HEAD_BYTES);
                for _ in 0..Self::SUBS {
                    let codes = w.add(Self::SCALE_BYTES);
                    if Self::HAS_MIN {
                        let minima = Self::minima(w, head, min_head, &masks);
                        for t in 0..T {
                            let sum = v128_load32_splat(sum.add(t).cast());
                            (0..2).for_each(|h| add(t, h, minima[h], sum));
                        }
                    }
                    for part in 0..Self::PARTS {
                        let mut acc: [[v128; 2]; T] = std::array::from_fn(|t| [Self::start(minus_sum.add(t)); 2]);
                        for q in part * quads..(part + 1) * quads {
                            let weights = Self::quad_at(codes, q, &masks);
                            for weights in &weights[..D::STEPS] {
                                for (t, acc) in acc.iter_mut().enumerate() {
                                    let x = v128_load32_splat(data.add(4 * t));
                                    acc[0] = D::step(acc[0], weights[0], x);
                                    acc[1] = D::step(acc[1], weights[1], x);
                                }
                                data = data.add(4 * T);
                            }
                        }
                        let s = Self::scales(w.add(8 * part), head, Self::PARTS == 2, &masks);
                        for t in 0..T {
                            let x = v128_load32_splat(scale.add(t).cast());
                            for h in 0..2 {
                                add(t, h, f32x4_convert_i32x4(D::sum(acc[t][h])), f32x4_mul(s[h], x));
                            }
                        }
                        minus_sum = minus_sum.add(T);
                    }
                    w = w.add(Self::BLOCK_BYTES);
                    scale = scale.add(T);
                    sum = sum.add(T);
                }
            }
        }
    }

    fn expanded_bytes(cols: usize) -> usize {
        cols / 32 * Self::EXPANDED_BLOCK
    }

    #[inline(always)]
    unsafe fn expand(group: *const u8, cols: usize, out: *mut u8) {
        unsafe {
            let masks = Self::masks();
            let (mut w, mut out) = (group, out);
            for _ in 0..cols / (32 * Self::SUBS) {
                let [head, min_head] = Self::heads(w);
                w = w.add(Self::HEAD_BYTES);
                for _ in 0..Self::SUBS {
                    for part in 0..Self::PARTS {
                        let s = Self::scales(w.add(8 * part), head, Self::PARTS == 2, &masks);
                        v128_store(out.add(32 * part), s[0]);
                        v128_store(out.add(32 * part + 16), s[1]);
                    }
                    out = out.add(Self::EXPANDED_SCALES);
                    if Self::HAS_MIN {
                        let minima = Self::minima(w, head, min_head, &masks);
                        v128_store(out, minima[0]);
                        v128_store(out.add(16), minima[1]);
                        out = out.add(Self::EXPANDED_MINIMA);
                    }
                    let codes = w.add(Self::SCALE_BYTES);
                    Self::expand_quad::<0>(codes, out, &masks);
                    Self::expand_quad::<1>(codes, out, &masks);
                    Self::expand_quad::<2>(codes, out, &masks);
                    Self::expand_quad::<3>(codes, out, &masks);
                    Self::expand_quad::<4>(codes, out, &masks);
                    Self::expand_quad::<5>(codes, out, &masks);
                    Self::expand_quad::<6>(codes, out, &masks);
                    Self::expand_quad::<7>(codes, out, &masks);
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

// The panel multiplies the activations' scales by it; the kernel's shifted halves rely on that.
const _: () = assert!(HALF_BIAS == 5.192_296_8e33);
