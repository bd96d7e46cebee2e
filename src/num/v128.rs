//! 128-bit vectors under the names of WebAssembly's instructions. On wasm32 these are the instructions; natively they are
//! portable lane loops, so that every kernel is tested on the machine it is written on. Loads and stores need no
//! alignment.
//!
//! `f32x4_max` and `f32x4_min` are the pseudo ones, one instruction each, whose NaNs are nobody's concern here.
//!
//! The relaxed dot products are only called with a second operand below 128, where all engines agree, unless [`byte_dot`] has
//! told what theirs makes of more.

#![allow(non_camel_case_types)]

#[cfg(all(target_arch = "wasm32", not(target_feature = "simd128")))]
compile_error!("the CPU kernels need WebAssembly SIMD: build with RUSTFLAGS=\"-C target-feature=+simd128\"");

/// What there is to multiply bytes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteDot {
    /// Nothing: they are widened to 16 bits, and multiplied in pairs.
    Pairs,
    /// The relaxed dot product into 16 bits; into 32 it takes two or three instructions more.
    Narrow,
    /// The relaxed dot product into 32 bits, one instruction, which takes all bytes of its second operand as unsigned (x86-64
    /// with AVX-VNNI).
    Unsigned,
    /// The same, as signed (ARM with its dot products).
    Signed,
}

/// Finds out by trying; natively `Narrow`, which costs what the others do.
pub fn byte_dot() -> ByteDot {
    #[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
    {
        // What the second operand's highest bit stands for is the engine's choice, and whether sums of two products saturate at
        // 16 bits or wrap, which only those of one instruction do not.
        let least = u8x16_splat(0x80);
        let dot = |b: u8| {
            let (a, b) = (kept(least), kept(u8x16_splat(b)));
            i32x4_extract_lane::<0>(i32x4_dot_i8x16_add::<false>(a, b, i32x4_splat(0)))
        };
        match [dot(0x80), dot(0xff)] {
            [-65536, -130_560] => ByteDot::Unsigned,
            [65536, 512] => ByteDot::Signed,
            _ => ByteDot::Narrow,
        }
    }
    #[cfg(not(all(target_arch = "wasm32", target_feature = "relaxed-simd")))]
    if cfg!(target_arch = "wasm32") { ByteDot::Pairs } else { ByteDot::Narrow }
}

#[cfg(target_arch = "wasm32")]
pub use wasm::*;
#[cfg(target_arch = "wasm32")]
mod wasm {
    use core::arch::wasm32::{self as w, i8x16_shuffle, i32x4_shuffle};
    pub use core::arch::wasm32::{
        f32x4_abs, f32x4_add, f32x4_convert_i32x4, f32x4_div, f32x4_extract_lane, f32x4_mul, f32x4_neg,
        f32x4_pmax as f32x4_max, f32x4_pmin as f32x4_min, f32x4_splat, f32x4_sub, i8x16_narrow_i16x8, i16x8_add,
        i16x8_mul, i16x8_narrow_i32x4, i16x8_shl, i32x4_add, i32x4_dot_i16x8, i32x4_extadd_pairwise_i16x8,
        i32x4_extend_high_i16x8, i32x4_extend_low_i16x8, i32x4_extract_lane, i32x4_shl, i32x4_shr, i32x4_splat,
        i32x4_sub, u8x16_splat, u16x8_shr, u16x8_splat, u32x4_extend_high_u16x8, u32x4_extend_low_u16x8, v128,
        v128_and, v128_or,
    };

