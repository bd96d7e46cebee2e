//! F32, F16 and BF16: eight rows of each column side by side, multiplied in f32.

use super::{Kernel, ROWS, STREAMS, Streams};
use crate::backend::cpu::panel::{Group, HALF_BIAS, Input};
use crate::formats::Format;
use crate::num::v128::*;

/// Sums of a row that go on at the same time.
const CHAINS: usize = 4;

/// Columns of a group that are read at once; whole turns of the chains.
const SLICE: usize = 64;

/// Implements Kernel for a format of `$bytes` per weight; `$load` turns eight weights at a pointer into two vectors.
macro_rules! float_kernel {
    ($name:ident, $bytes:literal, $load:expr) => {
        pub struct $name;
        impl $name {
            /// A token whose columns are `step` bytes apart.
            ///
            /// # Safety
            /// As for `one_token`.
            #[inline(never)]
            unsafe fn token(groups: Streams, x: *const u8, step: usize, cols: usize, totals: *mut u8) {
                let load = $load;
                // Columns in turn, so that a product need not wait for the one before.
                let mut chains = [[[f32x4_splat(0.0); 2]; CHAINS]; STREAMS];
                for first in (0..cols).step_by(SLICE) {
                    let end = cols.min(first + SLICE);
                    let whole = first + (end - first) / CHAINS * CHAINS;
                    for (s, chains) in chains[..groups.count].iter_mut().enumerate() {
                        let add = |k: usize, total: &mut [v128; 2]| {
                            // SAFETY: the caller's; `load` reads the eight weights of one column.
                            unsafe {
                                let w: [v128; 2] = load(groups.first.add(s * groups.apart + k * ROWS * $bytes));
                                let x = v128_load32_splat(x.add(step * k));
                                total[0] = f32x4_madd(w[0], x, total[0]);
                                total[1] = f32x4_madd(w[1], x, total[1]);
                            }
                        };
                        let mut sums = *chains;
                        for k in (first..whole).step_by(CHAINS) {
                            for (chain, sum) in sums.iter_mut().enumerate() {
                                add(k + chain, sum);
                            }
                        }
                        for (k, sum) in (whole..end).zip(&mut sums) {
                            add(k, sum);
                        }
                        *chains = sums;
                    }
                }
                for (s, [a, b, c, d]) in chains[..groups.count].iter().enumerate() {
                    for i in 0..2 {
                        // SAFETY: the caller's.
                        unsafe {
                            let sum = f32x4_add(f32x4_add(a[i], b[i]), f32x4_add(c[i], d[i]));
                            v128_store(totals.add(32 * s + 16 * i), sum);
                        }
                    }
                }
            }
        }

        impl Kernel for $name {
            const INPUT: Input = Input::F32;

            fn group_bytes(cols: usize) -> usize {
                cols * ROWS * $bytes
            }

            fn pack(rows: &[&[u8]; ROWS], out: &mut [u8]) {
                for (r, row) in rows.iter().enumerate() {
                    for (weight, out) in row.chunks_exact($bytes).zip(out.chunks_exact_mut(ROWS * $bytes)) {
                        out[r * $bytes..][..$bytes].copy_from_slice(weight);
                    }
                }
            }

            fn unpack(group: &[u8], row: usize, out: &mut [f32]) {
                for (weights, out) in group.chunks_exact(ROWS * $bytes).zip(out) {
                    Format::$name.dequantize(&weights[row * $bytes..][..$bytes], std::slice::from_mut(out));
                }
            }

            #[inline(always)]
            unsafe fn one_token(groups: Streams, x: Group, cols: usize, totals: *mut u8) {
                unsafe { Self::token(groups, x.data, 4, cols, totals) }
            }

            /// One token after the other, to a group after the other: its weights stay in the cache.
            #[inline(always)]
            unsafe fn few_tokens<const T: usize>(groups: Streams, x: Group, cols: usize, totals: *mut u8) {
                for s in 0..groups.count {
                    for t in 0..T {
                        // SAFETY: the caller's.
                        unsafe {
                            let group = Streams { first: groups.first.add(s * groups.apart), apart: 0, count: 1 };
                            Self::token(group, x.data.add(4 * t), 4 * T, cols, totals.add(32 * (s * T + t)))
                        }
                    }
                }
            }

            fn expanded_bytes(cols: usize) -> usize {
                cols * ROWS * 4
            }

            #[inline(always)]
            unsafe fn expand(group: *const u8, cols: usize, out: *mut u8) {
                let load = $load;
                for k in 0..cols {
                    // SAFETY: the caller's.
                    unsafe {
                        let w: [v128; 2] = load(group.add(k * ROWS * $bytes));
                        v128_store(out.add(32 * k), w[0]);
                        v128_store(out.add(32 * k + 16), w[1]);
                    }
                }
            }

            #[inline(always)]
            unsafe fn tiles<const T: usize>(expanded: *const u8, count: usize, x: Group, cols: usize, totals: *mut u8) {
                for i in 0..count {
                    let mut acc = [[f32x4_splat(0.0); 2]; T];
                    for k in 0..cols {
                        // SAFETY: the caller's.
                        unsafe {
                            let w = expanded.add(32 * (i * cols + k));
                            let w = [v128_load(w), v128_load(w.add(16))];
                            for (t, acc) in acc.iter_mut().enumerate() {
                                let x = v128_load32_splat(x.data.add(4 * (k * T + t)));
                                acc[0] = f32x4_madd(w[0], x, acc[0]);
                                acc[1] = f32x4_madd(w[1], x, acc[1]);
                            }
                        }
                    }
                    for (t, acc) in acc.into_iter().enumerate() {
                        // SAFETY: 32 T bytes.
                        unsafe {
                            let total = totals.add(32 * (i * T + t));
                            v128_store(total, acc[0]);
                            v128_store(total.add(16), acc[1]);
                        }
                    }
                }
            }
        }
    };
}

float_kernel!(F32, 4, |p: *const u8| unsafe { [v128_load(p), v128_load(p.add(16))] });

float_kernel!(BF16, 2, |p: *const u8| {
    let v = unsafe { v128_load(p) };
    [i32x4_shl(u32x4_extend_low_u16x8(v), 16), i32x4_shl(u32x4_extend_high_u16x8(v), 16)]
});

float_kernel!(F16, 2, |p: *const u8| {
    let half = |v| v128_and(i32x4_shl(v, 13), i32x4_splat(0x8fff_e000_u32 as i32));
    let bias = f32x4_splat(HALF_BIAS);
    let v = unsafe { [i32x4_load_extend_i16x4(p), i32x4_load_extend_i16x4(p.add(8))] };
    [f32x4_mul(half(v[0]), bias), f32x4_mul(half(v[1]), bias)]
});
