//! The products of packed groups with a few tokens, which share what is unpacked.

use std::hint::black_box;

use super::{Dot, Ints, add, kept_zero, put};
use crate::backend::cpu::panel::Group;
use crate::backend::cpu::simd::Streams;
use crate::backend::cpu::simd::formats::Quantized;
use crate::num::v128::*;

impl<F: Quantized, D: Dot> Ints<F, D> {
    #[inline(always)]
    pub(super) unsafe fn multiply_few<const T: usize>(groups: Streams, x: Group, cols: usize, totals: *mut u8) {
        unsafe {
            let (masks, zero) = (Self::masks(), kept_zero(Self::ZERO_SHIFT));
            let (mut first, mut data) = (groups.first, x.data);
            let (mut scale, mut sum, mut minus_sum) = Self::panel(x);
            // As in `tile`.
            let quads = black_box(8 / Self::PARTS);
            for i in 0..groups.count * T {
                put(totals.add(32 * i), [f32x4_splat(0.0); 2]);
            }
            for _ in 0..cols / (32 * Self::SUBS) {
                let mut from_head = Self::HEAD_BYTES;
                for _ in 0..Self::SUBS {
                    let (mut w, mut totals) = (first.add(from_head), totals);
                    for _ in 0..groups.count {
                        let codes = w.add(Self::SCALE_BYTES);
                        let [head, min_head] = Self::heads(w.sub(from_head));
                        if Self::HAS_MIN {
                            let minima = Self::minima(w, head, min_head, &masks);
                            for t in 0..T {
                                add(totals.add(32 * t), minima, [v128_load32_splat(sum.add(t).cast()); 2]);
                            }
                        }
                        let mut data = data;
                        for part in 0..Self::PARTS {
                            let minus_sum = minus_sum.add(part * T);
                            let mut acc: [[v128; 2]; T] =
                                std::array::from_fn(|t| [Self::start(minus_sum.add(t), zero); 2]);
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
                            for (t, acc) in acc.into_iter().enumerate() {
                                let x = v128_load32_splat(scale.add(t).cast());
                                let dot = acc.map(|acc| f32x4_convert_i32x4(D::sum(acc)));
                                add(totals.add(32 * t), dot, [f32x4_mul(s[0], x), f32x4_mul(s[1], x)]);
                            }
                        }
                        w = w.add(groups.apart);
                        totals = totals.add(32 * T);
                    }
                    from_head += Self::BLOCK_BYTES;
                    data = data.add(32 * D::STEPS * T);
                    scale = scale.add(T);
                    sum = sum.add(T);
                    minus_sum = minus_sum.add(Self::PARTS * T);
                }
                first = first.add(from_head);
            }
        }
    }
}