    /// # Safety
    /// `p` is valid for reading 16 bytes.
    #[inline(always)]
    pub unsafe fn v128_load(p: *const u8) -> v128 {
        unsafe { w::v128_load(p.cast()) }
    }
    /// # Safety
    /// `p` is valid for writing 16 bytes.
    #[inline(always)]
    pub unsafe fn v128_store(p: *mut u8, v: v128) {
        unsafe { w::v128_store(p.cast(), v) }
    }
    /// # Safety
    /// `p` is valid for reading 4 bytes.
    #[inline(always)]
    pub unsafe fn v128_load32_splat(p: *const u8) -> v128 {
        unsafe { w::v128_load32_splat(p.cast()) }
    }
    /// # Safety
    /// `p` is valid for reading 8 bytes.
    #[inline(always)]
    pub unsafe fn i16x8_load_extend_i8x8(p: *const u8) -> v128 {
        unsafe { w::i16x8_load_extend_i8x8(p.cast()) }
    }
    /// # Safety
    /// `p` is valid for reading 8 bytes.
    #[inline(always)]
    pub unsafe fn u16x8_load_extend_u8x8(p: *const u8) -> v128 {
        unsafe { w::u16x8_load_extend_u8x8(p.cast()) }
    }
    /// # Safety
    /// `p` is valid for reading 8 bytes.
    #[inline(always)]
    pub unsafe fn i32x4_load_extend_i16x4(p: *const u8) -> v128 {
        unsafe { w::i32x4_load_extend_i16x4(p.cast()) }
    }

    /// Lanes (0, 2, 1, 3) of each half: quads become even and odd pairs.
    #[inline(always)]
    pub fn i16x8_even_odd(v: v128) -> v128 {
        i8x16_shuffle::<0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15>(v, v)
    }

    #[inline(always)]
    pub fn f32x4_transpose([a, b, c, d]: [v128; 4]) -> [v128; 4] {
        let (ab, cd) = (i32x4_shuffle::<0, 4, 1, 5>(a, b), i32x4_shuffle::<0, 4, 1, 5>(c, d));
        let (ab2, cd2) = (i32x4_shuffle::<2, 6, 3, 7>(a, b), i32x4_shuffle::<2, 6, 3, 7>(c, d));
        let (low, high) = (|a, b| i32x4_shuffle::<0, 1, 4, 5>(a, b), |a, b| i32x4_shuffle::<2, 3, 6, 7>(a, b));
        [low(ab, cd), high(ab, cd), low(ab2, cd2), high(ab2, cd2)]
    }

    /// Lanes (1, 0, 3, 2).
    #[inline(always)]
    pub fn f32x4_swap_pairs(v: v128) -> v128 {
        i32x4_shuffle::<1, 0, 3, 2>(v, v)
    }

    /// a * b + c, rounded once or twice.
    #[inline(always)]
    pub fn f32x4_madd(a: v128, b: v128, c: v128) -> v128 {
        #[cfg(target_feature = "relaxed-simd")]
        return w::f32x4_relaxed_madd(a, b, c);
        #[cfg(not(target_feature = "relaxed-simd"))]
        w::f32x4_add(w::f32x4_mul(a, b), c)
    }

    /// Sums of pairs of products; `b` must be below 128.
    #[inline(always)]
    pub fn i16x8_dot_i8x16_i7x16(a: v128, b: v128) -> v128 {
        #[cfg(target_feature = "relaxed-simd")]
        return w::i16x8_relaxed_dot_i8x16_i7x16(a, b);
        #[cfg(not(target_feature = "relaxed-simd"))]
        {
            let even = w::i16x8_mul(w::i16x8_shr(w::i16x8_shl(a, 8), 8), v128_and(b, u16x8_splat(0xff)));
            w::i16x8_add(even, w::i16x8_mul(w::i16x8_shr(a, 8), u16x8_shr(b, 8)))
        }
    }

    /// `c` and sums of four products; `b` is unsigned or SIGNED, if it has bytes of 128 and more, as [`super::byte_dot`] says.
    #[inline(always)]
    pub fn i32x4_dot_i8x16_add<const SIGNED: bool>(a: v128, b: v128, c: v128) -> v128 {
        #[cfg(target_feature = "relaxed-simd")]
        return w::i32x4_relaxed_dot_i8x16_i7x16_add(a, b, c);
        #[cfg(not(target_feature = "relaxed-simd"))]
        unreachable!("{:?}", (a, b, c));
    }
}

#[cfg(not(target_arch = "wasm32"))]
pub use portable::*;
#[cfg(not(target_arch = "wasm32"))]
mod portable {
    use std::array::from_fn;
    use std::mem::transmute;

    #[derive(Clone, Copy)]
    #[repr(C, align(16))]
    pub struct v128([u8; 16]);

