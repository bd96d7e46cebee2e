//! The quantized formats as the integer kernels see them: codes of 4, 5, 6 or 8 bits in blocks of 32 columns, and where
//! a raw block keeps them.

#![allow(non_camel_case_types)]

use crate::formats::Format;

/// The scales of 32 columns.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scales {
    /// One half.
    Half,
    /// A half, and a half minimum.
    HalfMin,
    /// 6-bit scale and minimum, times two floats per 256 columns.
    SuperMin,
    /// Two signed bytes, of 16 columns each, times one float per 256 columns.
    Super16,
}

pub trait Quantized {
    const FORMAT: Format;
    const SCALES: Scales;
    /// Bits of a code above the low four; Q8_0's four make whole signed bytes.
    const HIGH: usize;
    /// Codes are multiplied as c - 2^ZERO_SHIFT (0: as c), which is what they stand for where the scales have no minimum;
    /// elsewhere it keeps the sums of five-bit codes small.
    const ZERO_SHIFT: u32 = 0;

    /// The codes of columns 32 sub + 4 q .. + 4 of a raw block, as bytes.
    fn quad(raw: &[u8], sub: usize, q: usize) -> u32;

    /// Scale and minimum factor (bits of halves, bytes) of a part of `sub`: (scale, minimum).
    fn scales(raw: &[u8], sub: usize, part: usize) -> (u16, u16);

    /// The halves that multiply all scales and minima of a raw block.
    fn head(_raw: &[u8]) -> (u16, u16) {
        (0, 0)
    }
}

fn word(raw: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(raw[at..at + 4].try_into().expect("four bytes"))
}

fn half(raw: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([raw[at], raw[at + 1]])
}

/// Four nibbles of a block of 32 whose first half stands in the low and whose second in the high nibbles.
fn nibbles(raw: &[u8], at: usize, q: usize) -> u32 {
    (word(raw, at + 4 * (q & 3)) >> (q & 4)) & 0x0f0f_0f0f
}

/// Bits 4q.. of a word, one in each byte at 16.
fn fifth_bits(bits: u32, q: usize) -> u32 {
    ((((bits >> (4 * q)) & 15) * 0x0020_4081) & 0x0101_0101) << 4
}

pub struct Q4_0;
impl Quantized for Q4_0 {
    const FORMAT: Format = Format::Q4_0;
    const SCALES: Scales = Scales::Half;
    const HIGH: usize = 0;
    const ZERO_SHIFT: u32 = 3;
    fn quad(raw: &[u8], _: usize, q: usize) -> u32 {
        nibbles(raw, 2, q)
    }
    fn scales(raw: &[u8], _: usize, _: usize) -> (u16, u16) {
        (half(raw, 0), 0)
    }
}

pub struct Q4_1;
impl Quantized for Q4_1 {
    const FORMAT: Format = Format::Q4_1;
    const SCALES: Scales = Scales::HalfMin;
    const HIGH: usize = 0;
    fn quad(raw: &[u8], _: usize, q: usize) -> u32 {
        nibbles(raw, 4, q)
    }
    fn scales(raw: &[u8], _: usize, _: usize) -> (u16, u16) {
        (half(raw, 0), half(raw, 2))
    }
}

pub struct Q5_0;
impl Quantized for Q5_0 {
    const FORMAT: Format = Format::Q5_0;
    const SCALES: Scales = Scales::Half;
    const HIGH: usize = 1;
    const ZERO_SHIFT: u32 = 4;
    fn quad(raw: &[u8], _: usize, q: usize) -> u32 {
        nibbles(raw, 6, q) | fifth_bits(word(raw, 2), q)
    }
    fn scales(raw: &[u8], _: usize, _: usize) -> (u16, u16) {
        (half(raw, 0), 0)
    }
}

