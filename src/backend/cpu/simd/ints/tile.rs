//! Groups unpacked for many tokens, and their products. In a block of 32 columns stand its scales, its minima where there are any, and
//! the codes as they are multiplied, which looks alike for many formats: they share the kernels.

use std::hint::black_box;

use super::weights::Masks;
use super::{Dot, Ints, add, kept_zero, put, start};
use crate::backend::cpu::panel::Group;
use crate::backend::cpu::simd::formats::Quantized;
use crate::num::v128::*;

impl<F: Quantized, D: Dot> Ints<F, D> {
    pub(super) const EXPANDED_BLOCK: usize =
        expanded_scales(Self::PARTS) + expanded_minima(Self::HAS_MIN) + 256 * D::STEPS;

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
    pub(super) unsafe fn expand_group(group: *const u8, cols: usize, out: *mut u8) {
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
                    out = out.add(expanded_scales(Self::PARTS));
                    if Self::HAS_MIN {
                        let minima = Self::minima(w, head, min_head, &masks);
                        v128_store(out, minima[0]);
                        v128_store(out.add(16), minima[1]);
                        out = out.add(expanded_minima(Self::HAS_MIN));
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
    pub(super) unsafe fn multiply_expanded<const T: usize>(
        expanded: *const u8,
        count: usize,
        x: Group,
        cols: usize,
        totals: *mut u8,
    ) {
        let (scale, sum, minus_sum) = Self::panel(x);
        let x = Activations { data: x.data, scale, sum, minus_sum };
        let tile = match (Self::PARTS, Self::HAS_MIN, Self::ZERO_SHIFT) {
            (1, false, 0) => tile::<D, T, 1, false, 0>,
            (1, false, 3) => tile::<D, T, 1, false, 3>,
            (1, false, 4) => tile::<D, T, 1, false, 4>,
            (1, false, 7) => tile::<D, T, 1, false, 7>,
            (1, true, 0) => tile::<D, T, 1, true, 0>,
            (1, true, 4) => tile::<D, T, 1, true, 4>,
            (2, false, 5) => tile::<D, T, 2, false, 5>,
            _ => unreachable!("a format like none before"),
        };
        // SAFETY: the caller's.
        unsafe { tile(expanded, count, x, cols, totals) }
    }
}

const fn expanded_scales(parts: usize) -> usize {
    32 * parts
}

const fn expanded_minima(min: bool) -> usize {
    if min { 32 } else { 0 }
}

/// A panel's group as a format reads it.
#[derive(Clone, Copy)]
struct Activations {
    data: *const u8,
    scale: *const f32,
    sum: *const f32,
    minus_sum: *const u32,
}

/// # Safety
/// As for [`Kernel::tile`](crate::backend::cpu::simd::Kernel::tile).
#[inline(never)]
unsafe fn tile<D: Dot, const T: usize, const PARTS: usize, const MIN: bool, const ZERO_SHIFT: u32>(
    expanded: *const u8,
    count: usize,
    x: Activations,
    cols: usize,
    totals: *mut u8,
) {
    unsafe {
        let (mut w, mut totals) = (expanded, totals);
        // An opaque count keeps the steps a loop. Unrolled, they become one block, which LLVM orders accumulator by
        // accumulator, so that all weights and activations are spilled in between.
        let steps = black_box(8 * D::STEPS / PARTS);
        let zero = kept_zero(ZERO_SHIFT);
        for _ in 0..count {
            let Activations { mut data, mut scale, mut sum, mut minus_sum } = x;
            for t in 0..T {
                put(totals.add(32 * t), [f32x4_splat(0.0); 2]);
            }
            for _ in 0..cols / 32 {
                let scales = w;
                w = w.add(expanded_scales(PARTS));
                if MIN {
                    let minima = [v128_load(w), v128_load(w.add(16))];
                    for t in 0..T {
                        add(totals.add(32 * t), minima, [v128_load32_splat(sum.add(t).cast()); 2]);
                    }
                    w = w.add(expanded_minima(MIN));
                }
                for part in 0..PARTS {
                    let mut acc: [[v128; 2]; T] =
                        std::array::from_fn(|t| [start::<D>(minus_sum.add(t), ZERO_SHIFT, zero); 2]);
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
                    for (t, acc) in acc.into_iter().enumerate() {
                        let x = v128_load32_splat(scale.add(t).cast());
                        let dot = acc.map(|acc| f32x4_convert_i32x4(D::sum(acc)));
                        add(totals.add(32 * t), dot, [f32x4_mul(s[0], x), f32x4_mul(s[1], x)]);
                    }
                    minus_sum = minus_sum.add(T);
                }
                scale = scale.add(T);
                sum = sum.add(T);
            }
            totals = totals.add(32 * T);
        }
    }
}