    /// SAFETY of all transmutes: arrays of 16 bytes of plain numbers, in which every bit pattern is a value.
    macro_rules! lanes {
        ($($get:ident $set:ident $t:ty, $n:literal;)*) => { $(
            #[inline(always)]
            fn $get(v: v128) -> [$t; $n] { unsafe { transmute(v) } }
            #[inline(always)]
            fn $set(v: [$t; $n]) -> v128 { unsafe { transmute(v) } }
        )* };
    }
    lanes! {
        i8s from_i8s i8, 16;
        u8s from_u8s u8, 16;
        i16s from_i16s i16, 8;
        u16s from_u16s u16, 8;
        i32s from_i32s i32, 4;
        u32s from_u32s u32, 4;
        f32s from_f32s f32, 4;
    }

    macro_rules! lanewise {
        ($($name:ident($a:ident, $b:ident) $get:ident $set:ident $e:expr;)*) => { $(
            #[inline(always)]
            pub fn $name(a: v128, b: v128) -> v128 {
                let (a, b) = ($get(a), $get(b));
                $set(from_fn(|i| { let ($a, $b) = (a[i], b[i]); $e }))
            }
        )* };
        ($($name:ident($a:ident) $get:ident $set:ident $e:expr;)*) => { $(
            #[inline(always)]
            pub fn $name(a: v128) -> v128 {
                let a = $get(a);
                $set(from_fn(|i| { let $a = a[i]; $e }))
            }
        )* };
    }
    lanewise! {
        v128_and(a, b) u32s from_u32s a & b;
        v128_or(a, b) u32s from_u32s a | b;
        i16x8_add(a, b) i16s from_i16s a.wrapping_add(b);
        i16x8_mul(a, b) i16s from_i16s a.wrapping_mul(b);
        i32x4_add(a, b) i32s from_i32s a.wrapping_add(b);
        i32x4_sub(a, b) i32s from_i32s a.wrapping_sub(b);
        f32x4_add(a, b) f32s from_f32s a + b;
        f32x4_sub(a, b) f32s from_f32s a - b;
        f32x4_mul(a, b) f32s from_f32s a * b;
        f32x4_div(a, b) f32s from_f32s a / b;
        f32x4_max(a, b) f32s from_f32s if a < b { b } else { a };
        f32x4_min(a, b) f32s from_f32s if b < a { b } else { a };
    }
    lanewise! {
        f32x4_abs(a) f32s from_f32s a.abs();
        f32x4_neg(a) f32s from_f32s -a;
        f32x4_convert_i32x4(a) i32s from_f32s a as f32;
    }

    macro_rules! splats {
        ($($name:ident $t:ty, $set:ident;)*) => { $(
            #[inline(always)]
            pub fn $name(a: $t) -> v128 { $set([a; _]) }
        )* };
    }
    splats! {
        u8x16_splat u8, from_u8s;
        u16x8_splat u16, from_u16s;
        i32x4_splat i32, from_i32s;
        f32x4_splat f32, from_f32s;
    }

    macro_rules! shifts {
        ($($name:ident $get:ident $set:ident |$a:ident, $n:ident| $e:expr;)*) => { $(
            #[inline(always)]
            pub fn $name(a: v128, $n: u32) -> v128 {
                let a = $get(a);
                $set(from_fn(|i| { let $a = a[i]; $e }))
            }
        )* };
    }
    shifts! {
        i16x8_shl i16s from_i16s |a, n| a << n;
        u16x8_shr u16s from_u16s |a, n| a >> n;
        i32x4_shl i32s from_i32s |a, n| a << n;
        i32x4_shr i32s from_i32s |a, n| a >> n;
    }

    #[inline(always)]
    pub fn f32x4_extract_lane<const N: usize>(v: v128) -> f32 {
        f32s(v)[N]
    }
    #[inline(always)]
    pub fn i32x4_extract_lane<const N: usize>(v: v128) -> i32 {
        i32s(v)[N]
    }