pub struct Q5_1;
impl Quantized for Q5_1 {
    const FORMAT: Format = Format::Q5_1;
    const SCALES: Scales = Scales::HalfMin;
    const HIGH: usize = 1;
    const ZERO_SHIFT: u32 = 4;
    fn quad(raw: &[u8], _: usize, q: usize) -> u32 {
        nibbles(raw, 8, q) | fifth_bits(word(raw, 4), q)
    }
    fn scales(raw: &[u8], _: usize, _: usize) -> (u16, u16) {
        (half(raw, 0), half(raw, 2))
    }
}

pub struct Q8_0;
impl Quantized for Q8_0 {
    const FORMAT: Format = Format::Q8_0;
    const SCALES: Scales = Scales::Half;
    const HIGH: usize = 4;
    fn quad(raw: &[u8], _: usize, q: usize) -> u32 {
        word(raw, 2 + 4 * q)
    }
    fn scales(raw: &[u8], _: usize, _: usize) -> (u16, u16) {
        (half(raw, 0), 0)
    }
}

/// Scale and minimum of a sub-block from the twelve bytes that Q4_K and Q5_K pack sixteen 6-bit numbers into.
fn packed_scales(raw: &[u8], sub: usize) -> (u16, u16) {
    let s = &raw[4..16];
    let (scale, min) = if sub < 4 {
        (s[sub] & 63, s[sub + 4] & 63)
    } else {
        ((s[sub + 4] & 15) | ((s[sub - 4] >> 6) << 4), (s[sub + 4] >> 4) | ((s[sub] >> 6) << 4))
    };
    (scale.into(), min.into())
}

pub struct Q4_K;
impl Quantized for Q4_K {
    const FORMAT: Format = Format::Q4_K;
    const SCALES: Scales = Scales::SuperMin;
    const HIGH: usize = 0;
    fn quad(raw: &[u8], sub: usize, q: usize) -> u32 {
        (word(raw, 16 + 32 * (sub / 2) + 4 * q) >> (4 * (sub & 1))) & 0x0f0f_0f0f
    }
    fn scales(raw: &[u8], sub: usize, _: usize) -> (u16, u16) {
        packed_scales(raw, sub)
    }
    fn head(raw: &[u8]) -> (u16, u16) {
        (half(raw, 0), half(raw, 2))
    }
}

pub struct Q5_K;
impl Quantized for Q5_K {
    const FORMAT: Format = Format::Q5_K;
    const SCALES: Scales = Scales::SuperMin;
    const HIGH: usize = 1;
    const ZERO_SHIFT: u32 = 4;
    fn quad(raw: &[u8], sub: usize, q: usize) -> u32 {
        let low = (word(raw, 48 + 32 * (sub / 2) + 4 * q) >> (4 * (sub & 1))) & 0x0f0f_0f0f;
        low | (((word(raw, 16 + 4 * q) >> sub) & 0x0101_0101) << 4)
    }
    fn scales(raw: &[u8], sub: usize, _: usize) -> (u16, u16) {
        packed_scales(raw, sub)
    }
    fn head(raw: &[u8]) -> (u16, u16) {
        (half(raw, 0), half(raw, 2))
    }
}

pub struct Q6_K;
impl Quantized for Q6_K {
    const FORMAT: Format = Format::Q6_K;
    const SCALES: Scales = Scales::Super16;
    const HIGH: usize = 2;
    const ZERO_SHIFT: u32 = 5;
    fn quad(raw: &[u8], sub: usize, q: usize) -> u32 {
        let (upper, j) = (sub / 4, sub % 4);
        let low = (word(raw, 64 * upper + 32 * (j & 1) + 4 * q) >> (4 * (j >> 1))) & 0x0f0f_0f0f;
        low | (((word(raw, 128 + 32 * upper + 4 * q) >> (2 * j)) & 0x0303_0303) << 4)
    }
    fn scales(raw: &[u8], sub: usize, part: usize) -> (u16, u16) {
        (raw[192 + 2 * sub + part].into(), 0)
    }
    fn head(raw: &[u8]) -> (u16, u16) {
        (half(raw, 208), 0)
    }
}
