//! The products of packed groups with a single token.

use std::hint::black_box;

use super::weights::Masks;
use super::{Dot, Ints, add, kept_zero, put};
use crate::backend::cpu::panel::Group;
use crate::backend::cpu::simd::Streams;
use crate::backend::cpu::simd::formats::Quantized;
use crate::num::v128::*;

impl<F: Quantized, D: Dot> Ints<F, D> {
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
    pub(super) unsafe fn multiply_one(groups: Streams, x: Group, cols: usize, totals: *mut u8) {
        unsafe {
            let (masks, zero) = (Self::masks(), kept_zero(Self::ZERO_SHIFT));
            let (mut first, mut data) = (groups.first, x.data);
            let (mut scale, mut sum, mut minus_sum) = Self::panel(x);
            // What LLVM must not know. It sinks what an accumulator is made of to where that is used: of all eight quads, one
            // accumulator after the other, this takes more registers than there are, and how slow the spills are depends
            // on how the engine's stack happens to be aligned. It does not do so across the rounds of a loop, nor where the
            // accumulators might be a result.
            let (runs, never) = (black_box(4), black_box(0_usize));
            for i in 0..groups.count {
                put(totals.add(32 * i), [f32x4_splat(0.0); 2]);
            }
            for _ in 0..cols / (32 * Self::SUBS) {
                let mut from_head = Self::HEAD_BYTES;
                for _ in 0..Self::SUBS {
                    let (mut w, mut total) = (first.add(from_head), totals);
                    let of_activations = || {
                        let starts = [0, 1].map(|part| {
                            if part < Self::PARTS { Self::start(minus_sum.add(part), zero) } else { f32x4_splat(0.0) }
                        });
                        (starts, v128_load32_splat(scale.cast()), v128_load32_splat(sum.cast()))
                    };
                    let for_all = of_activations();
                    for _ in 0..groups.count {
                        // The same for all groups, which LLVM cannot know, as sums are written in between; but the masks of
                        // five bits and six leave no registers.
                        let (starts, x, sum_of_x) = if F::HIGH % 4 == 0 { for_all } else { of_activations() };
                        let codes = w.add(Self::SCALE_BYTES);
                        let rest = codes.add(Self::CODE_BYTES);
                        let [head, min_head] = Self::heads(w.sub(from_head));
                        if Self::HAS_MIN {
                            let minima = Self::minima(w, head, min_head, &masks);
                            add(total, minima, [sum_of_x; 2]);
                        }
                        let mut data = data;
                        for part in 0..Self::PARTS {
                            let mut acc = [starts[part]; 2];
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
                                        return put(total, acc);
                                    }
                                    Self::step::<2>(&mut acc, codes, rest, data, &masks);
                                    Self::step::<3>(&mut acc, codes, rest, data, &masks);
                                }
                                if Self::PARTS == 1 && data as usize == never.wrapping_add(1) {
                                    return put(total, acc);
                                }
                                if part + 1 == Self::PARTS {
                                    Self::step::<4>(&mut acc, codes, rest, data, &masks);
                                    Self::step::<5>(&mut acc, codes, rest, data, &masks);
                                    if data as usize == never.wrapping_add(2) {
                                        return put(total, acc);
                                    }
                                    Self::step::<6>(&mut acc, codes, rest, data, &masks);
                                    Self::step::<7>(&mut acc, codes, rest, data, &masks);
                                }
                            }
                            let s = Self::scales(w.add(8 * part), head, Self::PARTS == 2, &masks);
                            let dot = acc.map(|acc| f32x4_convert_i32x4(D::sum(acc)));
                            add(total, dot, [f32x4_mul(s[0], x), f32x4_mul(s[1], x)]);
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
}