    /// # Safety
    /// `p` is valid for reading 16 bytes.
    #[inline(always)]
    pub unsafe fn v128_load(p: *const u8) -> v128 {
        unsafe { p.cast::<v128>().read_unaligned() }
    }
    /// # Safety
    /// `p` is valid for writing 16 bytes.
    #[inline(always)]
    pub unsafe fn v128_store(p: *mut u8, v: v128) {
        unsafe { p.cast::<v128>().write_unaligned(v) }
    }
    /// # Safety
    /// `p` is valid for reading 4 bytes.
    #[inline(always)]
    pub unsafe fn v128_load32_splat(p: *const u8) -> v128 {
        from_u32s([unsafe { p.cast::<u32>().read_unaligned() }; 4])
    }
    /// # Safety
    /// `p` is valid for reading 8 bytes.
    #[inline(always)]
    pub unsafe fn i16x8_load_extend_i8x8(p: *const u8) -> v128 {
        let v: [i8; 8] = unsafe { p.cast::<[i8; 8]>().read() };
        from_i16s(from_fn(|i| v[i].into()))
    }
    /// # Safety
    /// `p` is valid for reading 8 bytes.
    #[inline(always)]
    pub unsafe fn u16x8_load_extend_u8x8(p: *const u8) -> v128 {
        let v: [u8; 8] = unsafe { p.cast::<[u8; 8]>().read() };
        from_u16s(from_fn(|i| v[i].into()))
    }
    /// # Safety
    /// `p` is valid for reading 8 bytes.
    #[inline(always)]
    pub unsafe fn i32x4_load_extend_i16x4(p: *const u8) -> v128 {
        let v: [i16; 4] = unsafe { p.cast::<[i16; 4]>().read_unaligned() };
        from_i32s(from_fn(|i| v[i].into()))
    }

    macro_rules! extends {
        ($($low:ident $high:ident $get:ident $set:ident;)*) => { $(
            #[inline(always)]
            pub fn $low(a: v128) -> v128 { let a = $get(a); $set(from_fn(|i| a[i].into())) }
            #[inline(always)]
            pub fn $high(a: v128) -> v128 { let a = $get(a); $set(from_fn(|i| a[i + 4].into())) }
        )* };
    }
    extends! {
        i32x4_extend_low_i16x8 i32x4_extend_high_i16x8 i16s from_i32s;
        u32x4_extend_low_u16x8 u32x4_extend_high_u16x8 u16s from_u32s;
    }

    #[inline(always)]
    pub fn i16x8_narrow_i32x4(a: v128, b: v128) -> v128 {
        let (a, b) = (i32s(a), i32s(b));
        from_i16s(from_fn(|i| if i < 4 { a[i] } else { b[i - 4] }.clamp(-0x8000, 0x7fff) as i16))
    }
    #[inline(always)]
    pub fn i8x16_narrow_i16x8(a: v128, b: v128) -> v128 {
        let (a, b) = (i16s(a), i16s(b));
        from_i8s(from_fn(|i| if i < 8 { a[i] } else { b[i - 8] }.clamp(-0x80, 0x7f) as i8))
    }
    #[inline(always)]
    pub fn i32x4_extadd_pairwise_i16x8(a: v128) -> v128 {
        let a = i16s(a);
        from_i32s(from_fn(|i| i32::from(a[2 * i]) + i32::from(a[2 * i + 1])))
    }
    #[inline(always)]
    pub fn i32x4_dot_i16x8(a: v128, b: v128) -> v128 {
        let (a, b) = (i16s(a), i16s(b));
        let product = |i: usize| i32::from(a[i]) * i32::from(b[i]);
        from_i32s(from_fn(|i| product(2 * i).wrapping_add(product(2 * i + 1))))
    }
    /// Lanes (0, 2, 1, 3) of each half: quads become even and odd pairs.
    #[inline(always)]
    pub fn i16x8_even_odd(v: v128) -> v128 {
        let v = i16s(v);
        from_i16s([v[0], v[2], v[1], v[3], v[4], v[6], v[5], v[7]])
    }
    #[inline(always)]
    pub fn f32x4_transpose(rows: [v128; 4]) -> [v128; 4] {
        let rows = rows.map(f32s);
        from_fn(|i| from_f32s(from_fn(|j| rows[j][i])))
    }
    /// Lanes (1, 0, 3, 2).
    #[inline(always)]
    pub fn f32x4_swap_pairs(v: v128) -> v128 {
        let v = f32s(v);
        from_f32s([v[1], v[0], v[3], v[2]])
    }
    /// a * b + c, rounded once or twice.
    #[inline(always)]
    pub fn f32x4_madd(a: v128, b: v128, c: v128) -> v128 {
        f32x4_add(f32x4_mul(a, b), c)
    }
    /// Sums of pairs of products; `b` must be below 128.
    #[inline(always)]
    pub fn i16x8_dot_i8x16_i7x16(a: v128, b: v128) -> v128 {
        let (a, b) = (i8s(a), u8s(b));
        debug_assert!(b.iter().all(|&b| b < 128));
        let product = |i: usize| i16::from(a[i]) * i16::from(b[i]);
        from_i16s(from_fn(|i| product(2 * i) + product(2 * i + 1)))
    }
    /// `c` and sums of four products, of bytes of `b` that are unsigned or SIGNED.
    #[inline(always)]
    pub fn i32x4_dot_i8x16_add<const SIGNED: bool>(a: v128, b: v128, c: v128) -> v128 {
        let (a, b, c) = (i8s(a), u8s(b), i32s(c));
        let product = |i: usize| i32::from(a[i]) * if SIGNED { i32::from(b[i] as i8) } else { i32::from(b[i]) };
        from_i32s(from_fn(|i| c[i] + (4 * i..4 * i + 4).map(product).sum::<i32>()))
    }
}

