//! Codes, scales and minima of a packed block, unpacked into vectors.

use super::{Dot, Ints};
use crate::backend::cpu::simd::formats::Quantized;
use crate::num::v128::*;

/// What is masked; see [`kept`].
pub(super) struct Masks {
    /// The whole code of a row of the first four.
    low: v128,
    /// The bits of a code of rows 4-7 that stand above it, and the place of those that stand apart.
    top: v128,
    rest: v128,
    /// Even bytes.
    even: v128,
    /// A half's bits moved into an f32.
    half: v128,
}

impl<F: Quantized, D: Dot> Ints<F, D> {
    #[inline(always)]
    pub(super) fn masks() -> Masks {
        let bits = |n: usize, place: usize| u8x16_splat((((1u32 << n) - 1) << place) as u8);
        // Of the constants of plain 4-bit products LLVM makes fewer and shorter operations.
        let hidden = |mask: v128| if Self::LOOP || (D::STEPS == 2 && F::HIGH == 0) { mask } else { kept(mask) };
        let low = hidden(bits(4 + F::HIGH, 0));
        Masks {
            low,
            top: if F::HIGH == 0 { low } else { hidden(bits(Self::TOP, 0)) },
            rest: if F::HIGH == 0 { low } else { hidden(bits(Self::REST, Self::TOP)) },
            even: if D::STEPS == 1 { low } else { hidden(u16x8_splat(0xff)) },
            half: if Self::HALVES { hidden(i32x4_splat(0x8fff_e000_u32 as i32)) } else { low },
        }
    }

    /// Scales of rows 0-3 and 4-7; halves without their 2^112.
    #[inline(always)]
    pub(super) unsafe fn scales(p: *const u8, head: [v128; 2], signed: bool, masks: &Masks) -> [v128; 2] {
        unsafe {
            if Self::HALVES {
                let half = |p| v128_and(i32x4_shl(i32x4_load_extend_i16x4(p), 13), masks.half);
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

    /// The weights of quad Q: for each step rows 0-3 and 4-7; `p` at the codes, `rest` at the rests.
    #[inline(always)]
    pub(super) unsafe fn quad<const Q: usize>(p: *const u8, rest: *const u8, masks: &Masks) -> [[v128; 2]; 2] {
        unsafe {
            if Self::PAIRED {
                let w = |i: usize| i16x8_load_extend_i8x8(p.add(32 * Q + 8 * i));
                return [[w(0), w(2)], [w(1), w(3)]];
            }
            if Self::WHOLE {
                return [[v128_load(p.add(32 * Q)), v128_load(p.add(32 * Q + 16))]; 2];
            }
            let v = v128_load(p.add(16 * Q));
            let mut w = [v128_and(v, masks.low), v128_and(u16x8_shr(v, 4 + F::HIGH as u32), masks.top)];
            if F::HIGH > 0 {
                let rest = v128_load(rest.add(16 * (Q / Self::REST_QUADS)));
                let from = Self::REST * (Q % Self::REST_QUADS);
                let rest = match from < Self::TOP {
                    true => i16x8_shl(rest, (Self::TOP - from) as u32),
                    false => u16x8_shr(rest, (from - Self::TOP) as u32),
                };
                w[1] = v128_or(w[1], v128_and(rest, masks.rest));
            }
            let [low, high] = w.map(|w| D::weights(w, masks.even));
            [[low[0], high[0]], [low[1], high[1]]]
        }
    }

    /// As `quad`, of one that only the loop knows.
    #[inline(always)]
    pub(super) unsafe fn quad_at(p: *const u8, q: usize, masks: &Masks) -> [[v128; 2]; 2] {
        unsafe {
            if F::HIGH == 4 {
                return Self::quad::<0>(p.add(32 * q), p, masks);
            }
            let v = v128_load(p.add(16 * q));
            let mut w = [v128_and(v, masks.low), v128_and(u16x8_shr(v, 4 + F::HIGH as u32), masks.top)];
            if F::HIGH > 0 {
                let rest = v128_load(p.add(128 + 16 * (q / Self::REST_QUADS)));
                let rest = u16x8_shr(rest, (Self::REST * (q % Self::REST_QUADS)) as u32);
                w[1] = v128_or(w[1], v128_and(i16x8_shl(rest, Self::TOP as u32), masks.rest));
            }
            let [low, high] = w.map(|w| D::weights(w, masks.even));
            [[low[0], high[0]], [low[1], high[1]]]
        }
    }

    /// Minima of rows 0-3 and 4-7, as they are added to the products; of halves without their 2^112.
    #[inline(always)]
    pub(super) unsafe fn minima(p: *const u8, head: [v128; 2], min_head: [v128; 2], masks: &Masks) -> [v128; 2] {
        unsafe {
            let mins = Self::scales(p.add(Self::SCALE_BYTES / 2), min_head, false, masks);
            // The codes count from the zero point; what that stands for goes into the minimum.
            let scales = if F::ZERO_SHIFT > 0 { Self::scales(p, head, false, masks) } else { [f32x4_splat(0.0); 2] };
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
}