#[inline(always)]
pub fn f32x4_load(values: &[f32; 4]) -> v128 {
    // SAFETY: four floats.
    unsafe { v128_load(values.as_ptr().cast()) }
}

#[inline(always)]
pub fn f32x4_store(values: &mut [f32; 4], v: v128) {
    // SAFETY: four floats.
    unsafe { v128_store(values.as_mut_ptr().cast(), v) }
}

/// The sum of the four lanes.
#[inline(always)]
pub fn f32x4_sum(v: v128) -> f32 {
    (f32x4_extract_lane::<0>(v) + f32x4_extract_lane::<2>(v))
        + (f32x4_extract_lane::<1>(v) + f32x4_extract_lane::<3>(v))
}

/// The greatest of the four lanes.
#[inline(always)]
pub fn f32x4_greatest(v: v128) -> f32 {
    // Not f32::max, which is a call in WebAssembly.
    let max = |a, b| if a < b { b } else { a };
    let low = max(f32x4_extract_lane::<0>(v), f32x4_extract_lane::<1>(v));
    max(low, max(f32x4_extract_lane::<2>(v), f32x4_extract_lane::<3>(v)))
}

/// The sums of the lanes of each, as [`f32x4_sum`] would add them.
#[inline(always)]
pub fn f32x4_sums(rows: [v128; 4]) -> v128 {
    let [a, b, c, d] = f32x4_transpose(rows);
    f32x4_add(f32x4_add(a, c), f32x4_add(b, d))
}

/// The greatest of the lanes of each.
#[inline(always)]
pub fn f32x4_greatests(rows: [v128; 4]) -> v128 {
    let [a, b, c, d] = f32x4_transpose(rows);
    f32x4_max(f32x4_max(a, b), f32x4_max(c, d))
}

/// A constant that the compiler does not know. V8 makes a constant it knows anew at each use, in three instructions; this one it
/// keeps in a register. For what a loop uses, before it begins.
#[inline(always)]
pub fn kept(v: v128) -> v128 {
    std::hint::black_box(v)
}

/// Makes the nearest integers, ties to even, of numbers within +-2^22: adding and subtracting takes two instructions, engines
/// need ten to saturate a conversion. See [`kept`].
#[derive(Clone, Copy)]
pub struct Rounder(v128);

impl Rounder {
    #[inline(always)]
    pub fn kept() -> Rounder {
        Rounder(kept(f32x4_splat(ROUNDER)))
    }

    /// As i32.
    #[inline(always)]
    pub fn integers(&self, v: v128) -> v128 {
        i32x4_sub(f32x4_add(v, self.0), self.0)
    }
}

/// From here to 2^24 floats are the integers.
pub const ROUNDER: f32 = 12_582_912.0;
